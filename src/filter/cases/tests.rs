use std::fs;

use super::*;
use crate::filter::test_support::guest;

fn played(component: &str, cases: &str) -> Report {
    match play(&fs::read(guest(component)).unwrap(), cases, "cases.toml") {
        Ok(report) => report,
        Err(error) => panic!("{error}"),
    }
}

/// `line: what: expected / got`, of every mismatch.
fn mismatches(report: &Report) -> Vec<String> {
    let all = report.cases.iter().flat_map(|case| &case.mismatches);
    all.map(|one| format!("{}: {}: {} / {}", one.line, one.what, one.expected, one.got)).collect()
}

fn passes(component: &str, cases: &str) {
    let report = played(component, cases);
    let notes: Vec<_> = report.cases.iter().flat_map(|case| &case.notes).collect();
    assert_eq!(mismatches(&report), Vec::<String>::new(), "{notes:?}");
}

fn fails(component: &str, cases: &str, expected: &[&str]) {
    assert_eq!(mismatches(&played(component, cases)), expected);
}

fn refused(cases: &str) -> String {
    match read_toml::<Cases>(cases, "cases.toml") {
        Ok(_) => panic!("accepted"),
        Err(errors) => errors.to_string(),
    }
}

#[test]
fn state_goes_over_a_reload_and_configuration_may_change_with_it() {
    passes(
        "stamp",
        r##"
[[case]]
name = "counts"
[[case.step]]
message = "a"
direction = "to_client"
expect = { replace = "a #1" }
[[case.step]]
message = { json = { x = 1 } }
direction = "to_client"
expect = { replace = { json = { seq = 2, x = 1 } } }
[[case.step]]
reload = { config = { key = "n" } }
[[case.step]]
message = { json = [] }
direction = "to_client"
expect = { replace = "[] #3" }
[[case.step]]
message = { hex = "00ff" }
expect = "forward"
"##,
    );
}

#[test]
fn what_differs_is_told_with_its_line_and_the_case_ends_there() {
    fails(
        "stamp",
        r##"
[[case]]
name = "counts"
[[case.step]]
message = { json = { x = 1 } }
direction = "to_client"
expect = { replace = { json = { seq = 2, x = 1 } } }
[[case.step]]
message = "never"
expect = "drop"
[[case]]
name = "another"
[[case.step]]
message = "b"
expect = "drop"
"##,
        &[
            r#"7: step 1 (message to the client): expect: replace: json {"seq":2,"x":1} / replace: text {"x":1,"seq":1}"#,
            "15: step 1 (message): expect: drop / forward",
        ],
    );
}

#[test]
fn stores_are_given_and_looked_at() {
    passes(
        "guest_store",
        r#"
allow = { key_value = ["s"] }
[[case]]
name = "reads and writes"
given = { stores = { s = { a = "one" } } }
[[case.step]]
message = "get s a"
expect = { reply = "one@1" }
[[case.step]]
message = "delete s a"
expect = { reply = "done" }
stores = { s = { a = false } }
[[case.step]]
message = "set s b two"
stores = { s = { b = "two" } }
[[case]]
name = "another world"
[[case.step]]
message = "get s b"
expect = { reply = "absent" }
"#,
    );
    fails(
        "guest_store",
        r#"
[[case]]
name = "no right"
given = { stores = { s = { a = "one" } } }
[[case]]
name = "nothing there"
allow = { key_value = ["s"] }
[[case.step]]
message = "set s a 1"
stores = { s = { a = "2", b = "3" } }
"#,
        &[
            "2: open: given.stores: a store that `allow.key_value` names / s",
            "10: step 1 (message): stores.s.a: text 2 / text 1",
            "10: step 1 (message): stores.s.b: text 3 / nothing",
        ],
    );
}

#[test]
fn messages_to_others_are_written_down() {
    passes(
        "guest_room",
        r#"
allow = { topics = ["*"], send = true }
[[case]]
name = "topics"
given = { connections = ["c2"] }
subscribed = ["room.lobby"]
[[case.step]]
message = "!subscribe lobby"
subscribed = ["lobby"]
published = []
[[case.step]]
message = "!publish lobby hello"
published = [{ topic = "lobby", message = "hello" }]
[[case.step]]
message = "!send c2 psst"
sent = [{ to = "c2", message = "psst" }]
"#,
    );
}

