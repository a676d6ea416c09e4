//! Tokens: where a request carries one, whether it is genuine, and whose it is (RFC 7519, RFC 8725).
//!
//! The library checks signatures and the registered claims. What it accepts and this gateway must not is refused here:
//! critical header parameters, foreign types, an issuer that is a list, absurd times.

mod credentials;
mod keys;
mod key_ring;
mod key_files;
mod jwks;
mod revocation;
mod verify;

use std::{collections::BTreeMap, path::PathBuf, sync::Arc, time::Duration};

pub use self::{
    credentials::{Credentials, find, without_tokens},
    revocation::{Cursor, MAX_BATCH, Malformed, NotRevoked, Revocation, Revocations, RevocationsError, unix_now},
    verify::NotVerified,
};
use self::{jwks::Source, key_files::KeyFile, key_ring::KeyRing, verify::Rules};
use crate::{
    config::{self, Config, KeySource, TokenSource},
    http_client::{CallError, Direct},
    identity::Identity,
    telemetry::metrics::{AuthFamilies, Metrics},
    upstream::{UpstreamsError, roots},
};

/// Why keys cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// The file cannot be read.
    #[error("jwt.{jwt}: cannot read {}", file.display())]
    Read {
        /// The table.
        jwt: String,
        /// The file.
        file: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// What is in the file is no key that fits.
    #[error("jwt.{jwt}: {}: {why}", file.display())]
    Unfit {
        /// The table.
        jwt: String,
        /// The file.
        file: PathBuf,
        /// What is wrong, and what would be right.
        why: String,
    },
    /// The URL of a key set cannot be asked.
    #[error("jwt.{jwt}: jwks_url")]
    Url {
        /// The table.
        jwt: String,
        /// Why.
        #[source]
        source: CallError,
    },
    /// `https://` needs certificates to check the issuer's against.
    #[error("jwks_url")]
    Roots(#[source] UpstreamsError),
}

/// Every `[jwt.*]` table, ready to verify.
pub struct Authenticators {
    by_name: BTreeMap<String, Arc<Authenticator>>,
    revocations: Arc<Revocations>,
}

/// What keeps the keys of all tables up to date.
#[derive(Default)]
pub struct KeyKeeper {
    files: Vec<KeyFile>,
    sources: Vec<(Source, Arc<KeyRing>)>,
    tls: Option<Arc<rustls::ClientConfig>>,
}

impl Authenticators {
    /// Reads the keys that are in files.
    ///
    /// # Errors
    /// A file that cannot be read, or holds no key that fits; no certificates that an issuer's could be checked against.
    pub fn load(
        config: &Config,
        metrics: &Metrics,
        revocations: Arc<Revocations>,
    ) -> Result<(Self, KeyKeeper), KeyError> {
        let mut keeper = KeyKeeper::default();
        let mut by_name = BTreeMap::new();
        for (name, jwt) in &config.jwt {
            let revocations = Arc::clone(&revocations);
            let loaded = Authenticator::load(name, jwt, &metrics.auth, &mut keeper, revocations)?;
            by_name.insert(name.clone(), Arc::new(loaded));
        }
        if keeper.sources.iter().any(|(source, _)| source.request.origin().tls) {
            keeper.tls = Some(roots::native().map_err(KeyError::Roots)?);
        }
        Ok((Self { by_name, revocations }, keeper))
    }

    /// The one that a route names.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&Arc<Authenticator>> {
        self.by_name.get(name)
    }

    /// What no longer counts, whichever the table.
    #[must_use]
    pub fn revocations(&self) -> &Arc<Revocations> {
        &self.revocations
    }

    /// Has each table had its first keys?
    #[must_use]
    pub fn ready(&self) -> bool {
        self.by_name.values().all(|authenticator| authenticator.ring.is_filled())
    }
}

impl KeyKeeper {
    /// Fetches and looks at files for as long as it is polled.
    pub async fn keep(self) {
        let tls = self.tls;
        let sources = self.sources.into_iter();
        let fetched = sources.map(|(source, ring)| source.follow(ring, Direct::new(tls.clone())));
        tokio::join!(key_files::follow(self.files), futures_util::future::join_all(fetched));
    }
}

/// One `[jwt.*]` table.
pub struct Authenticator {
    ring: Arc<KeyRing>,
    rules: Rules,
    revocations: Arc<Revocations>,
    from: Vec<TokenSource>,
    expiry: Expiry,
    refresh: bool,
}

/// What happens to a live connection whose token runs out.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Expiry {
    /// It is closed this long after that.
    pub grace: Duration,
    /// With this code.
    pub code: u16,
}

impl Authenticator {
    fn load(
        name: &str,
        jwt: &config::Jwt,
        metrics: &AuthFamilies,
        keeper: &mut KeyKeeper,
        revocations: Arc<Revocations>,
    ) -> Result<Self, KeyError> {
        let metrics = metrics.keys(name);
        let ring = match KeyFile::open(name, jwt)? {
            Some((mut file, keys)) => {
                let ring = Arc::new(KeyRing::fixed(keys, metrics));
                file.fills(&ring);
                keeper.files.push(file);
                ring
            }
            None => Arc::new(KeyRing::fetched(metrics)),
        };
        if let KeySource::JwksUrl { url, max_stale } = &jwt.keys {
            let request = Source::request(url).map_err(|source| KeyError::Url { jwt: name.to_owned(), source })?;
            let (keys, algorithms) = (jwt.keys.clone(), jwt.algorithms.clone());
            let source = Source { jwt: name.to_owned(), request, keys, max_stale: *max_stale, algorithms };
            keeper.sources.push((source, Arc::clone(&ring)));
        }
        Ok(Self {
            ring,
            rules: Rules::new(jwt),
            revocations,
            from: jwt.from.clone(),
            expiry: Expiry { grace: jwt.expiry_grace, code: jwt.expiry_code },
            refresh: jwt.refresh,
        })
    }

    /// Where to look for tokens, in this order.
    #[must_use]
    pub fn from(&self) -> &[TokenSource] {
        &self.from
    }

    /// What happens to a live connection whose token runs out.
    #[must_use]
    pub fn expiry(&self) -> Expiry {
        self.expiry
    }

    /// May a client send a new token over its connection?
    #[must_use]
    pub fn refreshes(&self) -> bool {
        self.refresh
    }

    /// Whose token this is. Where it names a key that is not there, the keys may be fetched again, which is waited for.
    ///
    /// # Errors
    /// It is not genuine, not for here, not valid now, revoked, or grants too little; or there are no keys.
    pub async fn verify(&self, token: &str) -> Result<Identity, NotVerified> {
        let round = self.ring.round();
        match self.verify_now(token) {
            Err(NotVerified::UnknownKey) if self.ring.refetched(round).await => self.verify_now(token),
            verified => verified,
        }
    }

    /// The same with the keys that are there.
    fn verify_now(&self, token: &str) -> Result<Identity, NotVerified> {
        let verified = self.ring.with(|keys| self.rules.verify(token, keys)).unwrap_or(Err(NotVerified::NoKeys))?;
        if self.revocations.holds(&verified) { Err(NotVerified::Revoked) } else { Ok(verified) }
    }

    /// What no longer counts.
    #[must_use]
    pub fn revocations(&self) -> &Revocations {
        &self.revocations
    }
}

#[cfg(test)]
mod tests;
