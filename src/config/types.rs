//! The validated types: what every other module sees of the configuration.

mod admin;
mod auth_request;
mod dialling;
mod http;
mod jwt;
mod limits;
mod listener;
mod upstream;

use std::{fmt, num::NonZero, path::PathBuf, thread, time::Duration};

use ::http::{HeaderName, HeaderValue};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use admin::{Admin, AdminToken, Role};
pub use auth_request::{AuthRequest, AuthRequestCache};
pub use dialling::{ClientCertificate, UpstreamTls};
pub use http::{HttpFilters, HttpForward, HttpMode};
pub use jwt::{Jwt, KeySource, TokenSource};
pub use limits::{ConnectionLimits, LimitAction, LimitBy, RateLimit, RouteLimits};
pub use listener::{Listener, ListenerTls, TrustedProxies};
pub use upstream::{
    AffinityCookie, Balance, Endpoint, HashOn, HealthCheck, HostHeader, OutlierDetection, Probe, Upstream,
};

use super::pattern::{HostPattern, OriginPattern, OriginRule, PathPattern, PathTemplate, TopicPattern};

/// `[server]`
#[derive(Clone, Debug, PartialEq)]
pub struct Server {
    /// Worker threads, at least 1.
    pub workers: usize,
    /// Where filters are looked for; absolute.
    pub filter_dir: PathBuf,
    /// What a restart finds again is kept here; absolute. A temporary folder where absent.
    pub state_dir: Option<PathBuf>,
    /// The program that makes components of scripts; absolute. Looked for where absent.
    pub js_compiler: Option<PathBuf>,
    /// Time between SIGTERM and the first close.
    pub drain_delay: Duration,
    /// Closes are spread over this.
    pub drain_timeout: Duration,
    /// How many connections the gateway takes altogether.
    pub limits: ConnectionLimits,
}

impl Server {
    /// Everything else as by default.
    #[must_use]
    pub fn with_filter_dir(filter_dir: PathBuf) -> Self {
        Self {
            workers: thread::available_parallelism().map_or(1, NonZero::get),
            filter_dir,
            state_dir: None,
            js_compiler: None,
            drain_delay: Duration::from_secs(5),
            drain_timeout: Duration::from_secs(20),
            limits: ConnectionLimits::default(),
        }
    }
}

/// `[log]`
#[derive(Clone, Debug, PartialEq)]
pub struct Log {
    /// A `tracing_subscriber` filter directive list, such as `info` or `wsgate::session=debug,info`.
    pub level: String,
    /// Text for people or JSON for machines.
    pub format: LogFormat,
}

impl Default for Log {
    fn default() -> Self {
        Self { level: "info".to_owned(), format: LogFormat::Text }
    }
}

/// `[log] format`
#[derive(Clone, Copy, Debug, Deserialize, Eq, JsonSchema, PartialEq)]
#[serde(rename_all = "snake_case")]
pub enum LogFormat {
    /// One readable line an event.
    Text,
    /// One JSON object an event.
    Json,
}

/// `[filters.*]`. Its `Debug` output leaves out `config`, which may hold secrets.
#[derive(Clone, PartialEq)]
pub struct Filter {
    /// The component, absolute.
    pub file: PathBuf,
    /// Handed to `init` as JSON.
    pub config: serde_json::Value,
    /// Do sessions share an instance?
    pub isolation: Isolation,
    /// Instances per worker at the start, at least 1; `None`: as many as suit what the filter imports.
    pub instances: Option<usize>,
    /// Beyond this many sessions an instance, further instances are made.
    pub max_sessions_per_instance: usize,
    /// What a returned error, a trap or a spent budget does to the session concerned.
    pub failure_policy: FailurePolicy,
    /// Do open sessions move to a new generation?
    pub on_reload: OnReload,
    /// What happens to the other sessions of an instance that died.
    pub on_state_loss: OnStateLoss,
    /// Guest time of one call.
    pub cpu_timeout: Duration,
    /// Time in host calls of one call, not counted in `cpu_timeout`.
    pub wait_timeout: Duration,
    /// Linear memory of one instance.
    pub memory_limit_bytes: usize,
    /// An instance that made so many calls is replaced.
    pub recycle_after_calls: Option<usize>,
    /// An instance with more linear memory than this is replaced.
    pub recycle_above_bytes: Option<usize>,
    /// A client address that ends so many instances within 10 seconds is refused for a while.
    pub max_client_faults: Option<usize>,
    /// Faults from so many client addresses within 10 seconds open the breaker.
    pub breaker_clients: Option<usize>,
    /// The only bytes that may be loaded, where pinned.
    pub sha256: Option<[u8; 32]>,
    /// What it may do beyond deciding about messages.
    pub allow: Allow,
    /// Another component that serves a share of the new connections.
    pub canary: Option<Candidate>,
    /// Another component that is asked about a share of the new connections and never obeyed.
    pub shadow: Option<Candidate>,
}

