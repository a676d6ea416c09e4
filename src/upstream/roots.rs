//! How TLS endpoints of upstreams are checked.

use std::sync::Arc;

use rustls::{ClientConfig, RootCertStore};

use super::error::UpstreamsError;

/// Trusts what this machine trusts.
pub(crate) fn native() -> Result<Arc<ClientConfig>, UpstreamsError> {
    let found = rustls_native_certs::load_native_certs();
    for error in &found.errors {
        tracing::warn!(%error, "a root certificate cannot be read");
    }
    let mut roots = RootCertStore::empty();
    // Stores hold certificates that rustls rightly refuses; the others count.
    let (usable, _) = roots.add_parsable_certificates(found.certs);
    if usable == 0 { Err(UpstreamsError::NoRoots) } else { trusting(roots) }
}

/// Trusts these certificates.
pub(crate) fn trusting(roots: RootCertStore) -> Result<Arc<ClientConfig>, UpstreamsError> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(UpstreamsError::Tls)?;
    let mut config = builder.with_root_certificates(roots).with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}
