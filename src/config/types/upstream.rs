//! `[upstreams.*]`

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use http::HeaderName;

use super::UpstreamTls;

/// `[upstreams.*]`
#[derive(Clone, Debug, PartialEq)]
pub struct Upstream {
    /// At least one.
    pub endpoints: Vec<Endpoint>,
    /// How connections are spread.
    pub balance: Balance,
    /// By which a client comes back to its endpoint.
    pub affinity_cookie: Option<AffinityCookie>,
    /// The `Host` that the endpoint is shown.
    pub host_header: HostHeader,
    /// Bound of TCP and TLS together.
    pub connect_timeout: Duration,
    /// How `wss://` endpoints prove who they are, and what they are shown.
    pub tls: UpstreamTls,
    /// Connections to each endpoint that are dialled ahead.
    pub spare_connections: usize,
    /// Bound of one attempt, from the connection to the answer.
    pub per_try_timeout: Duration,
    /// Further attempts.
    pub retries: usize,
    /// Over which an endpoint that is new or comes back gets its share.
    pub slow_start: Option<Duration>,
    /// How endpoints are asked.
    pub health_check: Option<HealthCheck>,
    /// When endpoints are left alone; `None`: never.
    pub outlier_detection: Option<OutlierDetection>,
    /// A DNS server; `None`: this machine's.
    pub resolver: Option<SocketAddr>,
    /// Names are resolved again after this.
    pub dns_interval: Duration,
}

impl Upstream {
    /// Everything else as by default.
    #[must_use]
    pub fn with_endpoints(endpoints: Vec<Endpoint>) -> Self {
        Self {
            endpoints,
            balance: Balance::LeastConn,
            affinity_cookie: None,
            host_header: HostHeader::Preserve,
            connect_timeout: Duration::from_secs(5),
            tls: UpstreamTls::default(),
            spare_connections: 0,
            per_try_timeout: Duration::from_secs(5),
            retries: 2,
            slow_start: None,
            health_check: None,
            outlier_detection: Some(OutlierDetection::default()),
            resolver: None,
            dns_interval: Duration::from_secs(30),
        }
    }
}

/// One server of an upstream, or several of one name.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct Endpoint {
    /// The Unix socket that it listens on, instead of at `host` and `port`, which are then those that it is shown; a name
    /// that begins with `@` is in the abstract namespace.
    pub socket: Option<PathBuf>,
    /// `wss://`?
    pub tls: bool,
    /// Host name or address, without brackets.
    pub host: String,
    /// Port; 80 or 443 where the URL had none.
    pub port: u16,
    /// Path prefix of the URL without a trailing `/`; usually empty.
    pub base_path: String,
    /// Its share; 0 to 256.
    pub weight: u32,
    /// Do the SRV records of the host say where the servers are? Then `port` means nothing.
    pub srv: bool,
}

impl Endpoint {
    /// Everything else as by default.
    #[must_use]
    pub fn new(tls: bool, host: String, port: u16) -> Self {
        Self { socket: None, tls, host, port, base_path: String::new(), weight: 1, srv: false }
    }
}

/// `[upstreams.*] balance`
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Balance {
    /// The fewest sessions by weight.
    LeastConn,
    /// One after the other.
    RoundRobin,
    /// The better of two.
    Random,
    /// The same value, the same endpoint.
    RingHash(HashOn),
}

impl Balance {
    /// As it is written.
    #[must_use]
    pub fn label(&self) -> &'static str {
        match self {
            Self::LeastConn => "least_conn",
            Self::RoundRobin => "round_robin",
            Self::Random => "random",
            Self::RingHash(_) => "ring_hash",
        }
    }
}

/// `[upstreams.*] hash_on`
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum HashOn {
    /// The client's address.
    ClientIp,
    /// A header, as the upstream receives it.
    Header(HeaderName),
    /// A parameter of the query.
    Query(String),
    /// A cookie of the client.
    Cookie(String),
    /// A claim of the client's token.
    Claim(String),
}

/// `[upstreams.*] affinity_cookie`
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct AffinityCookie {
    /// A token.
    pub name: String,
    /// How long browsers keep it; `None`: until they are closed.
    pub max_age: Option<Duration>,
}

/// `[upstreams.*] health_check`
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct HealthCheck {
    /// What is asked.
    pub probe: Probe,
    /// Between two checks.
    pub interval: Duration,
    /// For a whole check.
    pub timeout: Duration,
    /// Checks in a row that went well bring an endpoint back; at least 1.
    pub healthy_threshold: u32,
    /// Failed checks in a row take it out; at least 1.
    pub unhealthy_threshold: u32,
}

/// How an endpoint is asked whether it is well.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Probe {
    /// Does it take a connection (with TLS where it has it)?
    Connect,
    /// GET this path.
    Http(String),
    /// Open a WebSocket at this path, ping.
    WebSocket(String),
}

/// `[upstreams.*] outlier_detection`
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct OutlierDetection {
    /// Failures in a row that eject; at least 1.
    pub consecutive_failures: u32,
    /// For how long the first time.
    pub base_ejection_time: Duration,
    /// How many at once, of all endpoints; 0 to 100.
    pub max_ejection_percent: u32,
}

impl Default for OutlierDetection {
    fn default() -> Self {
        Self { consecutive_failures: 5, base_ejection_time: Duration::from_secs(30), max_ejection_percent: 50 }
    }
}

/// `[upstreams.*] host_header`
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum HostHeader {
    /// The client's `Host`.
    Preserve,
    /// The endpoint's host and port.
    Endpoint,
    /// This text.
    Literal(String),
}
