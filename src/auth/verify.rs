//! Is a token genuine, for here, and valid now?

use data_encoding::BASE64URL_NOPAD;
use jsonwebtoken::{Algorithm, Validation, decode, errors::ErrorKind};
use serde_json::{Map, Value};

use super::keys::Keys;
use crate::{
    config::Jwt,
    identity::{Identity, SignedBy},
};

/// The longest token; it comes in a header, whose bound is not much above this.
pub(super) const MAX_TOKEN_BYTES: usize = 12 << 10;
/// The end of the year 9999. A later `exp` is an error, or meant to be one.
const LATEST: u64 = 253_402_300_799;

/// Why a token does not count. The client is told no more than its status.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum NotVerified {
    /// Not three parts of base64url with JSON in the first two, or far too long.
    #[error("malformed")]
    Malformed,
    /// `alg` is `none`, unknown, or not among `algorithms`.
    #[error("algorithm not accepted")]
    Algorithm,
    /// The header has `crit`, which nothing here understands, or is that of another kind of token.
    #[error("header not accepted")]
    Header,
    /// No key fits the header.
    #[error("unknown key")]
    UnknownKey,
    /// Signed by nobody that is trusted, or altered.
    #[error("bad signature")]
    Signature,
    /// Its time is over.
    #[error("expired")]
    Expired,
    /// Its time has not come.
    #[error("not valid yet")]
    NotYet,
    /// From another issuer.
    #[error("wrong issuer")]
    Issuer,
    /// For somebody else.
    #[error("wrong audience")]
    Audience,
    /// A claim is missing or has a strange form.
    #[error("bad claim")]
    Claim,
    /// Genuine, but it does not grant what the route requires (403).
    #[error("missing scope")]
    Scope,
    /// Genuine, but the admin API was told that it does not count any more.
    #[error("revoked")]
    Revoked,
    /// There are no keys to check it with: none came yet, or the last ones are too old (503).
    #[error("no keys to check it with")]
    NoKeys,
}

/// What a `[jwt.*]` table demands of tokens.
pub(super) struct Rules {
    issuer: Option<String>,
    /// By algorithm that counts: a token names one.
    validations: Vec<(Algorithm, Validation)>,
    required_scopes: Vec<String>,
}

impl Rules {
    pub(super) fn new(jwt: &Jwt) -> Self {
        Self {
            issuer: jwt.issuer.clone(),
            validations: jwt.algorithms.iter().map(|algorithm| (*algorithm, validation(jwt, *algorithm))).collect(),
            required_scopes: jwt.required_scopes.clone(),
        }
    }

    pub(super) fn verify(&self, token: &str, keys: &Keys) -> Result<Identity, NotVerified> {
        if token.len() > MAX_TOKEN_BYTES {
            return Err(NotVerified::Malformed);
        }
        let header = Header::read(token)?;
        let prepared = self.validations.iter().find(|(algorithm, _)| *algorithm == header.algorithm);
        let (_, validation) = prepared.ok_or(NotVerified::Algorithm)?;
        let mut worst = NotVerified::UnknownKey;
        for key in keys.fitting(header.kid.as_deref(), header.algorithm) {
            match decode::<Map<String, Value>>(token, key.decoding(), validation) {
                Ok(decoded) => {
                    let signed_by = SignedBy { algorithm: header.algorithm, key: key.mark() };
                    return self.identity(token, &decoded.claims, signed_by);
                }
                Err(error) => worst = not_verified(error.kind()),
            }
            if worst != NotVerified::Signature {
                break;
            }
        }
        Err(worst)
    }

    /// The claims, once signature and times are right.
    fn identity(&self, token: &str, claims: &Map<String, Value>, signed_by: SignedBy) -> Result<Identity, NotVerified> {
        let identity = Identity {
            subject: text(claims, "sub")?,
            issuer: text(claims, "iss")?,
            scopes: scopes(claims)?,
            expires_at: time(claims, "exp")?,
            token_id: text(claims, "jti")?,
            session_id: text(claims, "sid")?,
            claims: part(token, 1).and_then(|json| String::from_utf8(json).ok()).ok_or(NotVerified::Malformed)?,
            signed_by: Some(signed_by),
        };
        self.check_grants(&identity)?;
        Ok(identity)
    }

    fn check_grants(&self, identity: &Identity) -> Result<(), NotVerified> {
        // The library takes a list of issuers of which one is right; RFC 7519 section 4.1.1 knows one issuer.
        if self.issuer.is_some() && identity.issuer != self.issuer {
            return Err(NotVerified::Issuer);
        }
        let granted = |required| identity.scopes.contains(required);
        if self.required_scopes.iter().all(granted) { Ok(()) } else { Err(NotVerified::Scope) }
    }

    /// Would a token that was verified by other rules count by these, and with these keys? Its times are looked at
    /// elsewhere.
    pub(super) fn still(&self, identity: &Identity, keys: Option<&Keys>) -> Result<(), NotVerified> {
        let signed_by = identity.signed_by.as_ref().ok_or(NotVerified::Malformed)?;
        let prepared = self.validations.iter().find(|(algorithm, _)| *algorithm == signed_by.algorithm);
        let (_, validation) = prepared.ok_or(NotVerified::Algorithm)?;
        if keys.is_some_and(|keys| !keys.hold(signed_by)) {
            return Err(NotVerified::UnknownKey);
        }
        if identity.expires_at.is_none() && validation.required_spec_claims.contains("exp") {
            return Err(NotVerified::Claim);
        }
        if let Some(accepted) = &validation.aud {
            let claims: Map<String, Value> =
                serde_json::from_str(&identity.claims).map_err(|_| NotVerified::Malformed)?;
            let is_accepted = |audience: &Value| audience.as_str().is_some_and(|audience| accepted.contains(audience));
            let meant = match claims.get("aud") {
                Some(Value::Array(audiences)) => audiences.iter().any(is_accepted),
                Some(audience) => is_accepted(audience),
                None => false,
            };
            if !meant {
                return Err(NotVerified::Audience);
            }
        }
        self.check_grants(identity)
    }
}

