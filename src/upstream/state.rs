//! What is known of one endpoint: its sessions, its health, why it failed last. It outlives changes of the configuration
//! and of DNS for as long as a session or a configuration has the endpoint.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, SystemTime},
};

use tokio::time::Instant;

use crate::telemetry::metrics::{EndpointMetrics, Metrics};

/// Of the text of a last error; the rest is cut off.
const MAX_ERROR_BYTES: usize = 256;
/// An endpoint that comes back has this share of its weight at once.
const SLOW_START_LEAST: f64 = 0.1;

/// Every endpoint that anybody has, by upstream and label.
#[derive(Default)]
pub(super) struct States {
    known: Mutex<BTreeMap<(String, String), Weak<EndpointState>>>,
}

/// One endpoint.
pub(super) struct EndpointState {
    upstream: String,
    label: String,
    states: Arc<States>,
    metrics: EndpointMetrics,
    sessions: AtomicUsize,
    dials: AtomicUsize,
    standing: Mutex<Standing>,
    last_error: Mutex<Option<LastError>>,
}

/// Whether an endpoint may get connections.
#[derive(Clone, Copy, Debug)]
pub(super) struct Standing {
    /// What active checks say; true where there are none.
    pub(super) healthy: bool,
    /// Was it ever checked?
    pub(super) checked: bool,
    /// Checks in a row that contradict `healthy`.
    pub(super) contradictions: u32,
    /// Failed attempts in a row.
    pub(super) failures: u32,
    /// Ejections that are not forgotten yet.
    pub(super) ejections: u32,
    /// Of the last ejection.
    pub(super) ejected_until: Option<Instant>,
    /// When it came, or came back.
    pub(super) warm_from: Option<Instant>,
}

/// Why an attempt or a check failed.
#[derive(Clone, Debug)]
pub(super) struct LastError {
    pub(super) at: SystemTime,
    pub(super) text: String,
}

impl States {
    /// The state of this endpoint: the one that somebody has, or a new one. `joins`: others of its upstream have been
    /// serving, so that a new one is warmed up.
    pub(super) fn of(
        self: &Arc<Self>,
        upstream: &str,
        label: &str,
        joins: bool,
        metrics: &Metrics,
    ) -> Arc<EndpointState> {
        let key = (upstream.to_owned(), label.to_owned());
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(state) = known.get(&key).and_then(Weak::upgrade) {
            return state;
        }
        let metrics = metrics.endpoint(upstream, label);
        metrics.healthy.set(1);
        let state = Arc::new(EndpointState {
            upstream: upstream.to_owned(),
            label: label.to_owned(),
            states: Arc::clone(self),
            metrics,
            sessions: AtomicUsize::new(0),
            dials: AtomicUsize::new(0),
            standing: Mutex::new(Standing::new(joins.then(Instant::now))),
            last_error: Mutex::default(),
        });
        known.insert(key, Arc::downgrade(&state));
        state
    }
}

impl Drop for EndpointState {
    fn drop(&mut self) {
        let key = (std::mem::take(&mut self.upstream), std::mem::take(&mut self.label));
        let mut known = self.states.known.lock().unwrap_or_else(PoisonError::into_inner);
        // Another of this name may have been made meanwhile: then the samples are its own.
        if known.get(&key).is_some_and(|state| state.strong_count() == 0) {
            known.remove(&key);
            self.metrics.remove(&key.0, &key.1);
        }
    }
}

impl EndpointState {
    pub(super) fn label(&self) -> &str {
        &self.label
    }

    pub(super) fn metrics(&self) -> &EndpointMetrics {
        &self.metrics
    }

    /// Sessions and dials: what `least_conn` compares.
    pub(super) fn load(&self) -> usize {
        self.sessions() + self.dials.load(Ordering::Relaxed)
    }

    pub(super) fn sessions(&self) -> usize {
        self.sessions.load(Ordering::Relaxed)
    }

    pub(super) fn standing(&self) -> Standing {
        *self.lock()
    }

    pub(super) fn last_error(&self) -> Option<LastError> {
        self.last_error.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Changes its standing, and tells the metric.
    pub(super) fn change<T>(&self, now: Instant, change: impl FnOnce(&mut Standing) -> T) -> T {
        let mut standing = self.lock();
        let changed = change(&mut standing);
        self.metrics.healthy.set(standing.is_usable(now).into());
        changed
    }

    /// Notes why an attempt or a check failed.
    pub(super) fn note(&self, error: &(dyn std::error::Error + 'static)) {
        let mut text = error.to_string();
        let mut source = error.source();
        while let Some(cause) = source.filter(|_| text.len() < MAX_ERROR_BYTES) {
            text.push_str(": ");
            text.push_str(&cause.to_string());
            source = cause.source();
        }
        text.truncate(text.floor_char_boundary(MAX_ERROR_BYTES));
        let error = LastError { at: SystemTime::now(), text };
        *self.last_error.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
    }

    /// An attempt that went well.
    pub(super) fn succeeded(&self) {
        let mut standing = self.lock();
        standing.failures = 0;
    }

    /// Nobody checks it any more.
    pub(super) fn unchecked(&self) {
        self.change(Instant::now(), |standing| {
            (standing.healthy, standing.checked, standing.contradictions) = (true, false, 0);
        });
    }

    fn lock(&self) -> MutexGuard<'_, Standing> {
        self.standing.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Standing {
    pub(super) fn new(warm_from: Option<Instant>) -> Self {
        Self {
            healthy: true,
            checked: false,
            contradictions: 0,
            failures: 0,
            ejections: 0,
            ejected_until: None,
            warm_from,
        }
    }

    pub(super) fn is_ejected(&self, now: Instant) -> bool {
        self.ejected_until.is_some_and(|until| now < until)
    }

    pub(super) fn is_usable(&self, now: Instant) -> bool {
        self.healthy && !self.is_ejected(now)
    }

    /// The share of its weight that an endpoint has so soon after it came back, 0.1 to 1.
    pub(super) fn warmth(&self, slow_start: Option<Duration>, now: Instant) -> f64 {
        let back = self.warm_from.max(self.ejected_until);
        match (slow_start, back) {
            (Some(over), Some(back)) => {
                let since = now.saturating_duration_since(back).as_secs_f64();
                (since / over.as_secs_f64()).clamp(SLOW_START_LEAST, 1.0)
            }
            (None, _) | (_, None) => 1.0,
        }
    }
}

/// Counts a connection to an endpoint, first as a dial, then as a session, until it is dropped.
pub struct Lease {
    state: Arc<EndpointState>,
    open: bool,
}

impl Lease {
    pub(super) fn dial(state: &Arc<EndpointState>) -> Self {
        state.dials.fetch_add(1, Ordering::Relaxed);
        Self { state: Arc::clone(state), open: false }
    }

    /// From now on it is a session.
    #[must_use]
    pub fn open(mut self) -> Self {
        if !std::mem::replace(&mut self.open, true) {
            self.state.sessions.fetch_add(1, Ordering::Relaxed);
            self.state.dials.fetch_sub(1, Ordering::Relaxed);
            self.state.metrics.connections.inc();
        }
        self
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if self.open {
            self.state.sessions.fetch_sub(1, Ordering::Relaxed);
            self.state.metrics.connections.dec();
        } else {
            self.state.dials.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

impl std::fmt::Debug for Lease {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Lease").field("endpoint", &self.state.label).field("open", &self.open).finish()
    }
}
