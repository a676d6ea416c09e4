//! What stores count.

use prometheus::{IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Registry};

use super::{counters, gauges};

/// The families of all stores.
pub(super) struct StoreFamilies {
    bytes: IntGaugeVec,
    entries: IntGaugeVec,
    operations_total: IntCounterVec,
}

impl StoreFamilies {
    pub(super) fn register(r: &Registry) -> prometheus::Result<Self> {
        Ok(Self {
            bytes: gauges(r, "store_bytes", "Counted against a store's max_size.", &["store"])?,
            entries: gauges(r, "store_entries", "Keys in a store.", &["store"])?,
            operations_total: counters(
                r,
                "store_operations_total",
                "Operations on a store.",
                &["store", "operation", "result"],
            )?,
        })
    }

    pub(super) fn of(&self, store: &str) -> StoreMetrics {
        StoreMetrics {
            store: store.to_owned(),
            bytes: self.bytes.with_label_values(&[store]),
            entries: self.entries.with_label_values(&[store]),
            operations_total: self.operations_total.clone(),
        }
    }
}

/// The counters of one store.
#[derive(Clone)]
pub struct StoreMetrics {
    store: String,
    /// Counted against `max_size`.
    pub bytes: IntGauge,
    /// Keys.
    pub entries: IntGauge,
    operations_total: IntCounterVec,
}

impl StoreMetrics {
    /// The counter of one operation and result; keep it, the look-up hashes.
    #[must_use]
    pub fn operations(&self, operation: &'static str, result: &'static str) -> IntCounter {
        self.operations_total.with_label_values(&[self.store.as_str(), operation, result])
    }
}
