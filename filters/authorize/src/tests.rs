use wsgate_sdk::testing;

use super::*;

mod connections;
mod messages;

fn identity(subject: &str, scopes: &[&str], claims: &str) -> Identity {
    Identity {
        subject: Some(subject.to_owned()),
        issuer: Some("https://id.example.com".to_owned()),
        scopes: scopes.iter().map(|scope| (*scope).to_owned()).collect(),
        expires_at: None,
        claims: claims.to_owned(),
    }
}

fn refused_config(config: &str) -> String {
    testing::init::<Authorize>(config).unwrap_err().to_string()
}

fn config(json: &str) -> Rc<Config> {
    testing::init::<Authorize>(json).unwrap_or_else(|error| panic!("{error}")).0
}

#[test]
fn something_has_to_be_judged() {
    assert_eq!(refused_config("{}"), "connections or messages: at least one is needed");
    assert!(refused_config(r#"{ "connection": {} }"#).starts_with("connection: unknown field"));
}

#[test]
fn only_what_is_judged_is_asked_for() {
    let interest = |json: &str| testing::init::<Authorize>(json).unwrap().1;
    assert_eq!(interest(r#"{ "connections": {} }"#).hooks, Hooks::IDENTITY);
    assert_eq!(interest(r#"{ "connections": {} }"#).kinds, Kinds::empty());
    assert_eq!(interest(r#"{ "messages": {} }"#).hooks, Hooks::IDENTITY | Hooks::TO_UPSTREAM);
    assert_eq!(interest(r#"{ "messages": {} }"#).kinds, Kinds::all());
    assert_eq!(interest(r#"{ "messages": { "not_json": "allow" } }"#).kinds, Kinds::TEXT);
}
