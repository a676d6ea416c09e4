//! What the admin API shows of filters.

use std::{
    path::PathBuf,
    sync::{
        Arc, Mutex, PoisonError, Weak,
        atomic::{AtomicBool, Ordering},
    },
    time::{SystemTime, UNIX_EPOCH},
};

use serde::Serialize;

use super::source::Source;
use crate::{
    config::Isolation,
    filter::{breaker::BreakerState, fault::FaultRecord, generation::Generation},
};

/// One filter and its file.
#[derive(Clone, Debug, Serialize)]
pub struct FilterStatus {
    /// The filter's name.
    pub name: String,
    /// Its file.
    pub file: PathBuf,
    /// How it is.
    pub state: FilterState,
    /// Why the file's present content does not serve.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// The first 12 digits of the hash of the generation that serves.
    pub generation: Option<String>,
    /// When it was loaded, in milliseconds of Unix time.
    pub loaded_at_unix_ms: Option<u64>,
    /// Size of the file that it was loaded from.
    pub wasm_bytes: usize,
    /// The routes whose chains it is in.
    pub routes: Vec<String>,
    /// Do sessions share instances?
    pub isolation: Isolation,
    /// Where they do not: how many sessions the process can hold at once, if no other filter has such instances.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_sessions: Option<usize>,
    /// The generation that serves and older ones that still have sessions or instances.
    pub generations: Vec<GenerationStatus>,
    /// Its last faults, the newest first.
    pub faults: Vec<FaultRecord>,
}

/// How a filter is.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum FilterState {
    /// The file's content serves.
    Serving,
    /// The file's content was refused: an older generation serves, or none.
    Failed,
    /// The file is away: the last good generation serves.
    Missing,
    /// Loaded, but no route uses it.
    Unused,
}

/// One generation that is still there.
#[derive(Clone, Debug, Serialize)]
pub struct GenerationStatus {
    /// The first 12 digits of its hash.
    pub generation: String,
    /// Is it the one that serves?
    pub serving: bool,
    /// Its sessions on all workers.
    pub sessions: usize,
    /// Its instances on all workers.
    pub instances: usize,
    /// Is it called?
    pub breaker: BreakerState,
}

/// The last known rows, shared between the thread that watches and the admin API.
#[derive(Default)]
pub(super) struct Board {
    rows: Mutex<Vec<Row>>,
    ready: AtomicBool,
}

/// What changes only when files change; counts are read when asked for.
pub(super) struct Row {
    status: FilterStatus,
    current: Weak<Generation>,
    older: Vec<Weak<Generation>>,
}

impl Board {
    pub(super) fn post(&self, rows: Vec<Row>, ready: bool) {
        *self.rows.lock().unwrap_or_else(PoisonError::into_inner) = rows;
        self.ready.store(ready, Ordering::Relaxed);
    }

    pub(super) fn status(&self) -> Vec<FilterStatus> {
        self.rows.lock().unwrap_or_else(PoisonError::into_inner).iter().map(Row::status).collect()
    }

    pub(super) fn ready(&self) -> bool {
        self.ready.load(Ordering::Relaxed)
    }
}

impl Row {
    pub(super) fn new(source: &Source, routes: Vec<String>) -> Self {
        let state = if source.missing {
            FilterState::Missing
        } else if source.error.is_some() || source.current.is_none() {
            FilterState::Failed
        } else if routes.is_empty() {
            FilterState::Unused
        } else {
            FilterState::Serving
        };
        Self {
            status: FilterStatus {
                name: source.name.to_string(),
                file: source.path.clone(),
                state,
                error: source.error.clone(),
                generation: source.current.as_ref().map(|current| current.digest().short()),
                loaded_at_unix_ms: source.loaded_at.map(unix_ms),
                wasm_bytes: source.wasm_bytes,
                routes,
                isolation: source.settings.isolation,
                max_sessions: None,
                generations: Vec::new(),
                faults: Vec::new(),
            },
            current: source.current.as_ref().map(Arc::downgrade).unwrap_or_default(),
            older: source.older.clone(),
        }
    }

    fn status(&self) -> FilterStatus {
        let current = self.current.upgrade();
        let max_sessions = current.as_ref().and_then(|current| current.max_sessions());
        let faults = current.as_ref().map(|current| current.recent_faults().list()).unwrap_or_default();
        let serving = current.map(|generation| GenerationStatus::new(&generation, true));
        let older = self.older.iter().filter_map(Weak::upgrade);
        let older = older.map(|generation| GenerationStatus::new(&generation, false));
        let generations = serving.into_iter().chain(older).collect();
        FilterStatus { max_sessions, generations, faults, ..self.status.clone() }
    }
}

impl GenerationStatus {
    fn new(generation: &Generation, serving: bool) -> Self {
        Self {
            generation: generation.digest().short(),
            serving,
            sessions: generation.sessions.load(Ordering::Relaxed),
            instances: generation.instances.load(Ordering::Relaxed),
            breaker: generation.breaker().state(),
        }
    }
}

fn unix_ms(at: SystemTime) -> u64 {
    let since = at.duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
