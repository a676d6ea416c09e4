use filter_parts::json::Json;
use proptest::prelude::*;
use wsgate_sdk::testing;

use super::*;

fn open(config: &str, handshake: &Handshake) -> Rewrite {
    let (config, _) = testing::init::<Rewrite>(config).unwrap_or_else(|error| panic!("{error}"));
    Rewrite::open(&config, handshake).unwrap().session
}

fn with(rules: &str) -> Rewrite {
    open(&format!(r#"{{ "rules": [{rules}] }}"#), &testing::handshake("/"))
}

fn say(rewrite: &mut Rewrite, text: &str) -> Verdict {
    rewrite.on_message(Direction::ToUpstream, text.into()).unwrap()
}

fn rewritten(rules: &str, text: &str) -> String {
    match say(&mut with(rules), text) {
        Verdict::Replace(message) => message.as_text().unwrap().to_owned(),
        other => format!("{other:?}"),
    }
}

#[test]
fn each_operation_does_what_it_says() {
    let text = r#"{"b": 1.0,"a":{"x":[1]}}"#;
    assert_eq!(
        rewritten(r#"{ "set": "/a/y", "value": { "z": null } }"#, text),
        r#"{"b": 1.0,"a":{"x":[1],"y":{"z":null}}}"#
    );
    assert_eq!(rewritten(r#"{ "set": "/b", "value": "q\"" }"#, text), r#"{"b": "q\"","a":{"x":[1]}}"#);
    assert_eq!(rewritten(r#"{ "add": "/b", "value": 2 }"#, text), "Verdict::Forward");
    assert_eq!(rewritten(r#"{ "add": "/c", "value": 2 }"#, text), r#"{"b": 1.0,"a":{"x":[1]},"c":2}"#);
    assert_eq!(rewritten(r#"{ "remove": "/a/x" }"#, text), r#"{"b": 1.0,"a":{}}"#);
    assert_eq!(rewritten(r#"{ "rename": "/a", "to": "c" }"#, text), r#"{"b": 1.0,"c":{"x":[1]}}"#);
    assert_eq!(rewritten(r#"{ "copy": "/b", "to": "/a/x/-" }"#, text), r#"{"b": 1.0,"a":{"x":[1,1.0]}}"#);
    assert_eq!(rewritten(r#"{ "copy": "", "to": "/data" }"#, "{}"), r#"{"data":{}}"#);
}

#[test]
fn rules_come_one_after_the_other() {
    let rules = r#"{ "copy": "/user/id", "to": "/uid" }, { "remove": "/user" }, { "when": { "/uid": 7 }, "set": "/admin", "value": true }"#;
    assert_eq!(
        rewritten(rules, r#"{"user":{"id":7},"n":12345678901234567890}"#),
        r#"{"n":12345678901234567890,"uid":7,"admin":true}"#
    );
    assert_eq!(rewritten(rules, r#"{"user":{"id":8}}"#), r#"{"uid":8}"#);
}

#[test]
fn values_come_from_the_connection() {
    let handshake = Handshake {
        query: Some("v=1&v=2&q=a%20b".into()),
        client: "[::ffff:10.0.0.7]:99".into(),
        ..testing::handshake("/chat").with_header("x-user", "a\"n").with_parameter("room", "7")
    };
    let of = |from: &str| {
        let mut rewrite = open(&format!(r#"{{ "rules": [{{ "set": "/v", "from": "{from}" }}] }}"#), &handshake);
        match say(&mut rewrite, "{}") {
            Verdict::Replace(message) => message.as_text().unwrap().to_owned(),
            other => format!("{other:?}"),
        }
    };
    assert_eq!(of("header:X-User"), r#"{"v":"a\"n"}"#);
    assert_eq!(of("parameter:room"), r#"{"v":"7"}"#);
    assert_eq!(of("query:q"), r#"{"v":"a b"}"#);
    assert_eq!(of("query:v"), r#"{"v":"1"}"#);
    assert_eq!(of("client_ip"), r#"{"v":"10.0.0.7"}"#);
    assert_eq!(of("connection"), r#"{"v":"test"}"#);
    assert_eq!(
        (of("route"), of("host"), of("path")),
        (r#"{"v":"test"}"#.into(), r#"{"v":"localhost"}"#.into(), r#"{"v":"/chat"}"#.into())
    );
    for absent in ["header:x-none", "parameter:user", "query:x", "claim:/sub", "subject", "issuer", "scopes"] {
        assert_eq!(of(absent), "Verdict::Forward", "{absent}");
    }
    let written = of("time:rfc3339");
    assert!(written.starts_with("{\"v\":\"20") && written.ends_with("Z\"}"), "{written}");
    assert!(of("time:ms").len() == of("time:s").len() + 3);
    let long = testing::handshake("/").with_header("x-user", "x".repeat(5_000));
    assert_eq!(
        say(&mut open(r#"{ "rules": [{ "set": "/v", "from": "header:x-user" }] }"#, &long), "{}"),
        Verdict::Forward
    );
}

fn identity(subject: &str, claims: &str) -> Identity {
    let (subject, issuer) = (Some(subject.to_owned()), Some("id".to_owned()));
    Identity { subject, issuer, scopes: vec!["a".into(), "b".into()], expires_at: None, claims: claims.to_owned() }
}

#[test]
fn values_come_from_the_identity_that_counts_now() {
    let rules = r#"{ "rules": [{ "set": "/u", "from": "subject" }, { "set": "/c", "from": "claim:/plan/level" }, { "set": "/s", "from": "scopes" }] }"#;
    let ann = identity("ann", r#"{"plan":{"level": 1.50}}"#);
    let mut rewrite = open(rules, &Handshake { identity: Some(ann), ..testing::handshake("/") });
    assert_eq!(say(&mut rewrite, r#"{"u":"eve"}"#), Verdict::replace(r#"{"u":"ann","c":1.50,"s":["a","b"]}"#));
    rewrite.on_identity(identity("bob", "{}")).unwrap();
    assert_eq!(say(&mut rewrite, r#"{"u":"eve"}"#), Verdict::replace(r#"{"u":"bob","s":["a","b"]}"#));
}

#[test]
fn each_rule_is_for_its_direction() {
    let rules = r#"{ "set": "/a", "value": 1 }, { "set": "/b", "value": 1, "direction": "to_client" }, { "set": "/c", "value": 1, "direction": "both" }"#;
    let mut rewrite = with(rules);
    assert_eq!(say(&mut rewrite, "{}"), Verdict::replace(r#"{"a":1,"c":1}"#));
    assert_eq!(rewrite.on_message(Direction::ToClient, "{}".into()), Ok(Verdict::replace(r#"{"b":1,"c":1}"#)));
    let hooks = |rules: &str| testing::init::<Rewrite>(&format!(r#"{{ "rules": [{rules}] }}"#)).unwrap().1.hooks;
    assert_eq!(hooks(rules), Hooks::TO_CLIENT | Hooks::TO_UPSTREAM | Hooks::IDENTITY);
    assert_eq!(hooks(r#"{ "remove": "/a" }"#), Hooks::TO_UPSTREAM | Hooks::IDENTITY);
    assert_eq!(hooks(r#"{ "remove": "/a", "direction": "to_client" }"#), Hooks::TO_CLIENT | Hooks::IDENTITY);
}

#[test]
fn what_cannot_be_rewritten_has_a_policy() {
    let troubles = ["x", "", "{} {}", r#"{"a":1,"a":2}"#, &"[".repeat(65), &format!("\"{}\"", "x".repeat(100))];
    let config = |policy: &str| {
        format!(r#"{{ "rules": [{{ "set": "/a", "value": 1 }}], "max_bytes": 100, "not_json": {policy} }}"#)
    };
    for (policy, expected) in [
        ("\"forward\"", Verdict::Forward),
        ("\"drop\"", Verdict::Drop),
        ("\"close\"", Verdict::close(1007, "the message cannot be rewritten")),
    ] {
        let mut rewrite = open(&config(policy), &testing::handshake("/"));
        for trouble in troubles {
            assert_eq!(say(&mut rewrite, trouble), expected, "{trouble}");
        }
        assert_eq!(rewrite.on_message(Direction::ToUpstream, vec![1].into()), Ok(expected));
    }
    let kinds = |policy: &str| testing::init::<Rewrite>(&config(policy)).unwrap().1.kinds;
    assert_eq!((kinds("\"forward\""), kinds("\"drop\"")), (Kinds::TEXT, Kinds::all()));
}

#[test]
fn a_message_cannot_be_made_to_grow_without_bound() {
    let copies: Vec<_> = (0..60).map(|n| format!(r#"{{ "copy": "", "to": "/c{n}" }}"#)).collect();
    let config = format!(r#"{{ "rules": [{}], "max_bytes": 1000, "not_json": "drop" }}"#, copies.join(","));
    assert_eq!(say(&mut open(&config, &testing::handshake("/")), r#"{"a":1}"#), Verdict::Drop);
}

#[test]
fn mistakes_are_refused_by_their_key() {
    let refused =
        |rule: &str| testing::init::<Rewrite>(&format!(r#"{{ "rules": [{rule}] }}"#)).unwrap_err().to_string();
    assert_eq!(refused(""), "rules: 1 to 64 are needed, not 0");
    assert!(refused("{}").starts_with("rules[0]: one of `set`, `add`, `remove`, `rename` and `copy`"));
    assert!(refused(r#"{ "set": "/a", "remove": "/b", "value": 1 }"#).contains("and only one"));
    assert_eq!(refused(r#"{ "set": "/a" }"#), "rules[0]: `set` needs `value` or `from`");
    assert_eq!(refused(r#"{ "set": "/a", "value": 1, "from": "host" }"#), "rules[0]: `value` or `from`, not both");
    assert!(
        refused(r#"{ "set": "/a", "from": "user" }"#).starts_with("rules[0]: from: `user` is not known; header:NAME")
    );
    assert!(refused(r#"{ "set": "/a", "from": "claim:sub" }"#).starts_with("rules[0]: from: `sub` is no JSON pointer"));
    assert_eq!(refused(r#"{ "rename": "/a" }"#), "rules[0]: `rename` needs `to`, the new name");
    assert!(refused(r#"{ "copy": "/a", "to": "b" }"#).starts_with("rules[0]: to: `b` is no JSON pointer"));
    assert_eq!(refused(r#"{ "remove": "" }"#), "rules[0]: remove: the whole message cannot be meant");
    assert_eq!(refused(r#"{ "remove": "/a", "value": 1 }"#), "rules[0]: `value` and `from` belong to `set` and `add`");
    assert_eq!(refused(r#"{ "remove": "/a", "to": "b" }"#), "rules[0]: `to` belongs to `rename` and `copy`");
    assert!(refused(r#"{ "set": "a", "value": 1 }"#).starts_with("rules[0].set: `a` is no JSON pointer"));
    assert!(refused(r#"{ "delete": "/a" }"#).starts_with("rules[0].delete: unknown field"));
}

proptest! {
    /// Whatever comes: what goes on is JSON again, and has what was set.
    #[test]
    fn what_is_rewritten_is_json(text in "(\\{|\\}|\"a\"|\"b\"|:|,|1|\\[|\\]| |\"a\":){0,12}") {
        let mut rewrite = with(r#"{ "set": "/a/b", "value": [1] }, { "remove": "/b" }, { "rename": "/a", "to": "c" }, { "copy": "/c", "to": "/d" }"#);
        match say(&mut rewrite, &text) {
            Verdict::Replace(message) => prop_assert!(Json::check(message.as_text().unwrap(), 64).is_ok(), "{} {:?}", text, message),
            verdict => prop_assert_eq!(verdict, Verdict::Forward),
        }
    }
}
