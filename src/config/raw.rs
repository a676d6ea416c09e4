//! The configuration as it is written. Each table refuses keys that it does not know; nothing else is checked here.
//!
//! The comments on the fields become the descriptions in `docs/wsgate.schema.json`.

mod admin;
mod auth_request;
mod dialling;
mod jwt;
mod limits;
mod listener;
mod upstream;

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Deserialize;

use super::{
    leaf::{At, Count, CountOrOff, Sha256, Size, SizeOrOff, Table, Time, TimeOrOff, Word, Workers},
    types::{
        FailurePolicy, HttpFilters, HttpMode, Isolation, LogFormat, OnReload, OnStateLoss, Overflow, PushOverflow,
    },
};

pub(super) use admin::RawAdminToken;
pub(super) use auth_request::RawAuthRequest;
pub(super) use dialling::RawUpstreamTls;
pub(super) use jwt::RawJwt;
pub(super) use limits::{RawByteLimit, RawMessageLimit, RawRate, RawRouteLimits, RawServerLimits};
pub(super) use listener::{RawListener, RawListenerTls};
pub(super) use upstream::{
    RawAffinityCookie, RawBalance, RawEndpoint, RawHealthCheck, RawOutlierDetection, RawUpstream,
};

type Optional<T> = Option<At<T>>;

/// The configuration of wsgate. Unknown keys are errors. `${NAME}` in a string is replaced by the environment variable;
/// `$$` stands for `$`. Relative paths start at the folder of this file.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(extend("required" = ["listeners"]))]
pub(super) struct RawConfig {
    /// The process.
    pub(super) server: Table<RawServer>,
    /// Where clients connect; at least one.
    #[schemars(length(min = 1))]
    pub(super) listeners: Vec<At<Table<RawListener>>>,
    /// The admin API.
    pub(super) admin: Table<RawAdmin>,
    /// A listener for probes and metrics alone.
    pub(super) health: Optional<Table<RawHealth>>,
    /// Log lines.
    pub(super) log: Table<RawLog>,
    /// WebSocket servers, by name.
    pub(super) upstreams: BTreeMap<String, At<Table<RawUpstream>>>,
    /// Tokens of clients, by the name that routes use in `auth`.
    pub(super) jwt: BTreeMap<String, At<Table<RawJwt>>>,
    /// Settings of filters, by name. A file `<name>.wasm` or `<name>.js` in `filter_dir` is a filter without a table here.
    pub(super) filters: BTreeMap<String, At<Table<RawFilter>>>,
    /// Stores that filters share, by name. A store that a filter is allowed to use exists without a table here.
    pub(super) stores: BTreeMap<String, At<Table<RawStore>>>,
    /// The first route that matches a request takes it.
    pub(super) routes: Vec<At<Table<RawRoute>>>,
}

/// The process.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(super) struct RawServer {
    /// Worker threads.
    #[schemars(extend("default" = "auto"))]
    pub(super) workers: Optional<Workers>,
    /// Where filters are looked for.
    #[schemars(extend("default" = "filters"))]
    pub(super) filter_dir: Optional<String>,
    /// Where the gateway keeps what a restart should find again: compiled filters, and which files were rolled back
    /// from. Default: a temporary folder, removed at the end.
    pub(super) state_dir: Optional<String>,
    /// The program that makes filters of `.js` files. Default: `wsgate-js` beside the gateway's own program, else in `PATH`.
    pub(super) js_compiler: Optional<String>,
    /// Time between SIGTERM and the first close, in which readiness is refused and connections are still accepted.
    #[schemars(extend("default" = "5s"))]
    pub(super) drain_delay: Optional<Time>,
    /// Then connections are closed one by one over this time.
    #[schemars(extend("default" = "20s"))]
    pub(super) drain_timeout: Optional<Time>,
    /// How many connections the gateway takes altogether.
    pub(super) limits: Table<RawServerLimits>,
}

