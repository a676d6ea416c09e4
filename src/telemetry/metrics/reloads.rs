//! Configurations.

use prometheus::{IntCounterVec, IntGauge, Opts, Registry};

use super::{counters, registered};

/// What reloads of the configuration count.
pub struct ReloadMetrics {
    /// Configurations loaded since the start.
    pub config_generation: IntGauge,
    /// Attempts, by result.
    pub config_reloads_total: IntCounterVec,
}

impl ReloadMetrics {
    pub(super) fn new(registry: &Registry) -> Result<Self, prometheus::Error> {
        let generation =
            Opts::new("config_generation", "Configurations loaded since the start; grows by one a reload.");
        Ok(Self {
            config_generation: registered(registry, IntGauge::with_opts(generation)?)?,
            config_reloads_total: counters(
                registry,
                "config_reloads_total",
                "Attempts to load another configuration: ok, or error (the one before stays).",
                &["result"],
            )?,
        })
    }
}
