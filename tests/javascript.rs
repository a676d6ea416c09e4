//! A plain `.js` file in the folder: compiled, replaced on open connections, and refused with its line.

use std::{
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, Instant},
};

use crate::support::{
    Gateway, SOON, Setup, guest,
    process::{Descendant, children, is_alive},
    until,
    upstream::ECHO,
    wire::Wire,
};

/// Compiling a script, on a machine that does something else as well.
const COMPILED: Duration = Duration::from_secs(90);

const FOLDER: &str = "ping_interval = \"off\"\nfilters_folder = \"chat.d\"\nremoval_grace = \"1s\"";
const BY_NAME: &str = "ping_interval = \"off\"\nfilters = [\"count\"]";

const REDACT: &str = r#"import { replace } from "wsgate";

export default class {
  onMessageToUpstream(message) {
    return replace(message.replace(/\d{16}/g, "[redacted]"));
  }
}
"#;

/// Counts the messages of a connection, over reloads.
fn count(version: &str) -> String {
    format!(
        r#"
const {{ replace }} = wsgate;
export default class {{
  count = 0;
  onMessageToUpstream(message) {{
    this.count += 1;
    return replace(`${{message}} #${{this.count}} {version}`);
  }}
  save() {{ return this.count; }}
  resume(state) {{ this.count = state; }}
}}
"#
    )
}

/// Where `make js-compiler` puts it, and the gateway looks for it.
fn compiler() -> PathBuf {
    let path = Path::new(env!("CARGO_BIN_EXE_wsgate")).with_file_name("wsgate-js");
    assert!(path.is_file(), "{} is not there; run `make js-compiler`", path.display());
    path
}

fn setup() -> Setup {
    compiler();
    let setup = Setup::new();
    fs::create_dir(setup.path("chat.d")).unwrap();
    setup
}

fn say(wire: &mut Wire, text: &str) -> String {
    wire.text(text);
    wire.next_text()
}

/// A gateway with `count.js`, and an open connection that said one thing.
fn counting() -> (Gateway, Wire) {
    let setup = setup();
    setup.publish("filters/count.js", count("v1").as_bytes());
    let gateway = setup.start(&format!("{ECHO}\n{BY_NAME}"));
    let mut wire = Wire::open(gateway.address(), "/echo");
    assert_eq!(say(&mut wire, "m"), "m #1 v1");
    (gateway, wire)
}

/// Publishes a script that is refused for this reason; the one before serves on.
fn is_refused(script: &str, because: &[&str]) {
    let (gateway, mut wire) = counting();
    let before = gateway.filter("count")["generation"].clone();
    gateway.folder().publish("filters/count.js", script.as_bytes());
    until("it is refused", COMPILED, || gateway.filter("count")["state"] == "failed");
    let status = gateway.filter("count");
    let error = status["error"].as_str().unwrap();
    assert!(because.iter().all(|part| error.contains(part)), "{error}");
    assert_eq!(status["generation"], before);
    gateway.wait_log(&[&["ERROR", "last good one serves on"], because].concat());
    let mut ls = Command::new(env!("CARGO_BIN_EXE_wsgate"));
    let ls = ls.args(["filter", "ls", "--admin", &format!("http://{}", gateway.admin())]).output().unwrap();
    let listed = String::from_utf8(ls.stdout).unwrap();
    assert!(because.iter().all(|part| listed.contains(part)), "{listed}");
    assert_eq!(say(&mut wire, "m"), "m #2 v1");
    // The next one that is sound is loaded.
    gateway.folder().publish("filters/count.js", count("v2").as_bytes());
    until("the good one serves", COMPILED, || gateway.filter("count")["state"] == "serving");
    assert_eq!(say(&mut wire, "m"), "m #3 v2");
}

#[test]
fn a_script_dropped_into_the_folder_joins_open_connections() {
    let gateway = setup().start(&format!("{ECHO}\n{FOLDER}"));
    let mut wire = Wire::open(gateway.address(), "/echo");
    assert_eq!(say(&mut wire, "card 4111111111111111"), "card 4111111111111111");
    for (what, replacement) in [("dropped in", "[redacted]"), ("saved again", "[hidden]"), ("and again", "[gone]")] {
        let script = REDACT.replace("[redacted]", replacement);
        let saved = Instant::now();
        gateway.folder().publish("chat.d/20-redact.js", script.as_bytes());
        let changed = format!("card {replacement}");
        until("the script serves", COMPILED, || say(&mut wire, "card 4111111111111111") == changed);
        println!("figure: a script {what}: {:?} until the first changed message", saved.elapsed());
    }
}

