//! What dialling upstreams counts.

use prometheus::{IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Registry};

use super::{counters, gauges};

/// The families of all upstreams.
pub(super) struct DiallingFamilies {
    spare_connections: IntGaugeVec,
    spare_connections_ended_total: IntCounterVec,
    certificate_expiry_seconds: IntGaugeVec,
    certificate_reloads_total: IntCounterVec,
}

impl DiallingFamilies {
    pub(super) fn register(r: &Registry) -> prometheus::Result<Self> {
        Ok(Self {
            spare_connections: gauges(
                r,
                "upstream_spare_connections",
                "Connections that were dialled ahead and serve nobody yet.",
                &["upstream", "endpoint"],
            )?,
            spare_connections_ended_total: counters(
                r,
                "upstream_spare_connections_ended_total",
                "What became of connections that were dialled ahead: used, expired, closed by the endpoint, or lost (used, but closed before an answer, and dialled anew).",
                &["upstream", "endpoint", "result"],
            )?,
            certificate_expiry_seconds: gauges(
                r,
                "upstream_certificate_expiry_timestamp_seconds",
                "When the certificate that endpoints are shown runs out, in seconds of Unix time.",
                &["upstream"],
            )?,
            certificate_reloads_total: counters(
                r,
                "upstream_certificate_reloads_total",
                "Changes to the files of an upstream's TLS.",
                &["upstream", "result"],
            )?,
        })
    }

    pub(super) fn spares(&self, upstream: &str, endpoint: &str) -> SpareMetrics {
        let ended = |result: &str| self.spare_connections_ended_total.with_label_values(&[upstream, endpoint, result]);
        SpareMetrics {
            connections: self.spare_connections.with_label_values(&[upstream, endpoint]),
            used: ended("used"),
            expired: ended("expired"),
            closed: ended("closed"),
            lost: ended("lost"),
            families: (self.spare_connections.clone(), self.spare_connections_ended_total.clone()),
        }
    }

    pub(super) fn tls(&self, upstream: &str) -> UpstreamTlsMetrics {
        UpstreamTlsMetrics {
            upstream: upstream.to_owned(),
            expiry_seconds: self.certificate_expiry_seconds.clone(),
            reloads_total: self.certificate_reloads_total.clone(),
        }
    }
}

/// What one endpoint's spare connections come to.
#[derive(Clone)]
pub struct SpareMetrics {
    /// Open now.
    pub connections: IntGauge,
    /// Given to a handshake.
    pub used: IntCounter,
    /// Too old, or made with certificates that have changed.
    pub expired: IntCounter,
    /// The endpoint closed it, or said something unasked.
    pub closed: IntCounter,
    /// Of those that were used: closed before an answer.
    pub lost: IntCounter,
    families: (IntGaugeVec, IntCounterVec),
}

impl SpareMetrics {
    /// Takes the endpoint's samples out of the registry.
    pub(super) fn remove(&self, upstream: &str, endpoint: &str) {
        let (open, ended) = &self.families;
        // An error says that they are gone already.
        let _ = open.remove_label_values(&[upstream, endpoint]);
        for result in ["used", "expired", "closed", "lost"] {
            let _ = ended.remove_label_values(&[upstream, endpoint, result]);
        }
    }
}

/// What is counted of the files of an upstream's TLS.
#[derive(Clone)]
pub struct UpstreamTlsMetrics {
    upstream: String,
    expiry_seconds: IntGaugeVec,
    reloads_total: IntCounterVec,
}

impl UpstreamTlsMetrics {
    /// When the certificate that endpoints are shown runs out, in Unix time.
    pub fn certificate_expires(&self, at: i64) {
        self.expiry_seconds.with_label_values(&[self.upstream.as_str()]).set(at);
    }

    /// Counts a change of the files.
    pub fn reloaded(&self, result: &'static str) {
        self.reloads_total.with_label_values(&[self.upstream.as_str(), result]).inc();
    }
}
