//! How the endpoints of an upstream are dialled, as it is written.

use schemars::JsonSchema;
use serde::Deserialize;

use super::Optional;

/// TLS towards `wss://` endpoints. The files are watched: what is put in their place counts for new connections.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(in crate::config) struct RawUpstreamTls {
    /// PEM file with the certificates of those who vouch for the endpoints, instead of those that this machine trusts.
    pub(in crate::config) ca: Optional<String>,
    /// PEM file with the certificate that endpoints are shown if they ask for one, and behind it those that lead to its
    /// root.
    pub(in crate::config) certificate: Optional<String>,
    /// PEM file with the key of that certificate, not encrypted.
    pub(in crate::config) private_key: Optional<String>,
    /// The name that endpoints are asked for and that their certificates must have. Default: the host of the endpoint.
    pub(in crate::config) server_name: Optional<String>,
}
