//! Tokens by several kinds of keys: those that count, and a corpus of those that do not.

mod other_tables;

use std::{
    fs,
    sync::LazyLock,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use data_encoding::BASE64URL_NOPAD;
use jsonwebtoken::{Algorithm, EncodingKey, crypto::sign};
use rcgen::{KeyPair, PKCS_ECDSA_P256_SHA256, PKCS_ED25519, PKCS_RSA_SHA256, PublicKeyData, SignatureAlgorithm};
use serde_json::{Value, json};
use tempfile::TempDir;

use super::*;
use crate::config::{Jwt, KeySource};

const SECRET: &[u8] = b"thirty-two bytes or more of noise";

struct Pair {
    algorithm: Algorithm,
    private: EncodingKey,
    public_pem: String,
    /// Without the kid.
    jwk: Value,
}

fn pair(algorithm: Algorithm, kind: &'static SignatureAlgorithm) -> Pair {
    let pair = KeyPair::generate_for(kind).unwrap();
    let (pem, raw) = (pair.serialize_pem(), pair.der_bytes().to_vec());
    let encode = |bytes: &[u8]| BASE64URL_NOPAD.encode(bytes);
    let (private, jwk) = match algorithm {
        Algorithm::EdDSA => {
            (EncodingKey::from_ed_pem(pem.as_bytes()), json!({"kty": "OKP", "crv": "Ed25519", "x": encode(&raw)}))
        }
        Algorithm::ES256 => (
            EncodingKey::from_ec_pem(pem.as_bytes()),
            json!({"kty": "EC", "crv": "P-256", "x": encode(&raw[1..33]), "y": encode(&raw[33..65])}),
        ),
        _ => (EncodingKey::from_rsa_pem(pem.as_bytes()), Value::Null),
    };
    Pair { algorithm, private: private.unwrap(), public_pem: pair.public_key_pem(), jwk }
}

static RSA: LazyLock<Pair> = LazyLock::new(|| pair(Algorithm::RS256, &PKCS_RSA_SHA256));
static EC: LazyLock<Pair> = LazyLock::new(|| pair(Algorithm::ES256, &PKCS_ECDSA_P256_SHA256));
static ED: LazyLock<Pair> = LazyLock::new(|| pair(Algorithm::EdDSA, &PKCS_ED25519));

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}

/// Claims that nothing is wrong with.
fn claims() -> Value {
    json!({
        "iss": "https://id.example.com", "aud": ["chat", "mail"], "sub": "ann", "scope": "read chat",
        "iat": now(), "nbf": now() - 5, "exp": now() + 60, "jti": "t1", "sid": "s1"
    })
}

fn without(mut value: Value, name: &str) -> Value {
    value.as_object_mut().unwrap().remove(name);
    value
}

fn with(mut value: Value, name: &str, member: impl Into<Value>) -> Value {
    value[name] = member.into();
    value
}

fn encoded(header: &Value, claims: &Value) -> String {
    let encode = |part: &Value| BASE64URL_NOPAD.encode(part.to_string().as_bytes());
    format!("{}.{}", encode(header), encode(claims))
}

fn signed_by(private: &EncodingKey, algorithm: Algorithm, header: &Value, claims: &Value) -> String {
    let message = encoded(header, claims);
    let signature = sign(message.as_bytes(), private, algorithm).unwrap();
    format!("{message}.{signature}")
}

impl Pair {
    fn token(&self, claims: &Value) -> String {
        self.token_with(&json!({"alg": format!("{:?}", self.algorithm), "typ": "JWT"}), claims)
    }

    fn token_with(&self, header: &Value, claims: &Value) -> String {
        signed_by(&self.private, self.algorithm, header, claims)
    }
}

fn hmac(header: &Value, claims: &Value, secret: &[u8]) -> String {
    signed_by(&EncodingKey::from_secret(secret), Algorithm::HS256, header, claims)
}

fn jwt(keys: KeySource, algorithms: &[Algorithm]) -> Jwt {
    Jwt {
        issuer: Some("https://id.example.com".to_owned()),
        audience: vec!["chat".to_owned()],
        keys,
        algorithms: algorithms.to_vec(),
        from: vec![TokenSource::Header],
        required_scopes: vec!["chat".to_owned()],
        leeway: Duration::from_secs(30),
        require_exp: true,
        expiry_grace: Duration::ZERO,
        expiry_code: 4401,
        refresh: false,
    }
}

