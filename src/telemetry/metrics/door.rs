//! What the doors of listeners count.

use prometheus::{Histogram, HistogramVec, IntCounterVec, IntGauge, IntGaugeVec, Registry};

use super::{HANDSHAKE_SECONDS, counters, gauges, histograms};

/// The families of all doors.
pub(super) struct DoorFamilies {
    failures_total: IntCounterVec,
    handshake_duration_seconds: HistogramVec,
    certificate_expiry_seconds: IntGaugeVec,
    certificate_reloads_total: IntCounterVec,
}

impl DoorFamilies {
    pub(super) fn register(r: &Registry) -> prometheus::Result<Self> {
        Ok(Self {
            failures_total: counters(
                r,
                "listener_failures_total",
                "Connections closed without a request: no PROXY header, no TLS, no head, no descriptors left.",
                &["listener", "reason"],
            )?,
            handshake_duration_seconds: histograms(
                r,
                "tls_handshake_duration_seconds",
                "TLS handshakes of clients that came to their end.",
                &["listener"],
                HANDSHAKE_SECONDS,
            )?,
            certificate_expiry_seconds: gauges(
                r,
                "certificate_expiry_timestamp_seconds",
                "When the certificate that serves runs out, in seconds of Unix time.",
                &["listener"],
            )?,
            certificate_reloads_total: counters(
                r,
                "certificate_reloads_total",
                "Changes to the files of a certificate.",
                &["listener", "result"],
            )?,
        })
    }

    pub(super) fn of(&self, listener: &str) -> DoorMetrics {
        DoorMetrics {
            listener: listener.to_owned(),
            failures_total: self.failures_total.clone(),
            handshake_duration_seconds: self.handshake_duration_seconds.clone(),
            certificate_expiry_seconds: self.certificate_expiry_seconds.clone(),
            certificate_reloads_total: self.certificate_reloads_total.clone(),
        }
    }
}

/// The counters of one listener. What is about TLS appears with its first sample.
#[derive(Clone)]
pub struct DoorMetrics {
    listener: String,
    failures_total: IntCounterVec,
    handshake_duration_seconds: HistogramVec,
    certificate_expiry_seconds: IntGaugeVec,
    certificate_reloads_total: IntCounterVec,
}

impl DoorMetrics {
    /// Counts a connection that was closed without a request.
    pub fn failed(&self, reason: &'static str) {
        self.failures_total.with_label_values(&[self.listener.as_str(), reason]).inc();
    }

    /// TLS handshakes that came to their end.
    #[must_use]
    pub fn handshake_duration(&self) -> Histogram {
        self.handshake_duration_seconds.with_label_values(&[self.listener.as_str()])
    }

    /// When the certificate that serves runs out, in Unix time.
    #[must_use]
    pub fn certificate_expiry(&self) -> IntGauge {
        self.certificate_expiry_seconds.with_label_values(&[self.listener.as_str()])
    }

    /// Counts a change of the files.
    pub fn certificate_reloaded(&self, result: &'static str) {
        self.certificate_reloads_total.with_label_values(&[self.listener.as_str(), result]).inc();
    }
}
