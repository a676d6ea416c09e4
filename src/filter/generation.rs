//! A generation: one filter's code with its configuration, limits and rights, compiled and checked.

use std::sync::{
    Arc, OnceLock,
    atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
};

use sha2::{Digest, Sha256};

use super::{
    bindings::FilterHttpPre,
    breaker::Breaker,
    client::Clients,
    control::{Control, Mode},
    engine::{Code, Engine},
    fault::RecentFaults,
    host::{Host, rights::Rights},
    interest::Interest,
    limits::{Budget, Limits},
    room,
    tally::Tally,
};
use crate::{
    config::{Allow, FailurePolicy, Filter, Isolation, OnReload, OnStateLoss},
    telemetry::{allowance::Allowance, metrics::FilterMetrics},
};

/// SHA-256 of what makes a generation.
#[derive(Clone, Copy, Eq, Hash, PartialEq)]
pub(super) struct Digest256(pub(super) [u8; 32]);

impl Digest256 {
    pub(super) fn of(bytes: &[u8]) -> Self {
        Self(Sha256::digest(bytes).into())
    }

    pub(super) fn hex(&self) -> String {
        data_encoding::HEXLOWER.encode(&self.0)
    }

    /// The first 12 hexadecimal digits, as people compare them.
    pub(super) fn short(&self) -> String {
        data_encoding::HEXLOWER.encode(&self.0[..6])
    }
}

/// What a generation is made with, beside its code.
#[derive(Clone, Debug)]
pub(super) struct Settings {
    /// Handed to `init`.
    pub(super) config_json: String,
    pub(super) limits: Limits,
    pub(super) isolation: Isolation,
    /// `None`: as many as suit what the code imports.
    pub(super) instances: Option<usize>,
    pub(super) recycle_after_calls: u64,
    pub(super) recycle_above_bytes: usize,
    pub(super) max_client_faults: Option<usize>,
    pub(super) breaker_clients: Option<usize>,
    pub(super) failure_policy: FailurePolicy,
    pub(super) on_reload: OnReload,
    pub(super) on_state_loss: OnStateLoss,
    pub(super) allow: Allow,
}

impl Settings {
    pub(super) fn new(filter: &Filter, largest_payload_bytes: usize) -> Self {
        Self {
            config_json: filter.config.to_string(),
            limits: Limits {
                memory_bytes: filter.memory_limit_bytes,
                sessions: match filter.isolation {
                    Isolation::Shared => filter.max_sessions_per_instance,
                    Isolation::Connection => 1,
                },
                fuel_bytes: Limits::fuel_for(largest_payload_bytes),
                call: Budget { cpu: filter.cpu_timeout, wait: filter.wait_timeout },
            },
            isolation: filter.isolation,
            instances: filter.instances,
            recycle_after_calls: filter.recycle_after_calls.map_or(u64::MAX, |calls| calls as u64),
            recycle_above_bytes: filter.recycle_above_bytes.unwrap_or(usize::MAX),
            max_client_faults: filter.max_client_faults,
            breaker_clients: filter.breaker_clients,
            failure_policy: filter.failure_policy,
            on_reload: filter.on_reload,
            on_state_loss: filter.on_state_loss,
            allow: filter.allow.clone(),
        }
    }

    /// Would they make the same generation of the same code?
    pub(super) fn same(&self, other: &Self) -> bool {
        let nothing = Digest256([0; 32]);
        self.digest(&nothing) == other.digest(&nothing)
    }

    /// Which generation this code makes under these settings.
    pub(super) fn digest(&self, code: &Digest256) -> Digest256 {
        let mut hash = Sha256::new();
        hash.update(code.0);
        hash.update(format!("{self:?}"));
        Digest256(hash.finalize().into())
    }
}

/// What a generation is to its filter.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(super) enum Role {
    /// The one that serves, or served.
    Main,
    /// It serves a share of the new connections.
    Canary,
    /// It is asked and never obeyed.
    Shadow,
}

impl Role {
    /// The filter's name in metrics and logs; names have no `@`.
    pub(super) fn label(self, filter: &Arc<str>) -> Arc<str> {
        match self {
            Self::Main => filter.clone(),
            Self::Canary => format!("{filter}@canary").into(),
            Self::Shadow => format!("{filter}@shadow").into(),
        }
    }
}

/// One loaded filter. Freed when no chain and no session has it any more.
pub(super) struct Generation {
    /// Unique in the process, in the order of loading.
    serial: u64,
    filter: Arc<str>,
    role: Role,
    label: Arc<str>,
    /// Of the file.
    content: Digest256,
    digest: Digest256,
    settings: Settings,
    code: Arc<Code>,
    engine: Arc<Engine>,
    control: Arc<Control>,
    /// It serves because a later one was rolled back.
    restored: AtomicBool,
    /// It serves nobody any more: its file is quarantined.
    withdrawn: AtomicBool,
    tally: Tally,
    rights: Arc<Rights>,
    fault_lines: Allowance,
    instances_wanted: usize,
    recent_faults: Arc<RecentFaults>,
    breaker: Arc<Breaker>,
    clients: Clients,
    /// Maps of the process that an instance takes.
    maps: usize,
    /// What `init` declared, once an instance was made.
    pub(super) interest: OnceLock<Interest>,
    /// Of all workers.
    pub(super) sessions: AtomicUsize,
    /// Of all workers.
    pub(super) instances: AtomicUsize,
}

