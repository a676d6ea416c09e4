//! Rules for messages.

use filter_parts::json::Json;
use proptest::prelude::*;

use super::*;

const RULES: &str = r#"{ "messages": { "rules": [
    { "name": "admin", "when": { "/type": "admin.*" }, "require": { "identity": { "scopes": ["admin"] } } },
    { "name": "own", "when": { "/type": "room.post" }, "require": { "same_as_claim": { "/room": "/rooms", "/user": "/sub" } },
      "refused": { "reply": { "id": "$/id", "error": "not yours", "rule": "$rule" } } },
    { "name": "debug", "when": { "/type": "debug" }, "action": "deny", "refused": "drop" },
    { "when": { "/type": ["ping", "chat.*"] } }
] "#;

fn open(more: &str, scopes: &[&str]) -> Authorize {
    let claims = r#"{"sub":"ann","rooms":["red",7]}"#;
    let handshake = Handshake { identity: Some(identity("ann", scopes, claims)), ..testing::handshake("/") };
    Authorize::open(&config(&format!("{RULES}{more}}} }}")), &handshake).unwrap().session
}

fn say(session: &mut Authorize, text: &str) -> Verdict {
    session.on_message(Direction::ToUpstream, text.into()).unwrap()
}

fn closed() -> Verdict {
    Verdict::close(4403, "not allowed")
}

