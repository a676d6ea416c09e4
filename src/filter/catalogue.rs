//! From files to generations: what the configuration names is loaded at the start; after that the files are watched, and
//! whatever changes is loaded, tried out and published, or refused loudly while the last good generation serves on.

mod folder;
mod source;
mod state;
mod status;
mod watch;

use std::{
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc::SyncSender,
    },
};

use tokio::sync::watch as latest;

use super::{compile::NotAFilter, engine::Engine, live::Live};
use crate::{config::Config, telemetry::metrics::Metrics};
use state::State;
use status::Board;

pub use status::{FilterState, FilterStatus, GenerationStatus};

/// Why the gateway cannot start with these filters.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// No WebAssembly here.
    #[error("the WebAssembly engine cannot start")]
    Engine(#[source] Box<dyn std::error::Error + Send + Sync>),
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
    wake: SyncSender<()>,
}

impl Catalogue {
    /// Loads every filter that a route names, and starts to watch. Blocks: compiling takes its time.
    ///
    /// # Errors
    /// A filter that a route names cannot be loaded. Others only make a warning.
    pub fn start(config: &Arc<Config>, metrics: &Arc<Metrics>) -> Result<Self, LoadError> {
        Self::start_with(Engine::new(metrics)?, config)
    }

    pub(super) fn start_with(engine: Arc<Engine>, config: &Arc<Config>) -> Result<Self, LoadError> {
        let board = Arc::<Board>::default();
        let mut state = State::new(engine, config);
        let live = Arc::new(state.start()?);
        state.published(&live);
        board.post(state.rows(), state.complete());
        let (publish, subscribe) = latest::channel(live);
        let stopped = Arc::new(AtomicBool::new(false));
        let wake = watch::start(state, publish, board.clone(), stopped.clone())
            .map_err(|error| LoadError::Engine(error.into()))?;
        Ok(Self { live: subscribe, board, stopped, wake })
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

    /// Is every filter there that a route needs?
    #[must_use]
    pub fn ready(&self) -> bool {
        self.board.ready()
    }
}

impl Drop for Catalogue {
    fn drop(&mut self) {
        self.stopped.store(true, Ordering::SeqCst);
        // A full channel wakes the thread as well.
        let _ = self.wake.try_send(());
    }
}
