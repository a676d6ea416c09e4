use super::{
    inspect,
    test::{Paint, print},
};
use crate::filter::{CaseReport, CasesReport, Inspection, Mismatch};

fn report() -> CasesReport {
    let mismatch = |line, what: &str, expected: &str, got: &str, hint: Option<&str>| Mismatch {
        line,
        what: what.to_owned(),
        expected: expected.to_owned(),
        got: got.to_owned(),
        hint: hint.map(str::to_owned),
    };
    let case = |name: &str, line, mismatches, notes: &[&str]| CaseReport {
        name: name.to_owned(),
        line,
        mismatches,
        notes: notes.iter().map(|note| (*note).to_owned()).collect(),
    };
    let wrong = mismatch(9, "step 1 (message): expect", "reply: json {\"n\":2}", "forward", Some("at /n: …"));
    CasesReport {
        file: "cases.toml".to_owned(),
        cases: vec![
            case("one", 3, Vec::new(), &[]),
            case(
                "two",
                7,
                vec![wrong, mismatch(10, "step 1 (message): reason", "a", "none", None)],
                &["log: info: hi"],
            ),
        ],
    }
}

#[test]
fn failures_are_told_with_file_and_line() {
    let expected = "\
ok    one
FAIL  two
      cases.toml:9: step 1 (message): expect
        expected  reply: json {\"n\":2}
        got       forward
        at /n: …
      cases.toml:10: step 1 (message): reason
        expected  a
        got       none
      log: info: hi

1 passed, 1 failed
";
    assert_eq!(print(&report(), &Paint { colours: false }), expected);
    let coloured = print(&report(), &Paint { colours: true });
    assert!(coloured.contains("\u{1b}[31mFAIL\u{1b}[0m  \u{1b}[1mtwo\u{1b}[0m"), "{coloured}");
}

#[test]
fn an_inspection_says_what_is_missing() {
    let found = Inspection {
        bytes: 2048,
        sha256: "ab".to_owned(),
        world: None,
        contract: Some("0.2.0".to_owned()),
        imports: Vec::new(),
        exports: vec!["a".to_owned(), "b".to_owned()],
        allow: vec!["key_value"],
        problem: Some("too new".to_owned()),
    };
    let expected = "\
file       x.wasm
size       2.0 KiB
sha256     ab
world      none of a filter's
contract   0.2.0
imports    nothing
exports    a
           b
allow      may need key_value
loads      no: too new
";
    assert_eq!(inspect::print("x.wasm", &found), expected);
}
