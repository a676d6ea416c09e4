//! What is in PEM files: certificates, keys, and those who vouch for others.

use std::{
    collections::BTreeMap,
    fs::File,
    io::{self, Read},
    path::{Path, PathBuf},
};

use rustls::{
    RootCertStore,
    crypto::CryptoProvider,
    pki_types::{CertificateDer, PrivateKeyDer, pem, pem::PemObject},
    sign::CertifiedKey,
};
use x509_parser::{certificate::X509Certificate, prelude::FromDer};

use super::CertificateError;

/// Chains have a few KiB; bundles of roots, some hundred.
const MAX_FILE_BYTES: u64 = 1 << 20;
const NO_CERTIFICATE: &str = "there is no certificate in it; write PEM, beginning with -----BEGIN CERTIFICATE-----";

/// What was in files at one time. Never shown: it may hold keys.
#[derive(Clone, Eq, PartialEq)]
pub struct PemFiles(BTreeMap<PathBuf, Vec<u8>>);

impl PemFiles {
    /// Reads them all.
    ///
    /// # Errors
    /// One cannot be read, or is larger than 1 MiB.
    pub fn read(files: &[&Path]) -> Result<Self, CertificateError> {
        let read = |file: &&Path| Ok(((*file).to_owned(), read(file)?));
        files.iter().map(read).collect::<Result<_, _>>().map(Self)
    }

    /// What is in one of those that were read.
    fn of(&self, file: &Path) -> &[u8] {
        self.0.get(file).map(Vec::as_slice).unwrap_or_default()
    }
}

fn read(file: &Path) -> Result<Vec<u8>, CertificateError> {
    let read = || {
        let mut bytes = Vec::new();
        File::open(file)?.take(MAX_FILE_BYTES + 1).read_to_end(&mut bytes)?;
        if bytes.len() as u64 > MAX_FILE_BYTES {
            return Err(io::Error::new(io::ErrorKind::FileTooLarge, "it is larger than 1 MiB"));
        }
        Ok(bytes)
    };
    read().map_err(|source| CertificateError::Read { file: file.to_owned(), source })
}

/// A chain and the key of its first certificate.
///
/// # Errors
/// One of the files is not that, or they do not belong together.
pub fn certified_key(
    certificate: &Path,
    private_key: &Path,
    pem: &PemFiles,
    provider: &CryptoProvider,
) -> Result<CertifiedKey, CertificateError> {
    let chain = certificates(certificate, pem.of(certificate))?;
    let key = key(private_key, pem.of(private_key))?;
    CertifiedKey::from_der(chain, key, provider).map_err(|error| match error {
        rustls::Error::InconsistentKeys(_) => {
            CertificateError::unfit(private_key, format!("the key is not that of {}", certificate.display()))
        }
        rustls::Error::InvalidCertificate(_) => CertificateError::unfit(certificate, error.to_string()),
        _ => CertificateError::unfit(private_key, format!("the key cannot be used: {error}")),
    })
}

/// When the first certificate of a chain runs out, in seconds of Unix time.
///
/// # Errors
/// There is no certificate in it. `file` is where it came from.
pub fn not_after(key: &CertifiedKey, file: &Path) -> Result<i64, CertificateError> {
    let parsed = key.cert.first().and_then(|certificate| X509Certificate::from_der(certificate).ok());
    let (_, parsed) = parsed.ok_or_else(|| CertificateError::unfit(file, NO_CERTIFICATE))?;
    Ok(parsed.validity().not_after.timestamp())
}

/// Those who vouch for others.
///
/// # Errors
/// There are none in the file, or one cannot be used.
pub fn roots(file: &Path, pem: &PemFiles) -> Result<RootCertStore, CertificateError> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(file, pem.of(file))? {
        let added = roots.add(certificate);
        added.map_err(|error| CertificateError::unfit(file, format!("a certificate in it cannot be used: {error}")))?;
    }
    Ok(roots)
}

fn certificates(file: &Path, pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, CertificateError> {
    let certificates = CertificateDer::pem_slice_iter(pem).collect::<Result<Vec<_>, _>>();
    let certificates =
        certificates.map_err(|error| CertificateError::unfit(file, format!("not valid PEM: {error}")))?;
    if certificates.is_empty() { Err(CertificateError::unfit(file, NO_CERTIFICATE)) } else { Ok(certificates) }
}

fn key(file: &Path, pem: &[u8]) -> Result<PrivateKeyDer<'static>, CertificateError> {
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