#[test]
fn an_edited_script_goes_on_with_the_state_of_open_connections() {
    let (gateway, mut wire) = counting();
    gateway.folder().publish("filters/count.js", count("v2").as_bytes());
    let mut messages = 1;
    until("v2 serves", COMPILED, || {
        messages += 1;
        let answer = say(&mut wire, "m");
        assert!(answer.starts_with(&format!("m #{messages} v")), "{answer}");
        answer.ends_with("v2")
    });
}

#[test]
fn a_syntax_error_is_told_with_its_line_and_the_old_one_serves() {
    is_refused("const a = 1;\nconst b = ;\n", &["count.js:2:11", "unexpected token"]);
}

#[test]
fn what_a_top_level_throws_is_told_with_its_line() {
    is_refused("const a = 1;\n\nthrow new Error(`no ${a}`);\n", &["count.js:3:", "no 1"]);
}

#[test]
fn a_file_by_itself_imports_the_sdk_and_no_other() {
    is_refused("import fs from \"./other.js\";\n", &["count.js", "./other.js", "wsgate filter new --lang js"]);
}

#[test]
fn a_script_that_is_no_filter_is_told_what_is_missing() {
    is_refused("const a = 1;\n", &["count.js", "a filter needs"]);
}

#[test]
fn a_script_that_wants_all_memory_is_stopped() {
    is_refused("const all = [];\nfor (;;) all.push(new Array(100000).fill(1));\n", &["count.js:2:", "out of memory"]);
}

#[test]
fn a_script_that_recurses_for_ever_is_stopped() {
    is_refused("function f() { return f() + 1; }\nf();\n", &["count.js", "nested too deeply"]);
}

#[test]
fn a_script_that_loops_for_ever_is_stopped_in_a_process_with_limits() {
    let (gateway, mut wire) = counting();
    gateway.folder().publish("filters/count.js", b"let n = 0;\nfor (;;) n += 1;\n");
    let mut found: Option<Descendant> = None;
    until("it is compiled", SOON, || {
        let all = children(gateway.pid());
        found = all.into_iter().find(|child| comm(child.pid) == "wsgate-js");
        found.is_some()
    });
    let child = found.unwrap();
    let limits = fs::read_to_string(format!("/proc/{}/limits", child.pid)).unwrap();
    for (name, hard) in [("Max cpu time", "61"), ("Max address space", "2147483648"), ("Max open files", "16")] {
        let line = limits.lines().find_map(|line| line.strip_prefix(name)).unwrap();
        assert_eq!(line.split_whitespace().nth(1), Some(hard), "{limits}");
    }
    assert_eq!((child.group, child.niceness), (child.pid, 5));
    let status = fs::read_to_string(format!("/proc/{}/status", child.pid)).unwrap();
    assert!(status.contains("NoNewPrivs:\t1"), "{status}");
    let mut messages = 1;
    until("it is refused", COMPILED, || {
        messages += 1;
        assert_eq!(say(&mut wire, "m"), format!("m #{messages} v1"));
        gateway.filter("count")["state"] == "failed"
    });
    let status = gateway.filter("count");
    assert!(status["error"].as_str().unwrap().contains("does it loop for ever?"), "{status}");
    assert!(!is_alive(child.pid));
}

#[test]
fn a_check_of_the_configuration_compiles_its_scripts() {
    let setup = setup();
    let config = format!("[[listeners]]\naddress = \"127.0.0.1:0\"\n{ECHO}\n{FOLDER}");
    fs::write(setup.path("wsgate.toml"), config).unwrap();
    let check = || {
        let mut check = Command::new(env!("CARGO_BIN_EXE_wsgate"));
        let output = check.arg("check").arg("--config").arg(setup.path("wsgate.toml")).output().unwrap();
        (output.status.code(), String::from_utf8(output.stderr).unwrap())
    };
    setup.publish("chat.d/20-redact.js", REDACT.as_bytes());
    assert_eq!(check(), (Some(0), String::new()));
    setup.publish("chat.d/30-wrong.js", b"\nlet = ;");
    let (code, said) = check();
    assert_eq!(code, Some(78));
    assert!(said.contains("chat.d/30-wrong.js: 30-wrong.js:2:5: "), "{said}");
}

fn comm(pid: u32) -> String {
    fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default().trim().to_owned()
}

#[test]
fn a_gateway_that_is_killed_leaves_no_script_running() {
    let (gateway, _wire) = counting();
    gateway.folder().publish("filters/count.js", b"for (;;);\n");
    let mut found = Vec::new();
    until("it is compiled", SOON, || {
        found = children(gateway.pid());
        found.iter().any(|child| comm(child.pid) == "wsgate-js")
    });
    let _folder = gateway.kill();
    until("no child is left", SOON, || !found.iter().any(|child| is_alive(child.pid)));
}

