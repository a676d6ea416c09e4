//! Endpoints that fail connections are ejected for a while.

use std::{
    sync::{Arc, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

use super::{Upstream, endpoint::Endpoint, state::Standing};
use crate::config::OutlierDetection;

/// An ejection lasts no longer, however often an endpoint was ejected (unless the first one does).
const MAX_EJECTION_TIME: Duration = Duration::from_secs(300);
/// Ejections end at different times: this much is added at most.
const JITTER: f64 = 0.1;

impl Upstream {
    /// An attempt failed by the endpoint's fault.
    pub(super) fn failed(&self, endpoint: &Endpoint, error: &(dyn std::error::Error + 'static), now: Instant) {
        endpoint.state.note(error);
        let failures = endpoint.state.change(now, |standing| {
            standing.failures = standing.failures.saturating_add(1);
            standing.failures
        });
        if let Some(detection) = self.config.outlier_detection.filter(|d| failures >= d.consecutive_failures) {
            self.eject(endpoint, detection, now);
        }
    }

    /// One at a time: two that fail together must not both be the last but one.
    fn eject(&self, endpoint: &Endpoint, detection: OutlierDetection, now: Instant) {
        let _one_at_a_time = self.ejecting.lock().unwrap_or_else(PoisonError::into_inner);
        let set = self.set.load();
        let others = || set.endpoints.iter().filter(|other| other.label != endpoint.label);
        let ejected = others().filter(|other| other.state.standing().is_ejected(now)).count();
        let another_is_usable = others().any(|other| other.weight > 0 && other.state.standing().is_usable(now));
        let most = (set.endpoints.len() * detection.max_ejection_percent as usize / 100).max(1);
        if !another_is_usable || ejected + 1 > most || detection.max_ejection_percent == 0 {
            return;
        }
        let jitter = 1.0 + rand::random_range(0.0..=JITTER);
        let ejected_for = endpoint.state.change(now, |standing| standing.eject(detection, now, jitter));
        let Some(ejected_for) = ejected_for else { return };
        endpoint.state.metrics().ejections.inc();
        let error = endpoint.state.last_error().map(|error| error.text);
        let (upstream, endpoint_label, ejected_ms) = (&self.name, &endpoint.label, ejected_for.as_millis());
        tracing::warn!(upstream, endpoint = endpoint_label, ejected_ms, error, "an endpoint is ejected");
        if let Some(runtime) = self.runtime.get() {
            // For the metric: everything else reads the clock.
            let state = Arc::downgrade(&endpoint.state);
            runtime.spawn(async move {
                tokio::time::sleep_until(now + ejected_for).await;
                if let Some(state) = state.upgrade() {
                    state.change(Instant::now(), |_| {});
                    tracing::info!(endpoint = state.label(), "an ejection is over");
                }
            });
        }
    }
}

impl Standing {
    /// Ejects for the base time, times how often it was ejected of late; nothing where it is ejected already.
    fn eject(&mut self, detection: OutlierDetection, now: Instant, jitter: f64) -> Option<Duration> {
        if self.is_ejected(now) {
            return None;
        }
        let base = detection.base_ejection_time;
        let quiet = self.ejected_until.map_or(Duration::ZERO, |until| now.saturating_duration_since(until));
        // Each base time without an ejection makes up for one.
        let forgotten = quiet.as_millis() / base.as_millis().max(1);
        self.ejections = self.ejections.saturating_sub(u32::try_from(forgotten).unwrap_or(u32::MAX)).saturating_add(1);
        let time = base.saturating_mul(self.ejections).min(MAX_EJECTION_TIME.max(base)).mul_f64(jitter);
        self.ejected_until = Some(now + time);
        // When it comes back the first failure decides.
        self.failures = detection.consecutive_failures.saturating_sub(1);
        Some(time)
    }
}
