//! The keys of one `[jwt.*]` table.

use jsonwebtoken::{
    Algorithm, AlgorithmFamily, DecodingKey, DecodingKeyKind,
    jwk::{AlgorithmParameters, EllipticCurve, Jwk, JwkSet, KeyOperations, PublicKeyUse},
};

use sha2::{Digest, Sha256};
use x509_parser::{prelude::FromDer, public_key::RSAPublicKey};

use crate::{config::KeySource, identity::SignedBy, secret_file::without_line_break};

/// The largest key file, and the largest set that is fetched.
pub(super) const SOURCE_BYTES: usize = 1 << 20;
/// The most keys of a set.
const MAX_KEYS: usize = 100;
/// The shortest HMAC secret: as long as the shortest of the hashes (RFC 7518 section 3.2).
pub(super) const MIN_SECRET_BYTES: usize = 32;
/// The shortest RSA modulus (RFC 7518 section 3.3).
const MIN_RSA_BITS: usize = 2048;

/// Keys that tokens may be signed with.
pub(super) struct Keys(Vec<Key>);

pub(super) struct Key {
    kid: Option<String>,
    /// What the key may be used with, as far as it says so.
    algorithm: Option<Algorithm>,
    curve: Option<EllipticCurve>,
    decoding: DecodingKey,
    mark: [u8; 32],
}

impl Keys {
    /// Those in what such a source holds, as far as they are of use with these algorithms; what is wrong where there is none.
    pub(super) fn read(source: &KeySource, bytes: &[u8], algorithms: &[Algorithm]) -> Result<Self, String> {
        match source {
            KeySource::PublicKeyFile(_) => public_key(bytes, algorithms).map(|key| Self(vec![key])),
            KeySource::SecretFile(_) => secret(bytes).map(|key| Self(vec![key])),
            KeySource::JwksFile(_) | KeySource::JwksUrl { .. } => set(bytes, algorithms).map(Self),
        }
    }

    /// The keys that may have signed a token with this header. A token that names a key is tried with no other.
    pub(super) fn fitting(&self, kid: Option<&str>, algorithm: Algorithm) -> impl Iterator<Item = &Key> {
        let fits = move |key: &&Key| key.fits(kid, algorithm);
        self.0.iter().filter(fits)
    }

    /// Is the key that signed a token among them?
    pub(super) fn hold(&self, signed_by: &SignedBy) -> bool {
        self.fitting(None, signed_by.algorithm).any(|key| key.mark == signed_by.key)
    }
}

impl Key {
    fn plain(decoding: DecodingKey) -> Self {
        Self { kid: None, algorithm: None, curve: None, mark: mark(&decoding), decoding }
    }

    pub(super) fn decoding(&self) -> &DecodingKey {
        &self.decoding
    }

    pub(super) fn mark(&self) -> [u8; 32] {
        self.mark
    }

    fn fits(&self, kid: Option<&str>, algorithm: Algorithm) -> bool {
        let named = match (&self.kid, kid) {
            (Some(own), Some(wanted)) => own == wanted,
            // A key without a name may be the one; so may any where the token names none.
            (None, _) | (_, None) => true,
        };
        let curve = match (&self.curve, algorithm) {
            (Some(curve), Algorithm::ES256) => *curve == EllipticCurve::P256,
            (Some(curve), Algorithm::ES384) => *curve == EllipticCurve::P384,
            _ => true,
        };
        named
            && curve
            && self.decoding.family() == algorithm.family()
            && self.algorithm.is_none_or(|own| own == algorithm)
    }
}

fn secret(bytes: &[u8]) -> Result<Key, String> {
    let secret = without_line_break(bytes);
    if secret.len() < MIN_SECRET_BYTES {
        let length = secret.len();
        return Err(format!("an HMAC secret of {length} bytes can be guessed; use at least {MIN_SECRET_BYTES}"));
    }
    Ok(Key::plain(DecodingKey::from_secret(secret)))
}

fn public_key(pem: &[u8], algorithms: &[Algorithm]) -> Result<Key, String> {
    let family = algorithms.first().map(|algorithm| algorithm.family());
    let key = match family {
        Some(AlgorithmFamily::Rsa) => DecodingKey::from_rsa_pem(pem),
        Some(AlgorithmFamily::Ec) => DecodingKey::from_ec_pem(pem),
        Some(AlgorithmFamily::Ed) => DecodingKey::from_ed_pem(pem),
        Some(_) | None => return Err("a public key goes with RS*, PS*, ES* or EdDSA in `algorithms`".to_owned()),
    };
    let expected = "a PEM block with a public key for the first of `algorithms`";
    key.map(Key::plain).map_err(|error| format!("it is not {expected}: {error}"))
}

/// The keys of a JSON Web Key Set (RFC 7517) that are of use here. Others may be in it.
fn set(json: &[u8], algorithms: &[Algorithm]) -> Result<Vec<Key>, String> {
    let set: JwkSet = serde_json::from_slice(json).map_err(|error| format!("not a JSON Web Key Set: {error}"))?;
    if set.keys.len() > MAX_KEYS {
        return Err(format!("it has {} keys; at most {MAX_KEYS} are accepted", set.keys.len()));
    }
    let keys: Vec<_> = set.keys.iter().filter_map(from_set).collect();
    let usable = |key: &Key| algorithms.iter().any(|algorithm| key.fits(key.kid.as_deref(), *algorithm));
    if !keys.iter().any(usable) {
        return Err("none of its keys verifies a signature of any of `algorithms`".to_owned());
    }
    Ok(keys)
}

fn from_set(jwk: &Jwk) -> Option<Key> {
    let common = &jwk.common;
    let signs = common.public_key_use.as_ref().is_none_or(|used| *used == PublicKeyUse::Signature);
    let verifies = common.key_operations.as_ref().is_none_or(|operations| operations.contains(&KeyOperations::Verify));
    if !signs || !verifies {
        return None;
    }
    let curve = match &jwk.algorithm {
        // A set is public: a secret in it is known to everybody.
        AlgorithmParameters::OctetKey(_) => return None,
        AlgorithmParameters::RSA(rsa) if rsa.n.len() * 6 < MIN_RSA_BITS => return None,
        AlgorithmParameters::EllipticCurve(key) => Some(key.curve.clone()),
        AlgorithmParameters::OctetKeyPair(key) => Some(key.curve.clone()),
        _ => None,
    };
    let algorithm = match &common.key_algorithm {
        None => None,
        // Such as a key for encryption.
        Some(named) => Some(named.to_string().parse().ok()?),
    };
    let decoding = DecodingKey::from_jwk(jwk).ok()?;
    let mark = mark(&decoding);
    Some(Key { kid: common.key_id.clone(), algorithm, curve, decoding, mark })
}

/// The same for a key in a PEM file and in a set.
fn mark(key: &DecodingKey) -> [u8; 32] {
    let unsigned = |number: &[u8]| number.iter().copied().skip_while(|byte| *byte == 0).collect::<Vec<_>>();
    let rsa = |n: &[u8], e: &[u8]| Sha256::new().chain_update(unsigned(n)).chain_update(unsigned(e)).finalize();
    let hashed = match key.kind() {
        DecodingKeyKind::RsaModulusExponent { n, e } => rsa(n, e),
        DecodingKeyKind::SecretOrDer(bytes) => match RSAPublicKey::from_der(bytes) {
            Ok((_, public)) if key.family() == AlgorithmFamily::Rsa => rsa(public.modulus, public.exponent),
            Ok(_) | Err(_) => Sha256::digest(bytes),
        },
    };
    hashed.into()
}
