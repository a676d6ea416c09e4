//! `[[routes]] http`: requests that open no WebSocket.

use std::time::Duration;

use schemars::JsonSchema;
use serde::Deserialize;

/// `[[routes]] http`
#[derive(Clone, Copy, Debug, Deserialize, Eq, JsonSchema, PartialEq)]
#[serde(rename_all = "snake_case")]
pub enum HttpMode {
    /// 426.
    Reject,
    /// The upstream answers.
    Forward,
}

/// `[[routes]] http_filters`
#[derive(Clone, Copy, Debug, Deserialize, Eq, JsonSchema, PartialEq)]
#[serde(rename_all = "snake_case")]
pub enum HttpFilters {
    /// `open` of each filter is asked.
    Open,
    /// Nobody is asked.
    Skip,
}

/// How requests are forwarded that open no WebSocket.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct HttpForward {
    /// Are filters asked about them?
    pub filters: HttpFilters,
    /// Largest body of a request, if there is a limit.
    pub max_body_bytes: Option<usize>,
    /// A body of which nothing comes for so long is given up.
    pub body_timeout: Duration,
    /// From the last byte of a request to the head of its answer.
    pub response_timeout: Duration,
}

impl Default for HttpForward {
    fn default() -> Self {
        Self {
            filters: HttpFilters::Open,
            max_body_bytes: Some(64 << 20),
            body_timeout: Duration::from_secs(30),
            response_timeout: Duration::from_secs(60),
        }
    }
}