#[test]
fn a_message_needs_the_scope_that_its_rule_requires() {
    let ban = r#"{"type":"admin.ban"}"#;
    assert_eq!(say(&mut open("", &["admin"]), ban), Verdict::Forward);
    assert_eq!(say(&mut open("", &["chat"]), ban), closed());
    assert_eq!(say(&mut open(r#", "refused": "drop""#, &["chat"]), ban), Verdict::Drop);
    assert_eq!(say(&mut open("", &[]), r#"{"type":"chat.say"}"#), Verdict::Forward);
    assert_eq!(say(&mut open("", &["admin"]), r#"{"type":"debug"}"#), Verdict::Drop);
}

#[test]
fn what_a_message_names_has_to_be_among_the_claims() {
    let mut session = open("", &[]);
    assert_eq!(say(&mut session, r#"{"type":"room.post","room":"red","user":"ann"}"#), Verdict::Forward);
    assert_eq!(say(&mut session, r#"{"type":"room.post","room":7.0,"user":"\u0061nn"}"#), Verdict::Forward);
    let refused = |id: &str| Verdict::reply(format!(r#"{{"error":"not yours","id":{id},"rule":"own"}}"#));
    assert_eq!(say(&mut session, r#"{"type":"room.post","room":"blue","user":"ann","id":"x"}"#), refused("\"x\""));
    for other in [
        r#"{"type":"room.post","room":"red","user":"bob"}"#,
        r#"{"type":"room.post","room":"red"}"#,
        r#"{"type":"room.post","room":"7","user":"ann"}"#,
        r#"{"type":"room.post","room":["red"],"user":"ann"}"#,
        r#"{"type":"room.post","room":"red","room":"blue","user":"ann"}"#,
        r#"{"type":"room.post","room":"red","Room":"blue","user":"ann"}"#,
    ] {
        assert_eq!(say(&mut session, other), refused("null"), "{other}");
    }
}

#[test]
fn without_a_rule_the_default_counts() {
    assert_eq!(say(&mut open("", &["admin"]), r#"{"type":"x"}"#), closed());
    assert_eq!(say(&mut open(r#", "default": "allow""#, &[]), "{}"), Verdict::Forward);
}

#[test]
fn what_is_no_json_has_a_policy_of_its_own() {
    for text in ["", "ping", "{", r#"{"type":"ping"} {"type":"admin.ban"}"#, &"[".repeat(100_000)] {
        assert_eq!(say(&mut open(r#", "default": "allow""#, &[]), text), closed(), "{text:.20}");
        assert_eq!(say(&mut open(r#", "not_json": "allow""#, &[]), text), Verdict::Forward, "{text:.20}");
    }
    let binary = br#"{"type":"ping"}"#.to_vec();
    assert_eq!(open("", &[]).on_message(Direction::ToUpstream, binary.into()), Ok(closed()));
}

#[test]
fn what_can_be_read_in_two_ways_is_refused() {
    let mut session = open(r#", "default": "allow""#, &[]);
    for text in [
        r#"{"type":"ping","type":"admin.ban"}"#,
        r#"{"type":"ping","\u0074ype":"admin.ban"}"#,
        r#"{"type":"ping","Type":"admin.ban"}"#,
        r#"{"TYPE":"admin.ban"}"#,
    ] {
        assert_eq!(say(&mut session, text), closed(), "{text}");
    }
}

#[test]
fn another_identity_counts_from_then_on() {
    let mut session = open("", &["chat"]);
    let ban = r#"{"type":"admin.ban"}"#;
    assert_eq!(say(&mut session, ban), closed());
    session.on_identity(identity("ann", &["admin"], r#"{"sub":"ann","rooms":"green"}"#)).unwrap();
    assert_eq!(say(&mut session, ban), Verdict::Forward);
    assert_eq!(say(&mut session, r#"{"type":"room.post","room":"green","user":"ann"}"#), Verdict::Forward);
    assert_ne!(say(&mut session, r#"{"type":"room.post","room":"red","user":"ann"}"#), Verdict::Forward);
    session.on_identity(identity("ann", &[], "{}")).unwrap();
    assert_eq!(say(&mut session, ban), closed());
}

#[test]
fn a_dry_run_lets_every_message_pass() {
    let config = config(r#"{ "messages": {}, "dry_run": true }"#);
    let mut session = Authorize::open(&config, &testing::handshake("/")).unwrap().session;
    assert_eq!(say(&mut session, "{}"), Verdict::Forward);
}

#[test]
fn mistakes_are_refused_by_their_key() {
    let refused = |rule: &str| refused_config(&format!(r#"{{ "messages": {{ "rules": [{rule}] }} }}"#));
    assert!(refused("{}").contains("missing field `when`"));
    assert!(
        refused(r#"{ "when": {}, "require": {} }"#)
            .contains("rules[0].require: `identity` or `same_as_claim` is needed")
    );
    assert!(refused(r#"{ "when": {}, "action": "deny", "require": { "identity": {} } }"#).contains("requires nothing"));
    assert!(
        refused(r#"{ "when": {}, "refused": "forward" }"#).contains("rules[0].refused: \"forward\" refuses nothing")
    );
    assert!(
        refused(r#"{ "when": {}, "refused": { "reply": { "x": "$y" } } }"#).contains("`$y` is not known here; `$rule`")
    );
    assert!(
        refused(r#"{ "when": {}, "require": { "same_as_claim": { "room": "/r" } } }"#).contains("is no JSON pointer")
    );
    assert!(refused_config(r#"{ "messages": { "max_depth": 0 } }"#).contains("max_depth: 1 to 128"));
    assert!(refused_config(r#"{ "messages": { "rule": [] } }"#).contains("unknown field `rule`"));
}

proptest! {
    /// Whatever a client sends: what passes is JSON, and says of its type the one thing that was judged.
    #[test]
    fn nothing_passes_that_was_not_judged(text in "(\\{|\\}|\"type\"|\"Type\"|:|,|\"ping\"|\"admin.x\"|\"a\"|\\[|\\]| |1){0,12}") {
        if say(&mut open("", &[]), &text) == Verdict::Forward {
            prop_assert!(Json::check(&text, 64).is_ok());
            let read: serde_json::Value = serde_json::from_str(&text).unwrap();
            prop_assert_eq!(&read["type"], "ping");
            prop_assert_eq!(text.to_lowercase().matches("\"type\"").count(), 1 + nested_types(&read));
        }
    }
}

/// Members named `type` that are not of the message itself.
fn nested_types(value: &serde_json::Value) -> usize {
    let text = value.to_string();
    text.to_lowercase().matches("\"type\"").count() - 1
}
