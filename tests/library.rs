//! The filters of `filters/` behind the gateway, with clients and servers that people use.

mod authorize;
mod graphql_ws;
mod json_schema;
mod message_router;
mod quota;
mod rewrite;
mod topic_acl;

use std::time::{SystemTime, UNIX_EPOCH};

use jsonwebtoken::{EncodingKey, Header, encode};
use serde_json::json;

use crate::support::{Gateway, Setup};

const SECRET: &str = "a secret of at least thirty-two bytes";

/// A token for this subject.
fn token(subject: &str) -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    let claims = json!({ "iss": "https://id.example.com", "aud": "chat", "sub": subject, "exp": now + 300 });
    encode(&Header::default(), &claims, &EncodingKey::from_secret(SECRET.as_bytes())).unwrap()
}

/// A gateway with one route to `upstream` on which `filter` judges clients that have a token. `more` is the rest of the
/// configuration.
fn gateway(upstream: &str, filter: &str, guest: &str, more: &str) -> Gateway {
    let setup = Setup::new().guest(&format!("filters/{filter}.wasm"), guest);
    setup.publish("secret", format!("{SECRET}\n").as_bytes());
    setup.start(&format!(
        r#"
        [jwt.main]
        issuer = "https://id.example.com"
        audience = ["chat"]
        secret_file = "secret"
        algorithms = ["HS256"]

        [upstreams.main]
        endpoints = ["{upstream}"]

        [[routes]]
        name = "main"
        path = "/*"
        upstream = "main"
        auth = "main"
        filters = ["{filter}"]

        {more}
        "#
    ))
}