/// `[filters.*] canary` or `shadow`
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Candidate {
    /// The component, absolute.
    pub file: PathBuf,
    /// Share of the new connections, 0 to 100.
    pub percent: u8,
}

impl Filter {
    /// What a file without a table gets.
    #[must_use]
    pub fn with_defaults(file: PathBuf) -> Self {
        Self {
            file,
            config: serde_json::Value::Object(serde_json::Map::new()),
            isolation: Isolation::Shared,
            instances: None,
            max_sessions_per_instance: 1000,
            failure_policy: FailurePolicy::FailClosed,
            on_reload: OnReload::Migrate,
            on_state_loss: OnStateLoss::Resume,
            cpu_timeout: Duration::from_millis(50),
            wait_timeout: Duration::from_secs(2),
            memory_limit_bytes: 64 << 20,
            recycle_after_calls: None,
            recycle_above_bytes: None,
            max_client_faults: Some(5),
            breaker_clients: Some(3),
            sha256: None,
            allow: Allow::default(),
            canary: None,
            shadow: None,
        }
    }
}

impl fmt::Debug for Filter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Filter")
            .field("file", &self.file)
            .field("isolation", &self.isolation)
            .field("instances", &self.instances)
            .field("max_sessions_per_instance", &self.max_sessions_per_instance)
            .field("failure_policy", &self.failure_policy)
            .field("on_reload", &self.on_reload)
            .field("on_state_loss", &self.on_state_loss)
            .field("cpu_timeout", &self.cpu_timeout)
            .field("wait_timeout", &self.wait_timeout)
            .field("memory_limit_bytes", &self.memory_limit_bytes)
            .field("recycle_after_calls", &self.recycle_after_calls)
            .field("recycle_above_bytes", &self.recycle_above_bytes)
            .field("max_client_faults", &self.max_client_faults)
            .field("breaker_clients", &self.breaker_clients)
            .field("sha256", &self.sha256)
            .field("allow", &self.allow)
            .field("canary", &self.canary)
            .field("shadow", &self.shadow)
            .finish_non_exhaustive()
    }
}

/// `[filters.*] allow`: what a filter may do beyond deciding about messages; nothing by default.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Allow {
    /// Upstreams that `open` may choose, and to which `route` may send messages.
    pub upstreams: Vec<String>,
    /// Stores that it may read and write.
    pub key_value: Vec<String>,
    /// Origins that it may send HTTP requests to.
    pub http: Vec<OriginPattern>,
    /// Topics for `publish`, `subscribe` and `unsubscribe`.
    pub topics: Vec<TopicPattern>,
    /// `send` and `close`.
    pub send: bool,
}

/// `[stores.*]`
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Store {
    /// Keys, values and what each entry counts beside them.
    pub max_size_bytes: usize,
}

impl Default for Store {
    fn default() -> Self {
        Self { max_size_bytes: 64 << 20 }
    }
}

/// `[filters.*] isolation`
#[derive(Clone, Copy, Debug, Deserialize, Eq, Hash, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Isolation {
    /// Sessions share an instance, each as a resource of its own in it.
    Shared,
    /// Each session has an instance of its own.
    Connection,
}

/// `[filters.*] failure_policy`
#[derive(Clone, Copy, Debug, Deserialize, Eq, Hash, JsonSchema, PartialEq)]
#[serde(rename_all = "snake_case")]
pub enum FailurePolicy {
    /// Close the connection with 1011.
    FailClosed,
    /// Pass the message on as it came.
    FailOpen,
}

/// `[filters.*] on_reload`
#[derive(Clone, Copy, Debug, Deserialize, Eq, Hash, JsonSchema, PartialEq)]
#[serde(rename_all = "snake_case")]
pub enum OnReload {
    /// Open sessions move.
    Migrate,
    /// Open sessions stay with the generation that admitted them.
    Pin,
}

/// `[filters.*] on_state_loss`
#[derive(Clone, Copy, Debug, Deserialize, Eq, Hash, JsonSchema, PartialEq)]
#[serde(rename_all = "snake_case")]
pub enum OnStateLoss {
    /// `resume` in a fresh instance, without state.
    Resume,
    /// Close with 1011.
    Close,
}

