//! Who may speak to the admin API: whoever has a token, as far as its role goes (RFC 6750).

use std::{path::PathBuf, sync::Arc};

use arc_swap::ArcSwap;
use http::{HeaderMap, header};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use crate::{
    config::{AdminToken, Role},
    secret_file::{LOOK_INTERVAL, SecretFile, without_line_break},
};

/// The shortest token: nobody guesses so many bytes.
pub const MIN_TOKEN_BYTES: usize = 32;
/// The longest; it comes in a header.
const MAX_TOKEN_BYTES: usize = 4 << 10;

/// Why a token cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TokenError {
    /// The file cannot be read.
    #[error("admin.tokens: cannot read {}", file.display())]
    Read {
        /// The file.
        file: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// What is in it is no token.
    #[error("admin.tokens: {}: {why}", file.display())]
    Unfit {
        /// The file.
        file: PathBuf,
        /// What is wrong, and what would be right.
        why: String,
    },
}

/// The tokens that count now.
pub struct Tokens {
    /// Without them everybody is trusted who reaches the listener.
    required: bool,
    accepted: ArcSwap<Vec<Option<Accepted>>>,
}

/// Tokens are kept and compared as hashes: neither their lengths nor where they differ shows in the time it takes.
#[derive(Clone, Copy)]
struct Accepted {
    sha256: [u8; 32],
    role: Role,
}

/// What a request may not do.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Denied {
    /// It has no token, or none that counts.
    Unknown,
    /// Its token is for less.
    Role,
}

/// What reads the files again.
pub struct TokenKeeper {
    files: Vec<(SecretFile, Role)>,
    tokens: Arc<Tokens>,
}

impl Tokens {
    /// Reads the files.
    ///
    /// # Errors
    /// One that cannot be read, or holds no token.
    pub fn load(configured: &[AdminToken]) -> Result<(Arc<Self>, TokenKeeper), TokenError> {
        let (mut files, mut accepted) = (Vec::new(), Vec::new());
        for AdminToken { file: path, role } in configured {
            // The limit, and a line break.
            let mut file = SecretFile::new(path.clone(), MAX_TOKEN_BYTES as u64 + 2);
            let bytes = file.read().map_err(|source| TokenError::Read { file: path.clone(), source })?;
            let token = Accepted::read(&bytes, *role);
            accepted.push(Some(token.map_err(|why| TokenError::Unfit { file: path.clone(), why })?));
            files.push((file, *role));
        }
        let tokens = Arc::new(Self { required: !configured.is_empty(), accepted: ArcSwap::from_pointee(accepted) });
        Ok((Arc::clone(&tokens), TokenKeeper { files, tokens }))
    }

    /// May a request with these headers do what needs this role?
    pub(super) fn check(&self, headers: &HeaderMap, needed: Role) -> Result<(), Denied> {
        if !self.required {
            return Ok(());
        }
        let mut given = headers.get_all(header::AUTHORIZATION).iter();
        let (Some(given), None) = (given.next(), given.next()) else { return Err(Denied::Unknown) };
        let Some((scheme, token)) = given.to_str().ok().and_then(|given| given.split_once(' ')) else {
            return Err(Denied::Unknown);
        };
        if !scheme.eq_ignore_ascii_case("bearer") {
            return Err(Denied::Unknown);
        }
        let sha256: [u8; 32] = Sha256::digest(token.trim_matches(' ')).into();
        // Each is compared, also after one that fits.
        let role = self.accepted.load().iter().flatten().fold(None, |role, accepted| {
            let fits = bool::from(accepted.sha256.ct_eq(&sha256));
            role.max(fits.then_some(accepted.role))
        });
        match role {
            None => Err(Denied::Unknown),
            Some(role) if role < needed => Err(Denied::Role),
            Some(_) => Ok(()),
        }
    }
}

impl Accepted {
    fn read(bytes: &[u8], role: Role) -> Result<Self, String> {
        let token = without_line_break(bytes);
        let length = token.len();
        if !(MIN_TOKEN_BYTES..=MAX_TOKEN_BYTES).contains(&length) {
            let bounds = format!("{MIN_TOKEN_BYTES} to {MAX_TOKEN_BYTES}");
            return Err(format!("a token of {length} bytes; use {bounds}, such as `openssl rand -hex 32` makes"));
        }
        if !token.iter().all(u8::is_ascii_graphic) {
            return Err("a token is one line without spaces, of visible ASCII".to_owned());
        }
        Ok(Self { sha256: Sha256::digest(token).into(), role })
    }
}

impl TokenKeeper {
    /// Looks at the files for as long as it is polled.
    pub async fn keep(mut self) {
        loop {
            tokio::time::sleep(LOOK_INTERVAL).await;
            let looked = tokio::task::spawn_blocking(move || {
                self.look();
                self
            });
            match looked.await {
                Ok(back) => self = back,
                Err(error) => {
                    tracing::error!(%error, "the files of admin tokens are no longer looked at");
                    return;
                }
            }
        }
    }

    /// A token whose file is away or unfit does not count: that is how one is withdrawn.
    fn look(&mut self) {
        for (index, (file, role)) in self.files.iter_mut().enumerate() {
            let Some(changed) = file.changed() else { continue };
            let path = file.path().display();
            let read = changed.map_err(|error| error.to_string());
            let token = match read.and_then(|bytes| Accepted::read(&bytes, *role)) {
                Ok(token) => {
                    tracing::info!(file = %path, "an admin token has changed");
                    Some(token)
                }
                Err(why) => {
                    tracing::error!(file = %path, why, "an admin token does not count any more");
                    None
                }
            };
            let mut accepted = self.tokens.accepted.load().as_ref().clone();
            accepted[index] = token;
            self.tokens.accepted.store(Arc::new(accepted));
        }
    }
}
