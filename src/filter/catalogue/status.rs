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

use super::{quarantine::Quarantined, source::Source};
use crate::{
    config::Isolation,
    filter::{
        breaker::BreakerState,
        control::{Control, Mode},
        fault::FaultRecord,
        generation::Generation,
        shadow::ShadowDifference,
    },
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
    /// What an operator set.
    pub mode: Mode,
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
    /// The generation that serves, older ones that still have sessions or instances, and those of the candidates.
    pub generations: Vec<GenerationStatus>,
    /// Its last faults, the newest first.
    pub faults: Vec<FaultRecord>,
    /// The first 12 digits of the hash of the generation that a rollback would go back to.
    pub rollback_to: Option<String>,
    /// Contents that are not loaded because they were rolled back from.
    pub quarantine: Vec<Quarantined>,
    /// What serves a share of the new connections.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub canary: Option<CandidateStatus>,
    /// What is asked about a share of the new connections and never obeyed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub shadow: Option<ShadowStatus>,
}

/// A shadow, and how often it agreed since the start.
#[derive(Clone, Debug, Serialize)]
pub struct ShadowStatus {
    /// Its file.
    #[serde(flatten)]
    pub candidate: CandidateStatus,
    /// Answers that did the same.
    pub same: u64,
    /// Answers that did not.
    pub different: u64,
    /// Calls of the shadow that failed.
    pub fault: u64,
    /// Messages, or whole connections, that there was no room to compare.
    pub skipped: u64,
    /// The last differences, the newest first.
    pub differences: Vec<ShadowDifference>,
}

/// A canary or a shadow, and its file.
#[derive(Clone, Debug, Serialize)]
pub struct CandidateStatus {
    /// Its file.
    pub file: PathBuf,
    /// Its share of the new connections, 0 to 100.
    pub percent: u8,
    /// How it is; a missing one has no share.
    pub state: FilterState,
    /// Why the file's present content does not count.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// The first 12 digits of the hash of its generation.
    pub generation: Option<String>,
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
    /// The file's content was rolled back from: an older generation serves, or none.
    Quarantined,
    /// Loaded, but no route uses it.
    Unused,
}

impl FilterState {
    fn of(source: &Source) -> Self {
        if source.missing {
            Self::Missing
        } else if source.quarantined {
            Self::Quarantined
        } else if source.error.is_some() || source.current.is_none() {
            Self::Failed
        } else {
            Self::Serving
        }
    }
}

/// What a generation is to its filter.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum GenerationRole {
    /// It serves.
    Serving,
    /// It served, and sessions still have it.
    Older,
    /// It serves a share of the new connections.
    Canary,
    /// It is asked and never obeyed.
    Shadow,
}

/// One generation that is still there.
#[derive(Clone, Debug, Serialize)]
pub struct GenerationStatus {
    /// The first 12 digits of its hash.
    pub generation: String,
    /// SHA-256 of the file that it was loaded from.
    pub sha256: String,
    /// What it is to its filter.
    pub role: GenerationRole,
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
    control: Arc<Control>,
    shadow: Option<CandidateStatus>,
    generations: Vec<(GenerationRole, Weak<Generation>)>,
}

impl Board {
    pub(super) fn post(&self, rows: Vec<Row>, ready: bool) {
        *self.rows.lock().unwrap_or_else(PoisonError::into_inner) = rows;
        self.ready.store(ready, Ordering::Relaxed);
    }

    pub(super) fn status(&self) -> Vec<FilterStatus> {
        self.rows.lock().unwrap_or_else(PoisonError::into_inner).iter().map(Row::status).collect()
    }

    /// The control of a filter, where it is known.
    pub(super) fn control(&self, filter: &str) -> Option<Arc<Control>> {
        let rows = self.rows.lock().unwrap_or_else(PoisonError::into_inner);
        rows.iter().find(|row| row.status.name == filter).map(|row| row.control.clone())
    }

    pub(super) fn ready(&self) -> bool {
        self.ready.load(Ordering::Relaxed)
    }
}

