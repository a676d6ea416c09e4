//! Tokens: where a request carries one, whether it is genuine, and whose it is (RFC 7519, RFC 8725).
//!
//! The library checks signatures and the registered claims. What it accepts and this gateway must not is refused here:
//! critical header parameters, foreign types, an issuer that is a list, absurd times.

mod credentials;
mod keys;
mod key_ring;
mod key_files;
mod kept_keys;
mod jwks;
mod revocation;
mod verify;

use std::{collections::BTreeMap, fmt, path::PathBuf, sync::Arc, time::Duration};

pub use self::{
    credentials::{Credentials, find, without_tokens},
    revocation::{Cursor, MAX_BATCH, Malformed, NotRevoked, Revocation, Revocations, RevocationsError, unix_now},
    verify::NotVerified,
};
use self::{kept_keys::KeptKeys, verify::Rules};
use crate::{
    config::{self, Config, TokenSource},
    http_client::CallError,
    identity::Identity,
    telemetry::metrics::Metrics,
    upstream::UpstreamsError,
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

/// One `[jwt.*]` table.
pub struct Authenticator {
    keys: Arc<KeptKeys>,
    rules: Rules,
    revocations: Arc<Revocations>,
    config: config::Jwt,
}

impl Authenticators {
    /// Reads the keys that are in files. Tables that are as they were before stay the same objects, and those whose keys
    /// come from the same place go on with them.
    ///
    /// # Errors
    /// A file that cannot be read, or holds no key that fits; no certificates that an issuer's could be checked against.
    pub fn load(
        config: &Config,
        metrics: &Metrics,
        revocations: Arc<Revocations>,
        before: Option<&Self>,
    ) -> Result<Self, KeyError> {
        let mut by_name = BTreeMap::new();
        for (name, jwt) in &config.jwt {
            let known = before.and_then(|before| before.by_name.get(name));
            let table = match known {
                Some(known) if known.config == *jwt => Arc::clone(known),
                Some(known) if known.has_keys_of(jwt) => {
                    Arc::new(Authenticator::new(jwt, Arc::clone(&known.keys), Arc::clone(&revocations)))
                }
                Some(_) | None => {
                    let keys = Arc::new(KeptKeys::load(name, jwt, &metrics.auth)?);
                    Arc::new(Authenticator::new(jwt, keys, Arc::clone(&revocations)))
                }
            };
            by_name.insert(name.clone(), table);
        }
        Ok(Self { by_name, revocations })
    }

    /// Keeps the keys of all tables up to date, until the last user of a table is gone. To be called in a runtime.
    pub fn keep(&self) {
        self.by_name.values().for_each(|authenticator| authenticator.keys.keep());
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
        self.unready().is_none()
    }

    /// A table that waits for its first keys.
    #[must_use]
    pub fn unready(&self) -> Option<&str> {
        let waiting = |(_, authenticator): &(&String, &Arc<Authenticator>)| !authenticator.keys.ring.is_filled();
        self.by_name.iter().find(waiting).map(|(name, _)| name.as_str())
    }
}

/// What happens to a live connection whose token runs out.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Expiry {
    /// It is closed this long after that.
    pub grace: Duration,
    /// With this code.
    pub code: u16,
}

impl fmt::Debug for Authenticator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Authenticator")
    }
}

impl Authenticator {
    fn new(jwt: &config::Jwt, keys: Arc<KeptKeys>, revocations: Arc<Revocations>) -> Self {
        Self { keys, rules: Rules::new(jwt), revocations, config: jwt.clone() }
    }

    /// Would its keys be read from the same place, and in the same way?
    fn has_keys_of(&self, jwt: &config::Jwt) -> bool {
        (&self.config.keys, &self.config.algorithms) == (&jwt.keys, &jwt.algorithms)
    }

    /// Where to look for tokens, in this order.
    #[must_use]
    pub fn from(&self) -> &[TokenSource] {
        &self.config.from
    }

    /// What happens to a live connection whose token runs out.
    #[must_use]
    pub fn expiry(&self) -> Expiry {
        Expiry { grace: self.config.expiry_grace, code: self.config.expiry_code }
    }

    /// May a client send a new token over its connection?
    #[must_use]
    pub fn refreshes(&self) -> bool {
        self.config.refresh
    }

    /// Whose token this is. Where it names a key that is not there, the keys may be fetched again, which is waited for.
    ///
    /// # Errors
    /// It is not genuine, not for here, not valid now, revoked, or grants too little; or there are no keys.
    pub async fn verify(&self, token: &str) -> Result<Identity, NotVerified> {
        let ring = &self.keys.ring;
        let round = ring.round();
        match self.verify_now(token) {
            Err(NotVerified::UnknownKey) if ring.refetched(round).await => self.verify_now(token),
            verified => verified,
        }
    }

    /// The same with the keys that are there.
    fn verify_now(&self, token: &str) -> Result<Identity, NotVerified> {
        let verified =
            self.keys.ring.with(|keys| self.rules.verify(token, keys)).unwrap_or(Err(NotVerified::NoKeys))?;
        if self.revocations.holds(&verified) { Err(NotVerified::Revoked) } else { Ok(verified) }
    }

    /// Would this token count, which was verified by another table, or with other keys? Whether it has run out or was
    /// revoked is looked at elsewhere.
    ///
    /// # Errors
    /// Why not.
    pub fn still(&self, identity: &Identity, verified_by: &Self) -> Result<(), NotVerified> {
        if Arc::ptr_eq(&self.keys, &verified_by.keys) {
            // The issuer may have replaced its key meanwhile, which takes nothing from tokens that were signed before.
            return self.rules.still(identity, None);
        }
        let still = |keys: &keys::Keys| self.rules.still(identity, Some(keys));
        self.keys.ring.with(still).unwrap_or(Err(NotVerified::NoKeys))
    }

    /// What no longer counts.
    #[must_use]
    pub fn revocations(&self) -> &Revocations {
        &self.revocations
    }
}

#[cfg(test)]
mod tests;
