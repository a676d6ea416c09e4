//! A generation: one filter's code with its configuration, limits and rights, compiled and checked.

use std::sync::{
    Arc, OnceLock,
    atomic::{AtomicU64, AtomicUsize, Ordering},
};

use sha2::{Digest, Sha256};

use super::{
    allowance::Allowance,
    bindings::FilterHttpPre,
    breaker::Breaker,
    client::Clients,
    engine::{Code, Engine},
    fault::RecentFaults,
    host::Host,
    interest::Interest,
    limits::{Budget, Limits},
    room,
    tally::Tally,
};
use crate::{
    config::{Allow, FailurePolicy, Filter, Isolation, OnReload, OnStateLoss},
    telemetry::metrics::FilterMetrics,
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
    pub(super) instances: usize,
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
            instances: filter.instances.max(1),
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

    /// Which generation this code makes under these settings.
    pub(super) fn digest(&self, code: &Digest256) -> Digest256 {
        let mut hash = Sha256::new();
        hash.update(code.0);
        hash.update(format!("{self:?}"));
        Digest256(hash.finalize().into())
    }
}

/// One loaded filter. Freed when no chain and no session has it any more.
pub(super) struct Generation {
    /// Unique in the process, in the order of loading.
    serial: u64,
    filter: Arc<str>,
    digest: Digest256,
    settings: Settings,
    code: Arc<Code>,
    engine: Arc<Engine>,
    tally: Tally,
    fault_lines: Allowance,
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
        digest: Digest256,
        settings: Settings,
        code: Arc<Code>,
    ) -> Self {
        static SERIAL: AtomicU64 = AtomicU64::new(0);
        let metrics = engine.metrics.filter(&filter);
        Self {
            serial: SERIAL.fetch_add(1, Ordering::Relaxed),
            recent_faults: engine.faults.of(&filter),
            breaker: Breaker::new(filter.clone(), settings.breaker_clients, metrics.breaker_open.clone()),
            clients: Clients::new(settings.max_client_faults),
            maps: room::maps_of(code.0.instance_pre().component()),
            tally: Tally::new(metrics),
            filter,
            digest,
            settings,
            code,
            engine: engine.clone(),
            fault_lines: Allowance::new(),
            interest: OnceLock::new(),
            sessions: AtomicUsize::new(0),
            instances: AtomicUsize::new(0),
        }
    }

    /// The same under another filter's name.
    #[cfg(test)]
    pub(super) fn renamed(&self, filter: &str) -> Arc<Self> {
        Arc::new(Self::new(&self.engine, filter.into(), self.digest, self.settings.clone(), self.code.clone()))
    }

    #[cfg(test)]
    pub(super) fn code(&self) -> &Arc<Code> {
        &self.code
    }

    pub(super) fn serial(&self) -> u64 {
        self.serial
    }

    pub(super) fn filter(&self) -> &Arc<str> {
        &self.filter
    }

    pub(super) fn digest(&self) -> &Digest256 {
        &self.digest
    }

    pub(super) fn settings(&self) -> &Settings {
        &self.settings
    }

    pub(super) fn limits(&self) -> &Limits {
        &self.settings.limits
    }

    pub(super) fn pre(&self) -> &FilterHttpPre<Host> {
        &self.code.0
    }

    pub(super) fn engine(&self) -> &Arc<Engine> {
        &self.engine
    }

    pub(super) fn tally(&self) -> &Tally {
        &self.tally
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
        write!(f, "{}@{}", self.filter, self.digest.short())
    }
}
