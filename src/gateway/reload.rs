//! Another configuration while connections stay open: whole, or not at all.
//!
//! Everything that can fail comes first: reading, binding, keys, filters. What follows cannot fail. Filters are last of
//! the former, because they are published as they are loaded.

mod changes;
mod follow;

use std::{convert::Infallible, error::Error, path::PathBuf, sync::Arc, time::Duration};

use arc_swap::ArcSwap;
use thiserror::Error;
use tokio::{
    runtime::Handle,
    sync::{mpsc, oneshot},
    time::{Instant, sleep},
};

pub(super) use self::follow::follow;
use super::{GatewayError, largest_message_bytes, listeners::Listeners};
use crate::{
    admin::{Reload, ReloadReport, Reloaded},
    config::{Config, ConfigErrors, Warning},
    configured::{Configured, ConfiguredError, Lasting},
    filter::{Catalogue, LoadError},
    handshake::Followed,
    service,
    telemetry::logs::SetLevel,
    topic::Hub,
    worker::Worker,
};

/// The file has another content than it had. Whoever changed it may have asked for a reload too, which is one then.
const FILE: &str = "file";
/// Requests that wait while a configuration is loaded; more wait with them.
const WAITING: usize = 4;
/// New issuers of keys have to answer by then: without their keys nobody would be let in.
const FIRST_KEYS_TIMEOUT: Duration = Duration::from_secs(15);
const FIRST_KEYS_PAUSE: Duration = Duration::from_millis(50);

