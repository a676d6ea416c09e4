//! What a listener shows its clients, and whom it believes: made from files, replaced as a whole.

use std::{
    fmt,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use arc_swap::ArcSwap;
use rustls::{
    RootCertStore, ServerConfig,
    client::verify_server_name,
    crypto::{CryptoProvider, aws_lc_rs},
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem, pem::PemObject},
    server::{ClientHello, ParsedCertificate, ResolvesServerCert, WebPkiClientVerifier},
    sign::CertifiedKey,
};
use thiserror::Error;

use super::{pem::Pem, subject};
use crate::{config::ListenerTls, telemetry::metrics::DoorMetrics};

/// Certificate and key are two files: what does not fit together counts as wrong only once it has stayed so this long.
const SETTLING: Duration = Duration::from_secs(1);

/// Why a certificate cannot be used.
#[derive(Debug, Error)]
pub enum CertificateError {
    /// A file cannot be read.
    #[error("cannot read {}", file.display())]
    Read {
        /// The file.
        file: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// What is in a file is not what is wanted.
    #[error("{}: {why}", file.display())]
    Unfit {
        /// The file.
        file: PathBuf,
        /// What is wrong, and what would be right.
        why: String,
    },
}

impl CertificateError {
    fn unfit(file: &Path, why: impl Into<String>) -> Self {
        Self::Unfit { file: file.to_owned(), why: why.into() }
    }
}

/// The certificate of one listener.
pub(super) struct Certificate {
    name: String,
    files: ListenerTls,
    serving: ArcSwap<ServerConfig>,
    seen: Mutex<Seen>,
    metrics: DoorMetrics,
}

/// What the files held when they were last looked at.
struct Seen {
    /// What serves.
    good: Pem,
    /// What does not, since when, and whether that was said.
    bad: Option<(Bad, Instant, bool)>,
}

/// Contents, or why they cannot be read.
#[derive(Eq, PartialEq)]
enum Bad {
    Contents(Pem),
    Unreadable(String),
}

impl Certificate {
    pub(super) fn load(files: &ListenerTls, name: &str, metrics: &DoorMetrics) -> Result<Self, CertificateError> {
        let good = Pem::read(files)?;
        let loaded = Loaded::new(files, &good)?;
        let certificate = Self {
            name: name.to_owned(),
            files: files.clone(),
            serving: ArcSwap::new(loaded.config),
            seen: Mutex::new(Seen { good, bad: None }),
            metrics: metrics.clone(),
        };
        certificate.announce(loaded.not_after);
        Ok(certificate)
    }

    /// For the next handshake.
    pub(super) fn serving(&self) -> Arc<ServerConfig> {
        self.serving.load_full()
    }

    pub(super) fn files(&self) -> impl Iterator<Item = &Path> {
        [Some(&self.files.certificate), Some(&self.files.private_key), self.files.client_ca.as_ref()]
            .into_iter()
            .flatten()
            .map(PathBuf::as_path)
    }

    /// Looks at the files again. What is new and good serves from now on; what is not changes nothing, and is said once.
    pub(super) fn look(&self) {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let read = Pem::read(&self.files);
        let (found, tried) = match read {
            Ok(pem) if pem == seen.good => {
                seen.bad = None;
                return;
            }
            Ok(pem) => {
                let tried = Loaded::new(&self.files, &pem);
                (Bad::Contents(pem), tried)
            }
            Err(error) => (Bad::Unreadable(error.to_string()), Err(error)),
        };
        match (tried, found) {
            (Ok(loaded), Bad::Contents(pem)) => {
                *seen = Seen { good: pem, bad: None };
                self.serving.store(loaded.config);
                self.metrics.certificate_reloaded("ok");
                tracing::info!(listener = self.name, "a new certificate serves new connections");
                self.announce(loaded.not_after);
            }
            (Ok(_), Bad::Unreadable(_)) => {}
            (Err(error), found) => self.refuse(&mut seen, found, &error),
        }
    }

    fn refuse(&self, seen: &mut Seen, found: Bad, error: &CertificateError) {
        match &mut seen.bad {
            Some((bad, since, said)) if *bad == found => {
                if !*said && since.elapsed() >= SETTLING {
                    *said = true;
                    self.metrics.certificate_reloaded("error");
                    let error = error as &dyn std::error::Error;
                    tracing::error!(
                        listener = self.name,
                        error,
                        "the certificate is not replaced, the old one serves on"
                    );
                }
            }
            Some(_) | None => seen.bad = Some((found, Instant::now(), false)),
        }
    }

    fn announce(&self, not_after: i64) {
        self.metrics.certificate_expiry().set(not_after);
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |now| now.as_secs());
        if i64::try_from(now).is_ok_and(|now| now >= not_after) {
            let file = self.files.certificate.display();
            tracing::warn!(listener = self.name, %file, not_after, "the certificate has run out; clients will refuse it");
        }
    }
}

