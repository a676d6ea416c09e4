use proptest::prelude::*;
use wsgate_sdk::testing;

use super::*;

const RULES: &str = r#"{ "rules": [
    { "when": { "/type": "billing.*", "/version": [1, 2] }, "upstream": "billing" },
    { "when": { "/type": "billing.*" }, "then": { "reply": { "id": "$/id", "error": "version" } }, "name": "old_billing" },
    { "when": { "/type": { "prefix": "search*" } }, "upstream": "search" },
    { "when": { "/0": "secret" }, "then": "drop" },
    { "when": { "/type": "bye" }, "then": { "close": 4000, "reason": "bye" } }
]"#;

fn open(more: &str) -> MessageRouter {
    testing::open::<MessageRouter>(&format!("{RULES}{more}}}"))
}

fn say(filter: &mut MessageRouter, text: &str) -> Verdict {
    filter.on_message(Direction::ToUpstream, text.into()).unwrap()
}

fn route(name: &str) -> Verdict {
    Verdict::Route(name.to_owned())
}

#[test]
fn the_first_rule_that_holds_decides() {
    let mut filter = open("");
    assert_eq!(say(&mut filter, r#"{"type":"billing.pay","version":1}"#), route("billing"));
    assert_eq!(say(&mut filter, r#"{"id":7,"type":"billing.pay"}"#), Verdict::reply(r#"{"error":"version","id":7}"#));
    assert_eq!(say(&mut filter, r#"{"type":"search*x"}"#), route("search"));
    assert_eq!(say(&mut filter, r#"{"type":"searching"}"#), Verdict::Forward);
    assert_eq!(say(&mut filter, r#"["secret"]"#), Verdict::Drop);
    assert_eq!(say(&mut filter, r#"{"type":"bye"}"#), Verdict::close(4000, "bye"));
}

#[test]
fn what_no_rule_is_for_gets_the_default() {
    assert_eq!(say(&mut open(""), r#"{"type":"x"}"#), Verdict::Forward);
    assert_eq!(
        say(&mut open(r#", "default": "close""#), r#"{"type":"x"}"#),
        Verdict::close(1008, "this message goes nowhere")
    );
    let rest = r#"{ "rules": [{ "when": { "/a": 1 }, "then": "drop" }, { "upstream": "rest" }] }"#;
    let mut filter = testing::open::<MessageRouter>(rest);
    assert_eq!(say(&mut filter, "{}"), route("rest"));
    assert_eq!(say(&mut filter, "{\"a\":1}"), Verdict::Drop);
}

#[test]
fn what_is_no_json_or_not_clear_is_treated_alike() {
    let mut filter = open(r#", "not_json": "drop", "max_depth": 2"#);
    for text in ["x", "", "[[[]]]", r#"{"type":"x","type":"billing.pay"}"#, r#"{"type":"billing.pay"} "#] {
        let expected =
            if text.ends_with("} ") { Verdict::reply(r#"{"error":"version","id":null}"#) } else { Verdict::Drop };
        assert_eq!(say(&mut filter, text), expected, "{text}");
    }
    assert_eq!(filter.on_message(Direction::ToUpstream, vec![1].into()), Ok(Verdict::Drop));
    assert_eq!(say(&mut open(""), "x"), Verdict::Forward);
}

#[test]
fn events_of_socket_io_are_named_by_their_first_element() {
    let config = r#"{ "format": "socket.io", "not_json": "drop", "rules": [{ "when": { "/0": "pay", "/1/to": "*" }, "upstream": "billing" }] }"#;
    let mut filter = testing::open::<MessageRouter>(config);
    assert_eq!(say(&mut filter, r#"42/shop,12["pay",{"to":"ann"}]"#), route("billing"));
    assert_eq!(say(&mut filter, r#"42["pay"]"#), Verdict::Forward);
    assert_eq!(say(&mut filter, "2"), Verdict::Forward);
    assert_eq!(say(&mut filter, "42[x]"), Verdict::Drop);
}

#[test]
fn only_what_can_be_treated_is_asked_for() {
    let interest = |more: &str| testing::init::<MessageRouter>(&format!("{RULES}{more}}}")).unwrap().1;
    assert_eq!((interest("").hooks, interest("").kinds), (Hooks::TO_UPSTREAM, Kinds::TEXT));
    assert_eq!(interest(r#", "not_json": "close""#).kinds, Kinds::all());
}

#[test]
fn mistakes_are_refused_by_their_key() {
    let refused = |config: &str| testing::init::<MessageRouter>(config).unwrap_err().to_string();
    assert_eq!(refused("{}"), "missing field `rules`");
    assert_eq!(refused(r#"{ "rules": [] }"#), "rules: 1 to 200 are needed, not 0");
    assert_eq!(refused(r#"{ "rules": [{ "when": { "/a": 1 } }] }"#), "rules[0]: `upstream` or `then` is needed");
    assert_eq!(
        refused(r#"{ "rules": [{ "upstream": "a", "then": "drop" }] }"#),
        "rules[0]: `upstream` or `then`, not both"
    );
    assert_eq!(refused(r#"{ "rules": [{ "upstream": "" }] }"#), "rules[0].upstream: must not be empty");
    assert_eq!(
        refused(r#"{ "rules": [{ "upstream": "a" }, { "upstream": "b" }] }"#),
        "rules[0].when: only the last rule can be for every message"
    );
    let error = refused(r#"{ "rules": [{ "then": { "reply": { "x": "$reason" } } }] }"#);
    assert_eq!(error, "rules[0].then: reply: `$reason` is not known here; `$/…` and `$$…` are");
    assert!(refused(r#"{ "rules": [{ "upstream": "a", "wen": {} }] }"#).contains("unknown field `wen`"));
    assert!(refused(r#"{ "rules": [{ "upstream": "a" }], "max_depth": 0 }"#).starts_with("max_depth: 1 to 128"));
    assert!(
        refused(r#"{ "rules": [{ "upstream": "a" }], "format": "xml" }"#).starts_with("format: unknown variant `xml`")
    );
}

proptest! {
    #[test]
    fn any_text_gets_a_verdict(text in "[\\[\\]{}\":,a-c0-9 /typebilng.]{0,40}") {
        let _ = say(&mut open(""), &text);
        let _ = say(&mut open(r#", "format": "socket.io""#), &format!("42{text}"));
    }

    #[test]
    fn a_type_goes_where_its_prefix_says(rest in "[a-z.\\\\\"é]{0,12}", padding in "[ \n]{0,3}") {
        let kind = serde_json::Value::from(format!("billing.{rest}"));
        let text = format!("{{\"other\":[{{}}],{padding}\"type\"{padding}:{padding}{kind},\"version\":2}}");
        prop_assert_eq!(say(&mut open(""), &text), route("billing"));
    }
}
