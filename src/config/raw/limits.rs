//! `[server.limits]` and `[routes.limits]` as they are written.

use schemars::JsonSchema;
use serde::Deserialize;

use super::{Count, Optional, Size, Table, Word};
use crate::config::{
    leaf::{ByteRate, MessageRate},
    types::{LimitAction, LimitBy},
};

/// How many connections the gateway takes altogether.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(in crate::config) struct RawServerLimits {
    /// Open connections of all routes. Further ones are answered 503. Default: no limit.
    pub(in crate::config) connections: Optional<Count>,
    /// Open connections of one client address (IPv6: of one /64) over all routes. Further ones are answered 429.
    /// Default: no limit.
    pub(in crate::config) connections_per_ip: Optional<Count>,
    /// Handshakes a second of all routes. Further ones are answered 429. Default: no limit.
    pub(in crate::config) handshakes_per_second: Optional<Count>,
}

/// How many connections a route takes, and how much its clients may send.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(in crate::config) struct RawRouteLimits {
    /// Open connections. Further ones are answered 503. Default: no limit.
    pub(in crate::config) connections: Optional<Count>,
    /// Open connections of one client address (IPv6: of one /64). Further ones are answered 429. Default: no limit.
    pub(in crate::config) connections_per_ip: Optional<Count>,
    /// Open connections of one user, by `iss` and `sub` of the token; one without `sub` counts as its address. Further
    /// ones are answered 429. Default: no limit.
    pub(in crate::config) connections_per_user: Optional<Count>,
    /// Handshakes a second, as many at once. Further ones are answered 429, whatever they ask for. Default: no limit.
    pub(in crate::config) handshakes_per_second: Optional<Count>,
    /// The same for one client address (IPv6: of one /64). Default: no limit.
    pub(in crate::config) handshakes_per_second_per_ip: Optional<Count>,
    /// Messages that clients send. Default: no limit.
    pub(in crate::config) messages: Optional<Table<RawMessageLimit>>,
    /// Bytes of messages that clients send. Default: no limit.
    pub(in crate::config) bytes: Optional<Table<RawByteLimit>>,
}

/// A rate of messages.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(extend("required" = ["rate"]))]
pub(in crate::config) struct RawMessageLimit {
    /// How many in what time: `50/s`, `600/m`, `1000/h`.
    pub(in crate::config) rate: Optional<MessageRate>,
    /// How many may come at once. Default: what `rate` allows in one second, at least 1.
    pub(in crate::config) burst: Optional<Count>,
    /// Whose messages are counted together: those of a `connection`, of an address (`ip`; IPv6: of a /64) or of a `user`.
    #[schemars(extend("default" = "connection"))]
    pub(in crate::config) by: Optional<Word<LimitBy>>,
    /// What a message beyond it meets.
    #[schemars(extend("default" = "delay"))]
    pub(in crate::config) action: Option<Word<LimitAction>>,
    /// The close code of the action `close`.
    #[schemars(extend("default" = 4429))]
    pub(in crate::config) code: Optional<Count>,
}

/// A rate of bytes.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(extend("required" = ["rate"]))]
pub(in crate::config) struct RawByteLimit {
    /// How many in what time: `64KiB/s`, `10MiB/m`. It is kept to a tenth of a percent.
    pub(in crate::config) rate: Optional<ByteRate>,
    /// How many may come at once; at least `client_max_payload`. Default: what `rate` allows in one second, at least
    /// `client_max_payload`.
    pub(in crate::config) burst: Optional<Size>,
    /// Whose bytes are counted together, as for `messages`.
    #[schemars(extend("default" = "connection"))]
    pub(in crate::config) by: Optional<Word<LimitBy>>,
    /// What a message beyond it meets.
    #[schemars(extend("default" = "delay"))]
    pub(in crate::config) action: Option<Word<LimitAction>>,
    /// The close code of the action `close`.
    #[schemars(extend("default" = 4429))]
    pub(in crate::config) code: Optional<Count>,
}

/// What both kinds of rate say beside their figures.
pub(in crate::config) struct RawRate<'a> {
    pub(in crate::config) by: &'a Optional<Word<LimitBy>>,
    pub(in crate::config) action: &'a Option<Word<LimitAction>>,
    pub(in crate::config) code: &'a Optional<Count>,
}

impl RawMessageLimit {
    pub(in crate::config) fn common(&self) -> RawRate<'_> {
        RawRate { by: &self.by, action: &self.action, code: &self.code }
    }
}

impl RawByteLimit {
    pub(in crate::config) fn common(&self) -> RawRate<'_> {
        RawRate { by: &self.by, action: &self.action, code: &self.code }
    }
}