/// The admin API.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(super) struct RawAdmin {
    /// IP address and port; a loopback address, unless there are tokens.
    #[schemars(extend("default" = "127.0.0.1:9901"))]
    pub(super) address: Optional<String>,
    /// Who may ask. Without tokens, whoever reaches the address.
    #[schemars(extend("default" = []))]
    pub(super) tokens: Vec<At<Table<RawAdminToken>>>,
}

/// A listener for `/livez`, `/readyz` and `/metrics` alone.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(extend("required" = ["address"]))]
pub(super) struct RawHealth {
    /// IP address and port.
    pub(super) address: Optional<String>,
}

/// Log lines.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(super) struct RawLog {
    /// `error`, `warn`, `info`, `debug`, `trace` or `off`, and after a comma others for parts of the program, such as
    /// `info,wsgate::session=debug`.
    #[schemars(extend("default" = "info"))]
    pub(super) level: Optional<String>,
    /// Readable lines or one JSON object a line.
    #[schemars(extend("default" = "text"))]
    pub(super) format: Option<Word<LogFormat>>,
}

/// Settings of one filter.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(super) struct RawFilter {
    /// The component, or the JavaScript to make one of. Default: `<name>.wasm` or `<name>.js` in `filter_dir`.
    pub(super) file: Optional<String>,
    /// Handed to the filter's `init` as JSON.
    #[schemars(with = "serde_json::Map<String, serde_json::Value>", extend("default" = {}))]
    pub(super) config: Optional<toml::Table>,
    /// Do sessions share an instance?
    #[schemars(extend("default" = "shared"))]
    pub(super) isolation: Option<Word<Isolation>>,
    /// Instances per worker at the start. Default: 1, or 8 where the filter imports `http-client`.
    #[schemars(range(min = 1, max = 1024))]
    pub(super) instances: Optional<Count>,
    /// Beyond this many sessions an instance, further instances are made.
    #[schemars(range(min = 1, max = 1_000_000), extend("default" = 1000))]
    pub(super) max_sessions_per_instance: Optional<Count>,
    /// What a returned error, a trap or a spent budget does to the session concerned.
    #[schemars(extend("default" = "fail_closed"))]
    pub(super) failure_policy: Option<Word<FailurePolicy>>,
    /// Do open sessions move to a new generation?
    #[schemars(extend("default" = "migrate"))]
    pub(super) on_reload: Option<Word<OnReload>>,
    /// What happens to the other sessions of an instance that died.
    #[schemars(extend("default" = "resume"))]
    pub(super) on_state_loss: Option<Word<OnStateLoss>>,
    /// The filter's own time in one call.
    #[schemars(extend("default" = "50ms"))]
    pub(super) cpu_timeout: Optional<Time>,
    /// Time that one call may wait for the gateway, not counted in `cpu_timeout`.
    #[schemars(extend("default" = "2s"))]
    pub(super) wait_timeout: Optional<Time>,
    /// Memory of one instance.
    #[schemars(extend("default" = "64MiB"))]
    pub(super) memory_limit: Optional<Size>,
    /// An instance that made this many calls is replaced by a fresh one, to which its sessions move with their state.
    #[schemars(extend("default" = "off"))]
    pub(super) recycle_after_calls: Optional<CountOrOff>,
    /// The same for an instance whose memory is larger than this: memory never shrinks in place.
    #[schemars(extend("default" = "off"))]
    pub(super) recycle_above_memory: Optional<SizeOrOff>,
    /// A client address whose messages end this many instances within 10 seconds is refused for a while.
    #[schemars(extend("default" = 5))]
    pub(super) max_client_faults: Optional<CountOrOff>,
    /// Faults from this many client addresses within 10 seconds open the breaker.
    #[schemars(extend("default" = 3))]
    pub(super) breaker_clients: Optional<CountOrOff>,
    /// The only bytes that may be loaded.
    pub(super) sha256: Option<Sha256>,
    /// What the filter may do beyond deciding about messages; nothing by default.
    pub(super) allow: Table<RawAllow>,
    /// Another component that serves a share of the new connections.
    pub(super) canary: Optional<Table<RawCandidate>>,
    /// Another component that is asked about a share of the new connections and never obeyed.
    pub(super) shadow: Optional<Table<RawCandidate>>,
}

