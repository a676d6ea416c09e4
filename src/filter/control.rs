//! What an operator sets for a filter while it runs, and what is counted over its generations: by the filter's name.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU8, AtomicU64, Ordering},
    },
};

use prometheus::IntGauge;
use serde::{Deserialize, Serialize};

use super::shadow::ShadowTally;
use crate::telemetry::metrics::Metrics;

/// What becomes of a filter's messages and connections. Of one process, and forgotten when it ends.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// As configured.
    #[default]
    Serve,
    /// Messages pass, and connections open, as if the filter were not in their chain. Sessions that it has are kept.
    Bypass,
    /// New connections of its routes are answered 503. Open ones go on.
    Refuse,
}

impl Mode {
    /// In the order in which they are kept.
    pub const ALL: [Self; 3] = [Self::Serve, Self::Bypass, Self::Refuse];

    /// The label in metrics and logs.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::Serve => "serve",
            Self::Bypass => "bypass",
            Self::Refuse => "refuse",
        }
    }
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.label())
    }
}

/// Every filter's [`Control`].
pub(super) struct Controls {
    metrics: Arc<Metrics>,
    filters: Mutex<BTreeMap<Arc<str>, Arc<Control>>>,
}

/// One filter's, shared by all its generations.
pub(super) struct Control {
    mode: AtomicU8,
    gauges: [IntGauge; Mode::ALL.len()],
    /// Connections that were given a lot.
    lots: AtomicU64,
    shadow: ShadowTally,
}

impl Controls {
    pub(super) fn new(metrics: &Arc<Metrics>) -> Self {
        Self { metrics: metrics.clone(), filters: Mutex::default() }
    }

    /// The control of a filter; made where it is wanted first, dropped once nobody has it and nothing was set.
    pub(super) fn of(&self, filter: &Arc<str>) -> Arc<Control> {
        let mut filters = self.filters.lock().unwrap_or_else(PoisonError::into_inner);
        filters.retain(|_, control| Arc::strong_count(control) > 1 || control.mode() != Mode::Serve);
        let made = || Arc::new(Control::new(&self.metrics, filter));
        filters.entry(filter.clone()).or_insert_with(made).clone()
    }
}

/// 2⁶⁴ divided by the golden ratio: its multiples, as fractions of 2⁶⁴, fill every interval evenly.
const GOLDEN: u64 = 0x9E37_79B9_7F4A_7C15;

impl Control {
    fn new(metrics: &Arc<Metrics>, filter: &Arc<str>) -> Self {
        let gauges = Mode::ALL.map(|mode| metrics.filter_mode(filter, mode.label()));
        let shadow = ShadowTally::new(metrics, filter);
        let control = Self { mode: AtomicU8::new(0), gauges, lots: AtomicU64::new(0), shadow };
        control.set_mode(Mode::Serve);
        control
    }

    pub(super) fn mode(&self) -> Mode {
        Mode::ALL.get(usize::from(self.mode.load(Ordering::Relaxed))).copied().unwrap_or_default()
    }

    /// Answers what it was before.
    pub(super) fn set_mode(&self, mode: Mode) -> Mode {
        let before = self.mode.swap(mode as u8, Ordering::Relaxed);
        for (gauge, known) in self.gauges.iter().zip(Mode::ALL) {
            gauge.set((known == mode).into());
        }
        Mode::ALL.get(usize::from(before)).copied().unwrap_or_default()
    }

    /// What its shadows said.
    pub(super) fn shadow(&self) -> &ShadowTally {
        &self.shadow
    }

    /// A place on the line of all connections, as a fraction of 2⁶⁴. Those of successive connections are spread evenly:
    /// a share of the line has the same share of the connections, exactly but for one or two.
    pub(super) fn lot(&self) -> u64 {
        self.lots.fetch_add(1, Ordering::Relaxed).wrapping_add(1).wrapping_mul(GOLDEN)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lots_are_spread_evenly() {
        let control = Controls::new(&Arc::new(Metrics::new().unwrap())).of(&"redact".into());
        let mut tenths = [0; 10];
        for _ in 0..2_000 {
            tenths[usize::try_from((u128::from(control.lot()) * 10) >> 64).unwrap()] += 1;
        }
        assert!(tenths.iter().all(|count| (198..=202).contains(count)), "{tenths:?}");
    }

    #[test]
    fn a_mode_that_was_set_outlives_the_generations() {
        let controls = Controls::new(&Arc::new(Metrics::new().unwrap()));
        let (redact, stamp): (Arc<str>, Arc<str>) = ("redact".into(), "stamp".into());
        assert_eq!(controls.of(&redact).set_mode(Mode::Bypass), Mode::Serve);
        controls.of(&stamp);
        assert_eq!(controls.of(&redact).mode(), Mode::Bypass);
        assert_eq!(controls.filters.lock().unwrap().len(), 1);
    }
}