fn load(jwt: &Jwt) -> Result<Authenticator, KeyError> {
    let metrics = Metrics::new().unwrap();
    let revocations = Arc::new(Revocations::in_memory(metrics.auth.revocations()));
    let keys = Arc::new(KeptKeys::load("main", jwt, &metrics.auth)?);
    Ok(Authenticator::new(jwt, keys, revocations))
}

fn write(folder: &TempDir, name: &str, bytes: impl AsRef<[u8]>) -> std::path::PathBuf {
    let path = folder.path().join(name);
    fs::write(&path, bytes).unwrap();
    path
}

/// Trusts all three public keys, by a key set; the RSA one by its PEM in a set of its own.
fn by_set(change: impl FnOnce(&mut Jwt)) -> Authenticator {
    let folder = TempDir::new().unwrap();
    let keys = [with(EC.jwk.clone(), "kid", "ec"), with(ED.jwk.clone(), "kid", "ed")];
    let file = write(&folder, "jwks.json", json!({ "keys": keys }).to_string());
    let mut jwt = jwt(KeySource::JwksFile(file), &[Algorithm::ES256, Algorithm::EdDSA]);
    change(&mut jwt);
    load(&jwt).unwrap()
}

fn by_pem(pair: &Pair) -> Authenticator {
    let folder = TempDir::new().unwrap();
    let file = write(&folder, "key.pem", &pair.public_pem);
    load(&jwt(KeySource::PublicKeyFile(file), &[pair.algorithm])).unwrap()
}

fn by_secret(secret: &[u8]) -> Result<Authenticator, KeyError> {
    let folder = TempDir::new().unwrap();
    let file = write(&folder, "secret", secret);
    load(&jwt(KeySource::SecretFile(file), &[Algorithm::HS256]))
}

#[test]
fn a_genuine_token_says_who_the_client_is() {
    let hs = json!({"alg": "HS256"});
    let cases = [
        (by_pem(&RSA), RSA.token(&claims())),
        (by_pem(&EC), EC.token(&claims())),
        (by_pem(&ED), ED.token(&claims())),
        (by_set(|_| {}), EC.token_with(&json!({"alg": "ES256", "kid": "ec", "typ": "at+jwt"}), &claims())),
        (by_set(|_| {}), ED.token_with(&json!({"alg": "EdDSA"}), &claims())),
        (by_secret(SECRET).unwrap(), hmac(&hs, &claims(), SECRET)),
        (by_secret(&[SECRET, b"\n"].concat()).unwrap(), hmac(&hs, &claims(), SECRET)),
    ];
    for (authenticator, token) in cases {
        let identity = authenticator.verify_now(&token).unwrap();
        assert_eq!(identity.subject.as_deref(), Some("ann"));
        assert_eq!(identity.issuer.as_deref(), Some("https://id.example.com"));
        assert_eq!(identity.scopes, ["read", "chat"]);
        assert_eq!((identity.token_id.as_deref(), identity.session_id.as_deref()), (Some("t1"), Some("s1")));
        assert!(identity.expires_at.unwrap() > now());
        assert_eq!(serde_json::from_str::<Value>(&identity.claims).unwrap()["aud"], json!(["chat", "mail"]));
    }
}

#[test]
fn clocks_may_differ_by_the_leeway() {
    let token = |exp: u64, nbf: u64| ED.token(&with(with(claims(), "exp", exp), "nbf", nbf));
    let authenticator = by_set(|_| {});
    assert!(authenticator.verify_now(&token(now() - 20, now() - 60)).is_ok());
    assert!(authenticator.verify_now(&token(now() + 60, now() + 20)).is_ok());
    assert_eq!(authenticator.verify_now(&token(now() - 40, now() - 60)), Err(NotVerified::Expired));
    assert_eq!(authenticator.verify_now(&token(now() + 60, now() + 40)), Err(NotVerified::NotYet));
}

#[test]
fn a_token_may_live_for_ever_only_where_that_is_configured() {
    let token = ED.token(&without(claims(), "exp"));
    assert_eq!(by_set(|_| {}).verify_now(&token), Err(NotVerified::Claim));
    assert_eq!(by_set(|jwt| jwt.require_exp = false).verify_now(&token).unwrap().expires_at, None);
}

#[test]
fn scopes_come_in_several_forms() {
    for (name, value) in [("scope", json!("a chat")), ("scope", json!(["chat"])), ("scp", json!(["b", "chat"]))] {
        let token = ED.token(&with(without(claims(), "scope"), name, value));
        assert!(by_set(|_| {}).verify_now(&token).unwrap().scopes.contains(&"chat".to_owned()));
    }
}

