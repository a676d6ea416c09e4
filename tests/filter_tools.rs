//! `wsgate filter new`, `build`, `test`, `bench` and `inspect`, as their users run them.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
    time::Duration,
};

use serde_json::Value;

use crate::support::{Setup, guest, process::Process, until, upstream::ECHO, wire::Wire};

/// A Rust project, with all that it depends on, on a machine that builds something else as well.
const BUILD: Duration = Duration::from_secs(600);

/// What projects depend on is built once for all of them, and kept; nothing is fetched.
fn wsgate(folder: &Path, arguments: &[&str]) -> Command {
    let program = Path::new(env!("CARGO_BIN_EXE_wsgate"));
    let target = program.ancestors().nth(2).unwrap().join("filter-tools");
    let mut command = Command::new(program);
    command.arg("filter").args(arguments).current_dir(folder);
    command.env("CARGO_TARGET_DIR", target).env("CARGO_NET_OFFLINE", "true").env_remove("CARGO_INCREMENTAL");
    command
}

fn run(folder: &Path, arguments: &[&str]) -> Output {
    wsgate(folder, arguments).output().unwrap()
}

/// What it prints where all goes well.
fn stdout(output: &Output) -> String {
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout.clone()).unwrap()
}

/// What it says where it does not.
fn failure(output: &Output) -> String {
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    String::from_utf8(output.stderr.clone()).unwrap()
}

fn write(folder: &Path, file: &str, bytes: impl AsRef<[u8]>) {
    let path = folder.join(file);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, bytes).unwrap();
}

fn say(wire: &mut Wire, text: &str) -> String {
    wire.text(text);
    wire.next_text()
}

/// A folder with a component, and cases for it.
fn component(name: &str, cases: &str) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), "filter.wasm", guest(name));
    write(folder.path(), "cases.toml", cases);
    folder
}

#[test]
fn a_new_rust_filter_is_built_tested_measured_and_live_after_each_save() {
    let setup = Setup::new();
    let home = setup.path("");
    let made = stdout(&run(&home, &["new", "shout", "--lang", "rust"]));
    assert!(made.starts_with("made shout\n"), "{made}");
    let project: PathBuf = setup.path("shout");
    let built = run(&project, &["build"]);
    let said = String::from_utf8_lossy(&built.stderr);
    assert!(built.status.success() && said.contains("built dist/shout.wasm: "), "{said}");
    let tested = stdout(&run(&project, &["test"]));
    assert!(tested.ends_with("\n3 passed, 0 failed\n"), "{tested}");
    let figures = stdout(&run(&project, &["bench", "dist/shout.wasm", "--message", "hello", "--format", "json"]));
    let figures: Value = serde_json::from_str(&figures).unwrap();
    assert!(figures["messages"][0]["ns"].as_f64().unwrap() > 0.0, "{figures}");
    let found: Value =
        serde_json::from_str(&stdout(&run(&project, &["inspect", "dist/shout.wasm", "--format", "json"]))).unwrap();
    assert_eq!((&found["world"], &found["problem"]), (&"filter".into(), &Value::Null), "{found}");

    // Every save is live on an open connection.
    fs::create_dir(setup.path("chat.d")).unwrap();
    let into = setup.path("chat.d");
    let arguments = ["build", "--watch", "--into", into.to_str().unwrap()];
    let watching = Process::start("build", &mut wsgate(&project, &arguments));
    until("the component is put into the folder", BUILD, || into.join("shout.wasm").exists());
    let gateway = setup.start(&format!("{ECHO}\nfilters_folder = \"chat.d\"\n"));
    let mut wire = Wire::open(gateway.address(), "/echo");
    assert!(say(&mut wire, "ping").contains("\"count\":1"));
    let source = fs::read_to_string(project.join("src/lib.rs")).unwrap();
    write(&project, "src/lib.rs", source.replace("\"ping\"", "\"pong\""));
    until("the new word counts on", BUILD, || say(&mut wire, "pong").contains("\"count\":2"));

    // The compiler's own message, and nothing is replaced.
    drop(watching);
    let before = fs::read(project.join("dist/shout.wasm")).unwrap();
    write(&project, "src/lib.rs", source.replace("use serde", "use sedre"));
    let broken = failure(&run(&project, &["build", "--into", into.to_str().unwrap()]));
    assert!(broken.contains("src/lib.rs:") && broken.contains("`cargo build --release"), "{broken}");
    assert_eq!(fs::read(project.join("dist/shout.wasm")).unwrap(), before);
}

#[test]
fn a_project_is_not_made_twice_nor_by_a_bad_name() {
    let folder = tempfile::tempdir().unwrap();
    stdout(&run(folder.path(), &["new", "one", "--lang", "rust"]));
    let again = failure(&run(folder.path(), &["new", "one", "--lang", "rust"]));
    assert_eq!(again, "wsgate: ./one: is there already; nothing was changed\n");
    for name in ["One", "1st", "../one", "", "a b"] {
        let refused = failure(&run(folder.path(), &["new", name, "--lang", "rust"]));
        assert!(refused.contains("is not the name of a filter"), "{name}: {refused}");
    }
    let nowhere = failure(&run(folder.path(), &["new", "two", "--lang", "rust", "--dir", "nowhere"]));
    assert_eq!(nowhere, "wsgate: nowhere: is not a folder\n");
}