impl Generation {
    pub(super) fn new(
        engine: &Arc<Engine>,
        filter: Arc<str>,
        role: Role,
        content: Digest256,
        settings: Settings,
        code: Arc<Code>,
    ) -> Self {
        static SERIAL: AtomicU64 = AtomicU64::new(0);
        let label = role.label(&filter);
        let instances_wanted = settings.instances.unwrap_or_else(|| code.default_instances(engine));
        let metrics = engine.metrics.filter(&label);
        // What a shadow does to itself must not keep a client out.
        let max_client_faults = settings.max_client_faults.filter(|_| role != Role::Shadow);
        Self {
            serial: SERIAL.fetch_add(1, Ordering::Relaxed),
            rights: Arc::new(Rights::new(&label, &settings.allow, &engine.stores, &metrics)),
            recent_faults: engine.faults.of(&label),
            breaker: Breaker::new(label.clone(), settings.breaker_clients, metrics.breaker_open.clone()),
            clients: Clients::new(max_client_faults),
            maps: room::maps_of(code.pre.instance_pre().component()),
            tally: Tally::new(metrics),
            control: engine.controls.of(&filter),
            filter,
            role,
            label,
            content,
            digest: settings.digest(&content),
            settings,
            code,
            engine: engine.clone(),
            restored: AtomicBool::new(false),
            withdrawn: AtomicBool::new(false),
            fault_lines: Allowance::new(),
            instances_wanted,
            interest: OnceLock::new(),
            sessions: AtomicUsize::new(0),
            instances: AtomicUsize::new(0),
        }
    }

    /// The same under another filter's name.
    #[cfg(test)]
    pub(super) fn renamed(&self, filter: &str) -> Arc<Self> {
        let (settings, code) = (self.settings.clone(), self.code.clone());
        Arc::new(Self::new(&self.engine, filter.into(), self.role, self.content, settings, code))
    }

    pub(super) fn code(&self) -> &Arc<Code> {
        &self.code
    }

    pub(super) fn serial(&self) -> u64 {
        self.serial
    }

    pub(super) fn filter(&self) -> &Arc<str> {
        &self.filter
    }

    pub(super) fn role(&self) -> Role {
        self.role
    }

    /// How metrics and logs name it.
    pub(super) fn label(&self) -> &Arc<str> {
        &self.label
    }

    /// The hash of its file.
    pub(super) fn content(&self) -> &Digest256 {
        &self.content
    }

    pub(super) fn digest(&self) -> &Digest256 {
        &self.digest
    }

    pub(super) fn control(&self) -> &Arc<Control> {
        &self.control
    }

    /// Is it to be left out of its chains?
    pub(super) fn is_bypassed(&self) -> bool {
        self.control.mode() == Mode::Bypass
    }

    /// It is about to serve again, or a file is.
    pub(super) fn set_restored(&self, restored: bool) {
        self.restored.store(restored, Ordering::Relaxed);
    }

    /// No session may stay with it.
    pub(super) fn withdraw(&self) {
        self.withdrawn.store(true, Ordering::Relaxed);
    }

    /// Is no session to stay with it?
    pub(super) fn is_withdrawn(&self) -> bool {
        self.withdrawn.load(Ordering::Relaxed)
    }

    /// Does it serve because a later one was rolled back?
    pub(super) fn is_restored(&self) -> bool {
        self.restored.load(Ordering::Relaxed)
    }

    pub(super) fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Instances per worker at the start.
    pub(super) fn instances_wanted(&self) -> usize {
        self.instances_wanted
    }

    pub(super) fn limits(&self) -> &Limits {
        &self.settings.limits
    }

    pub(super) fn pre(&self) -> &FilterHttpPre<Host> {
        &self.code.pre
    }

    pub(super) fn engine(&self) -> &Arc<Engine> {
        &self.engine
    }

    pub(super) fn tally(&self) -> &Tally {
        &self.tally
    }

    /// What its guests may use.
    pub(super) fn rights(&self) -> &Arc<Rights> {
        &self.rights
    }

    pub(super) fn recent_faults(&self) -> &RecentFaults {
        &self.recent_faults
    }

    pub(super) fn breaker(&self) -> &Arc<Breaker> {
        &self.breaker
    }

    pub(super) fn clients(&self) -> &Clients {
        &self.clients
    }

    /// Does each session have an instance of its own?
    pub(super) fn is_isolated(&self) -> bool {
        self.settings.isolation == Isolation::Connection
    }

    /// Where each session has an instance of its own: how many the process can hold, if no other filter has such.
    pub(super) fn max_sessions(&self) -> Option<usize> {
        self.is_isolated().then(|| self.engine.room.sessions(self.maps))
    }

    /// Maps of the process that an instance takes.
    pub(super) fn maps(&self) -> usize {
        self.maps
    }

    pub(super) fn fault_lines(&self) -> &Allowance {
        &self.fault_lines
    }

    pub(super) fn metrics(&self) -> &FilterMetrics {
        self.tally.metrics()
    }
}

impl std::fmt::Debug for Generation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}@{}", self.label, self.digest.short())
    }
}
