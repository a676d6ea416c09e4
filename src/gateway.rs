//! Builds everything from a configuration, runs it, and takes it down again.

mod announce;
mod listeners;
mod reload;

use std::{io, net::SocketAddr, path::PathBuf, sync::Arc};

use arc_swap::ArcSwap;
use thiserror::Error;
use tokio::{
    net::TcpListener,
    runtime::{Builder, Handle},
    signal::unix::{Signal, SignalKind, signal},
    task::JoinSet,
};

use self::{
    listeners::Listeners,
    reload::{Lasts, Reloader, Reloads},
};
use crate::{
    admin::{self, AdminState, Readiness, Reason, TokenError, Tokens},
    auth::{Revocations, RevocationsError},
    config::Config,
    configured::{Configured, ConfiguredError, Lasting},
    door::CertificateError,
    drain::{Drain, Times},
    filter::{Catalogue, Compiler, LoadError},
    limit::{self, Limits},
    listener,
    service::{self, SocketError, Sockets},
    state_dir::StateDir,
    telemetry::{logs::SetLevel, metrics::Metrics},
    topic::Hub,
    worker::{Shared, Worker},
};

/// Why the gateway did not start, or stopped.
#[derive(Debug, Error)]
pub enum GatewayError {
    /// A filter that a route needs cannot be loaded.
    #[error("cannot load the filters")]
    Filters(#[from] LoadError),
    /// Something that the configuration names cannot be used.
    #[error(transparent)]
    Configured(#[from] ConfiguredError),
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
    /// What the service manager handed over does not fit.
    #[error(transparent)]
    Sockets(#[from] SocketError),
    /// Threads, timers or signals cannot be had.
    #[error("cannot start")]
    System(#[source] io::Error),
}

/// How a gateway is run.
pub struct Run {
    /// What it begins with.
    pub config: Config,
    /// The file that it came from, which is followed; `None` where there is none.
    pub file: Option<PathBuf>,
    /// Every metric.
    pub metrics: Arc<Metrics>,
    /// Changes the level of the log.
    pub set_level: SetLevel,
}

/// Runs until a signal says to stop and every connection is drained.
///
/// # Errors
/// Whatever keeps the gateway from starting.
pub fn run(run: Run) -> Result<(), GatewayError> {
    let runtime = Builder::new_current_thread().enable_all().build().map_err(GatewayError::System)?;
    let state_dir = Arc::new(StateDir::new(run.config.server.state_dir.clone()));
    let result = runtime.block_on(async {
        let mut signals = Signals::new().map_err(GatewayError::System)?;
        let start = Gateway::start(run, &state_dir);
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
    listeners: Listeners,
    drain: Arc<Drain>,
    reloads: Reloads,
    reloader: Reloader,
    announcement: String,
    /// Admin and health servers, and what keeps keys up to date; they outlive the drain.
    servers: JoinSet<()>,
}

impl Gateway {
    async fn start(run: Run, state_dir: &Arc<StateDir>) -> Result<Self, GatewayError> {
        let Run { config, file, metrics, set_level } = run;
        let (config, metrics) = (Arc::new(config), &metrics);
        let mut handed = Sockets::take()?;
        let listeners = Listeners::open(&config.listeners, &mut handed, metrics)?;
        let admin = open("admin", config.admin.address, &mut handed)?;
        let health = match config.health {
            Some(address) => Some(open("health", address, &mut handed)?),
            None => None,
        };
        handed.finish()?;
        let hub = Hub::new(largest_message_bytes(&config), metrics.topics());
        let catalogue = Arc::new(load_filters(&config, metrics, state_dir, &hub).await?);
        let revocations = Arc::new(Revocations::open(state_dir, metrics.auth.revocations())?);
        let limits = Arc::new(Limits::new(metrics));
        let lasting = Lasting {
            limits: Arc::clone(&limits),
            revocations: Arc::clone(&revocations),
            metrics: Arc::clone(metrics),
        };
        let (tokens, token_keeper) = Tokens::load(&config.admin.tokens)?;
        let configured = Arc::new(Configured::new(Arc::clone(&config), &lasting, None)?);
        configured.authenticators.keep();
        configured.upstreams.start(None, &Handle::current());
        let shared = Shared {
            configured: Arc::clone(&configured),
            catalogue: Arc::clone(&catalogue),
            hub: Arc::clone(&hub),
            metrics: Arc::clone(metrics),
        };
        let workers: io::Result<Arc<[Worker]>> =
            (0..config.server.workers).map(|index| Worker::start(index, shared.clone())).collect();
        let workers = workers.map_err(GatewayError::System)?;
        let current = Arc::new(ArcSwap::new(configured));
        let latest = Arc::clone(&current);
        let drain = Arc::new(Drain::new(times(&current), Arc::clone(&workers)));
        let readiness = readiness(&catalogue, &current, &drain);
        let lasts = Lasts { lasting, catalogue: Arc::clone(&catalogue), hub, workers, set_level };
        let (reloads, reloader) = reload::new(file, lasts, current);
        let (announcement, servers) = (String::new(), JoinSet::new());
        let mut gateway =
            Self { config, catalogue, readiness, listeners, drain, reloads, reloader, announcement, servers };
        gateway.announcement = gateway.announcement(&admin, health.as_ref()).map_err(GatewayError::System)?;
        gateway.servers.spawn(sweep(limits));
        gateway.servers.spawn(token_keeper.keep());
        gateway.servers.spawn(Arc::clone(&revocations).sweep());
        let (metrics, filters) = (Arc::clone(metrics), Arc::clone(&gateway.catalogue));
        let (readiness, drain) = (Arc::clone(&gateway.readiness), Arc::clone(&gateway.drain));
        let reloads = Arc::new(gateway.reloads.clone());
        let upstreams = Box::new(move || latest.load().upstreams.status());
        let state = AdminState { metrics, readiness, filters, upstreams, revocations, tokens, reloads, drain };
        gateway.serve_admin(Arc::new(state), admin, health);
        Ok(gateway)
    }

    fn serve_admin(&mut self, state: Arc<AdminState>, admin: TcpListener, health: Option<TcpListener>) {
        self.servers.spawn(admin::serve(admin, Arc::clone(&state)));
        if let Some(health) = health {
            self.servers.spawn(admin::serve_health(health, state));
        }
    }

    async fn serve(self, mut signals: Signals) -> Result<(), GatewayError> {
        let Self { readiness, mut listeners, drain, reloads, mut reloader, announcement, mut servers, .. } = self;
        listeners.accept(drain.workers()).map_err(GatewayError::System)?;
        let running = Arc::clone(&drain);
        servers.spawn(async move { running.run().await });
        let followed = reload::follow(reloads, reloader.file()).map_err(GatewayError::System)?;
        readiness.started();
        announce::say(announcement);
        service::ready("serving");
        servers.spawn(watchdog(Arc::clone(drain.workers())));
        let stop = tokio::select! {
            stop = signals.next() => stop,
            never = reloader.run(&mut listeners) => match never {},
        };
        drop(followed);
        drain.leave();
        service::stopping("draining");
        if stop == Stop::Now {
            drain.skip_delay();
        }
        let until = tokio::select! {
            until = drain.closing() => until,
            _ = signals.next() => {
                drain.skip_delay();
                drain.closing().await
            }
        };
        let out = async {
            tokio::join!(drain.drained(), listeners.stop());
            // Whoever was accepted last has got an answer then.
            drain.close_all(until).await;
        };
        tokio::select! {
            () = out => {}
            _ = signals.next() => tracing::warn!("another signal: leaving at once"),
        }
        tracing::info!("stopped");
        drop(servers);
        Ok(())
    }
}

/// The largest that some route's clients may get.
fn largest_message_bytes(config: &Config) -> usize {
    config.routes.iter().map(|route| route.limits.upstream_max_payload_bytes).max().unwrap_or_default()
}

/// As the latest configuration says.
fn times(current: &Arc<ArcSwap<Configured>>) -> Times {
    let current = Arc::clone(current);
    Box::new(move || {
        let server = &current.load().config.server;
        (server.drain_delay, server.drain_timeout)
    })
}

fn readiness(catalogue: &Arc<Catalogue>, current: &Arc<ArcSwap<Configured>>, drain: &Arc<Drain>) -> Arc<Readiness> {
    let (filters, keys, drain) = (Arc::clone(catalogue), Arc::clone(current), Arc::clone(drain));
    let readiness = Readiness::new(move || filters.ready())
        .unless(Reason::KeysMissing, move || keys.load().authenticators.ready())
        .unless(Reason::Draining, move || !drain.is_draining());
    Arc::new(readiness)
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

/// The socket that the service manager holds for this table, or one of the gateway's own.
fn open(table: &'static str, address: SocketAddr, handed: &mut Sockets) -> Result<TcpListener, GatewayError> {
    match handed.claim_for(table, address) {
        Some(socket) => TcpListener::from_std(socket).map_err(GatewayError::System),
        None => bind(table, address),
    }
}

fn bind(what: &'static str, address: SocketAddr) -> Result<TcpListener, GatewayError> {
    listener::bind(address).map_err(|source| GatewayError::Bind { what, address, source })
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

/// Tells the service manager that all workers turn, where it wants to hear that. When one does not, it hears nothing.
async fn watchdog(workers: Arc<[Worker]>) {
    let Some(interval) = service::watchdog_interval() else { return };
    // Twice in the interval, as sd_watchdog_enabled(3) advises.
    let pause = interval / 2;
    loop {
        let turns = futures_util::future::join_all(workers.iter().map(Worker::turn));
        match tokio::time::timeout(pause, turns).await {
            Ok(_) => {
                service::alive();
                tokio::time::sleep(pause).await;
            }
            Err(_) => tracing::error!(waited_ms = pause.as_millis(), "a worker does not turn"),
        }
    }
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
