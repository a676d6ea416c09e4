//! Whom TLS towards servers believes, where no configuration says.

use std::sync::Arc;

use rustls::{ClientConfig, ConfigBuilder, RootCertStore, WantsVerifier};

use super::error::UpstreamsError;

/// Trusts what this machine trusts.
pub(crate) fn native() -> Result<Arc<ClientConfig>, UpstreamsError> {
    trusting(native_roots()?)
}

/// What this machine trusts.
pub(crate) fn native_roots() -> Result<RootCertStore, UpstreamsError> {
    let found = rustls_native_certs::load_native_certs();
    for error in &found.errors {
        tracing::warn!(%error, "a root certificate cannot be read");
    }
    let mut roots = RootCertStore::empty();
    // Stores hold certificates that rustls rightly refuses; the others count.
    let (usable, _) = roots.add_parsable_certificates(found.certs);
    if usable == 0 { Err(UpstreamsError::NoRoots) } else { Ok(roots) }
}

/// Trusts these certificates.
pub(crate) fn trusting(roots: impl Into<Arc<RootCertStore>>) -> Result<Arc<ClientConfig>, UpstreamsError> {
    let builder = builder().map_err(UpstreamsError::Tls)?;
    Ok(http_1_1(builder.with_root_certificates(roots).with_no_client_auth()))
}

/// What all TLS towards servers begins with.
pub(super) fn builder() -> Result<ConfigBuilder<ClientConfig, WantsVerifier>, rustls::Error> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()
}

/// And what it ends with.
pub(super) fn http_1_1(mut config: ClientConfig) -> Arc<ClientConfig> {
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Arc::new(config)
}
