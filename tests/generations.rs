//! What operators do with generations while connections are open: roll one back, leave a filter out, keep clients away.

use std::process::{Command, Output};

use serde_json::{Value, json};

use crate::support::{Gateway, SOON, Setup, guest, http, until, upstream::ECHO, wire, wire::Wire};

const STAMP: &str = "filters = [\"stamp\"]\n[filters.stamp]\nconfig = { show_version = true }\n";

fn stamp() -> Gateway {
    Setup::new().guest("filters/stamp.wasm", "stamp").start(&format!("{ECHO}{STAMP}"))
}

fn say(wire: &mut Wire, text: &str) -> String {
    wire.text(text);
    wire.next_text()
}

/// Runs `wsgate filter …` against this gateway.
fn cli(gateway: &Gateway, arguments: &[&str]) -> Output {
    let admin = format!("http://{}", gateway.admin());
    Command::new(env!("CARGO_BIN_EXE_wsgate")).arg("filter").args(arguments).args(["--admin", &admin]).output().unwrap()
}

fn stdout(output: &Output) -> String {
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout.clone()).unwrap()
}

/// Replaces the file and waits until that generation serves.
fn reload(gateway: &Gateway, bytes: &[u8]) {
    let before = gateway.filter("stamp")["generation"].clone();
    gateway.folder().publish("filters/stamp.wasm", bytes);
    until("the other generation serves", SOON, || gateway.filter("stamp")["generation"] != before);
}

fn parsed(response: &http::Response) -> Value {
    serde_json::from_str(&response.body).unwrap_or_else(|error| panic!("{error}: {response:?}"))
}

#[test]
fn open_connections_go_back_and_count_on() {
    let gateway = stamp();
    let mut open: Vec<_> = (0..10).map(|_| Wire::open(gateway.address(), "/echo")).collect();
    let mut silent = Wire::open(gateway.address(), "/echo");
    for wire in &mut open {
        assert_eq!(say(wire, "m"), "m #1 v1");
    }
    let first = gateway.filter("stamp")["generation"].clone();
    reload(&gateway, &guest("stamp-v2"));
    for wire in &mut open {
        assert_eq!(say(wire, "m"), "m #2 v2");
    }
    let answer = gateway.order("POST", "/v1/filters/stamp/rollback", "{}");
    assert_eq!(answer.status, 200, "{answer:?}");
    let done = &parsed(&answer)["rolled_back"][0];
    assert_eq!((&done["to"], &done["persisted"]), (&first, &json!(false)));
    // From the very next message on.
    for wire in &mut open {
        assert_eq!(say(wire, "m"), "m #3 v1");
    }
    assert_eq!(say(&mut silent, "m"), "m #1 v1");
    assert_eq!(say(&mut Wire::open(gateway.address(), "/echo"), "m"), "m #1 v1");
    let stamp = gateway.filter("stamp");
    assert_eq!((&stamp["state"], &stamp["generation"]), (&json!("quarantined"), &first));
    assert!(stamp["error"].as_str().unwrap().contains("quarantined by rollback"), "{stamp}");
    gateway.wait_log(&["filter rolled back", "stamp"]);
    until("the bad generation is gone", SOON, || gateway.filter("stamp")["generations"].as_array().unwrap().len() == 1);
    gateway.wait_metric("wsgate_filter_reloads_total", &[("filter", "stamp"), ("result", "rollback")], 1.0);

    let again = gateway.order("POST", "/v1/filters/stamp/rollback", "{}");
    assert_eq!(again.status, 409, "{again:?}");
    assert_eq!(again.header("content-type"), Some("application/problem+json"));
    assert_eq!(gateway.order("POST", "/v1/filters/nobody/rollback", "{}").status, 404);

    // The quarantine is lifted: the file that lies there is loaded, and the count goes on.
    let sha256 = stamp["quarantine"][0]["sha256"].as_str().unwrap().to_owned();
    let lifted = gateway.order("DELETE", &format!("/v1/filters/stamp/quarantine/{sha256}"), "");
    assert_eq!(lifted.status, 200, "{lifted:?}");
    until("it is loaded", SOON, || say(&mut open[0], "m").ends_with("v2"));
    let count = |text: String| text.split(['#', ' ']).nth(2).unwrap().parse::<u64>().unwrap();
    assert!(count(say(&mut open[0], "m")) >= 5);
    assert_eq!(say(&mut open[1], "m"), "m #4 v2");
}

