use serde_json::json;
use wsgate_sdk::testing;

use super::*;

const CHAT: &str = r##"{
    "schemas": [
        { "name": "send", "when": { "/type": "chat.send" }, "schema": {
            "type": "object", "required": ["text"], "additionalProperties": false,
            "properties": { "type": true, "text": { "$ref": "#/$defs/text" }, "id": { "type": "integer" } } } },
        { "name": "join", "when": { "/type": "chat.join" }, "schema": "{ \"required\": [\"room\"], \"properties\": { \"left\": { \"const\": null } } }" }
    ],
    "definitions": { "text": { "type": "string", "maxLength": 5, "pattern": "^[a-z]+$" } }
"##;

fn open(more: &str) -> JsonSchema {
    testing::open::<JsonSchema>(&format!("{CHAT}{more}}}"))
}

fn say(filter: &mut JsonSchema, text: &str) -> Verdict {
    filter.on_message(Direction::ToUpstream, text.into()).unwrap()
}

fn refused(config: &str) -> String {
    testing::init::<JsonSchema>(config).unwrap_err().to_string()
}

#[test]
fn a_message_is_held_against_the_schema_that_is_for_it() {
    let mut filter = open("");
    let closed = Verdict::close(1007, "the message does not match its schema");
    for good in [
        r#"{"type":"chat.send","text":"abc"}"#,
        r#"{"type":"chat.send","text":"abc","id":1.0}"#,
        r#"{"type":"chat.join","room":7,"left":null}"#,
    ] {
        assert_eq!(say(&mut filter, good), Verdict::Forward, "{good}");
    }
    for bad in [
        r#"{"type":"chat.send","text":"toolong"}"#,
        r#"{"type":"chat.send","text":"A"}"#,
        r#"{"type":"chat.send"}"#,
        r#"{"type":"chat.send","text":"a","more":1}"#,
        r#"{"type":"chat.join"}"#,
        r#"{"type":"chat.join","room":1,"left":0}"#,
        r#"{"type":"chat.other"}"#,
        r#"{"type":"chat.send","text":"a","text":"b"}"#,
        "chat",
        "",
    ] {
        assert_eq!(say(&mut filter, bad), closed, "{bad}");
    }
    assert_eq!(filter.on_message(Direction::ToUpstream, vec![b'{', b'}'].into()), Ok(closed));
}

