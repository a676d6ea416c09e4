//! The files of a certificate, as bytes. What they hold is looked at elsewhere; whether it changed, here.

use std::{
    fs::File,
    io::{self, Read},
    path::Path,
};

use super::certificate::CertificateError;
use crate::config::ListenerTls;

/// Chains have a few KiB; bundles of roots, some hundred.
const MAX_FILE_BYTES: u64 = 1 << 20;

/// What was in the files at one time. Never shown: it holds a key.
#[derive(Clone, Eq, PartialEq)]
pub(super) struct Pem {
    pub(super) certificate: Vec<u8>,
    pub(super) private_key: Vec<u8>,
    pub(super) client_ca: Option<Vec<u8>>,
}

impl Pem {
    pub(super) fn read(files: &ListenerTls) -> Result<Self, CertificateError> {
        Ok(Self {
            certificate: read(&files.certificate)?,
            private_key: read(&files.private_key)?,
            client_ca: files.client_ca.as_deref().map(read).transpose()?,
        })
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