/// Another component for a share of the new connections.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(extend("required" = ["file", "percent"]))]
pub(super) struct RawCandidate {
    /// The component; watched, and loaded anew when it changes.
    pub(super) file: Optional<String>,
    /// Share of the new connections.
    #[schemars(range(min = 0, max = 100))]
    pub(super) percent: Optional<Count>,
}

/// What a filter may do beyond deciding about messages.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(super) struct RawAllow {
    /// Upstreams that it may choose for a connection, and to which it may `route` messages.
    #[schemars(extend("default" = []))]
    pub(super) upstreams: Vec<At<String>>,
    /// Topics that it may publish to and (un)subscribe connections from, as patterns: `*` stands for any characters.
    #[schemars(extend("default" = []))]
    pub(super) topics: Vec<At<String>>,
    /// May it send to single connections, and close them?
    #[schemars(extend("default" = false))]
    pub(super) send: Optional<bool>,
    /// Stores that it may read and write.
    #[schemars(extend("default" = []))]
    pub(super) key_value: Vec<At<String>>,
    /// Origins that it may send HTTP requests to, such as `https://authz.internal` or `https://*.example.com`.
    #[schemars(extend("default" = []))]
    pub(super) http: Vec<At<String>>,
}

/// A store that filters share.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(super) struct RawStore {
    /// Keys and values together, and 320 bytes more for each.
    #[schemars(extend("default" = "64MiB"))]
    pub(super) max_size: Optional<Size>,
}

