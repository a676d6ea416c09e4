use super::*;

#[test]
fn the_list_is_a_table_with_a_line_for_each_candidate() {
    let generation = |role: &str, sessions: u64| json!({ "role": role, "sessions": sessions, "instances": 2 });
    let filters = [
        json!({
            "name": "redact", "state": "serving", "mode": "bypass", "generation": "0123456789ab", "file": "redact.wasm",
            "canary": { "state": "missing", "percent": 5, "file": "new.wasm", "generation": null },
            "generations": [generation("serving", 3), generation("older", 1), generation("canary", 7)],
        }),
        json!({
            "name": "x", "state": "failed", "mode": "serve", "generation": null, "file": "x.wasm",
            "error": "not\u{1b}[31m WebAssembly", "generations": [],
        }),
    ];
    let expected = "\
NAME              STATE    MODE    GENERATION    SESSIONS  INSTANCES  FILE         ERROR
redact            serving  bypass  0123456789ab  4         4          redact.wasm  -
redact@canary 5%  missing  bypass  -             7         2          new.wasm     -
x                 failed   serve   -             0         0          x.wasm       not [31m WebAssembly
";
    assert_eq!(table(&filters), expected);
}

#[test]
fn a_rollback_says_what_it_did_and_for_how_long() {
    let answer = |persisted: bool| json!({ "rolled_back": [{ "file": "a.wasm", "from": "bad", "to": "good", "persisted": persisted }] });
    let kept = "redact: good serves again instead of bad\na.wasm, as it was, is not loaded again; another file is\n";
    assert_eq!(rolled_back("redact", &answer(true)), kept);
    assert!(rolled_back("redact", &answer(false)).contains("a restart loads it again"));
}