/// Why a configuration does not take the place of the one before. Nothing has changed then.
#[derive(Debug, Error)]
pub(super) enum ReloadError {
    #[error("the gateway runs without a configuration file")]
    NoFile,
    #[error("{0}")]
    Config(#[from] ConfigErrors),
    #[error("{0} cannot change without a restart")]
    NeedsRestart(String),
    #[error(transparent)]
    Configured(#[from] ConfiguredError),
    #[error(transparent)]
    Listeners(GatewayError),
    #[error("jwt.{0}: its keys could not be fetched, and without them every token would be refused")]
    Keys(String),
    #[error("cannot load the filters")]
    Filters(#[from] LoadError),
    #[error("cannot read the configuration")]
    Read(#[source] tokio::task::JoinError),
}

/// Who wants it, or only wants to know.
enum Wanted {
    Reload {
        cause: &'static str,
    },
    /// What this text, read as if its file were in this folder, would change.
    Check {
        text: String,
        base_dir: PathBuf,
    },
}

struct Request {
    wanted: Wanted,
    answer: oneshot::Sender<Reloaded>,
}

/// How others ask for it.
#[derive(Clone)]
pub(super) struct Reloads(mpsc::Sender<Request>);

/// What outlasts every configuration.
pub(super) struct Lasts {
    pub(super) lasting: Lasting,
    pub(super) catalogue: Arc<Catalogue>,
    pub(super) hub: Arc<Hub>,
    pub(super) workers: Arc<[Worker]>,
    pub(super) set_level: SetLevel,
}

/// Carries it out.
pub(super) struct Reloader {
    file: Option<PathBuf>,
    lasts: Lasts,
    current: Arc<ArcSwap<Configured>>,
    requests: mpsc::Receiver<Request>,
    generation: u64,
    /// The content of the file that was loaded last, or refused.
    tried: Option<follow::Content>,
}

pub(super) fn new(file: Option<PathBuf>, lasts: Lasts, current: Arc<ArcSwap<Configured>>) -> (Reloads, Reloader) {
    let (sender, requests) = mpsc::channel(WAITING);
    lasts.lasting.metrics.reloads.config_generation.set(1);
    let tried = file.as_deref().and_then(follow::read);
    (Reloads(sender), Reloader { file, lasts, current, requests, generation: 1, tried })
}

impl Reloads {
    async fn ask(&self, wanted: Wanted) -> Reloaded {
        let (answer, answered) = oneshot::channel();
        let gone = || "the gateway is leaving".to_owned();
        self.0.send(Request { wanted, answer }).await.map_err(|_| gone())?;
        answered.await.map_err(|_| gone())?
    }
}

impl Reload for Reloads {
    fn reload(&self) -> std::pin::Pin<Box<dyn Future<Output = Reloaded> + Send + '_>> {
        Box::pin(self.ask(Wanted::Reload { cause: "api" }))
    }

    fn check(&self, text: String, base_dir: PathBuf) -> std::pin::Pin<Box<dyn Future<Output = Reloaded> + Send + '_>> {
        Box::pin(self.ask(Wanted::Check { text, base_dir }))
    }
}

impl Reloader {
    pub(super) fn file(&self) -> Option<PathBuf> {
        self.file.clone()
    }

    /// Serves requests, one after the other.
    pub(super) async fn run(&mut self, listeners: &mut Listeners) -> Infallible {
        loop {
            let Some(Request { wanted, answer }) = self.requests.recv().await else { std::future::pending().await };
            let done = match wanted {
                Wanted::Reload { cause } => self.reload(cause, listeners).await,
                Wanted::Check { text, base_dir } => self.check(text, base_dir).await.map_err(|error| told(&error)),
            };
            // Whoever asked may have gone.
            let _ = answer.send(done);
        }
    }

    async fn reload(&mut self, cause: &'static str, listeners: &mut Listeners) -> Reloaded {
        let content = self.file.as_deref().and_then(follow::read);
        if cause == FILE && content == self.tried {
            return Ok(ReloadReport { generation: self.generation, ..ReloadReport::default() });
        }
        self.tried = content;
        let metrics = Arc::clone(&self.lasts.lasting.metrics);
        service::reloading();
        let done = self.try_reload(listeners).await;
        service::ready(if done.is_ok() { "serving" } else { "serving; the last reload was refused" });
        match done {
            Ok(report) => {
                metrics.reloads.config_reloads_total.with_label_values(&["ok"]).inc();
                metrics.reloads.config_generation.set(i64::try_from(report.generation).unwrap_or(i64::MAX));
                let changed = report.changed.join(", ");
                let closed: usize = report.connections.values().map(|route| route.closed()).sum();
                tracing::info!(cause, generation = report.generation, changed, closed, "configuration loaded");
                Ok(report)
            }
            Err(error) => {
                metrics.reloads.config_reloads_total.with_label_values(&["error"]).inc();
                let error = told(&error);
                tracing::error!(cause, error, "configuration not loaded, the one before stays");
                Err(error)
            }
        }
    }

    async fn try_reload(&mut self, listeners: &mut Listeners) -> Result<ReloadReport, ReloadError> {
        let file = self.file.clone().ok_or(ReloadError::NoFile)?;
        let read = tokio::task::spawn_blocking(move || Config::load(&file)).await.map_err(ReloadError::Read)?;
        let (config, warnings) = read?;
        let (before, configured) = self.prepare(config)?;
        let config = Arc::clone(&configured.config);
        let metrics = &self.lasts.lasting.metrics;
        let planned = listeners.plan(&config.listeners, metrics).map_err(ReloadError::Listeners)?;
        configured.authenticators.keep();
        first_keys(&before, &configured).await?;
        self.lasts.catalogue.configure(Arc::clone(&config)).await?;

        // Nothing fails from here on.
        self.lasts.hub.accept_messages_of(largest_message_bytes(&config));
        if config.log.level != before.config.log.level
            && let Err(error) = (self.lasts.set_level)(&config.log.level)
        {
            tracing::warn!(error = &error as &dyn Error, "the level of the log stays");
        }
        configured.upstreams.start(Some(&before.upstreams), &Handle::current());
        self.current.store(Arc::clone(&configured));
        let mut followed = Followed::default();
        let all = self.lasts.workers.iter().map(|worker| worker.configure(Arc::clone(&configured)));
        futures_util::future::join_all(all).await.into_iter().for_each(|one| followed.add(one));
        let mut changed = changes::changes(&before.config, &config);
        changed.extend(listeners.apply(planned, &self.lasts.workers).await);
        self.generation += 1;
        Ok(report(self.generation, changed, &warnings, followed))
    }

    /// What a reload would come to, without one.
    async fn check(&self, text: String, base_dir: PathBuf) -> Result<ReloadReport, ReloadError> {
        let name = base_dir.join("(sent)").display().to_string();
        let (config, warnings) = Config::parse(&text, &name, &base_dir)?;
        let (before, configured) = self.prepare(config)?;
        let mut followed = Followed::default();
        let all = self.lasts.workers.iter().map(|worker| worker.foresee(Arc::clone(&configured)));
        futures_util::future::join_all(all).await.into_iter().for_each(|one| followed.add(one));
        let mut changed = changes::changes(&before.config, &configured.config);
        changed.extend(changes::listeners(&before.config, &configured.config));
        Ok(report(self.generation, changed, &warnings, followed))
    }

    fn prepare(&self, config: Config) -> Result<(Arc<Configured>, Arc<Configured>), ReloadError> {
        let before = self.current.load_full();
        if let Some(keys) = changes::need_restart(&before.config, &config) {
            return Err(ReloadError::NeedsRestart(keys));
        }
        let configured = Configured::new(Arc::new(config), &self.lasts.lasting, Some(&before))?;
        Ok((before, Arc::new(configured)))
    }
}

/// Waits until every table has keys that had none before.
async fn first_keys(before: &Configured, configured: &Configured) -> Result<(), ReloadError> {
    if !before.authenticators.ready() {
        // They were waited for in vain before.
        return Ok(());
    }
    let deadline = Instant::now() + FIRST_KEYS_TIMEOUT;
    while let Some(table) = configured.authenticators.unready() {
        if Instant::now() >= deadline {
            return Err(ReloadError::Keys(table.to_owned()));
        }
        sleep(FIRST_KEYS_PAUSE).await;
    }
    Ok(())
}

fn report(generation: u64, changed: Vec<String>, warnings: &[Warning], followed: Followed) -> ReloadReport {
    let mut report = ReloadReport {
        generation,
        changed,
        warnings: warnings.iter().map(ToString::to_string).collect(),
        connections: Default::default(),
    };
    for (route, kept) in followed.kept {
        report.connections.entry(route).or_default().kept = kept;
    }
    for ((route, why), closed) in followed.closed {
        report.connections.entry(route).or_default().close(why, closed);
    }
    report
}

/// An error with its causes.
fn told(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(&format!(": {error}"));
        cause = error.source();
    }
    text
}