/// Would the files do?
pub(super) fn check(files: &ListenerTls) -> Result<(), CertificateError> {
    Loaded::new(files, &Pem::read(files)?).map(|_| ())
}

struct Loaded {
    config: Arc<ServerConfig>,
    not_after: i64,
}

impl Loaded {
    fn new(files: &ListenerTls, pem: &Pem) -> Result<Self, CertificateError> {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let one = OneCertificate::new(files, pem, &provider)?;
        let not_after = one.key.cert.first().and_then(subject::not_after);
        let not_after = not_after.ok_or_else(|| CertificateError::unfit(&files.certificate, NO_CERTIFICATE))?;
        let unfit = |error: &dyn fmt::Display| CertificateError::unfit(&files.certificate, error.to_string());
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .map_err(|error| unfit(&error))?;
        let builder = match (&files.client_ca, &pem.client_ca) {
            (Some(file), Some(pem)) => {
                let roots = Arc::new(roots(file, pem)?);
                let verifier = WebPkiClientVerifier::builder_with_provider(roots, provider).build();
                builder.with_client_cert_verifier(
                    verifier.map_err(|error| CertificateError::unfit(file, error.to_string()))?,
                )
            }
            (None, _) | (_, None) => builder.with_no_client_auth(),
        };
        let mut config = builder.with_cert_resolver(Arc::new(one));
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        // Tickets end with this configuration, so that who is not believed any more cannot resume.
        config.ticketer = aws_lc_rs::Ticketer::new().map_err(|error| unfit(&error))?;
        Ok(Self { config: Arc::new(config), not_after })
    }
}

const NO_CERTIFICATE: &str = "there is no certificate in it; write PEM, beginning with -----BEGIN CERTIFICATE-----";

/// A client that asks for a host which the certificate does not name is refused: it asked for somebody else.
#[derive(Debug)]
struct OneCertificate {
    key: Arc<CertifiedKey>,
    /// An older certificate may name no host at all; then it is for whoever trusts it.
    names_hosts: bool,
}

impl OneCertificate {
    fn new(files: &ListenerTls, pem: &Pem, provider: &CryptoProvider) -> Result<Self, CertificateError> {
        let chain = certificates(&files.certificate, &pem.certificate)?;
        let key = private_key(&files.private_key, &pem.private_key)?;
        let names_hosts = chain.first().is_some_and(subject::names_hosts);
        let key = CertifiedKey::from_der(chain, key, provider).map_err(|error| match error {
            rustls::Error::InconsistentKeys(_) => {
                let certificate = files.certificate.display();
                CertificateError::unfit(&files.private_key, format!("the key is not that of {certificate}"))
            }
            rustls::Error::InvalidCertificate(_) => CertificateError::unfit(&files.certificate, error.to_string()),
            _ => CertificateError::unfit(&files.private_key, format!("the key cannot be used: {error}")),
        })?;
        Ok(Self { key: Arc::new(key), names_hosts })
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

fn certificates(file: &Path, pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, CertificateError> {
    let certificates = CertificateDer::pem_slice_iter(pem).collect::<Result<Vec<_>, _>>();
    let certificates =
        certificates.map_err(|error| CertificateError::unfit(file, format!("not valid PEM: {error}")))?;
    if certificates.is_empty() { Err(CertificateError::unfit(file, NO_CERTIFICATE)) } else { Ok(certificates) }
}

fn private_key(file: &Path, pem: &[u8]) -> Result<PrivateKeyDer<'static>, CertificateError> {
    let has = |marker: &[u8]| pem.windows(marker.len()).any(|window| window == marker);
    if has(b"-----BEGIN ENCRYPTED PRIVATE KEY-----") || has(b"Proc-Type: 4,ENCRYPTED") {
        let why = "the key is encrypted; write it without a passphrase, as `openssl pkey` does, and let only the \
                   gateway's user read it";
        return Err(CertificateError::unfit(file, why));
    }
    PrivateKeyDer::from_pem_slice(pem).map_err(|error| match error {
        pem::Error::NoItemsFound => CertificateError::unfit(
            file,
            "there is no private key in it; write PEM, beginning with -----BEGIN PRIVATE KEY-----",
        ),
        error => CertificateError::unfit(file, format!("not valid PEM: {error}")),
    })
}

fn roots(file: &Path, pem: &[u8]) -> Result<RootCertStore, CertificateError> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(file, pem)? {
        let added = roots.add(certificate);
        added.map_err(|error| CertificateError::unfit(file, format!("a certificate in it cannot be used: {error}")))?;
    }
    Ok(roots)
}