#[test]
fn one_schema_can_be_for_all_other_messages() {
    let mut filter = open(r#", "schema": { "required": ["type"] }, "on_failure": "drop""#);
    assert_eq!(say(&mut filter, r#"{"type":"else"}"#), Verdict::Forward);
    assert_eq!(say(&mut filter, "{}"), Verdict::Drop);
    assert_eq!(say(&mut filter, r#"{"type":"chat.join"}"#), Verdict::Drop);
}

#[test]
fn a_reply_tells_what_is_wrong() {
    let mut filter = open(
        r#", "max_errors": 2, "on_failure": { "reply": { "id": "$/id", "errors": "$errors", "schema": "$schema" } }"#,
    );
    let Verdict::Reply(reply) = say(&mut filter, r#"{"type":"chat.send","text":5,"id":"x","y":1}"#) else { panic!() };
    let reply: serde_json::Value = serde_json::from_str(reply.as_text().unwrap()).unwrap();
    assert_eq!((&reply["id"], &reply["schema"]), (&json!("x"), &json!("send")));
    let errors = reply["errors"].as_array().unwrap();
    assert_eq!(errors.len(), 2, "{reply}");
    assert!(errors.iter().all(|error| error["message"].as_str().is_some_and(|text| !text.is_empty())), "{reply}");
    assert!(errors.iter().any(|error| error["at"] == "/text" && error["keyword"] == "type"), "{reply}");

    let Verdict::Reply(reply) = say(&mut filter, "no json") else { panic!() };
    let expected =
        r#"{"errors":[{"at":"","keyword":"not_json","message":"this is no JSON"}],"id":null,"schema":"none"}"#;
    assert_eq!(reply.as_text(), Some(expected));
}

#[test]
fn what_is_told_is_bounded() {
    let config = r#"{ "schema": { "items": { "type": "integer" } }, "max_errors": 3, "on_failure": { "reply": { "e": "$errors" } } }"#;
    let mut filter = testing::open::<JsonSchema>(config);
    let many = format!("[{}\"\"]", "\"x\",".repeat(5_000));
    let Verdict::Reply(reply) = say(&mut filter, &many) else { panic!() };
    let parsed: serde_json::Value = serde_json::from_str(reply.as_text().unwrap()).unwrap();
    assert_eq!(parsed["e"].as_array().unwrap().len(), 3);
    let long = format!("[\"{}\"]", "é".repeat(5_000));
    let Verdict::Reply(reply) = say(&mut filter, &long) else { panic!() };
    assert!(reply.as_bytes().len() < 500, "{reply:?}");
}

#[test]
fn what_is_too_large_or_too_deep_is_not_read() {
    let mut filter = testing::open::<JsonSchema>(
        r#"{ "schema": true, "max_bytes": 20, "max_depth": 2, "not_json": "forward", "on_failure": "drop" }"#,
    );
    assert_eq!(say(&mut filter, "[[]]"), Verdict::Forward);
    assert_eq!(say(&mut filter, "[[[]]]"), Verdict::Drop);
    assert_eq!(say(&mut filter, "\"0123456789012345678901\""), Verdict::Drop);
    assert_eq!(say(&mut filter, "no json"), Verdict::Forward);
}

#[test]
fn other_messages_can_pass() {
    let mut filter = open(r#", "unmatched": "forward", "not_json": "forward""#);
    assert_eq!(say(&mut filter, r#"{"type":"chat.other"}"#), Verdict::Forward);
    assert_eq!(say(&mut filter, "chat"), Verdict::Forward);
    assert_ne!(say(&mut filter, r#"{"type":"chat.join"}"#), Verdict::Forward);
    let kinds = |more: &str| testing::init::<JsonSchema>(&format!("{CHAT}{more}}}")).unwrap().1.kinds;
    assert_eq!(kinds(r#", "not_json": "forward""#), Kinds::TEXT);
    assert_eq!(kinds(""), Kinds::all());
}

#[test]
fn a_dry_run_lets_everything_pass() {
    assert_eq!(say(&mut open(r#", "dry_run": true"#), "{}"), Verdict::Forward);
}

#[test]
fn formats_count_where_asked_for() {
    let verdict = |formats: bool| {
        let config =
            format!(r#"{{ "schema": {{ "format": "date-time" }}, "formats": {formats}, "on_failure": "drop" }}"#);
        say(&mut testing::open::<JsonSchema>(&config), "\"tomorrow\"")
    };
    assert_eq!(verdict(true), Verdict::Drop);
    assert_eq!(verdict(false), Verdict::Forward);
}

#[test]
fn schemas_that_refer_to_themselves_end() {
    let tree =
        r##"{ "schema": { "type": "object", "properties": { "left": { "$ref": "#" } } }, "on_failure": "drop" }"##;
    let mut filter = testing::open::<JsonSchema>(tree);
    assert_eq!(say(&mut filter, r#"{"left":{"left":{}}}"#), Verdict::Forward);
    assert_eq!(say(&mut filter, r#"{"left":{"left":1}}"#), Verdict::Drop);
    for circle in [
        r##"{ "$ref": "#" }"##,
        r##"{ "allOf": [{ "$ref": "#" }] }"##,
        r##"{ "$ref": "#/$defs/a", "$defs": { "a": { "$ref": "#/$defs/b" }, "b": { "$ref": "#/$defs/a" } } }"##,
    ] {
        let config = format!(r#"{{ "schema": {circle} }}"#);
        match testing::init::<JsonSchema>(&config) {
            Ok(_) => drop(say(&mut testing::open::<JsonSchema>(&config), "{}")),
            Err(error) => assert!(error.to_string().starts_with("schema: "), "{error}"),
        }
    }
}

#[test]
fn mistakes_are_refused_by_their_key() {
    assert_eq!(refused("{}"), "schema or schemas: at least one is needed");
    let error = refused(r#"{ "schema": { "type": "strin" } }"#);
    assert!(error.starts_with("schema: at /type: "), "{error}");
    let error = refused(r#"{ "schemas": [{ "when": {}, "schema": { "pattern": "(a" } }] }"#);
    assert!(error.starts_with("schemas[0].schema: "), "{error}");
    let error = refused(r#"{ "schema": { "pattern": "(?=a)" } }"#);
    assert!(error.starts_with("schema: "), "look-around is not linear in time: {error}");
    let error = refused(r#"{ "schema": { "$ref": "https://example.com/x.json" } }"#);
    assert!(error.starts_with("schema: "), "{error}");
    let error = refused(r##"{ "schema": { "$ref": "#/$defs/none" } }"##);
    assert!(error.starts_with("schema: "), "{error}");
    assert!(refused(r#"{ "schema": "{" }"#).starts_with("schema: not JSON: "));
    assert!(refused(r#"{ "schema": 1 }"#).starts_with("schema: a table, or a text with JSON"));
    assert!(refused(r#"{ "schema": true, "max_depth": 121 }"#).starts_with("max_depth: 1 to 120"));
    assert!(refused(r#"{ "schema": true, "max_errors": 0 }"#).starts_with("max_errors: 1 to 100"));
    assert!(
        refused(r#"{ "schema": true, "on_failure": { "reply": { "x": "$error" } } }"#)
            .starts_with("on_failure: reply: `$error`")
    );
    assert!(refused(r#"{ "schema": true, "on_failure": "reject" }"#).starts_with("on_failure: invalid value"));
    assert!(refused(r#"{ "schemas": [{ "when": { "type": "a" }, "schema": true }] }"#).contains("is no JSON pointer"));
    assert!(refused(r#"{ "shema": true }"#).starts_with("shema: unknown field"));
}