/// What attackers and misconfigured issuers send, and what each must come to.
fn corpus() -> Vec<(&'static str, String, NotVerified)> {
    use NotVerified::*;
    let good = ED.token(&claims());
    let ed = |claims: &Value| ED.token(claims);
    let head = |header: Value| ED.token_with(&header, &claims());
    let header = |name: &str, value: Value| head(with(json!({"alg": "EdDSA", "typ": "JWT"}), name, value));
    let claim = |name: &str, value: Value| ed(&with(claims(), name, value));
    let flipped = |part: usize, at: usize| {
        let mut parts: Vec<Vec<u8>> =
            good.split('.').map(|part| BASE64URL_NOPAD.decode(part.as_bytes()).unwrap()).collect();
        parts[part][at] ^= 1;
        parts.iter().map(|part| BASE64URL_NOPAD.encode(part)).collect::<Vec<_>>().join(".")
    };
    let parts: Vec<&str> = good.split('.').collect();
    let stranger = pair(jsonwebtoken::Algorithm::EdDSA, &PKCS_ED25519);
    let public = ED.public_pem.clone();
    vec![
        ("empty", String::new(), Malformed),
        ("one part", parts[0].to_owned(), Malformed),
        ("two parts", format!("{}.{}", parts[0], parts[1]), Malformed),
        ("four parts", format!("{good}.x"), Malformed),
        ("no signature", format!("{}.{}.", parts[0], parts[1]), Signature),
        ("no header", format!(".{}.{}", parts[1], parts[2]), Malformed),
        ("no claims", format!("{}..{}", parts[0], parts[2]), Signature),
        ("padding", format!("{}=.{}.{}", parts[0], parts[1], parts[2]), Malformed),
        ("other base64", good.replace(parts[0], "+/+/"), Malformed),
        ("white space", format!(" {good}"), Malformed),
        ("line break", good.replace('.', ".\n"), Malformed),
        ("huge", "a".repeat(1 << 20), Malformed),
        ("header is no object", head(json!(["alg", "EdDSA"])), Malformed),
        ("alg missing", head(json!({"typ": "JWT"})), Algorithm),
        ("alg none", format!("{}.", encoded(&json!({"alg": "none"}), &claims())), Algorithm),
        ("alg NoNe", format!("{}.", encoded(&json!({"alg": "NoNe"}), &claims())), Algorithm),
        ("alg none, signed", head(json!({"alg": "none"})), Algorithm),
        ("alg in lower case", head(json!({"alg": "eddsa"})), Algorithm),
        ("alg a number", head(json!({"alg": 1})), Algorithm),
        ("alg not configured", RSA.token(&claims()), Algorithm),
        ("HMAC with the public key", hmac(&json!({"alg": "HS256"}), &claims(), public.as_bytes()), Algorithm),
        ("HMAC with no key", hmac(&json!({"alg": "HS256"}), &claims(), b""), Algorithm),
        ("another algorithm's name", head(json!({"alg": "ES256"})), Signature),
        ("crit", header("crit", json!(["exp"])), Header),
        ("crit, unknown", with_crit(), Header),
        ("crit, empty", header("crit", json!([])), Header),
        ("not encoded", header("b64", json!(false)), Header),
        ("compressed", header("zip", json!("DEF")), Header),
        ("encrypted", header("enc", json!("A256GCM")), Header),
        ("typ of a logout token", header("typ", json!("logout+jwt")), Header),
        ("typ of a key proof", header("typ", json!("dpop+jwt")), Header),
        ("typ a number", header("typ", json!(7)), Header),
        ("kid unknown", header("kid", json!("nobody")), UnknownKey),
        ("kid of another kind of key", header("kid", json!("ec")), UnknownKey),
        ("kid a path", header("kid", json!("../../dev/null")), UnknownKey),
        ("kid a list", header("kid", json!(["ed"])), Header),
        ("a key of its own", jwk_inside(&stranger), Signature),
        ("a key set of its own", jku_inside(&stranger), Signature),
        ("signed by a stranger", stranger.token(&claims()), Signature),
        ("a bit of the claims", flipped(1, 10), Signature),
        ("a bit of the signature", flipped(2, 3), Signature),
        ("cut signature", good[..good.len() - 6].to_owned(), Signature),
        (
            "claims of another token",
            {
                let other = encoded(&json!({"alg": "EdDSA", "typ": "JWT"}), &with(claims(), "sub", "root"));
                format!("{other}.{}", parts[2])
            },
            Signature,
        ),
        ("claims are no object", ed(&json!(["sub", "ann"])), Malformed),
        ("no iss", ed(&without(claims(), "iss")), Claim),
        ("another iss", claim("iss", json!("https://evil.example.com")), Issuer),
        ("iss with a slash more", claim("iss", json!("https://id.example.com/")), Issuer),
        ("iss a list", claim("iss", json!(["https://evil.example.com", "https://id.example.com"])), Claim),
        ("no aud", ed(&without(claims(), "aud")), Claim),
        ("another aud", claim("aud", json!("mail")), Audience),
        ("aud an empty list", claim("aud", json!([])), Audience),
        ("aud a number", claim("aud", json!(1)), Claim),
        ("no exp", ed(&without(claims(), "exp")), Claim),
        ("exp over", claim("exp", json!(now() - 100)), Expired),
        ("exp 0", claim("exp", json!(0)), Expired),
        ("exp negative", claim("exp", json!(-1)), Claim),
        ("exp a text", claim("exp", json!("4102444800")), Claim),
        ("exp huge", claim("exp", json!(u64::MAX)), Claim),
        ("exp beyond numbers", ed_raw_exp("1e300"), Claim),
        ("nbf in a day", claim("nbf", json!(now() + 86_400)), NotYet),
        ("nbf a text", claim("nbf", json!("now")), Claim),
        ("no scope", ed(&without(claims(), "scope")), Scope),
        ("a scope that contains the other", claim("scope", json!("chatty")), Scope),
        ("scope a number", claim("scope", json!(1)), Claim),
        ("sub a number", claim("sub", json!(1)), Claim),
    ]
}

