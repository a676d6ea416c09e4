//! Builds everything from a configuration, runs it, and takes it down again.

use std::{
    io::{self, Write},
    net::SocketAddr,
    sync::Arc,
};

use rustls::ClientConfig;
use thiserror::Error;
use tokio::{
    net::TcpListener,
    runtime::Builder,
    signal::unix::{Signal, SignalKind, signal},
    sync::watch,
    task::JoinSet,
};

use crate::{
    admin::{self, AdminState, Readiness, Reason, TokenError, Tokens},
    auth::{Authenticators, KeyError, Revocations, RevocationsError},
    config::{ChainSource, Config, Target},
    door::{self, CertificateError, Door},
    filter::{Catalogue, Compiler, FilterStatus, LoadError},
    limit::{self, Limits},
    listener,
    route::RouteTable,
    state_dir::StateDir,
    telemetry::metrics::Metrics,
    topic::Hub,
    upstream::{Upstreams, UpstreamsError, roots},
    worker::{Shared, Worker},
};

/// Why the gateway did not start, or stopped.
#[derive(Debug, Error)]
pub enum GatewayError {
    /// A filter that a route needs cannot be loaded.
    #[error("cannot load the filters")]
    Filters(#[from] LoadError),
    /// An upstream cannot be used.
    #[error("cannot use the upstreams")]
    Upstreams(#[from] UpstreamsError),
    /// A key for tokens cannot be used.
    #[error(transparent)]
    Keys(#[from] KeyError),
    /// A token for the admin API cannot be used.
    #[error(transparent)]
    AdminToken(#[from] TokenError),
    /// What was revoked cannot be read.
    #[error("cannot use the revocations of earlier runs")]
    Revocations(#[from] RevocationsError),
    /// A certificate of a listener cannot be used.
    #[error(transparent)]
    Certificate(#[from] CertificateError),
    /// An address cannot be bound.
    #[error("cannot listen on {address} ({what})")]
    Bind {
        /// Which configuration table asked for it.
        what: &'static str,
        /// As configured.
        address: SocketAddr,
        /// Such as: address in use.
        #[source]
        source: io::Error,
    },
    /// Threads, timers or signals cannot be had.
    #[error("cannot start")]
    System(#[source] io::Error),
}

/// Runs until a signal says to stop and every connection is drained.
///
/// # Errors
/// Whatever keeps the gateway from starting.
pub fn run(config: Config, metrics: &Arc<Metrics>) -> Result<(), GatewayError> {
    let runtime = Builder::new_current_thread().enable_all().build().map_err(GatewayError::System)?;
    let state_dir = Arc::new(StateDir::new(config.server.state_dir.clone()));
    let result = runtime.block_on(async {
        let mut signals = Signals::new().map_err(GatewayError::System)?;
        let start = Gateway::start(Arc::new(config), metrics, &state_dir);
        let gateway = tokio::select! {
            gateway = start => gateway?,
            // Filters may take minutes to compile.
            _ = signals.next() => {
                tracing::info!("stopped before it was ready");
                return Ok(());
            }
        };
        gateway.serve(signals).await
    });
    // What is still being compiled ends with the process.
    runtime.shutdown_background();
    state_dir.close();
    result
}

struct Gateway {
    config: Arc<Config>,
    catalogue: Arc<Catalogue>,
    readiness: Arc<Readiness>,
    listeners: Vec<(TcpListener, Arc<Door>)>,
    workers: Arc<[Worker]>,
    /// Admin and health servers, and what keeps keys up to date; they outlive the drain.
    servers: JoinSet<()>,
}

impl Gateway {
    async fn start(
        config: Arc<Config>,
        metrics: &Arc<Metrics>,
        state_dir: &Arc<StateDir>,
    ) -> Result<Self, GatewayError> {
        let mut listeners = Vec::new();
        for listener in &config.listeners {
            let socket = bind("listeners", listener.address).await?;
            let name = socket.local_addr().map_err(GatewayError::System)?.to_string();
            listeners.push((socket, Arc::new(Door::new(&name, listener, metrics)?)));
        }
        let admin = bind("admin", config.admin.address).await?;
        let health = match config.health {
            Some(address) => Some(bind("health", address).await?),
            None => None,
        };
        let largest = config.routes.iter().map(|route| route.limits.upstream_max_payload_bytes).max();
        let hub = Hub::new(largest.unwrap_or_default(), metrics.topics());
        let catalogue = Arc::new(load_filters(&config, metrics, state_dir, &hub).await?);
        let limits = Arc::new(Limits::new(&config.server.limits, metrics));
        let revocations = Arc::new(Revocations::open(state_dir, metrics.auth.revocations())?);
        let (authenticators, keeper) = Authenticators::load(&config, metrics, Arc::clone(&revocations))?;
        let (tokens, token_keeper) = Tokens::load(&config.admin.tokens)?;
        let authenticators = Arc::new(authenticators);
        let shared = Shared {
            routes: Arc::new(RouteTable::new(&config, &limits, metrics)),
            limits: Arc::clone(&limits),
            service_tls: service_tls(&config)?,
            upstreams: Arc::new(Upstreams::new(&config, metrics)?),
            authenticators: Arc::clone(&authenticators),
            catalogue: Arc::clone(&catalogue),
            hub,
            metrics: Arc::clone(metrics),
        };
        let workers: io::Result<Vec<Worker>> =
            (0..config.server.workers).map(|index| Worker::start(index, shared.clone())).collect();
        let filters = Arc::clone(&catalogue);
        let readiness = Readiness::new(move || filters.ready());
        let readiness = Arc::new(readiness.unless(Reason::KeysMissing, move || authenticators.ready()));
        let mut gateway = Self {
            config,
            catalogue,
            readiness,
            listeners,
            workers: workers.map_err(GatewayError::System)?.into(),
            servers: JoinSet::new(),
        };
        gateway.announce(&admin, health.as_ref()).map_err(GatewayError::System)?;
        gateway.servers.spawn(keeper.keep());
        gateway.servers.spawn(sweep(limits));
        gateway.servers.spawn(token_keeper.keep());
        gateway.servers.spawn(Arc::clone(&revocations).sweep());
        let (metrics, catalogue) = (Arc::clone(metrics), Arc::clone(&gateway.catalogue));
        let state =
            AdminState { metrics, readiness: Arc::clone(&gateway.readiness), filters: catalogue, revocations, tokens };
        gateway.serve_admin(Arc::new(state), admin, health);
        Ok(gateway)
    }

    fn serve_admin(&mut self, state: Arc<AdminState>, admin: TcpListener, health: Option<TcpListener>) {
        self.servers.spawn(admin::serve(admin, Arc::clone(&state)));
        if let Some(health) = health {
            self.servers.spawn(admin::serve_health(health, state));
        }
    }

    async fn serve(mut self, mut signals: Signals) -> Result<(), GatewayError> {
        let (stop, stopped) = watch::channel(false);
        let mut accepting = JoinSet::new();
        let doors: Vec<_> = self.listeners.iter().map(|(_, door)| Arc::clone(door)).collect();
        door::watch(&doors).map_err(GatewayError::System)?;
        for (listener, door) in self.listeners.drain(..) {
            accepting.spawn(listener::accept(listener, door, Arc::clone(&self.workers), stopped.clone()));
        }
        self.readiness.started();
        let skip_delay = signals.next().await == Stop::Now;
        self.readiness.draining();
        let server = &self.config.server;
        if !skip_delay && !server.drain_delay.is_zero() {
            tracing::info!(delay_ms = server.drain_delay.as_millis(), "draining: not ready, still accepting");
            tokio::select! {
                () = tokio::time::sleep(server.drain_delay) => {}
                _ = signals.next() => {}
            }
        }
        tracing::info!(over_ms = server.drain_timeout.as_millis(), "closing connections");
        let _ = stop.send(true);
        while accepting.join_next().await.is_some() {}
        let drains = self.workers.iter().map(|worker| worker.drain(server.drain_timeout));
        tokio::select! {
            _ = futures_util::future::join_all(drains) => {}
            _ = signals.next() => tracing::warn!("another signal: leaving at once"),
        }
        tracing::info!("stopped");
        Ok(())
    }

    /// Says on stdout what runs, in lines that scripts can read; the last is `ready`.
    fn announce(&self, admin: &TcpListener, health: Option<&TcpListener>) -> io::Result<()> {
        let mut out = String::new();
        let mut line = |what: &str, text: &str| out.push_str(&format!("{what:<10}{text}\n"));
        line("wsgate", env!("CARGO_PKG_VERSION"));
        let mut try_url = None;
        for (listener, door) in &self.listeners {
            let scheme = if door.is_secure() { "wss" } else { "ws" };
            let url = format!("{scheme}://{}", listener.local_addr()?);
            line("listener", &url);
            try_url.get_or_insert(url);
        }
        line("admin", &format!("http://{}", admin.local_addr()?));
        if let Some(health) = health {
            line("health", &format!("http://{}", health.local_addr()?));
        }
        for route in &self.config.routes {
            let target = match &route.target {
                Target::Echo => "echo".to_owned(),
                Target::Filters => "filters".to_owned(),
                Target::Upstream(name) => format!("upstream {name}"),
            };
            let chain = match &route.filters {
                ChainSource::Names(names) if names.is_empty() => "no filters".to_owned(),
                ChainSource::Names(names) => format!("filters {}", names.join(", ")),
                ChainSource::Folder { path, .. } => format!("filters from {}", path.display()),
            };
            line("route", &format!("{}  {} -> {target}  ({chain})", route.name, route.path));
        }
        for FilterStatus { name, file, generation, max_sessions, .. } in self.catalogue.status() {
            let generation = generation.as_deref().unwrap_or("not loaded");
            let own =
                max_sessions.map(|sessions| format!("  (an instance for each of at most {sessions} connections)"));
            line("filter", &format!("{name}  {generation}  {}{}", file.display(), own.unwrap_or_default()));
        }
        if let (Some(url), Some(route)) = (try_url, self.config.routes.first()) {
            line("try", &format!("wsgate connect {url}{}", route.path.to_string().trim_end_matches('*')));
        }
        out.push_str("ready\n");
        // A closed stdout is no reason not to serve.
        let mut stdout = io::stdout().lock();
        let _ = stdout.write_all(out.as_bytes()).and_then(|()| stdout.flush());
        Ok(())
    }
}

/// Compiling blocks, so it has a thread of its own.
async fn load_filters(
    config: &Arc<Config>,
    metrics: &Arc<Metrics>,
    state_dir: &Arc<StateDir>,
    hub: &Arc<Hub>,
) -> Result<Catalogue, GatewayError> {
    let compiler = Compiler::new(Arc::clone(state_dir)).with_js_compiler(config.server.js_compiler.clone());
    let (config, metrics, hub) = (Arc::clone(config), Arc::clone(metrics), Arc::clone(hub));
    let loading = tokio::task::spawn_blocking(move || Catalogue::start(&config, &metrics, compiler, &hub));
    Ok(loading.await.map_err(|error| GatewayError::System(io::Error::other(error)))??)
}

async fn bind(what: &'static str, address: SocketAddr) -> Result<TcpListener, GatewayError> {
    TcpListener::bind(address).await.map_err(|source| GatewayError::Bind { what, address, source })
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Stop {
    /// SIGTERM: balancers need time to notice.
    Gently,
    /// SIGINT: somebody waits for the prompt.
    Now,
}

struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn new() -> io::Result<Self> {
        Ok(Self { terminate: signal(SignalKind::terminate())?, interrupt: signal(SignalKind::interrupt())? })
    }

    async fn next(&mut self) -> Stop {
        tokio::select! {
            _ = self.terminate.recv() => Stop::Gently,
            _ = self.interrupt.recv() => Stop::Now,
        }
    }
}

/// The machine's root certificates, where a service is asked over `https://`.
fn service_tls(config: &Config) -> Result<Option<Arc<ClientConfig>>, UpstreamsError> {
    let services = config.routes.iter().filter_map(|route| route.auth_request.as_ref());
    let uses_tls = services.into_iter().any(|service| service.url.to_ascii_lowercase().starts_with("https:"));
    uses_tls.then(roots::native).transpose()
}

/// Forgets clients that are long gone, on a thread that serves nobody.
async fn sweep(limits: Arc<Limits>) {
    let mut interval = tokio::time::interval(limit::SWEEP_INTERVAL);
    interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        interval.tick().await;
        let limits = Arc::clone(&limits);
        // It does not panic, and if it did the next one may succeed.
        let _ = tokio::task::spawn_blocking(move || limits.sweep()).await;
    }
}
