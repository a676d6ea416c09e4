//! Why a TLS handshake failed.

use std::io;

use rustls::Error;
use thiserror::Error as ThisError;

#[derive(Debug, ThisError)]
#[error("no TLS: {source}")]
pub(super) struct TlsFailure {
    #[source]
    source: io::Error,
}

impl From<io::Error> for TlsFailure {
    fn from(source: io::Error) -> Self {
        Self { source }
    }
}

impl TlsFailure {
    pub(super) fn label(&self) -> &'static str {
        let Some(error) = self.source.get_ref().and_then(|error| error.downcast_ref::<Error>()) else {
            return "closed";
        };
        match error {
            Error::InvalidMessage(_) | Error::InappropriateMessage { .. } => "not_tls",
            // Such as TLS 1.1, or no cipher in common.
            Error::PeerIncompatible(_) | Error::NoApplicationProtocol => "tls_incompatible",
            Error::NoCertificatesPresented => "client_certificate_missing",
            Error::InvalidCertificate(_) | Error::InvalidCertRevocationList(_) => "client_certificate",
            // What rustls says where the certificate is not for the host that was asked for.
            Error::General(_) => "server_name",
            // The client does not trust the certificate, most often.
            Error::AlertReceived(_) => "alert",
            _ => "tls_other",
        }
    }
}
