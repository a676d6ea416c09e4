//! What upstreams and their endpoints count.

use prometheus::{Histogram, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Registry};

use super::{HANDSHAKE_SECONDS, SpareMetrics, counters, gauges, histograms};

/// The families of all upstreams.
#[derive(Clone)]
pub(super) struct UpstreamFamilies {
    connections: IntGaugeVec,
    healthy: IntGaugeVec,
    ejections_total: IntCounterVec,
    connect_duration_seconds: HistogramVec,
    retries_total: IntCounterVec,
    resolutions_total: IntCounterVec,
}

impl UpstreamFamilies {
    pub(super) fn register(r: &Registry) -> prometheus::Result<Self> {
        let endpoint = &["upstream", "endpoint"];
        Ok(Self {
            connections: gauges(r, "upstream_connections", "Open upstream connections.", endpoint)?,
            healthy: gauges(
                r,
                "upstream_healthy",
                "1 while an endpoint may get connections, 0 while checks of it fail or it is ejected.",
                endpoint,
            )?,
            ejections_total: counters(
                r,
                "upstream_ejections_total",
                "How often an endpoint was ejected for failing connections.",
                endpoint,
            )?,
            connect_duration_seconds: histograms(
                r,
                "upstream_connect_duration_seconds",
                "TCP and TLS.",
                &["upstream"],
                HANDSHAKE_SECONDS,
            )?,
            retries_total: counters(
                r,
                "upstream_retries_total",
                "Further attempts with another endpoint (`made`), and those that the retry budget did not allow (`over_budget`).",
                &["upstream", "result"],
            )?,
            resolutions_total: counters(
                r,
                "upstream_resolutions_total",
                "Look-ups of the hosts of endpoints.",
                &["upstream", "result"],
            )?,
        })
    }

    pub(super) fn of(&self, upstream: &str) -> UpstreamMetrics {
        let retries = |result: &str| self.retries_total.with_label_values(&[upstream, result]);
        let resolutions = |result: &str| self.resolutions_total.with_label_values(&[upstream, result]);
        UpstreamMetrics {
            retries: retries("made"),
            retries_over_budget: retries("over_budget"),
            resolved: resolutions("ok"),
            not_resolved: resolutions("error"),
            connect_duration_seconds: self.connect_duration_seconds.with_label_values(&[upstream]),
        }
    }

    pub(super) fn endpoint(&self, upstream: &str, endpoint: &str, spares: SpareMetrics) -> EndpointMetrics {
        EndpointMetrics {
            connections: self.connections.with_label_values(&[upstream, endpoint]),
            healthy: self.healthy.with_label_values(&[upstream, endpoint]),
            ejections: self.ejections_total.with_label_values(&[upstream, endpoint]),
            spares,
            families: self.clone(),
        }
    }
}

/// The counters of one upstream.
#[derive(Clone)]
pub struct UpstreamMetrics {
    /// Attempts after the first.
    pub retries: IntCounter,
    /// Attempts that were not made because too many others were under way.
    pub retries_over_budget: IntCounter,
    /// Look-ups that gave addresses.
    pub resolved: IntCounter,
    /// Look-ups that gave none.
    pub not_resolved: IntCounter,
    /// TCP and TLS.
    pub connect_duration_seconds: Histogram,
}

/// The counters of one endpoint.
#[derive(Clone)]
pub struct EndpointMetrics {
    /// Open now.
    pub connections: IntGauge,
    /// May it get connections?
    pub healthy: IntGauge,
    /// How often it was ejected.
    pub ejections: IntCounter,
    /// Connections that are dialled ahead.
    pub spares: SpareMetrics,
    families: UpstreamFamilies,
}

impl EndpointMetrics {
    /// Takes the endpoint's samples out of the registry. Endpoints come and go with DNS.
    pub fn remove(&self, upstream: &str, endpoint: &str) {
        let labels = [upstream, endpoint];
        // An error says that they are gone already.
        let _ = self.families.connections.remove_label_values(&labels);
        let _ = self.families.healthy.remove_label_values(&labels);
        let _ = self.families.ejections_total.remove_label_values(&labels);
        self.spares.remove(upstream, endpoint);
    }
}
