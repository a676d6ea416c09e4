//! Tokens: where a request carries one, whether it is genuine, and whose it is (RFC 7519, RFC 8725).
//!
//! The library checks signatures and the registered claims. What it accepts and this gateway must not is refused here:
//! critical header parameters, foreign types, an issuer that is a list, absurd times.

mod credentials;
mod keys;
mod verify;

use std::{collections::BTreeMap, path::PathBuf, sync::Arc, time::Duration};

pub use self::{
    credentials::{Credentials, find, without_tokens},
    verify::NotVerified,
};
use self::{keys::Keys, verify::Rules};
use crate::{
    config::{self, Config, TokenSource},
    identity::Identity,
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
}

/// Every `[jwt.*]` table, ready to verify.
#[derive(Default)]
pub struct Authenticators {
    by_name: BTreeMap<String, Arc<Authenticator>>,
}

impl Authenticators {
    /// Reads the keys.
    ///
    /// # Errors
    /// A file that cannot be read, or holds no key that fits.
    pub fn load(config: &Config) -> Result<Self, KeyError> {
        let load = |(name, jwt): (&String, &config::Jwt)| Ok((name.clone(), Arc::new(Authenticator::load(name, jwt)?)));
        Ok(Self { by_name: config.jwt.iter().map(load).collect::<Result<_, _>>()? })
    }

    /// The one that a route names.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&Arc<Authenticator>> {
        self.by_name.get(name)
    }
}

/// One `[jwt.*]` table.
pub struct Authenticator {
    keys: Keys,
    rules: Rules,
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
    fn load(name: &str, jwt: &config::Jwt) -> Result<Self, KeyError> {
        Ok(Self {
            keys: Keys::load(name, jwt)?,
            rules: Rules::new(jwt),
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

    /// Whose token this is.
    ///
    /// # Errors
    /// It is not genuine, not for here, not valid now, or grants too little.
    pub fn verify(&self, token: &str) -> Result<Identity, NotVerified> {
        self.rules.verify(token, &self.keys)
    }
}

#[cfg(test)]
mod tests;