#[test]
fn a_project_with_a_makefile_goes_to_the_place_of_its_filter() {
    let folder = tempfile::tempdir().unwrap();
    let project = folder.path().join("stamp");
    write(&project, "in/stamp.wasm", guest("stamp"));
    write(&project, "Makefile", "build:\n\tmkdir -p dist && cp in/stamp.wasm dist/\n");
    write(folder.path(), "chat.d/30-stamp.wasm", "old");
    let built = run(&project, &["build", "--into", "../chat.d"]);
    assert!(built.status.success(), "{built:?}");
    assert_eq!(fs::read(folder.path().join("chat.d/30-stamp.wasm")).unwrap(), guest("stamp"));
    assert_eq!(fs::read_dir(folder.path().join("chat.d")).unwrap().count(), 1);
    let none = failure(&run(&project, &["build", "--into", "../nowhere"]));
    assert_eq!(none, "wsgate: ../nowhere: not a folder\n");
    // What no gateway would load does not get there.
    write(&project, "in/stamp.wasm", guest("guest_wrong_world"));
    let foreign = failure(&run(&project, &["build", "--into", "../chat.d"]));
    assert!(foreign.contains("does not export wsgate:filter/handler@0.1.0"), "{foreign}");
    assert_eq!(fs::read(folder.path().join("chat.d/30-stamp.wasm")).unwrap(), guest("stamp"));
    write(&project, "Makefile", "build:\n\tfalse\n");
    assert!(failure(&run(&project, &["build"])).contains("`make build` failed"));
    let empty = failure(&run(folder.path(), &["build"]));
    assert!(empty.contains("there is no Cargo.toml, package.json or Makefile"), "{empty}");
}

#[test]
fn what_differs_is_shown_with_its_line_and_fails() {
    let cases = r##"[[case]]
name = "numbers"
[[case.step]]
message = "a"
direction = "to_client"
expect = { replace = "a #1" }

[[case]]
name = "objects"
[[case.step]]
message = { json = { user = { name = "ann" } } }
direction = "to_client"
expect = { replace = { json = { seq = 2, user = { name = "ann" } } } }
reason = "stamped"
"##;
    let folder = component("stamp", cases);
    let output = run(folder.path(), &["test", "filter.wasm"]);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let expected = r#"ok    numbers
FAIL  objects
      cases.toml:13: step 1 (message to the client): expect
        expected  replace: json {"seq":2,"user":{"name":"ann"}}
        got       replace: text {"user":{"name":"ann"},"seq":1}
        at /seq: expected 2, got 1
      cases.toml:14: step 1 (message to the client): reason
        expected  stamped
        got       none

1 passed, 1 failed
"#;
    assert_eq!(String::from_utf8_lossy(&output.stdout), expected);
}

#[test]
fn a_mistake_in_the_cases_is_told_with_its_line() {
    let folder = component("stamp", "[[case]]\nname = \"a\"\n[[case.step]]\nmesage = \"b\"\n");
    let said = failure(&run(folder.path(), &["test", "filter.wasm"]));
    assert!(said.contains("cases.toml:4:1: case[0].step[0].mesage: unknown key; did you mean \"message\"?"), "{said}");
    let absent = failure(&run(folder.path(), &["test", "filter.wasm", "--cases", "no.toml"]));
    assert!(absent.contains("no.toml: cannot be read"), "{absent}");
}

#[test]
fn inspect_says_what_is_missing() {
    let folder = tempfile::tempdir().unwrap();
    let mut newer = guest("stamp");
    for at in 0..newer.len() - 5 {
        if newer[at..].starts_with(b"@0.1.0") {
            newer[at + 1..at + 6].copy_from_slice(b"0.2.0");
        }
    }
    write(folder.path(), "newer.wasm", newer);
    write(folder.path(), "core.wasm", b"\0asm\x01\0\0\0");
    write(folder.path(), "foreign.wasm", guest("guest_wrong_world"));
    write(folder.path(), "fetch.wasm", guest("guest_fetch"));
    let says = |file: &str| {
        let output = run(folder.path(), &["inspect", file]);
        (output.status.success(), String::from_utf8(output.stdout).unwrap())
    };
    let (loads, newer) = says("newer.wasm");
    assert!(!loads && newer.contains("contract   0.2.0"), "{newer}");
    assert!(newer.contains("made for version 0.2.0 of the contract") && newer.contains("serves 0.1.0"), "{newer}");
    let (loads, core) = says("core.wasm");
    assert!(!loads && core.contains("a core WebAssembly module, not a component: build for wasm32-wasip2"), "{core}");
    let (loads, foreign) = says("foreign.wasm");
    assert!(!loads && foreign.contains("exports    tests:greeter/greeting@1.0.0"), "{foreign}");
    let (loads, fetch) = says("fetch.wasm");
    assert!(loads && fetch.contains("world      filter-http") && fetch.contains("allow      may need http"), "{fetch}");
}

#[test]
fn what_cannot_be_measured_is_told() {
    let folder = component("guest_faulty", "");
    let fault = run(folder.path(), &["bench", "filter.wasm", "--config", "{\"mode\": \"always:trap\"}"]);
    assert!(failure(&fault).contains("a call failed: on_message (trap)"));
    let refused = run(folder.path(), &["bench", "filter.wasm", "--config", "{\"mode\": \"refuse:403:no\"}"]);
    assert!(failure(&refused).contains("does not admit the connection: it refuses with 403 and says \"no\""));
    let config = run(folder.path(), &["bench", "filter.wasm", "--config", "{\"mode\": 1}"]);
    assert!(failure(&config).contains("init refused the configuration"));
}
