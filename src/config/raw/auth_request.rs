//! `auth_request` of a route as it is written.

use schemars::JsonSchema;
use serde::Deserialize;

use super::{At, Optional, Time, TimeOrOff};

/// A service that is asked about each handshake.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(extend("required" = ["url"]))]
pub(in crate::config) struct RawAuthRequest {
    /// Where it is asked, by GET with the client's headers: 2xx lets in, 401 and 403 are passed on, anything else is 503.
    pub(in crate::config) url: Optional<String>,
    /// No answer by then is 503.
    #[schemars(extend("default" = "2s"))]
    pub(in crate::config) timeout: Optional<Time>,
    /// Headers of its answer that the upstream and filters get. What the client sent under these names is removed.
    #[schemars(extend("default" = []))]
    pub(in crate::config) copy_headers: Vec<At<String>>,
    /// How long an answer of 2xx, 401 or 403 counts for others with the same headers `cache_by`; at most a minute.
    #[schemars(extend("default" = "off"))]
    pub(in crate::config) cache: Optional<TimeOrOff>,
    /// The headers on which the answer depends. A request with none of them is always asked about.
    #[schemars(extend("default" = []))]
    pub(in crate::config) cache_by: Vec<At<String>>,
}
