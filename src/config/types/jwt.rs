//! `[jwt.*]`

use std::{path::PathBuf, time::Duration};

use jsonwebtoken::Algorithm;

/// `[jwt.*]`: which tokens count, and where they are looked for.
#[derive(Clone, Debug, PartialEq)]
pub struct Jwt {
    /// The only issuer that counts (`iss`).
    pub issuer: Option<String>,
    /// A token must be meant for one of these (`aud`); empty: for anybody.
    pub audience: Vec<String>,
    /// Where the keys are.
    pub keys: KeySource,
    /// Signature algorithms that count; at least one.
    pub algorithms: Vec<Algorithm>,
    /// Where a token is looked for, in this order.
    pub from: Vec<TokenSource>,
    /// A token without one of these is refused with 403.
    pub required_scopes: Vec<String>,
    /// How far clocks may differ.
    pub leeway: Duration,
    /// Is a token without `exp` refused?
    pub require_exp: bool,
    /// A live connection is closed this long after its token ran out.
    pub expiry_grace: Duration,
    /// The code of that close.
    pub expiry_code: u16,
    /// May a client send a new token over its connection?
    pub refresh: bool,
}

/// Where the keys of a `[jwt.*]` table are.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum KeySource {
    /// A PEM file with one public key.
    PublicKeyFile(PathBuf),
    /// An HMAC secret.
    SecretFile(PathBuf),
    /// A JSON Web Key Set (RFC 7517).
    JwksFile(PathBuf),
    /// A JSON Web Key Set that the issuer publishes.
    JwksUrl {
        /// Absolute, `https://` or `http://`, without credentials.
        url: String,
        /// How long the last good keys count beyond the time when they should have been fetched again.
        max_stale: Duration,
    },
}

/// A place in the opening request.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum TokenSource {
    /// `Authorization: Bearer …`
    Header,
    /// `Sec-WebSocket-Protocol: bearer, …`
    Subprotocol,
    /// The cookie of this name.
    Cookie(String),
    /// The query parameter of this name.
    Query(String),
}
