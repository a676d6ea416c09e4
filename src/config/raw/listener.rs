//! `[[listeners]]` as it is written.

use schemars::JsonSchema;
use serde::Deserialize;

use super::{At, Optional, Table};

/// Where clients connect.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(extend("required" = ["address"]))]
pub(in crate::config) struct RawListener {
    /// IP address and port; port 0 takes any free one.
    pub(in crate::config) address: Optional<String>,
    /// TLS, and with which certificate. Default: none.
    pub(in crate::config) tls: Optional<Table<RawListenerTls>>,
    /// Addresses and networks of proxies whose headers on where a request comes from count.
    #[schemars(extend("default" = []))]
    pub(in crate::config) trusted_proxies: Option<At<Vec<At<String>>>>,
    /// Each connection begins with a header of the PROXY protocol, version 1 or 2.
    #[schemars(extend("default" = false))]
    pub(in crate::config) proxy_protocol: Optional<bool>,
}

/// TLS of a listener. The files are watched: what is put in their place serves new connections.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(extend("required" = ["certificate", "private_key"]))]
pub(in crate::config) struct RawListenerTls {
    /// PEM file with the certificate that clients are shown, and behind it those that lead to its root.
    pub(in crate::config) certificate: Optional<String>,
    /// PEM file with the key of the certificate, not encrypted.
    pub(in crate::config) private_key: Optional<String>,
    /// PEM file with the certificates of those who vouch for clients. With it every client needs a certificate.
    pub(in crate::config) client_ca: Optional<String>,
}
