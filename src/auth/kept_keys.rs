//! The keys of a table and what keeps them up to date, which ends with them.

use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use tokio::task::AbortHandle;

use super::{
    KeyError,
    jwks::Source,
    key_files::{self, KeyFile},
    key_ring::KeyRing,
};
use crate::{
    config::{Jwt, KeySource},
    http_client::Direct,
    telemetry::metrics::AuthFamilies,
    upstream::roots,
};

/// See the module.
pub(super) struct KeptKeys {
    pub(super) ring: Arc<KeyRing>,
    /// Until it is begun.
    origin: Mutex<Option<Origin>>,
    keeper: OnceLock<AbortHandle>,
}

enum Origin {
    File(KeyFile),
    Url(Source, Direct),
}

impl KeptKeys {
    /// Reads those that are in a file.
    pub(super) fn load(name: &str, jwt: &Jwt, metrics: &AuthFamilies) -> Result<Self, KeyError> {
        let metrics = metrics.keys(name);
        let (ring, origin) = match &jwt.keys {
            KeySource::JwksUrl { url, max_stale } => {
                let request = Source::request(url).map_err(|source| KeyError::Url { jwt: name.to_owned(), source })?;
                let tls = request.origin().tls.then(roots::native).transpose().map_err(KeyError::Roots)?;
                let (keys, algorithms) = (jwt.keys.clone(), jwt.algorithms.clone());
                let source = Source { jwt: name.to_owned(), request, keys, max_stale: *max_stale, algorithms };
                (KeyRing::fetched(metrics), Origin::Url(source, Direct::new(tls)))
            }
            KeySource::PublicKeyFile(path) | KeySource::SecretFile(path) | KeySource::JwksFile(path) => {
                let (file, keys) = KeyFile::open(name, jwt, path)?;
                (KeyRing::fixed(keys, metrics), Origin::File(file))
            }
        };
        Ok(Self { ring: Arc::new(ring), origin: Mutex::new(Some(origin)), keeper: OnceLock::new() })
    }

    /// Fetches, and looks at files, until this is dropped.
    pub(super) fn keep(&self) {
        let origin = self.origin.lock().unwrap_or_else(PoisonError::into_inner).take();
        let ring = Arc::clone(&self.ring);
        let keeper = match origin {
            None => return,
            Some(Origin::File(file)) => tokio::spawn(key_files::follow(file, ring)),
            Some(Origin::Url(source, client)) => tokio::spawn(source.follow(ring, client)),
        };
        let _ = self.keeper.set(keeper.abort_handle());
    }
}

impl Drop for KeptKeys {
    fn drop(&mut self) {
        if let Some(keeper) = self.keeper.get() {
            keeper.abort();
        }
    }
}
