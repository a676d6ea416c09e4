//! Keys in files, which count anew when the file changes.

use std::sync::Arc;

use jsonwebtoken::Algorithm;

use super::{
    KeyError,
    key_ring::KeyRing,
    keys::{Keys, SOURCE_BYTES},
};
use crate::{
    config::{Jwt, KeySource},
    secret_file::{LOOK_INTERVAL, SecretFile},
};

/// A file and the ring that it fills.
pub(super) struct KeyFile {
    jwt: String,
    file: SecretFile,
    source: KeySource,
    algorithms: Vec<Algorithm>,
    ring: Option<Arc<KeyRing>>,
}

impl KeyFile {
    /// Reads the keys for the first time; `None` where they are in no file.
    pub(super) fn open(name: &str, jwt: &Jwt) -> Result<Option<(Self, Keys)>, KeyError> {
        let path = match &jwt.keys {
            KeySource::PublicKeyFile(path) | KeySource::SecretFile(path) | KeySource::JwksFile(path) => path,
            KeySource::JwksUrl { .. } => return Ok(None),
        };
        let mut file = SecretFile::new(path.clone(), SOURCE_BYTES as u64);
        let bytes =
            file.read().map_err(|source| KeyError::Read { jwt: name.to_owned(), file: path.clone(), source })?;
        let unfit = |why| KeyError::Unfit { jwt: name.to_owned(), file: path.clone(), why };
        let keys = Keys::read(&jwt.keys, &bytes, &jwt.algorithms).map_err(unfit)?;
        let (source, algorithms) = (jwt.keys.clone(), jwt.algorithms.clone());
        Ok(Some((Self { jwt: name.to_owned(), file, source, algorithms, ring: None }, keys)))
    }

    /// Where changes go.
    pub(super) fn fills(&mut self, ring: &Arc<KeyRing>) {
        self.ring = Some(Arc::clone(ring));
    }

    /// Looks whether the file has changed. What is no key changes nothing: the last good keys count on.
    fn look(&mut self) {
        let (Some(changed), Some(ring)) = (self.file.changed(), &self.ring) else { return };
        let (jwt, file) = (&self.jwt, self.file.path().display());
        let read = changed.map_err(|error| ("unreadable", error.to_string()));
        let keys =
            read.and_then(|bytes| Keys::read(&self.source, &bytes, &self.algorithms).map_err(|why| ("unfit", why)));
        match keys {
            Ok(keys) => {
                ring.metrics().loaded("ok");
                ring.put(keys, None);
                tracing::info!(jwt, %file, "the keys have changed");
            }
            Err((result, why)) => {
                ring.metrics().loaded(result);
                tracing::error!(jwt, %file, why, "the new keys cannot be used: the last good ones count on");
            }
        }
    }
}

/// Looks at the files for as long as it is polled. They may be on a slow file system, so a thread for such does it.
pub(super) async fn follow(mut files: Vec<KeyFile>) {
    loop {
        tokio::time::sleep(LOOK_INTERVAL).await;
        let looked = tokio::task::spawn_blocking(move || {
            files.iter_mut().for_each(KeyFile::look);
            files
        });
        match looked.await {
            Ok(back) => files = back,
            Err(error) => {
                tracing::error!(%error, "key files are no longer looked at");
                return;
            }
        }
    }
}
