//! How the endpoints of an upstream are dialled.

use std::path::PathBuf;

/// `[upstreams.*] tls`; all absolute.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct UpstreamTls {
    /// Endpoints need a certificate that one of these vouches for, PEM; those that this machine trusts where absent.
    pub ca: Option<PathBuf>,
    /// What endpoints are shown if they ask.
    pub certificate: Option<ClientCertificate>,
    /// The name that certificates must have; the endpoint's host where absent.
    pub server_name: Option<String>,
}

/// `[upstreams.*] tls.certificate` and `tls.private_key`; both absolute.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ClientCertificate {
    /// The chain, PEM.
    pub certificate: PathBuf,
    /// The key of its first certificate, PEM.
    pub private_key: PathBuf,
}