fn with_crit() -> String {
    let header = json!({"alg": "EdDSA", "crit": ["https://example.com/ext"], "https://example.com/ext": true});
    ED.token_with(&header, &claims())
}

fn jwk_inside(stranger: &Pair) -> String {
    stranger.token_with(&json!({"alg": "EdDSA", "jwk": stranger.jwk}), &claims())
}

fn jku_inside(stranger: &Pair) -> String {
    let url = "https://evil.example.com/jwks.json";
    stranger.token_with(&json!({"alg": "EdDSA", "jku": url, "x5u": url}), &claims())
}

/// A number that no JSON library here would write.
fn ed_raw_exp(exp: &str) -> String {
    let text = with(claims(), "exp", 1).to_string().replace("\"exp\":1", &format!("\"exp\":{exp}"));
    let header = BASE64URL_NOPAD.encode(br#"{"alg":"EdDSA"}"#);
    let message = format!("{header}.{}", BASE64URL_NOPAD.encode(text.as_bytes()));
    let signature = sign(message.as_bytes(), &ED.private, Algorithm::EdDSA).unwrap();
    format!("{message}.{signature}")
}

#[test]
fn every_bad_token_is_refused_for_its_own_reason() {
    let authenticator = by_set(|_| {});
    assert!(authenticator.verify_now(&ED.token(&claims())).is_ok());
    let corpus = corpus();
    assert!(corpus.len() > 60);
    for (what, token, why) in corpus {
        assert_eq!(authenticator.verify_now(&token), Err(why), "{what}");
    }
}

#[test]
fn a_token_signed_by_a_public_key_that_is_taken_for_a_secret_is_refused_by_any_table() {
    let forged = hmac(&json!({"alg": "HS256"}), &claims(), RSA.public_pem.as_bytes());
    assert_eq!(by_pem(&RSA).verify_now(&forged), Err(NotVerified::Algorithm));
}

#[test]
fn keys_that_can_be_guessed_or_do_not_fit_are_refused() {
    let why = |result: Result<Authenticator, KeyError>| result.err().unwrap().to_string();
    assert!(why(by_secret(b"")).contains("0 bytes"));
    assert!(why(by_secret(&[b'x'; 31])).contains("31 bytes"));
    assert!(why(by_secret(&[&[b'x'; 31][..], b"\n"].concat())).contains("31 bytes"));
    let folder = TempDir::new().unwrap();
    let load = |keys, algorithms: &[Algorithm]| load(&jwt(keys, algorithms));
    let missing = KeySource::PublicKeyFile(folder.path().join("nothing"));
    assert!(why(load(missing, &[Algorithm::RS256])).contains("cannot read"));
    let pem = KeySource::PublicKeyFile(write(&folder, "key.pem", &EC.public_pem));
    assert!(why(load(pem, &[Algorithm::RS256])).contains("public key for the first of `algorithms`"));
    let huge = KeySource::JwksFile(write(&folder, "huge", vec![b' '; (1 << 20) + 1]));
    assert!(load(huge, &[Algorithm::ES256]).is_err());
    let set = |text: String| KeySource::JwksFile(write(&folder, "set", text));
    assert!(why(load(set("[]".to_owned()), &[Algorithm::ES256])).contains("not a JSON Web Key Set"));
    let useless = [
        json!({"kty": "oct", "k": BASE64URL_NOPAD.encode(SECRET)}),
        with(EC.jwk.clone(), "use", "enc"),
        with(EC.jwk.clone(), "alg", "ES384"),
        with(EC.jwk.clone(), "key_ops", json!(["sign"])),
        json!({"kty": "RSA", "n": "AQAB", "e": "AQAB"}),
    ];
    let keys = set(json!({ "keys": useless }).to_string());
    let all = [Algorithm::ES256, Algorithm::RS256, Algorithm::EdDSA];
    assert!(why(load(keys, &all)).contains("none of its keys"));
    let many: Vec<_> = (0..101).map(|n| with(EC.jwk.clone(), "kid", n.to_string())).collect();
    assert!(why(load(set(json!({ "keys": many }).to_string()), &all)).contains("101 keys"));
}

fn headers(list: &[(&'static str, &str)]) -> http::HeaderMap {
    let mut headers = http::HeaderMap::new();
    for (name, value) in list {
        headers.append(*name, value.parse().unwrap());
    }
    headers
}

fn all_sources() -> Vec<TokenSource> {
    vec![
        TokenSource::Header,
        TokenSource::Subprotocol,
        TokenSource::Cookie("session".to_owned()),
        TokenSource::Query("access_token".to_owned()),
    ]
}

fn texts(texts: &[&str]) -> Vec<String> {
    texts.iter().map(|text| (*text).to_owned()).collect()
}

#[test]
fn a_token_is_found_where_it_may_be() {
    let token = |text: &str| Credentials::Token(text.to_owned());
    let all = all_sources();
    let none = headers(&[]);
    assert_eq!(find(&all, &headers(&[("authorization", "bearer abc")]), None, &[]), token("abc"));
    assert_eq!(find(&all, &headers(&[("authorization", "Basic abc")]), None, &[]), Credentials::Missing);
    assert_eq!(find(&all, &none, None, &texts(&["chat.v1", "bearer", "abc"])), token("abc"));
    assert_eq!(find(&all, &none, None, &texts(&["base64url.bearer.authorization.k8s.io.YWJj"])), token("abc"));
    assert_eq!(find(&all, &headers(&[("cookie", "a=b; session=abc")]), None, &[]), token("abc"));
    assert_eq!(find(&all, &none, Some("x=1&access_token=abc"), &[]), token("abc"));
    // Only where that is enabled, and the first place wins.
    assert_eq!(find(&all[..1], &none, Some("access_token=abc"), &[]), Credentials::Missing);
    let both = headers(&[("authorization", "Bearer first"), ("cookie", "session=second")]);
    assert_eq!(find(&all, &both, Some("access_token=third"), &[]), token("first"));
    let twice = headers(&[("authorization", "Bearer a"), ("authorization", "Bearer b")]);
    assert_eq!(find(&all, &twice, None, &[]), Credentials::Ambiguous);
    assert_eq!(find(&all, &none, Some("access_token=a&access_token=b"), &[]), Credentials::Ambiguous);
}

#[test]
fn a_token_does_not_travel_on() {
    let mut headers = headers(&[("cookie", "a=b; session=abc; c=d"), ("cookie", "session=abc"), ("x", "y")]);
    let mut query = Some("x=1&access_token=abc&y".to_owned());
    let mut offered = texts(&["chat.v1", "bearer", "abc", "base64url.bearer.authorization.k8s.io.YWJj", "chat.v2"]);
    assert!(without_tokens(&all_sources(), &mut headers, &mut query, &mut offered));
    assert_eq!(headers.get_all("cookie").iter().collect::<Vec<_>>(), ["a=b; c=d"]);
    assert_eq!((query.as_deref(), offered), (Some("x=1&y"), texts(&["chat.v1", "chat.v2"])));
    let mut query = Some("access_token=abc".to_owned());
    assert!(!without_tokens(&all_sources(), &mut headers, &mut query, &mut Vec::new()));
    assert_eq!(query, None);
    // What was not a place for tokens stays.
    let mut query = Some("access_token=abc".to_owned());
    without_tokens(&all_sources()[..1], &mut headers, &mut query, &mut Vec::new());
    assert_eq!(query.as_deref(), Some("access_token=abc"));
}

#[test]
fn claims_are_never_shown() {
    let identity = by_set(|_| {}).verify_now(&ED.token(&with(claims(), "email", "ann@example.com"))).unwrap();
    assert!(identity.claims.contains("ann@example.com"));
    assert!(!format!("{identity:?}").contains("ann@example.com"));
}