#[test]
fn requests_are_answered_by_the_case_and_by_nobody_else() {
    let cases = |http: &str| {
        format!(
            "allow = {{ http = [\"http://authz.test\"] }}\n[[case]]\nname = \"asks\"\n[[case.step]]\nmessage = \"GET http://authz.test/a?b\"\n{http}\n"
        )
    };
    let answer =
        r#"http = [{ url = "http://authz.test/a?b", method = "GET", answer = { status = 200, body = "yes" } }]"#;
    let report = played("guest_fetch", &cases(answer));
    assert_eq!(mismatches(&report), Vec::<String>::new());
    let unanswered = mismatches(&played("guest_fetch", &cases("")));
    assert_eq!(
        unanswered,
        ["4: step 1 (message): http: no request that the case does not answer / GET http://authz.test/a?b"]
    );
    let other = answer.replace("a?b", "other");
    let differs = mismatches(&played("guest_fetch", &cases(&other)));
    assert_eq!(differs, ["6: step 1 (message): http[0].url: http://authz.test/other / http://authz.test/a?b"]);
}

#[test]
fn a_fault_fails_a_step_that_does_not_expect_it() {
    let cases = |expect: &str| {
        format!(
            "config = {{ mode = \"always:trap\" }}\n[[case]]\nname = \"x\"\n[[case.step]]\nmessage = \"a\"\n{expect}"
        )
    };
    let got = mismatches(&played("guest_faulty", &cases("")));
    assert!(got[0].starts_with("4: step 1 (message): expect: no fault / fault in on_message (trap): "), "{got:?}");
    passes("guest_faulty", &cases("expect = { error = \"unreachable\" }"));
}

#[test]
fn a_refused_configuration_can_be_expected() {
    let cases = "[[case]]\nname = \"x\"\nconfig = { patterns = [\"(\"] }\nerror = \"patterns[0]\"";
    passes("redact", cases);
    let got = mismatches(&played("redact", &cases.replace("error", "#")));
    assert!(got[0].starts_with("1: open: admitted / not loaded: init refused the configuration"), "{got:?}");
}

#[test]
fn mistakes_in_the_file_are_told_with_their_lines() {
    let unknown = refused("[[case]]\nname = \"a\"\n[[case.step]]\nmesage = \"x\"\n[[case]]\nnam = 1\n");
    assert!(
        unknown.contains("cases.toml:4:1: case[0].step[0].mesage: unknown key; did you mean \"message\"?"),
        "{unknown}"
    );
    assert!(unknown.contains("cases.toml:6:1: case[1].nam: unknown key; did you mean \"name\"?"), "{unknown}");
    let two = refused("[[case]]\nname = \"a\"\n[[case.step]]\nmessage = \"x\"\ntick = true\n");
    assert!(two.contains("cases.toml:3:1: case[0].step: exactly one thing happens in a step"), "{two}");
    for (step, why) in [
        ("message = { hex = \"0g\" }", "is not hexadecimal"),
        ("message = { hex = \"00\", text = \"a\" }", "exactly one of text, json, hex and base64"),
        ("message = 1", "is not a message; write"),
        ("message = \"a\"\nexpect = \"forwards\"", "\"forwards\" cannot be expected"),
        ("message = \"a\"\nexpect = \"moved\"", "\"moved\" cannot come of a message"),
        ("tick = true\nexpect = { reply = \"a\" }", "\"reply\" cannot come of a tick"),
        ("message = \"a\"\nexpect = { reply = \"a\", error = \"b\" }", "not one expectation"),
        ("direction = \"to_client\"\ntick = true", "direction is of a message"),
        ("message = \"a\"\nhttp = [{ url = \"http://a\", answer = { } }]", "not an answer"),
    ] {
        let text = refused(&format!("[[case]]\nname = \"a\"\n[[case.step]]\n{step}\n"));
        assert!(text.contains(why), "{step}: {text}");
        assert!(
            text.starts_with("cases.toml:3:") || text.starts_with("cases.toml:4:") || text.starts_with("cases.toml:5:"),
            "{text}"
        );
    }
    let allow = refused("allow = { http = [\"ftp://a\"] }");
    assert!(allow.contains("cases.toml:1:18: allow.http: \"ftp://a\" is not accepted"), "{allow}");
}

#[test]
fn a_file_without_cases_is_an_error() {
    let error = play(&fs::read(guest("stamp")).unwrap(), "config = {}", "cases.toml").unwrap_err();
    assert_eq!(error.to_string(), "cases.toml: there is no [[case]] in it");
}
