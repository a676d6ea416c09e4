//! Keys in files, which count anew when the file changes.

use std::{path::Path, sync::Arc};

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

/// A file with keys.
pub(super) struct KeyFile {
    jwt: String,
    file: SecretFile,
    source: KeySource,
    algorithms: Vec<Algorithm>,
}

impl KeyFile {
    /// Reads the keys for the first time.
    pub(super) fn open(name: &str, jwt: &Jwt, path: &Path) -> Result<(Self, Keys), KeyError> {
        let mut file = SecretFile::new(path.to_owned(), SOURCE_BYTES as u64);
        let bytes =
            file.read().map_err(|source| KeyError::Read { jwt: name.to_owned(), file: path.to_owned(), source })?;
        let unfit = |why| KeyError::Unfit { jwt: name.to_owned(), file: path.to_owned(), why };
        let keys = Keys::read(&jwt.keys, &bytes, &jwt.algorithms).map_err(unfit)?;
        let (source, algorithms) = (jwt.keys.clone(), jwt.algorithms.clone());
        Ok((Self { jwt: name.to_owned(), file, source, algorithms }, keys))
    }

    /// Looks whether the file has changed. What is no key changes nothing: the last good keys count on.
    fn look(&mut self, ring: &KeyRing) {
        let Some(changed) = self.file.changed() else { return };
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

/// Looks at the file for as long as it is polled. It may be on a slow file system, so a thread for such does it.
pub(super) async fn follow(mut file: KeyFile, ring: Arc<KeyRing>) {
    loop {
        tokio::time::sleep(LOOK_INTERVAL).await;
        let filled = Arc::clone(&ring);
        let looked = tokio::task::spawn_blocking(move || {
            file.look(&filled);
            file
        });
        match looked.await {
            Ok(back) => file = back,
            Err(error) => {
                tracing::error!(%error, "a key file is no longer looked at");
                return;
            }
        }
    }
}
