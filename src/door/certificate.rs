//! What a listener shows its clients, and whom it believes: made from files, replaced as a whole.

use std::{
    fmt,
    path::{Path, PathBuf},
    sync::Arc,
    time::{SystemTime, UNIX_EPOCH},
};

use rustls::{
    ServerConfig,
    client::verify_server_name,
    crypto::aws_lc_rs,
    pki_types::ServerName,
    server::{ClientHello, ParsedCertificate, ResolvesServerCert, WebPkiClientVerifier},
    sign::CertifiedKey,
};

use super::subject;
use crate::{
    config::ListenerTls,
    telemetry::metrics::DoorMetrics,
    tls_files::{CertificateError, FromPem, PemFiles, Watched, certified_key, not_after, roots},
};

/// The certificate of one listener.
pub(super) type Certificate = Watched<Shown>;

/// Where a listener's certificate comes from.
pub(super) struct Shown {
    name: String,
    files: ListenerTls,
    metrics: DoorMetrics,
}

impl Shown {
    pub(super) fn load(
        files: &ListenerTls,
        name: &str,
        metrics: &DoorMetrics,
    ) -> Result<Certificate, CertificateError> {
        Watched::load(Self { name: name.to_owned(), files: files.clone(), metrics: metrics.clone() })
    }
}

impl FromPem for Shown {
    type Made = Loaded;

    fn files(&self) -> Vec<&Path> {
        files(&self.files)
    }

    fn make(&self, pem: &PemFiles) -> Result<Loaded, CertificateError> {
        Loaded::new(&self.files, pem)
    }

    fn serves(&self, made: &Loaded) {
        self.metrics.certificate_expiry().set(made.not_after);
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |now| now.as_secs());
        if i64::try_from(now).is_ok_and(|now| now >= made.not_after) {
            let (file, not_after) = (self.files.certificate.display(), made.not_after);
            tracing::warn!(listener = self.name, %file, not_after, "the certificate has run out; clients will refuse it");
        }
    }

    fn changed(&self, result: Result<(), &CertificateError>) {
        match result {
            Ok(()) => {
                self.metrics.certificate_reloaded("ok");
                tracing::info!(listener = self.name, "a new certificate serves new connections");
            }
            Err(error) => {
                self.metrics.certificate_reloaded("error");
                let error = error as &dyn std::error::Error;
                tracing::error!(listener = self.name, error, "the certificate is not replaced, the old one serves on");
            }
        }
    }
}

fn files(files: &ListenerTls) -> Vec<&Path> {
    let named = [Some(&files.certificate), Some(&files.private_key), files.client_ca.as_ref()];
    named.into_iter().flatten().map(PathBuf::as_path).collect()
}

/// Would the files do?
pub(super) fn check(tls: &ListenerTls) -> Result<(), CertificateError> {
    Loaded::new(tls, &PemFiles::read(&files(tls))?).map(|_| ())
}

/// What was made of the files.
pub(super) struct Loaded {
    pub(super) config: Arc<ServerConfig>,
    not_after: i64,
}

impl Loaded {
    fn new(files: &ListenerTls, pem: &PemFiles) -> Result<Self, CertificateError> {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let key = certified_key(&files.certificate, &files.private_key, pem, &provider)?;
        let not_after = not_after(&key, &files.certificate)?;
        let unfit = |error: &dyn fmt::Display| CertificateError::unfit(&files.certificate, error.to_string());
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .map_err(|error| unfit(&error))?;
        let builder = match &files.client_ca {
            Some(file) => {
                let roots = Arc::new(roots(file, pem)?);
                let verifier = WebPkiClientVerifier::builder_with_provider(roots, provider).build();
                builder.with_client_cert_verifier(
                    verifier.map_err(|error| CertificateError::unfit(file, error.to_string()))?,
                )
            }
            None => builder.with_no_client_auth(),
        };
        let mut config = builder.with_cert_resolver(Arc::new(OneCertificate::new(key)));
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        // Tickets end with this configuration, so that who is not believed any more cannot resume.
        config.ticketer = aws_lc_rs::Ticketer::new().map_err(|error| unfit(&error))?;
        Ok(Self { config: Arc::new(config), not_after })
    }
}

/// A client that asks for a host which the certificate does not name is refused: it asked for somebody else.
#[derive(Debug)]
struct OneCertificate {
    key: Arc<CertifiedKey>,
    /// An older certificate may name no host at all; then it is for whoever trusts it.
    names_hosts: bool,
}

impl OneCertificate {
    fn new(key: CertifiedKey) -> Self {
        let names_hosts = key.cert.first().is_some_and(subject::names_hosts);
        Self { key: Arc::new(key), names_hosts }
    }

    fn is_for(&self, host: &str) -> bool {
        let Some(Ok(certificate)) = self.key.cert.first().map(ParsedCertificate::try_from) else { return false };
        ServerName::try_from(host).is_ok_and(|name| verify_server_name(&certificate, &name).is_ok())
    }
}

impl ResolvesServerCert for OneCertificate {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let fits = hello.server_name().is_none_or(|host| !self.names_hosts || self.is_for(host));
        fits.then(|| Arc::clone(&self.key))
    }
}