/// Which requests go where, through which filters, within which limits.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(extend("required" = ["path"]))]
pub(super) struct RawRoute {
    /// Unique; the label in metrics and logs. Default: `host` and `path` together.
    pub(super) name: Optional<String>,
    /// A host, or `*.example.com` for every host below it. Default: any.
    pub(super) host: Optional<String>,
    /// Literal segments, `{parameter}` segments and an optional trailing `*`.
    pub(super) path: Optional<String>,
    /// The path that the upstream sees; may use the parameters of `path` and end in its `*`. Default: the client's.
    pub(super) path_rewrite: Optional<String>,
    /// The upstream that answers; either this or `target`.
    pub(super) upstream: Optional<String>,
    /// What answers without an upstream.
    pub(super) target: Optional<Word<RawTarget>>,
    /// The folder of the target `static`.
    pub(super) folder: Optional<String>,
    /// The filters, in order.
    #[schemars(extend("default" = []))]
    pub(super) filters: Option<At<Vec<At<String>>>>,
    /// Instead of `filters`: every component in this folder, in name order.
    pub(super) filters_folder: Optional<String>,
    /// Filters of `filters_folder` that cannot be removed and without which the gateway is not ready.
    #[schemars(extend("default" = []))]
    pub(super) required_filters: Option<At<Vec<At<String>>>>,
    /// A file's removal from `filters_folder` counts after this.
    #[schemars(extend("default" = "10s"))]
    pub(super) removal_grace: Optional<Time>,
    /// A `[jwt.*]` table: a client needs such a token. `none`: it needs none.
    #[schemars(extend("default" = "none"))]
    pub(super) auth: Optional<String>,
    /// A service that is asked about each handshake, after `auth`.
    pub(super) auth_request: Optional<Table<RawAuthRequest>>,
    /// Headers of the request that the upstream receives, from claims of the client's token. What the client sent
    /// under these names is removed.
    #[schemars(extend("default" = {}))]
    pub(super) claims_to_headers: BTreeMap<String, At<String>>,
    /// Which pages of the web may connect: `same-origin`, `absent`, `null`, `any`, or origins such as
    /// `https://app.example.com` and `https://*.example.com`.
    #[schemars(extend("default" = ["same-origin", "absent"]))]
    pub(super) allowed_origins: Option<At<Vec<At<String>>>>,
    /// Subprotocols that may be negotiated. Default: any that the upstream takes.
    pub(super) subprotocols: Option<Vec<At<String>>>,
    /// Edits to the request that the upstream receives.
    pub(super) request_headers: Table<RawHeaderEdits>,
    /// What becomes of HTTP requests that open no WebSocket: `forward` sends them to the upstream, too.
    #[schemars(extend("default" = "reject"))]
    pub(super) http: Optional<Word<HttpMode>>,
    /// Are filters asked about each of these requests, as they are about each handshake? `skip`: no.
    #[schemars(extend("default" = "open"))]
    pub(super) http_filters: Optional<Word<HttpFilters>>,
    /// Largest body of such a request.
    #[schemars(extend("default" = "64MiB"))]
    pub(super) http_max_body: Optional<SizeOrOff>,
    /// A body of such a request of which nothing comes for this long is given up.
    #[schemars(extend("default" = "30s"))]
    pub(super) http_body_timeout: Optional<Time>,
    /// From the last byte of such a request to the head of the upstream's answer.
    #[schemars(extend("default" = "60s"))]
    pub(super) http_response_timeout: Optional<Time>,
    /// Largest message that the client may send.
    #[schemars(extend("default" = "1MiB"))]
    pub(super) client_max_payload: Optional<Size>,
    /// Largest message that the upstream may send.
    #[schemars(extend("default" = "4MiB"))]
    pub(super) upstream_max_payload: Optional<Size>,
    /// High-water mark of each outgoing queue; at least the larger payload limit.
    #[schemars(extend("default" = "4MiB"))]
    pub(super) queue_max_size: Optional<Size>,
    /// What a relayed message meets in a full queue.
    #[schemars(extend("default" = "pause"))]
    pub(super) overflow: Option<Word<Overflow>>,
    /// What a pushed message meets in a full queue.
    #[schemars(extend("default" = "close"))]
    pub(super) push_overflow: Option<Word<PushOverflow>>,
    /// From the request's head to the answer.
    #[schemars(extend("default" = "10s"))]
    pub(super) handshake_timeout: Optional<Time>,
    /// A peer that takes no byte for this long is closed.
    #[schemars(extend("default" = "10s"))]
    pub(super) send_timeout: Optional<Time>,
    /// The gateway pings both peers this often.
    #[schemars(extend("default" = "25s"))]
    pub(super) ping_interval: Optional<TimeOrOff>,
    /// A ping without a pong for this long closes.
    #[schemars(extend("default" = "10s"))]
    pub(super) pong_timeout: Optional<Time>,
    /// No message either way for this long closes.
    #[schemars(extend("default" = "off"))]
    pub(super) idle_timeout: Optional<TimeOrOff>,
    /// Age at which a connection is closed.
    #[schemars(extend("default" = "off"))]
    pub(super) max_connection_duration: Optional<TimeOrOff>,
    /// How many connections the route takes, and how much its clients may send.
    pub(super) limits: Table<RawRouteLimits>,
}

/// What answers without an upstream.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum RawTarget {
    /// Each message is answered with itself.
    Echo,
    /// Nothing: the filters answer, and what they forward to the upstream ends there.
    Filters,
    /// Files of `folder`, for HTTP requests; there is no WebSocket.
    Static,
}

/// Edits to the request that the upstream receives.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(super) struct RawHeaderEdits {
    /// Replaces every value of the name.
    #[schemars(extend("default" = {}))]
    pub(super) set: BTreeMap<String, At<String>>,
    /// Removes every value of the name.
    #[schemars(extend("default" = []))]
    pub(super) remove: Vec<At<String>>,
}
