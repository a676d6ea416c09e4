//! `[upstreams.*]` as it is written.

use std::fmt;

use schemars::JsonSchema;
use serde::{
    Deserialize, Deserializer,
    de::{Error, MapAccess, Visitor, value::MapAccessDeserializer},
};

use super::{At, Count, CountOrOff, Optional, RawUpstreamTls, Table, Time, TimeOrOff, Word};

/// A set of WebSocket servers of which each connection gets one.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(extend("required" = ["endpoints"]))]
pub(in crate::config) struct RawUpstream {
    /// The servers: `ws://` or `wss://` URLs, or `unix:` and the path of a socket; at least one.
    #[schemars(length(min = 1))]
    pub(in crate::config) endpoints: Option<At<Vec<At<RawEndpoint>>>>,
    /// How connections are spread over the endpoints.
    #[schemars(extend("default" = "least_conn"))]
    pub(in crate::config) balance: Option<Word<RawBalance>>,
    /// What `ring_hash` looks at: `client_ip`, `header:NAME`, `query:NAME`, `cookie:NAME` or `claim:NAME`.
    pub(in crate::config) hash_on: Optional<String>,
    /// A cookie by which a client comes back to its endpoint.
    pub(in crate::config) affinity_cookie: Optional<Table<RawAffinityCookie>>,
    /// The `Host` that endpoints are shown: the client's (`preserve`), their own (`endpoint`), or this text.
    #[schemars(extend("default" = "preserve"))]
    pub(in crate::config) host_header: Optional<String>,
    /// Bound of TCP and TLS together.
    #[schemars(extend("default" = "5s"))]
    pub(in crate::config) connect_timeout: Optional<Time>,
    /// TLS towards `wss://` endpoints. Default: what this machine trusts.
    pub(in crate::config) tls: Optional<Table<RawUpstreamTls>>,
    /// Connections to each endpoint that are dialled ahead, TLS included, so that clients need not wait for them.
    #[schemars(range(min = 0, max = 256), extend("default" = 0))]
    pub(in crate::config) spare_connections: Optional<Count>,
    /// Bound of one attempt, from the connection to the endpoint's answer.
    #[schemars(extend("default" = "5s"))]
    pub(in crate::config) per_try_timeout: Optional<Time>,
    /// Further attempts, each with another endpoint, before the first 101.
    #[schemars(range(min = 0, max = 10), extend("default" = 2))]
    pub(in crate::config) retries: Optional<Count>,
    /// An endpoint that is new or comes back gets its share little by little over this time.
    #[schemars(extend("default" = "off"))]
    pub(in crate::config) slow_start: Optional<TimeOrOff>,
    /// Endpoints are asked whether they are well.
    pub(in crate::config) health_check: Optional<Table<RawHealthCheck>>,
    /// Endpoints that fail connections are left alone for a while.
    pub(in crate::config) outlier_detection: Table<RawOutlierDetection>,
    /// A DNS server that is asked for the hosts of the endpoints. Default: those of this machine.
    pub(in crate::config) resolver: Optional<String>,
    /// Hosts of endpoints are resolved again after this time, a tenth more or less, or after their TTL where that is
    /// known and shorter.
    #[schemars(extend("default" = "30s"))]
    pub(in crate::config) dns_interval: Optional<Time>,
}

/// One server of an upstream.
#[derive(Clone, Debug, JsonSchema)]
#[schemars(untagged)]
pub(in crate::config) enum RawEndpoint {
    /// Its URL.
    Url(String),
    /// Its URL and what else is to be said of it.
    Table(RawEndpointTable),
}

/// One server of an upstream.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(extend("required" = ["url"]))]
pub(in crate::config) struct RawEndpointTable {
    /// `ws://host:port/path` or `wss://…`; `ws+srv://name/path` or `wss+srv://…` for what the SRV records of a name say;
    /// `unix:/path/of/socket:/path`.
    pub(in crate::config) url: Optional<String>,
    /// Its share, beside those of the others; 0 for no new connections.
    #[schemars(range(min = 0, max = 256), extend("default" = 1))]
    pub(in crate::config) weight: Optional<Count>,
}

impl<'de> Deserialize<'de> for RawEndpoint {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct EndpointVisitor;
        impl<'de> Visitor<'de> for EndpointVisitor {
            type Value = RawEndpoint;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an endpoint; write \"ws://host:port\" or { url = \"ws://host:port\" }")
            }

            fn visit_str<E: Error>(self, url: &str) -> Result<RawEndpoint, E> {
                Ok(RawEndpoint::Url(url.to_owned()))
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<RawEndpoint, A::Error> {
                RawEndpointTable::deserialize(MapAccessDeserializer::new(map)).map(RawEndpoint::Table)
            }
        }
        deserializer.deserialize_any(EndpointVisitor)
    }
}

/// How connections are spread.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(in crate::config) enum RawBalance {
    /// To the endpoint with the fewest sessions, by weight.
    LeastConn,
    /// One after the other, by weight.
    RoundRobin,
    /// Of two drawn by weight, to the one with fewer sessions.
    Random,
    /// By what `hash_on` names: the same value gets the same endpoint.
    RingHash,
}

/// A cookie by which a client comes back to its endpoint.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(in crate::config) struct RawAffinityCookie {
    /// Its name.
    #[schemars(extend("default" = "wsgate"))]
    pub(in crate::config) name: Optional<String>,
    /// How long browsers keep it. `off`: until they are closed.
    #[schemars(extend("default" = "off"))]
    pub(in crate::config) max_age: Optional<TimeOrOff>,
}

/// Endpoints are asked whether they are well. Without `path` and `websocket`: whether they take connections.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(in crate::config) struct RawHealthCheck {
    /// Asked for by GET; an answer from 200 to 399 is well.
    pub(in crate::config) path: Optional<String>,
    /// A WebSocket is opened here and pinged; a pong is well.
    pub(in crate::config) websocket: Optional<String>,
    /// Between two checks of an endpoint, a tenth more or less.
    #[schemars(extend("default" = "5s"))]
    pub(in crate::config) interval: Optional<Time>,
    /// For a whole check.
    #[schemars(extend("default" = "1s"))]
    pub(in crate::config) timeout: Optional<Time>,
    /// So many checks in a row that went well bring an endpoint back.
    #[schemars(range(min = 1, max = 100), extend("default" = 2))]
    pub(in crate::config) healthy_threshold: Optional<Count>,
    /// So many failed checks in a row take it out.
    #[schemars(range(min = 1, max = 100), extend("default" = 3))]
    pub(in crate::config) unhealthy_threshold: Optional<Count>,
}

/// Endpoints that fail connections are left alone for a while.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(in crate::config) struct RawOutlierDetection {
    /// So many failures in a row eject an endpoint.
    #[schemars(extend("default" = 5))]
    pub(in crate::config) consecutive_failures: Optional<CountOrOff>,
    /// For so long the first time, twice the second time, and so on, up to 5 minutes.
    #[schemars(extend("default" = "30s"))]
    pub(in crate::config) base_ejection_time: Optional<Time>,
    /// No more of the endpoints are ejected at once; one always may be, the last that can be used never.
    #[schemars(range(min = 0, max = 100), extend("default" = 50))]
    pub(in crate::config) max_ejection_percent: Optional<Count>,
}