/// `[[routes]]`
#[derive(Clone, Debug, PartialEq)]
pub struct Route {
    /// Unique; the label in metrics.
    pub name: String,
    /// Any host where absent.
    pub host: Option<HostPattern>,
    /// Which paths.
    pub path: PathPattern,
    /// The path that the upstream sees; the client's where absent.
    pub path_rewrite: Option<PathTemplate>,
    /// Where messages go.
    pub target: Target,
    /// The filters in order.
    pub filters: ChainSource,
    /// Subprotocols that may be negotiated; `None`: any that the upstream takes.
    pub subprotocols: Option<Vec<String>>,
    /// Edits to the request that the upstream receives.
    pub request_headers: HeaderEdits,
    /// The `[jwt.*]` table whose tokens a client needs, if any.
    pub auth: Option<String>,
    /// Headers of the request that the upstream receives, each from a claim.
    pub claims_to_headers: Vec<(HeaderName, String)>,
    /// Which pages of the web may connect.
    pub allowed_origins: Vec<OriginRule>,
    /// Sizes and times.
    pub limits: SessionLimits,
    /// How many may connect, and how much they may send.
    pub traffic: RouteLimits,
    /// Who is asked about each handshake.
    pub auth_request: Option<AuthRequest>,
    /// How requests are forwarded that open no WebSocket; `None`: not at all.
    pub http: Option<HttpForward>,
}

impl Route {
    /// Does this route take every request that `other` takes, so that `other` behind it never matches?
    #[must_use]
    pub fn covers(&self, other: &Self) -> bool {
        let host = match (&self.host, &other.host) {
            (None, _) => true,
            (Some(_), None) => false,
            (Some(own), Some(other)) => own.covers(other),
        };
        host && self.path.covers(&other.path)
    }
}

/// `[[routes]] upstream` or `target`
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Target {
    /// Proxy to the upstream of this name.
    Upstream(String),
    /// Answer each message with itself.
    Echo,
    /// Nobody: filters answer, what they forward to the upstream ends.
    Filters,
    /// Files below this folder (absolute), for HTTP requests.
    Static(PathBuf),
}

/// `[[routes]] filters` or `filters_folder`
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum ChainSource {
    /// Names, in order; may be empty.
    Names(Vec<String>),
    /// Every component in this folder (absolute), in name order.
    Folder {
        /// Absolute.
        path: PathBuf,
        /// Filters that cannot be removed from it and without which the gateway is not ready.
        required: Vec<String>,
        /// `removal_grace`: a removal counts after this.
        removal_grace: Duration,
    },
}

impl ChainSource {
    /// Can there be a filter in it?
    #[must_use]
    pub fn is_used(&self) -> bool {
        match self {
            Self::Names(names) => !names.is_empty(),
            Self::Folder { .. } => true,
        }
    }
}

/// `request_headers`
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct HeaderEdits {
    /// Replaces every value of the name.
    pub set: Vec<(HeaderName, HeaderValue)>,
    /// Removes every value of the name.
    pub remove: Vec<HeaderName>,
}

/// The limits of one session.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct SessionLimits {
    /// Largest message that the client may send.
    pub client_max_payload_bytes: usize,
    /// Largest message that the upstream may send.
    pub upstream_max_payload_bytes: usize,
    /// High-water mark of each outgoing queue (a message counts its bytes + 64).
    pub queue_max_bytes: usize,
    /// What a relayed message meets in a full queue.
    pub overflow: Overflow,
    /// What a pushed message (of a topic, of another connection, of a filter's tick) meets in a full queue.
    pub push_overflow: PushOverflow,
    /// From the request's head to 101.
    pub handshake_timeout: Duration,
    /// A peer that takes no byte for this long is closed.
    pub send_timeout: Duration,
    /// The gateway pings both peers this often.
    pub ping_interval: Option<Duration>,
    /// A ping without a pong for this long closes.
    pub pong_timeout: Duration,
    /// No message either way for this long closes.
    pub idle_timeout: Option<Duration>,
    /// Age at which a connection is closed.
    pub max_connection_duration: Option<Duration>,
}

impl Default for SessionLimits {
    fn default() -> Self {
        Self {
            client_max_payload_bytes: 1 << 20,
            upstream_max_payload_bytes: 4 << 20,
            queue_max_bytes: 4 << 20,
            overflow: Overflow::Pause,
            push_overflow: PushOverflow::Close,
            handshake_timeout: Duration::from_secs(10),
            send_timeout: Duration::from_secs(10),
            ping_interval: Some(Duration::from_secs(25)),
            pong_timeout: Duration::from_secs(10),
            idle_timeout: None,
            max_connection_duration: None,
        }
    }
}

/// `[[routes]] overflow`
#[derive(Clone, Copy, Debug, Deserialize, Eq, JsonSchema, PartialEq)]
#[serde(rename_all = "snake_case")]
pub enum Overflow {
    /// Stop reading from the sender.
    Pause,
    /// Close the slow peer with 1013.
    Close,
    /// Drop the oldest queued messages.
    DropOldest,
}

/// `[[routes]] push_overflow`
#[derive(Clone, Copy, Debug, Deserialize, Eq, JsonSchema, PartialEq)]
#[serde(rename_all = "snake_case")]
pub enum PushOverflow {
    /// Close the slow peer with 1013.
    Close,
    /// Drop the oldest queued messages.
    DropOldest,
}
