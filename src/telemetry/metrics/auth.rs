//! What the keys of tokens count, and revocations.

use prometheus::{IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Registry};

use super::{counters, gauges, registered};

/// The families of `[jwt.*]` tables and of revocations.
pub struct AuthFamilies {
    key_loads_total: IntCounterVec,
    keys_timestamp_seconds: IntGaugeVec,
    requests_total: IntCounterVec,
    revocations: RevocationMetrics,
}

impl AuthFamilies {
    pub(super) fn register(r: &Registry) -> prometheus::Result<Self> {
        let revoked = counters(
            r,
            "revoked_total",
            "What revocations met: at a handshake, at the refresh of a token, or an open connection.",
            &["at"],
        )?;
        Ok(Self {
            revocations: RevocationMetrics {
                entries: registered(r, IntGauge::new("revocations", "Revocations that are held.")?)?,
                handshakes: revoked.with_label_values(&["handshake"]),
                refreshes: revoked.with_label_values(&["refresh"]),
                connections: revoked.with_label_values(&["connection"]),
            },
            requests_total: counters(
                r,
                "auth_requests_total",
                "Handshakes about which a service was to be asked: it was, or its earlier answer counts.",
                &["route", "result"],
            )?,
            key_loads_total: counters(
                r,
                "jwt_key_loads_total",
                "Keys of a [jwt.*] table that were fetched or read, or were not.",
                &["jwt", "result"],
            )?,
            keys_timestamp_seconds: gauges(
                r,
                "jwt_keys_timestamp_seconds",
                "When the keys in use were fetched or read, in Unix time; 0 before the first.",
                &["jwt"],
            )?,
        })
    }

    /// What revocations count.
    #[must_use]
    pub fn revocations(&self) -> RevocationMetrics {
        self.revocations.clone()
    }

    pub(super) fn requests(&self) -> IntCounterVec {
        self.requests_total.clone()
    }

    /// What the keys of a table count.
    #[must_use]
    pub fn keys(&self, jwt: &str) -> KeyMetrics {
        KeyMetrics {
            jwt: jwt.to_owned(),
            loads_total: self.key_loads_total.clone(),
            timestamp_seconds: self.keys_timestamp_seconds.with_label_values(&[jwt]),
        }
    }
}

/// What the keys of one `[jwt.*]` table count.
#[derive(Clone)]
pub struct KeyMetrics {
    jwt: String,
    loads_total: IntCounterVec,
    /// When the keys in use were fetched or read, in seconds of Unix time.
    pub timestamp_seconds: IntGauge,
}

impl KeyMetrics {
    /// Counts an attempt.
    pub fn loaded(&self, result: &'static str) {
        self.loads_total.with_label_values(&[self.jwt.as_str(), result]).inc();
    }
}

/// What revocations count.
#[derive(Clone)]
pub struct RevocationMetrics {
    /// Held.
    pub entries: IntGauge,
    /// Handshakes that were refused.
    pub handshakes: IntCounter,
    /// New tokens on open connections that were refused.
    pub refreshes: IntCounter,
    /// Open connections that were closed.
    pub connections: IntCounter,
}
