//! `ratelimited_total`

use prometheus::IntCounterVec;

/// What the limits of one route count.
#[derive(Clone)]
pub struct LimitMetrics {
    route: String,
    ratelimited_total: IntCounterVec,
}

impl LimitMetrics {
    pub(super) fn new(route: &str, ratelimited_total: &IntCounterVec) -> Self {
        Self { route: route.to_owned(), ratelimited_total: ratelimited_total.clone() }
    }

    /// Counts what met a limit. `action` is what became of it.
    pub fn count(&self, limit: &'static str, action: &'static str) {
        self.ratelimited_total.with_label_values(&[self.route.as_str(), limit, action]).inc();
    }
}