#[test]
fn a_quarantine_outlives_the_process_and_another_file_ends_it() {
    let config = format!("[server]\nstate_dir = \"state\"\n{ECHO}{STAMP}");
    let setup = Setup::new().guest("filters/stamp.wasm", "stamp");
    let mut gateway = setup.start(&config);
    reload(&gateway, &guest("stamp-v2"));
    let answer = gateway.order("POST", "/v1/filters/stamp/rollback", "");
    assert_eq!(parsed(&answer)["rolled_back"][0]["persisted"], true, "{answer:?}");
    gateway.signal(rustix::process::Signal::KILL);
    gateway.wait_exit(SOON);

    let gateway = gateway.into_folder().start(&config);
    gateway.wait_log(&["quarantined by rollback", "not live"]);
    let stamp = gateway.filter("stamp");
    assert_eq!((&stamp["state"], &stamp["generation"]), (&json!("quarantined"), &Value::Null), "{stamp}");
    let ready = http::get(gateway.admin(), "/readyz");
    assert_eq!((ready.status, ready.body.contains("filter")), (503, true), "{ready:?}");
    let mut refused = Wire::connect(gateway.address());
    assert_eq!(refused.ask(&wire::request(gateway.address(), "/echo")).status, 503);

    gateway.folder().publish("filters/stamp.wasm", &guest("stamp"));
    until("it is ready", SOON, || http::get(gateway.admin(), "/readyz").status == 200);
    let mut wire = Wire::open(gateway.address(), "/echo");
    assert_eq!(say(&mut wire, "m"), "m #1 v1");
    // What was rolled back from is still kept out.
    gateway.folder().publish("filters/stamp.wasm", &guest("stamp-v2"));
    until("it is kept out", SOON, || gateway.filter("stamp")["state"] == "quarantined");
    assert_eq!(say(&mut wire, "m"), "m #2 v1");
}

#[test]
fn a_filter_is_left_out_between_two_messages_of_open_connections() {
    let gateway = stamp();
    let mut open: Vec<_> = (0..10).map(|_| Wire::open(gateway.address(), "/echo")).collect();
    for wire in &mut open {
        assert_eq!(say(wire, "m"), "m #1 v1");
    }
    assert_eq!(stdout(&cli(&gateway, &["mode", "stamp", "bypass"])), "stamp: bypass (was serve)\n");
    for wire in &mut open {
        assert_eq!(say(wire, "m"), "m");
    }
    let mut opened_meanwhile = Wire::open(gateway.address(), "/echo");
    assert_eq!(say(&mut opened_meanwhile, "m"), "m");
    gateway.wait_metric("wsgate_filter_mode", &[("filter", "stamp"), ("mode", "bypass")], 1.0);
    gateway.wait_log(&["mode of a filter", "bypass"]);
    // A reload meanwhile changes nothing of it.
    reload(&gateway, &guest("stamp-v2"));
    assert_eq!(say(&mut open[0], "m"), "m");
    let answer = gateway.order("POST", "/v1/filters/stamp/mode", r#"{"mode":"serve"}"#);
    assert_eq!(answer.status, 200, "{answer:?}");
    for wire in &mut open {
        assert_eq!(say(wire, "m"), "m #2 v2");
    }
    assert_eq!(say(&mut opened_meanwhile, "m"), "m #1 v2");
    assert_eq!(gateway.metrics().sum("wsgate_filter_faults_total", &[]), 0.0);
}

#[test]
fn a_filter_that_refuses_keeps_new_clients_away_and_closes_nothing() {
    let gateway = stamp();
    let mut open = Wire::open(gateway.address(), "/echo");
    stdout(&cli(&gateway, &["mode", "stamp", "refuse"]));
    let mut refused = Wire::connect(gateway.address());
    let answer = refused.ask(&wire::request(gateway.address(), "/echo"));
    assert_eq!(answer.status, 503);
    assert!(answer.header("retry-after").is_some(), "{answer:?}");
    assert_eq!(say(&mut open, "m"), "m #1 v1");
    stdout(&cli(&gateway, &["mode", "stamp", "serve"]));
    assert_eq!(say(&mut Wire::open(gateway.address(), "/echo"), "m"), "m #1 v1");
}

#[test]
fn the_command_line_lists_filters_and_rolls_one_back() {
    let gateway = stamp();
    let _wire = Wire::open(gateway.address(), "/echo");
    let list = stdout(&cli(&gateway, &["ls"]));
    let line = list.lines().find(|line| line.starts_with("stamp ")).unwrap_or_else(|| panic!("{list}"));
    let cells: Vec<_> = line.split_whitespace().collect();
    assert_eq!((cells[1], cells[2], cells[4]), ("serving", "serve", "1"), "{list}");
    let json: Value = serde_json::from_str(&stdout(&cli(&gateway, &["ls", "--json"]))).unwrap();
    assert_eq!(json, gateway.filters());

    let nothing = cli(&gateway, &["rollback", "stamp"]);
    assert_eq!(nothing.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&nothing.stderr).contains("nothing to roll back to"), "{nothing:?}");
    reload(&gateway, &guest("stamp-v2"));
    let done = stdout(&cli(&gateway, &["rollback", "stamp"]));
    assert!(done.contains("serves again") && done.contains("stamp.wasm"), "{done}");
    assert_eq!(gateway.filter("stamp")["state"], "quarantined");
}

#[test]
fn the_command_line_says_who_did_not_answer() {
    let gateway = Gateway::start(ECHO);
    let filter_ls = |admin: &str| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_wsgate"));
        let output = command.args(["filter", "ls", "--admin", admin]).output().unwrap();
        assert_eq!(output.status.code(), Some(1), "{output:?}");
        String::from_utf8(output.stderr).unwrap()
    };
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let said = filter_ls(&format!("http://{nobody}"));
    assert!(said.contains(&format!("nobody answers on http://{nobody}")), "{said}");
    // The listener for clients answers, but not like the admin API.
    let said = filter_ls(&format!("http://{}", gateway.address()));
    assert!(said.contains("not the admin API") && said.contains("426"), "{said}");
}
