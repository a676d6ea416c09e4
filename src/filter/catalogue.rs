//! From files to generations: what the configuration names is loaded at the start; after that the files are watched, and
//! whatever changes is loaded, tried out and published, or refused loudly while the last good generation serves on.

mod folder;
mod quarantine;
mod orders;
mod rollback;
mod source;
mod state;
mod files;
mod chains;
mod status;
mod watch;
mod check;
mod configure;

use std::{
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use tokio::{
    sync::{oneshot, watch as latest},
    time::timeout,
};

use super::{
    compile::NotAFilter,
    compiler::{Compiler, NotCompiled},
    control::Mode,
    engine::Engine,
    live::Live,
};
use crate::{config::Config, telemetry::metrics::Metrics, topic::Hub, upstream::UpstreamsError};
use orders::{Answer, Order, Orders};
use state::State;
use status::Board;

pub use check::check_scripts;
pub use orders::OrderError;
pub use quarantine::Quarantined;
pub use rollback::RolledBack;
pub use status::{CandidateStatus, FilterState, FilterStatus, GenerationRole, GenerationStatus, ShadowStatus};

/// An order waits while a file is compiled; after this long it is given up.
const ORDER_TIMEOUT: Duration = Duration::from_secs(30);

/// Why the gateway cannot start with these filters.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// No WebAssembly here.
    #[error("the WebAssembly engine cannot start")]
    Engine(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// No filter can be compiled here.
    #[error("filters cannot be compiled")]
    Compiler(#[source] NotCompiled),
    /// A filter may use `https://`, and nothing says whom to trust.
    #[error("the HTTP requests of filters cannot be made")]
    Tls(#[source] UpstreamsError),
    /// The file cannot be read.
    #[error("filter {filter:?}: cannot read {}", file.display())]
    Read {
        /// Its name.
        filter: String,
        /// Where it was looked for.
        file: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The file is not a filter, or fails.
    #[error("filter {filter:?}: {} cannot be loaded", file.display())]
    NotAFilter {
        /// Its name.
        filter: String,
        /// The file.
        file: PathBuf,
        /// Why.
        #[source]
        source: NotAFilter,
    },
    /// A folder of a route cannot be read.
    #[error("filters_folder {}: cannot be read", path.display())]
    Folder {
        /// The folder.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// What earlier runs left cannot be read.
    #[error("{}: what was rolled back from cannot be read; repair the file, or remove it to forget all of it", file.display())]
    Quarantine {
        /// The file.
        file: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// Two files of a folder have one name.
    #[error("filters_folder {}: {first:?} and {second:?} are both the filter {filter:?}", path.display())]
    Duplicate {
        /// The folder.
        path: PathBuf,
        /// The name.
        filter: String,
        /// A file name.
        first: String,
        /// Another.
        second: String,
    },
    /// Two files of `filter_dir` have one name.
    #[error("filter_dir {}: {first} and {second} are both the filter {filter:?}: remove one of the two", path.display())]
    Twins {
        /// The folder.
        path: PathBuf,
        /// The name.
        filter: String,
        /// A file.
        first: String,
        /// Another.
        second: String,
    },
    /// A folder lacks a filter without which its route must not serve.
    #[error("filters_folder {}: the required filter {filter:?} is not in it", path.display())]
    Required {
        /// The folder.
        path: PathBuf,
        /// The name.
        filter: String,
    },
}

/// Every filter, watched. One a process; its threads end when it is dropped.
pub struct Catalogue {
    live: latest::Receiver<Arc<Live>>,
    board: Arc<Board>,
    stopped: Arc<AtomicBool>,
    orders: Arc<Orders>,
}

impl Catalogue {
    /// Loads every filter that a route names, and starts to watch. What filters send to others goes to the hub. Blocks:
    /// compiling takes its time.
    ///
    /// # Errors
    /// A filter that a route names cannot be loaded, or none could be. Others only make a warning.
    pub fn start(
        config: &Arc<Config>,
        metrics: &Arc<Metrics>,
        compiler: Compiler,
        hub: &Arc<Hub>,
    ) -> Result<Self, LoadError> {
        let engine = Engine::new(config, metrics, compiler, hub)?;
        if may_compile(config) {
            // Even if all are in the cache: what is dropped in later will not be.
            engine.compiler().try_out(&engine).map_err(LoadError::Compiler)?;
        }
        Self::start_with(engine, config)
    }

    pub(super) fn start_with(engine: Arc<Engine>, config: &Arc<Config>) -> Result<Self, LoadError> {
        let board = Arc::<Board>::default();
        let mut state = State::new(engine, config)?;
        let live = Arc::new(state.start()?);
        state.published(&live);
        board.post(state.rows(), state.complete());
        let (publish, subscribe) = latest::channel(live);
        let stopped = Arc::new(AtomicBool::new(false));
        let orders = watch::start(state, publish, board.clone(), stopped.clone())
            .map_err(|error| LoadError::Engine(error.into()))?;
        Ok(Self { live: subscribe, board, stopped, orders })
    }

    /// What is live, now and after each change.
    #[must_use]
    pub fn subscribe(&self) -> latest::Receiver<Arc<Live>> {
        self.live.clone()
    }

    /// Every known filter, for the admin API.
    #[must_use]
    pub fn status(&self) -> Vec<FilterStatus> {
        self.board.status()
    }

    /// Sets what becomes of a filter's messages and connections, from the next message on. Answers what it was.
    ///
    /// # Errors
    /// No such filter.
    pub fn set_mode(&self, filter: &str, mode: Mode) -> Result<Mode, OrderError> {
        let control = self.board.control(filter).ok_or(OrderError::UnknownFilter)?;
        let before = control.set_mode(mode);
        if before != mode {
            tracing::warn!(filter, mode = mode.label(), before = before.label(), "the mode of a filter was set");
            // Ticks stand still while a filter is bypassed. Where the list is full, sessions take a turn anyway.
            let _ = self.orders.give(Order::Rouse);
        }
        Ok(before)
    }

    /// Loads the filters of another configuration, which takes the place of the one before: its chains are published,
    /// and open sessions move. Takes as long as compiling does.
    ///
    /// # Errors
    /// As [`Catalogue::start`]; then nothing changed.
    pub async fn configure(&self, config: Arc<Config>) -> Result<(), LoadError> {
        let (answer, answered) = oneshot::channel();
        self.orders.give(Order::Configure { config, answer }).map_err(|error| LoadError::Engine(error.into()))?;
        answered.await.unwrap_or_else(|error| Err(LoadError::Engine(error.into())))
    }

    /// Goes back to the generation that served before; open sessions move, and what served is not loaded again.
    ///
    /// # Errors
    /// Nothing changed.
    pub async fn roll_back(&self, filter: &str) -> Result<Vec<RolledBack>, OrderError> {
        let filter = filter.to_owned();
        self.order(|answer| Order::RollBack { filter, answer }).await
    }

    /// Lets a content of a filter's file, named by its SHA-256 in hexadecimal, be loaded again. Answers whether a restart
    /// will know.
    ///
    /// # Errors
    /// It was not in quarantine.
    pub async fn lift_quarantine(&self, filter: &str, sha256: &str) -> Result<bool, OrderError> {
        let (filter, sha256) = (filter.to_owned(), sha256.to_ascii_lowercase());
        self.order(|answer| Order::Lift { filter, sha256, answer }).await
    }

    async fn order<T>(&self, order: impl FnOnce(Answer<T>) -> Order) -> Result<T, OrderError> {
        let (answer, answered) = oneshot::channel();
        self.orders.give(order(answer))?;
        match timeout(ORDER_TIMEOUT, answered).await {
            Ok(Ok(done)) => done,
            Ok(Err(_)) | Err(_) => Err(OrderError::Busy),
        }
    }

    /// Is every filter there that a route needs?
    #[must_use]
    pub fn ready(&self) -> bool {
        self.board.ready()
    }
}

/// Will filters be compiled?
fn may_compile(config: &Config) -> bool {
    config.server.state_dir.is_some() || config.routes.iter().any(|route| route.filters.is_used())
}

impl Drop for Catalogue {
    fn drop(&mut self) {
        self.stopped.store(true, Ordering::SeqCst);
        self.orders.wake();
    }
}

#[cfg(test)]
mod tests;
