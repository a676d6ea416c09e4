//! How often a filter's shadow agreed, and the last times that it did not.

use std::{
    collections::VecDeque,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::{SystemTime, UNIX_EPOCH},
};

use serde::Serialize;

use crate::telemetry::{allowance::Allowance, metrics::Metrics};

/// Differences that the admin API shows, the last ones.
const KEPT_DIFFERENCES: usize = 20;

/// What a comparison came to.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Compared {
    Same,
    Different,
    /// The shadow failed.
    Fault,
    /// There was no room for the shadow to look at it.
    Skipped,
}

const COMPARED: usize = Compared::Skipped as usize + 1;

impl Compared {
    fn label(self) -> &'static str {
        match self {
            Self::Same => "same",
            Self::Different => "different",
            Self::Fault => "fault",
            Self::Skipped => "skipped",
        }
    }
}

/// One time at which a shadow would have done another thing than the filter did. Nothing of the message is in it.
#[derive(Clone, Debug, Serialize)]
pub struct ShadowDifference {
    /// When, in milliseconds of Unix time.
    pub at_unix_ms: u64,
    /// The connection.
    pub connection: String,
    /// `open` or `on_message`.
    pub hook: &'static str,
    /// `to_upstream` or `to_client`, for a message.
    pub direction: Option<&'static str>,
    /// What the serving filter said.
    pub serving: ShadowVerdict,
    /// What its shadow said.
    pub shadow: ShadowVerdict,
    /// Where the two contents begin to differ; `None` where they are the same bytes or there are none.
    pub first_differing_byte: Option<usize>,
    /// Messages of this connection that the shadow had not been shown before: the difference may come of that.
    pub missed: u64,
}

/// One of the two answers.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub struct ShadowVerdict {
    /// As in `filter_calls_total`.
    pub verdict: &'static str,
    /// `text` or `binary`, where a message goes on or is sent.
    pub kind: Option<&'static str>,
    /// Length of what goes on or is sent.
    pub bytes: usize,
}

/// The comparisons of one filter, over all its generations and workers.
pub(in crate::filter) struct ShadowTally {
    metrics: Arc<Metrics>,
    filter: Arc<str>,
    counts: [AtomicU64; COMPARED],
    differences: Mutex<VecDeque<ShadowDifference>>,
    lines: Allowance,
    sessions: Arc<AtomicUsize>,
    waiting_bytes: AtomicUsize,
}

/// A session that is shadowed, until it is dropped.
pub(super) struct Place(Arc<AtomicUsize>);

impl Drop for Place {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl ShadowTally {
    pub(in crate::filter) fn new(metrics: &Arc<Metrics>, filter: &Arc<str>) -> Self {
        Self {
            metrics: metrics.clone(),
            filter: filter.clone(),
            counts: Default::default(),
            differences: Mutex::default(),
            lines: Allowance::new(),
            sessions: Arc::default(),
            waiting_bytes: AtomicUsize::new(0),
        }
    }

    /// Same, different, fault, skipped.
    pub(in crate::filter) fn counts(&self) -> [u64; COMPARED] {
        self.counts.each_ref().map(|count| count.load(Ordering::Relaxed))
    }

    /// The last ones, the newest first.
    pub(in crate::filter) fn differences(&self) -> Vec<ShadowDifference> {
        self.differences.lock().unwrap_or_else(PoisonError::into_inner).iter().rev().cloned().collect()
    }

    pub(super) fn count(&self, compared: Compared) {
        self.counts[compared as usize].fetch_add(1, Ordering::Relaxed);
        self.metrics.filter_shadow(&self.filter, compared.label()).inc();
    }

    pub(super) fn differ(&self, difference: ShadowDifference) {
        self.count(Compared::Different);
        if let Some(suppressed) = self.lines.take() {
            let filter = &*self.filter;
            if suppressed > 0 {
                tracing::info!(filter, suppressed, "more differences of a shadow than log lines");
            }
            let ShadowDifference { connection, hook, direction, serving, shadow, first_differing_byte, missed, .. } =
                &difference;
            tracing::info!(
                filter,
                connection,
                hook,
                direction,
                serving = serving.verdict,
                serving_bytes = serving.bytes,
                shadow = shadow.verdict,
                shadow_bytes = shadow.bytes,
                first_differing_byte,
                missed,
                "the shadow of a filter would have done another thing"
            );
        }
        let mut differences = self.differences.lock().unwrap_or_else(PoisonError::into_inner);
        if differences.len() >= KEPT_DIFFERENCES {
            differences.pop_front();
        }
        differences.push_back(difference);
    }

    /// A place for one more session, unless there are so many.
    pub(super) fn enter(&self, most: usize) -> Option<Place> {
        let place = Place(self.sessions.clone());
        let before = self.sessions.fetch_add(1, Ordering::Relaxed);
        (before < most).then_some(place)
    }

    /// Takes these bytes in, unless so many wait.
    pub(super) fn hold(&self, bytes: usize, most: usize) -> bool {
        let before = self.waiting_bytes.fetch_add(bytes, Ordering::Relaxed);
        let fits = before < most;
        if !fits {
            self.release(bytes);
        }
        fits
    }

    pub(super) fn release(&self, bytes: usize) {
        self.waiting_bytes.fetch_sub(bytes, Ordering::Relaxed);
    }
}

pub(super) fn now_unix_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_and_bytes_are_given_back() {
        let tally = ShadowTally::new(&Arc::new(Metrics::new().unwrap()), &"redact".into());
        let first = tally.enter(1).unwrap();
        assert!(tally.enter(1).is_none());
        drop(first);
        assert!(tally.enter(1).is_some());
        assert!(tally.hold(20, 10) && !tally.hold(1, 10));
        tally.release(20);
        assert!(tally.hold(1, 10));
    }
}
