//! What one route counts.

use std::time::Duration;

use ::http::StatusCode;
use prometheus::{Histogram, IntCounter, IntCounterVec, IntGauge};

use super::http::HttpFamilies;
use crate::message::Direction;

/// The counters of one route.
#[derive(Clone)]
pub struct RouteMetrics {
    pub(super) route: String,
    /// Open now.
    pub connections: IntGauge,
    /// Opened since the start.
    pub connections_total: IntCounter,
    /// Head to answer.
    pub handshake_duration_seconds: Histogram,
    /// Received from clients.
    pub to_upstream: DirectionMetrics,
    /// Received from upstreams.
    pub to_client: DirectionMetrics,
    /// Sizes of received messages.
    pub message_size_bytes: Histogram,
    /// 101 to end.
    pub connection_duration_seconds: Histogram,
    /// Held in outgoing queues.
    pub queue_bytes: IntGauge,
    pub(super) closes_total: IntCounterVec,
    pub(super) handshakes_total: IntCounterVec,
    pub(super) auth_requests_total: IntCounterVec,
    pub(super) http: HttpFamilies,
}

impl RouteMetrics {
    /// Counts an end. Codes that applications choose are counted in buckets.
    pub fn closed(&self, code: u16, by: &'static str) {
        let code = match code {
            3000..=3999 => "3xxx".to_owned(),
            4401 | 4403 | 4408 | 4429 if by == "gateway" => code.to_string(),
            4000..=4999 => "4xxx".to_owned(),
            1000..=1015 => code.to_string(),
            _ => "other".to_owned(),
        };
        self.closes_total.with_label_values(&[self.route.as_str(), &code, by]).inc();
    }

    /// Counts a question to the service of `auth_request`: `asked`, or `cached`.
    pub fn auth_request(&self, result: &'static str) {
        self.auth_requests_total.with_label_values(&[self.route.as_str(), result]).inc();
    }

    /// Counts a request that opens no WebSocket, by what its client was answered; `None`: nothing.
    pub fn http_request(&self, status: Option<StatusCode>, taken: Duration) {
        self.http.count(&self.route, status, taken);
    }

    /// Counts an answered opening request.
    pub fn handshake(&self, result: &'static str) {
        self.handshakes_total.with_label_values(&[self.route.as_str(), result]).inc();
    }

    /// What is received in a direction.
    #[must_use]
    pub fn direction(&self, direction: Direction) -> &DirectionMetrics {
        match direction {
            Direction::ToUpstream => &self.to_upstream,
            Direction::ToClient => &self.to_client,
        }
    }
}

/// Messages received in one direction of a route.
#[derive(Clone)]
pub struct DirectionMetrics {
    /// Text messages.
    pub text: IntCounter,
    /// Binary messages.
    pub binary: IntCounter,
    /// Payload bytes.
    pub bytes: IntCounter,
}
