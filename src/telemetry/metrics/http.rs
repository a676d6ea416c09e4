//! What requests count that open no WebSocket. Families of routes that have none show nothing.

use std::time::Duration;

use ::http::StatusCode;
use prometheus::{HistogramVec, IntCounterVec, Registry};

use super::{HANDSHAKE_SECONDS, counters, histograms};

/// The families, for any route.
#[derive(Clone)]
pub(super) struct HttpFamilies {
    requests_total: IntCounterVec,
    request_duration_seconds: HistogramVec,
}

impl HttpFamilies {
    pub(super) fn register(r: &Registry) -> prometheus::Result<Self> {
        Ok(Self {
            requests_total: counters(
                r,
                "http_requests_total",
                "Requests that open no WebSocket, by the class of the answer's status; `none`: the client left before.",
                &["route", "status"],
            )?,
            request_duration_seconds: histograms(
                r,
                "http_request_duration_seconds",
                "From the head of such a request to the end of its answer.",
                &["route"],
                HANDSHAKE_SECONDS,
            )?,
        })
    }

    pub(super) fn count(&self, route: &str, status: Option<StatusCode>, taken: Duration) {
        let status = match status.map(|status| status.as_u16() / 100) {
            None => "none",
            Some(2) => "2xx",
            Some(3) => "3xx",
            Some(4) => "4xx",
            Some(_) => "5xx",
        };
        self.requests_total.with_label_values(&[route, status]).inc();
        self.request_duration_seconds.with_label_values(&[route]).observe(taken.as_secs_f64());
    }
}
