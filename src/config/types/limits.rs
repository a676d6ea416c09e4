//! `[server.limits]` and `[routes.limits]`

use std::time::Duration;

use schemars::JsonSchema;
use serde::Deserialize;

/// How many connections, and how many handshakes a second; none: no limit.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, PartialEq)]
pub struct ConnectionLimits {
    /// Open connections.
    pub connections: Option<usize>,
    /// Of one client address.
    pub connections_per_ip: Option<usize>,
    /// Of one user.
    pub connections_per_user: Option<usize>,
    /// Of all clients.
    pub handshakes_per_second: Option<usize>,
    /// Of one client address.
    pub handshakes_per_second_per_ip: Option<usize>,
}

/// `[routes.limits]`
#[derive(Clone, Copy, Debug, Default, Eq, Hash, PartialEq)]
pub struct RouteLimits {
    /// How many may connect.
    pub connections: ConnectionLimits,
    /// Messages that clients send.
    pub messages: Option<RateLimit>,
    /// Their bytes.
    pub bytes: Option<RateLimit>,
}

/// A rate, and what exceeding it means.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct RateLimit {
    /// How many in `per`; not 0.
    pub amount: u64,
    /// In which time.
    pub per: Duration,
    /// How many at once; not 0.
    pub burst: u64,
    /// What is counted together.
    pub by: LimitBy,
    /// What a message beyond it meets.
    pub action: LimitAction,
    /// Of [`LimitAction::Close`].
    pub code: u16,
}

/// Whose messages are counted together.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Hash, JsonSchema, PartialEq)]
#[serde(rename_all = "snake_case")]
pub enum LimitBy {
    /// Each connection by itself.
    Connection,
    /// All of a client address (IPv6: of a /64).
    Ip,
    /// All of a user, by `iss` and `sub` of the token.
    User,
}

/// What a message beyond a rate meets.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Hash, JsonSchema, PartialEq)]
#[serde(rename_all = "snake_case")]
pub enum LimitAction {
    /// It waits, and the client is not read from meanwhile.
    Delay,
    /// It goes no further.
    Drop,
    /// The connection is closed.
    Close,
}
