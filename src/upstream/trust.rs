//! How the endpoints of an upstream prove who they are, and who the gateway is to them.

use std::{
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use rustls::{ClientConfig, RootCertStore, crypto::aws_lc_rs, sign::SingleCertAndKey};

use super::{error::UpstreamsError, roots};
use crate::{
    config::UpstreamTls,
    telemetry::metrics::{Metrics, UpstreamTlsMetrics},
    tls_files::{self, CertificateError, FromPem, Look, PemFiles, Watched, certified_key, not_after},
};

/// What counts for the next TLS handshake with an endpoint.
#[derive(Clone)]
pub(crate) enum Trust {
    /// The same for as long as the process lives.
    Fixed(Arc<ClientConfig>),
    /// Made of files, and anew when they change.
    Files(Arc<Watched<Files>>),
}

/// Where it comes from.
pub(crate) struct Files {
    upstream: String,
    tls: UpstreamTls,
    /// Those who vouch for endpoints where no `ca` does.
    otherwise: Arc<RootCertStore>,
    metrics: UpstreamTlsMetrics,
}

/// What was made of the files.
pub(crate) struct Made {
    config: Arc<ClientConfig>,
    /// Of the certificate that endpoints are shown.
    not_after: Option<i64>,
}

impl Trust {
    /// `roots` count where `tls` names none.
    pub(super) fn new(
        upstream: &str,
        tls: &UpstreamTls,
        roots: &Arc<RootCertStore>,
        metrics: &Metrics,
    ) -> Result<Self, UpstreamsError> {
        if tls.ca.is_none() && tls.certificate.is_none() {
            return Ok(Self::Fixed(roots::trusting(Arc::clone(roots))?));
        }
        let (tls, otherwise) = (tls.clone(), Arc::clone(roots));
        let files = Files { upstream: upstream.to_owned(), tls, otherwise, metrics: metrics.upstream_tls(upstream) };
        let made = Watched::load(files);
        let made = made.map_err(|source| UpstreamsError::Certificate { upstream: upstream.to_owned(), source })?;
        Ok(Self::Files(Arc::new(made)))
    }

    /// What counts now.
    pub(crate) fn current(&self) -> Arc<ClientConfig> {
        match self {
            Self::Fixed(config) => Arc::clone(config),
            Self::Files(files) => Arc::clone(&files.serving().config),
        }
    }
}

/// Watches the files for as long as one of these is in use.
pub(super) fn watch<'a>(all: impl Iterator<Item = &'a Trust>) -> io::Result<()> {
    let files = all.filter_map(|trust| match trust {
        Trust::Fixed(_) => None,
        Trust::Files(files) => Some(Arc::downgrade(&(Arc::clone(files) as Arc<dyn Look>))),
    });
    tls_files::watch(files.collect())
}

impl FromPem for Files {
    type Made = Made;

    fn files(&self) -> Vec<&Path> {
        let own = self.tls.certificate.as_ref();
        let named = [self.tls.ca.as_ref(), own.map(|own| &own.certificate), own.map(|own| &own.private_key)];
        named.into_iter().flatten().map(PathBuf::as_path).collect()
    }

    fn make(&self, pem: &PemFiles) -> Result<Made, CertificateError> {
        let first = self.files().first().map(|file| file.to_path_buf()).unwrap_or_default();
        let builder = roots::builder().map_err(|error| CertificateError::unfit(&first, error.to_string()))?;
        let vouching = match &self.tls.ca {
            Some(file) => Arc::new(tls_files::roots(file, pem)?),
            None => Arc::clone(&self.otherwise),
        };
        let builder = builder.with_root_certificates(vouching);
        let Some(own) = &self.tls.certificate else {
            return Ok(Made { config: roots::http_1_1(builder.with_no_client_auth()), not_after: None });
        };
        let key = certified_key(&own.certificate, &own.private_key, pem, &aws_lc_rs::default_provider())?;
        let not_after = Some(not_after(&key, &own.certificate)?);
        let config = builder.with_client_cert_resolver(Arc::new(SingleCertAndKey::from(key)));
        Ok(Made { config: roots::http_1_1(config), not_after })
    }

    fn serves(&self, made: &Made) {
        if let Some(not_after) = made.not_after {
            self.metrics.certificate_expires(not_after);
        }
    }

    fn changed(&self, result: Result<(), &CertificateError>) {
        let upstream = &self.upstream;
        match result {
            Ok(()) => {
                self.metrics.reloaded("ok");
                tracing::info!(upstream, "new certificates count for new connections to the upstream");
            }
            Err(error) => {
                self.metrics.reloaded("error");
                let error = error as &dyn std::error::Error;
                tracing::error!(upstream, error, "the certificates are not replaced, the old ones count on");
            }
        }
    }
}
