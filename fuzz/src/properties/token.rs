//! Nothing is accepted that was not signed by a key of the table, for here, and for now.
//!
//! An input is a byte of choices, two bytes that name a bit, and either a token as it is, or a header and claims, a line
//! each, which are then signed. The oracle reads a token anew, without the library that verifies it.

use std::{
    sync::LazyLock,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use aws_lc_rs::{
    hmac,
    signature::{ED25519, Ed25519KeyPair, KeyPair, UnparsedPublicKey},
};
use data_encoding::BASE64URL_NOPAD;
use jsonwebtoken::Algorithm;
use serde_json::{Map, Value, json};

use super::{
    keys::Keys,
    verify::{MAX_TOKEN_BYTES, Rules},
};
use crate::{
    config::{Jwt, KeySource, TokenSource},
    identity::Identity,
};

const SECRET: &[u8] = b"thirty-two bytes or more of noise";
const ISSUER: &str = "https://id.example.com";
const LEEWAY_SECONDS: f64 = 30.0;
/// Between the library's look at the clock and the oracle's.
const SLACK_SECONDS: f64 = 2.0;
/// The end of the year 9999.
const LATEST: f64 = 253_402_300_799.0;

struct Table {
    rules: Rules,
    keys: Keys,
    hmac: bool,
}

static PAIR: LazyLock<Ed25519KeyPair> =
    LazyLock::new(|| Ed25519KeyPair::from_seed_unchecked(&[7; 32]).expect("a seed of 32 bytes"));

static TABLES: LazyLock<[Table; 2]> = LazyLock::new(|| {
    let x = BASE64URL_NOPAD.encode(PAIR.public_key().as_ref());
    let secret = BASE64URL_NOPAD.encode(SECRET);
    // The symmetric key in the set must never count: the set is public.
    let set = json!({"keys": [
        {"kty": "OKP", "crv": "Ed25519", "x": x, "kid": "k1"},
        {"kty": "oct", "k": secret, "kid": "k2"},
    ]});
    let hmac = KeySource::SecretFile("secret".into());
    let set_file = KeySource::JwksFile("jwks.json".into());
    let all = [Algorithm::HS256, Algorithm::HS384, Algorithm::HS512];
    [
        table(hmac, SECRET, &all),
        table(set_file, set.to_string().as_bytes(), &[Algorithm::EdDSA, Algorithm::ES256, Algorithm::RS256]),
    ]
});

fn table(keys: KeySource, bytes: &[u8], algorithms: &[Algorithm]) -> Table {
    let hmac = matches!(keys, KeySource::SecretFile(_));
    let read = Keys::read(&keys, bytes, algorithms).unwrap_or_else(|why| panic!("{why}"));
    let jwt = Jwt {
        issuer: Some(ISSUER.to_owned()),
        audience: vec!["chat".to_owned()],
        keys,
        algorithms: algorithms.to_vec(),
        from: vec![TokenSource::Header],
        required_scopes: vec!["chat".to_owned()],
        leeway: Duration::from_secs(LEEWAY_SECONDS as u64),
        require_exp: true,
        expiry_grace: Duration::ZERO,
        expiry_code: 4401,
        refresh: false,
    };
    Table { rules: Rules::new(&jwt), keys: read, hmac }
}

/// See the module.
pub fn run(input: &[u8]) -> bool {
    let [choices, high, low, rest @ ..] = input else { return false };
    let Ok(text) = std::str::from_utf8(rest) else { return false };
    let mut token = match text.split_once('\n') {
        Some((header, claims)) if choices & 1 == 0 => signed(header, claims, choices >> 1 & 7),
        _ => text.to_owned(),
    };
    if choices & 0x80 != 0 {
        token = changed(token, usize::from(*high) << 8 | usize::from(*low));
    }
    let mut accepted = false;
    for table in TABLES.iter() {
        if let Ok(identity) = table.rules.verify(&token, &table.keys) {
            genuine(&token, &identity, table.hmac).unwrap_or_else(|why| panic!("{why}: {token}"));
            accepted = true;
        }
    }
    accepted
}

/// By a key of a table, or by one that must not count.
fn signed(header: &str, claims: &str, by: u8) -> String {
    let message =
        format!("{}.{}", BASE64URL_NOPAD.encode(header.as_bytes()), BASE64URL_NOPAD.encode(claims.as_bytes()));
    let sign =
        |algorithm, key: &[u8]| hmac::sign(&hmac::Key::new(algorithm, key), message.as_bytes()).as_ref().to_vec();
    let signature = match by {
        0 => sign(hmac::HMAC_SHA256, SECRET),
        1 => sign(hmac::HMAC_SHA384, SECRET),
        2 => sign(hmac::HMAC_SHA512, SECRET),
        3 | 4 => PAIR.sign(message.as_bytes()).as_ref().to_vec(),
        // The public key as if it were a secret.
        5 => sign(hmac::HMAC_SHA256, PAIR.public_key().as_ref()),
        6 => sign(hmac::HMAC_SHA256, b""),
        _ => Vec::new(),
    };
    format!("{message}.{}", BASE64URL_NOPAD.encode(&signature))
}

/// With another letter at one place.
fn changed(token: String, bit: usize) -> String {
    let mut bytes = token.into_bytes();
    if !bytes.is_empty() {
        let at = bit / 6 % bytes.len();
        bytes[at] ^= 1 << (bit % 6);
    }
    String::from_utf8(bytes).unwrap_or_default()
}

/// Why this token must not have been accepted.
fn genuine(token: &str, identity: &Identity, by_hmac: bool) -> Result<(), String> {
    let parts: Vec<&str> = token.split('.').collect();
    let [header, claims, signature] = parts[..] else { return Err("not three parts".to_owned()) };
    if token.len() > MAX_TOKEN_BYTES {
        return Err("too long".to_owned());
    }
    let decode = |part: &str| BASE64URL_NOPAD.decode(part.as_bytes()).map_err(|error| error.to_string());
    let object = |part: &str| serde_json::from_slice::<Map<String, Value>>(&decode(part)?).map_err(|e| e.to_string());
    let (head, body, signature) = (object(header)?, object(claims)?, decode(signature)?);
    let message = format!("{header}.{claims}");
    let algorithm = head.get("alg").and_then(Value::as_str).unwrap_or_default();
    let checks = |kind| hmac::verify(&hmac::Key::new(kind, SECRET), message.as_bytes(), &signature).is_ok();
    let right = match (algorithm, by_hmac) {
        ("HS256", true) => checks(hmac::HMAC_SHA256),
        ("HS384", true) => checks(hmac::HMAC_SHA384),
        ("HS512", true) => checks(hmac::HMAC_SHA512),
        ("EdDSA", false) => {
            let key = UnparsedPublicKey::new(&ED25519, PAIR.public_key().as_ref());
            let named = head.get("kid").is_none_or(|kid| kid.is_null() || kid == "k1");
            named && key.verify(message.as_bytes(), &signature).is_ok()
        }
        _ => false,
    };
    if !right {
        return Err(format!("nobody signed it with {algorithm:?}"));
    }
    if ["crit", "zip", "enc", "b64"].iter().any(|name| head.contains_key(*name)) {
        return Err("a header that nobody understands".to_owned());
    }
    let typ = head.get("typ").and_then(Value::as_str).unwrap_or("jwt").to_ascii_lowercase();
    if !["jwt", "at+jwt", "application/jwt", "application/at+jwt"].contains(&typ.as_str()) {
        return Err(format!("another kind of token: {typ:?}"));
    }
    for_here_and_now(&body)?;
    let shown = serde_json::from_str::<Map<String, Value>>(&identity.claims).map_err(|error| error.to_string())?;
    let same = |name: &str, found: &Option<String>| body.get(name).and_then(Value::as_str) == found.as_deref();
    if shown != body
        || !same("sub", &identity.subject)
        || !same("jti", &identity.token_id)
        || !same("sid", &identity.session_id)
    {
        return Err("another identity than it names".to_owned());
    }
    Ok(())
}

fn for_here_and_now(claims: &Map<String, Value>) -> Result<(), String> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64();
    let is = |name: &str, wanted: &str| claims.get(name).and_then(Value::as_str) == Some(wanted);
    if !is("iss", ISSUER) {
        return Err("of another issuer".to_owned());
    }
    let listed = claims.get("aud").and_then(Value::as_array).is_some_and(|list| list.iter().any(|aud| aud == "chat"));
    if !is("aud", "chat") && !listed {
        return Err("for somebody else".to_owned());
    }
    match claims.get("exp").and_then(Value::as_f64) {
        Some(exp) if exp >= now - LEEWAY_SECONDS - SLACK_SECONDS && exp < LATEST + 1.0 => {}
        other => return Err(format!("exp is {other:?}")),
    }
    match claims.get("nbf") {
        None => {}
        Some(nbf) if nbf.as_f64().is_some_and(|nbf| nbf <= now + LEEWAY_SECONDS + SLACK_SECONDS) => {}
        Some(other) => return Err(format!("nbf is {other}")),
    }
    let scope = claims.get("scope").or_else(|| claims.get("scp"));
    let granted = match scope {
        Some(Value::String(text)) => text.split(' ').any(|scope| scope == "chat"),
        Some(Value::Array(list)) => list.iter().any(|scope| scope == "chat"),
        _ => false,
    };
    if granted { Ok(()) } else { Err("without the scope".to_owned()) }
}

