//! Tokens that were verified by one table, looked at by another.

use rcgen::{KeyPair, PKCS_RSA_SHA256, PublicKeyData};
use x509_parser::{prelude::FromDer, public_key::RSAPublicKey};

use super::*;

/// What a table with these keys and rules says of a token that another has verified.
fn still(verified_by: &Authenticator, token: &str, other: &Authenticator) -> Result<(), NotVerified> {
    other.still(&verified_by.verify_now(token).unwrap(), verified_by)
}

#[test]
fn one_key_in_a_file_and_in_a_set_is_the_same_key() {
    for pair in [&*EC, &*ED] {
        let by_pem = by_pem(pair);
        assert_eq!(still(&by_pem, &pair.token(&claims()), &by_set(|_| {})), Ok(()));
        assert_eq!(
            still(
                &by_set(|_| {}),
                &pair.token_with(&json!({"alg": format!("{:?}", pair.algorithm)}), &claims()),
                &by_pem
            ),
            Ok(())
        );
    }
    let pair = KeyPair::generate_for(&PKCS_RSA_SHA256).unwrap();
    let (_, key) = RSAPublicKey::from_der(pair.der_bytes()).unwrap();
    let number = |bytes: &[u8]| BASE64URL_NOPAD.encode(bytes.strip_prefix(&[0]).unwrap_or(bytes));
    let jwk = json!({"kty": "RSA", "n": number(key.modulus), "e": number(key.exponent)});
    let private = EncodingKey::from_rsa_pem(pair.serialize_pem().as_bytes()).unwrap();
    let rsa = Pair { algorithm: Algorithm::RS256, private, public_pem: pair.public_key_pem(), jwk: jwk.clone() };
    let folder = TempDir::new().unwrap();
    let file = write(&folder, "rsa.json", json!({ "keys": [jwk] }).to_string());
    let by_set = load(&jwt(KeySource::JwksFile(file), &[Algorithm::RS256])).unwrap();
    assert_eq!(still(&by_pem(&rsa), &rsa.token(&claims()), &by_set), Ok(()));
    assert_eq!(still(&by_pem(&RSA), &RSA.token(&claims()), &by_set), Err(NotVerified::UnknownKey));
}

#[test]
fn what_a_table_would_refuse_in_a_new_token_it_refuses_in_one_that_counts() {
    let before = by_set(|_| {});
    let token = EC.token(&claims());
    let refused = |change: fn(&mut Jwt)| still(&before, &token, &by_set(change));
    assert_eq!(refused(|jwt| jwt.issuer = None), Ok(()));
    assert_eq!(refused(|jwt| jwt.issuer = Some("https://other.example.com".to_owned())), Err(NotVerified::Issuer));
    assert_eq!(refused(|jwt| jwt.audience = vec!["mail".to_owned()]), Ok(()));
    assert_eq!(refused(|jwt| jwt.audience = Vec::new()), Ok(()));
    assert_eq!(refused(|jwt| jwt.audience = vec!["shop".to_owned()]), Err(NotVerified::Audience));
    assert_eq!(refused(|jwt| jwt.required_scopes = vec!["admin".to_owned()]), Err(NotVerified::Scope));
    assert_eq!(refused(|jwt| jwt.algorithms = vec![Algorithm::EdDSA]), Err(NotVerified::Algorithm));
    let endless = by_set(|jwt| jwt.require_exp = false);
    let token = EC.token(&without(claims(), "exp"));
    assert_eq!(still(&endless, &token, &by_set(|_| {})), Err(NotVerified::Claim));
}