fn validation(jwt: &Jwt, algorithm: Algorithm) -> Validation {
    let mut validation = Validation::new(algorithm);
    validation.leeway = jwt.leeway.as_secs();
    validation.validate_nbf = true;
    validation.validate_aud = !jwt.audience.is_empty();
    validation.required_spec_claims.clear();
    let mut require = |claim: &str| {
        validation.required_spec_claims.insert(claim.to_owned());
    };
    if jwt.require_exp {
        require("exp");
    }
    if jwt.issuer.is_some() {
        require("iss");
    }
    if !jwt.audience.is_empty() {
        require("aud");
        validation.set_audience(&jwt.audience);
    }
    if let Some(issuer) = &jwt.issuer {
        validation.set_issuer(&[issuer]);
    }
    validation
}

/// What matters of a token's header.
struct Header {
    algorithm: Algorithm,
    kid: Option<String>,
}

impl Header {
    /// Read apart from the library, which passes over what it does not know.
    fn read(token: &str) -> Result<Self, NotVerified> {
        let json = part(token, 0).ok_or(NotVerified::Malformed)?;
        let header: Map<String, Value> = serde_json::from_slice(&json).map_err(|_| NotVerified::Malformed)?;
        // RFC 7515 section 4.1.11: whoever does not understand a critical parameter must refuse. `zip` and `enc` are
        // those of encrypted tokens.
        if ["crit", "zip", "enc", "b64"].iter().any(|name| header.contains_key(*name)) {
            return Err(NotVerified::Header);
        }
        let typ = text(&header, "typ").map_err(|_| NotVerified::Header)?;
        if typ.is_some_and(|typ| !is_token_type(&typ)) {
            return Err(NotVerified::Header);
        }
        let name = header.get("alg").and_then(Value::as_str).ok_or(NotVerified::Algorithm)?;
        let algorithm = name.parse().map_err(|_| NotVerified::Algorithm)?;
        Ok(Self { algorithm, kid: text(&header, "kid").map_err(|_| NotVerified::Header)? })
    }
}

/// An access token or a plain JWT (RFC 9068 section 4, RFC 7519 section 5.1), not a logout token or another kind.
fn is_token_type(typ: &str) -> bool {
    let typ = typ.to_ascii_lowercase();
    matches!(typ.strip_prefix("application/").unwrap_or(&typ), "jwt" | "at+jwt")
}

/// One of the three parts, decoded.
fn part(token: &str, index: usize) -> Option<Vec<u8>> {
    let mut parts = token.split('.');
    let wanted = parts.clone().nth(index)?;
    if parts.by_ref().count() != 3 {
        return None;
    }
    BASE64URL_NOPAD.decode(wanted.as_bytes()).ok()
}

fn text(claims: &Map<String, Value>, name: &str) -> Result<Option<String>, NotVerified> {
    match claims.get(name) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => Ok(Some(text.clone())),
        Some(_) => Err(NotVerified::Claim),
    }
}

/// Seconds; fractions are cut off (RFC 7519 section 2, NumericDate).
fn time(claims: &Map<String, Value>, name: &str) -> Result<Option<u64>, NotVerified> {
    let seconds = match claims.get(name) {
        None => return Ok(None),
        Some(value) => value.as_u64().or_else(|| value.as_f64().filter(|at| *at >= 0.0).map(|at| at as u64)),
    };
    seconds.filter(|at| *at <= LATEST).map(Some).ok_or(NotVerified::Claim)
}

/// `scope` is a text with spaces (RFC 8693 section 4.2); some issuers write a list, or `scp`.
fn scopes(claims: &Map<String, Value>) -> Result<Vec<String>, NotVerified> {
    match claims.get("scope").or_else(|| claims.get("scp")) {
        None | Some(Value::Null) => Ok(Vec::new()),
        Some(Value::String(text)) => Ok(text.split(' ').filter(|scope| !scope.is_empty()).map(str::to_owned).collect()),
        Some(Value::Array(list)) => {
            let texts = list.iter().map(|scope| scope.as_str().map(str::to_owned));
            texts.collect::<Option<_>>().ok_or(NotVerified::Claim)
        }
        Some(_) => Err(NotVerified::Claim),
    }
}

fn not_verified(kind: &ErrorKind) -> NotVerified {
    match kind {
        ErrorKind::ExpiredSignature => NotVerified::Expired,
        ErrorKind::ImmatureSignature => NotVerified::NotYet,
        ErrorKind::InvalidIssuer => NotVerified::Issuer,
        ErrorKind::InvalidAudience => NotVerified::Audience,
        ErrorKind::InvalidSignature => NotVerified::Signature,
        ErrorKind::MissingRequiredClaim(_) | ErrorKind::InvalidClaimFormat(_) => NotVerified::Claim,
        ErrorKind::InvalidAlgorithm | ErrorKind::InvalidAlgorithmName => NotVerified::Algorithm,
        ErrorKind::InvalidKeyFormat => NotVerified::UnknownKey,
        // The library may find further reasons.
        _ => NotVerified::Malformed,
    }
}