/// See [`crate::NAMED`].
pub fn seeds() -> Vec<Vec<u8>> {
    let claims = r#"{"iss":"https://id.example.com","aud":["chat","mail"],"sub":"ann","scope":"read chat","nbf":1,"exp":4102444800,"jti":"t1"}"#;
    let header = |algorithm: &str, more: &str| format!(r#"{{"alg":"{algorithm}","typ":"JWT"{more}}}"#);
    let mut seeds = Vec::new();
    let mut add = |choices: u8, header: String, claims: String| {
        for bit in [[choices, 0, 0], [choices | 0x80, 3, 9]] {
            seeds.push([&bit[..], header.as_bytes(), b"\n", claims.as_bytes()].concat());
        }
    };
    for (by, algorithm, more) in [
        (0, "HS256", ""),
        (1, "HS384", ""),
        (2, "HS512", ""),
        (3, "EdDSA", ""),
        (3, "EdDSA", r#","kid":"k1""#),
        (3, "EdDSA", r#","kid":"k9""#),
        (5, "HS256", r#","kid":"k1""#),
        (6, "HS256", ""),
        (7, "none", ""),
        (0, "HS256", r#","crit":["exp"]"#),
        (0, "HS256", r#","jwk":{"kty":"oct","k":"AAAA"}"#),
    ] {
        add(by << 1, header(algorithm, more), claims.to_owned());
    }
    for (from, to) in [
        ("4102444800", "1"),
        ("4102444800", "1e300"),
        ("4102444800", "null"),
        ("4102444800", "4102444800.5"),
        ("\"nbf\":1", "\"nbf\":4102444800"),
        ("\"nbf\":1", "\"nbf\":null"),
        ("\"nbf\":1", "\"nbf\":\"x\""),
        ("id.example", "id.evil"),
        ("[\"chat\",\"mail\"]", "\"chat\""),
        ("\"read chat\"", "[\"chat\"]"),
        ("\"https://id.example.com\"", "[\"https://id.example.com\",\"b\"]"),
        ("\"scope\"", "\"scp\""),
        ("\"jti\"", "\"exp\":1,\"jti\""),
    ] {
        add(0, header("HS256", ""), claims.replace(from, to));
    }
    seeds.push([&[1, 0, 0][..], signed(&header("HS256", ""), claims, 0).as_bytes()].concat());
    seeds
}