impl Row {
    pub(super) fn new(
        source: &Source,
        routes: Vec<String>,
        quarantine: Vec<Quarantined>,
        canary: Option<(&Source, u8)>,
        shadow: Option<(&Source, u8)>,
    ) -> Self {
        let state = match FilterState::of(source) {
            FilterState::Serving if routes.is_empty() => FilterState::Unused,
            state => state,
        };
        let mut generations = Vec::new();
        for (source, role) in [
            (Some(source), GenerationRole::Serving),
            (canary.map(|(source, _)| source), GenerationRole::Canary),
            (shadow.map(|(source, _)| source), GenerationRole::Shadow),
        ] {
            let Some(source) = source else { continue };
            generations.extend(source.current.iter().map(|generation| (role, Arc::downgrade(generation))));
            generations.extend(source.older.iter().map(|generation| (GenerationRole::Older, generation.clone())));
        }
        let status = FilterStatus {
            name: source.name.to_string(),
            file: source.path.clone(),
            state,
            mode: source.control.mode(),
            error: source.error.clone(),
            generation: source.current.as_ref().map(|current| current.digest().short()),
            loaded_at_unix_ms: source.loaded_at.map(unix_ms),
            wasm_bytes: source.wasm_bytes,
            routes,
            isolation: source.settings.isolation,
            max_sessions: None,
            generations: Vec::new(),
            faults: Vec::new(),
            rollback_to: source.current.as_ref().and(source.history.last()).map(|good| good.digest.short()),
            quarantine,
            canary: canary.map(CandidateStatus::new),
            shadow: None,
        };
        let shadow = shadow.map(CandidateStatus::new);
        Self { status, control: source.control.clone(), shadow, generations }
    }

    fn status(&self) -> FilterStatus {
        let there = self.generations.iter().filter_map(|(role, generation)| Some((*role, generation.upgrade()?)));
        let there: Vec<_> = there.collect();
        let of = |role| there.iter().find(|(known, _)| *known == role).map(|(_, generation)| &**generation);
        let faults_of = |role| of(role).map(|generation| generation.recent_faults().list()).unwrap_or_default();
        let with_faults = |candidate: &Option<CandidateStatus>, role| {
            candidate.clone().map(|candidate| CandidateStatus { faults: faults_of(role), ..candidate })
        };
        let shadow = with_faults(&self.shadow, GenerationRole::Shadow);
        FilterStatus {
            mode: self.control.mode(),
            max_sessions: of(GenerationRole::Serving).and_then(Generation::max_sessions),
            generations: there.iter().map(|(role, generation)| GenerationStatus::new(generation, *role)).collect(),
            faults: faults_of(GenerationRole::Serving),
            canary: with_faults(&self.status.canary, GenerationRole::Canary),
            shadow: shadow.map(|candidate| ShadowStatus::new(candidate, &self.control)),
            ..self.status.clone()
        }
    }
}

impl CandidateStatus {
    fn new((source, percent): (&Source, u8)) -> Self {
        Self {
            file: source.path.clone(),
            percent,
            state: FilterState::of(source),
            error: source.error.clone(),
            generation: source.current.as_ref().map(|current| current.digest().short()),
            faults: Vec::new(),
        }
    }
}

impl ShadowStatus {
    fn new(candidate: CandidateStatus, control: &Control) -> Self {
        let [same, different, fault, skipped] = control.shadow().counts();
        let differences = control.shadow().differences();
        Self { candidate, same, different, fault, skipped, differences }
    }
}

impl GenerationStatus {
    fn new(generation: &Generation, role: GenerationRole) -> Self {
        Self {
            generation: generation.digest().short(),
            sha256: generation.content().hex(),
            role,
            serving: role == GenerationRole::Serving,
            sessions: generation.sessions.load(Ordering::Relaxed),
            instances: generation.instances.load(Ordering::Relaxed),
            breaker: generation.breaker().state(),
        }
    }
}

pub(super) fn unix_ms(at: SystemTime) -> u64 {
    let since = at.duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
