//! `auth_request` of a route.

use std::time::Duration;

use http::HeaderName;

/// A service that is asked about each handshake.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct AuthRequest {
    /// Absolute.
    pub url: String,
    /// For the whole answer.
    pub timeout: Duration,
    /// Headers of its answer that travel on.
    pub copy_headers: Vec<HeaderName>,
    /// For how long an answer counts, and for whom; none: it is asked each time.
    pub cache: Option<AuthRequestCache>,
}

/// How answers are kept.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct AuthRequestCache {
    /// At most a minute.
    pub lasts: Duration,
    /// Requests that agree in these headers share an answer; at least one.
    pub by: Vec<HeaderName>,
}