#[test]
fn a_restart_needs_no_compiler_for_what_was_compiled() {
    let setup = setup();
    fs::create_dir(setup.path("bin")).unwrap();
    symlink(compiler(), setup.path("bin/wsgate-js")).unwrap();
    setup.publish("filters/count.js", count("v1").as_bytes());
    let server = "[server]\nstate_dir = \"state\"\njs_compiler = \"bin/wsgate-js\"\n";
    let config = format!("{server}{ECHO}\n{BY_NAME}");
    let setup = setup.start(&config).kill();
    fs::remove_file(setup.path("bin/wsgate-js")).unwrap();
    let begin = Instant::now();
    let gateway = setup.start(&config);
    println!("figure: start with a compiled script: {:?}", begin.elapsed());
    let compilations = |result| gateway.metrics().sum("wsgate_filter_compilations_total", &[("result", result)]);
    assert_eq!((compilations("cached"), compilations("compiled")), (1.0, 0.0));
    let mut wire = Wire::open(gateway.address(), "/echo");
    assert_eq!(say(&mut wire, "m"), "m #1 v1");
    // What is new cannot be compiled, and it is said why.
    gateway.folder().publish("filters/count.js", count("v2").as_bytes());
    until("it fails", SOON, || gateway.filter("count")["state"] == "failed");
    let status = gateway.filter("count");
    let error = status["error"].as_str().unwrap();
    assert!(error.contains("wsgate-js") && error.contains("bin/wsgate-js") && error.contains("js_compiler"), "{error}");
    assert_eq!(say(&mut wire, "m"), "m #2 v1");
}

#[test]
fn another_compiler_compiles_anew() {
    let setup = setup();
    setup.publish("bin/wsgate-js", &[&fs::read(compiler()).unwrap()[..], b"\n"].concat());
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    fs::set_permissions(setup.path("bin/wsgate-js"), mode).unwrap();
    setup.publish("filters/count.js", count("v1").as_bytes());
    let config = format!("[server]\nstate_dir = \"state\"\n{ECHO}\n{BY_NAME}");
    let made = |setup: &Setup| {
        let files = fs::read_dir(setup.path("state/compiled")).unwrap().map(|entry| entry.unwrap().file_name());
        files.filter(|name| name.to_str().unwrap().ends_with(".component")).count()
    };
    let setup = setup.start(&config).kill();
    assert_eq!(made(&setup), 1);
    let setup = setup.start(&config).kill();
    assert_eq!(made(&setup), 1);
    let other = config.replace("state_dir", "js_compiler = \"bin/wsgate-js\"\nstate_dir");
    let setup = setup.start(&other).kill();
    assert_eq!(made(&setup), 2);
}

#[test]
fn a_script_and_a_component_of_one_name_are_refused() {
    // While it runs: what serves goes on.
    let (gateway, mut wire) = counting();
    gateway.folder().publish("filters/count.wasm", &guest("stamp"));
    gateway.wait_log(&["ERROR", "count.js", "count.wasm has the same name"]);
    until("it is shown as failed", SOON, || gateway.filter("count")["state"] == "failed");
    assert_eq!(say(&mut wire, "m"), "m #2 v1");
    // One of the two goes, and the other is the filter: until it serves, what served does.
    fs::remove_file(gateway.folder().path("filters/count.js")).unwrap();
    until("the component serves", COMPILED, || {
        let said = say(&mut Wire::open(gateway.address(), "/echo"), "m");
        assert!(said.starts_with("m #1"), "{said}: no filter served");
        said == "m #1"
    });
    // The component cannot read what the script saved: the connection stays with the script.
    assert_eq!(say(&mut wire, "m"), "m #3 v1");
    // At the start.
    let setup = gateway.kill();
    setup.publish("filters/count.js", count("v1").as_bytes());
    let failure = setup.fails(&format!(
        "[server]\nfilter_dir = \"filters\"\n[[listeners]]\naddress = \"127.0.0.1:0\"\n{ECHO}\n{BY_NAME}"
    ));
    assert!(failure.stderr.contains("count.js") && failure.stderr.contains("remove one"), "{}", failure.stderr);
    // In a folder of a route.
    setup.publish("chat.d/10-count.js", count("v1").as_bytes());
    setup.publish("chat.d/20-count.wasm", &guest("stamp"));
    fs::remove_file(setup.path("filters/count.js")).unwrap();
    let mut process = setup.launch(&format!("{ECHO}\n{FOLDER}"));
    assert_eq!(process.wait_exit(SOON).code(), Some(1));
    assert!(process.stderr.text().contains("are both the filter \"count\""), "{}", process.stderr.text());
}
