//! Who a client is, as the gateway verified it.

use std::fmt;

use jsonwebtoken::Algorithm;

/// What a verified token says of its bearer.
#[derive(Clone, Default, Eq, PartialEq)]
pub struct Identity {
    /// The claim `sub`.
    pub subject: Option<String>,
    /// The claim `iss`.
    pub issuer: Option<String>,
    /// What the token grants: the claim `scope`, or `scp`.
    pub scopes: Vec<String>,
    /// When the token runs out, in seconds of Unix time: the claim `exp`.
    pub expires_at: Option<u64>,
    /// The claim `jti`: names this token.
    pub token_id: Option<String>,
    /// The claim `sid`: names the login that this token came from.
    pub session_id: Option<String>,
    /// All verified claims, as one JSON object.
    pub claims: String,
    /// What the token was signed with; `None` where no token was.
    pub signed_by: Option<SignedBy>,
}

/// A key and the algorithm that it was used with. Two forms of one key are the same.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct SignedBy {
    /// Such as `ES256`.
    pub algorithm: Algorithm,
    /// A hash of the key.
    pub key: [u8; 32],
}

/// Claims may hold what is nobody else's business.
impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Identity")
            .field("subject", &self.subject)
            .field("issuer", &self.issuer)
            .field("expires_at", &self.expires_at)
            .finish_non_exhaustive()
    }
}
