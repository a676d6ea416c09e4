//! The Autobahn cases 1-7 and 10, as kosoku runs them: against the echo target, against a proxied npm `ws` (compared
//! with what that server does when asked directly), and against the gateway as a client of kosoku's own server.

use std::{collections::BTreeMap, process::Command, time::Duration};

use tempfile::TempDir;

use crate::support::{
    Gateway,
    peer::{NodeWs, PeerServer, python},
    process::Process,
    upstream::{ECHO, route_to},
};

/// Behaviour and behaviour at the close, by case.
type Verdicts = BTreeMap<String, (String, String)>;

/// Groups 9 (mass), 12 and 13 (compression) are not asked for.
const LEFT_OUT: [&str; 6] = ["-x", "9.*", "-x", "12.*", "-x", "13.*"];
const CASES: usize = 247;

fn kosoku(mode: &str, address: &str, report: &TempDir) -> Command {
    let mut command = Command::new(python().with_file_name("kosoku"));
    command.args(["-m", mode]).args(LEFT_OUT).arg("-o").arg(report.path()).arg(address);
    command
}

fn verdicts(report: &TempDir) -> Verdicts {
    let index = std::fs::read_to_string(report.path().join("index.json")).expect("kosoku's report");
    let index: serde_json::Value = serde_json::from_str(&index).unwrap();
    let cases = index.as_object().unwrap().values().flat_map(|agent| agent.as_object().unwrap());
    let text = |value: &serde_json::Value| value.as_str().unwrap().to_owned();
    cases.map(|(id, case)| (id.clone(), (text(&case["behavior"]), text(&case["behaviorClose"])))).collect()
}

/// Drives all cases against a server.
fn of_server(address: &str) -> Verdicts {
    let report = TempDir::new().unwrap();
    let output = kosoku("fuzzingclient", address, &report).output().unwrap();
    let verdicts = verdicts(&report);
    assert_eq!(verdicts.len(), CASES, "{}", String::from_utf8_lossy(&output.stderr));
    verdicts
}

fn failed(verdicts: &Verdicts) -> Vec<String> {
    let bad = |verdict: &str| !matches!(verdict, "OK" | "NON-STRICT" | "INFORMATIONAL" | "UNIMPLEMENTED");
    let failed = verdicts.iter().filter(|(_, (behaviour, close))| bad(behaviour) || bad(close));
    failed.map(|(id, (behaviour, close))| format!("{id}: {behaviour} / {close}")).collect()
}

fn summary(verdicts: &Verdicts) -> String {
    let mut counts = BTreeMap::new();
    for (behaviour, _) in verdicts.values() {
        *counts.entry(behaviour.as_str()).or_insert(0) += 1;
    }
    format!("{counts:?}")
}

#[test]
fn the_echo_target_passes_every_case() {
    let gateway = Gateway::start(&ECHO.replace("/echo", "/*"));
    let verdicts = of_server(&gateway.address().to_string());
    println!("figure: autobahn, echo target: {}", summary(&verdicts));
    assert_eq!(failed(&verdicts), Vec::<String>::new());
    gateway.wait_empty();
}

#[test]
fn a_proxied_server_fails_nothing_that_it_passes_alone() {
    let server = PeerServer::start(NodeWs);
    let alone = of_server(server.url("").strip_prefix("ws://").unwrap());
    let gateway = Gateway::start(&route_to(&server.url("")));
    let proxied = of_server(&gateway.address().to_string());
    println!("figure: autobahn, ws alone: {}; through the gateway: {}", summary(&alone), summary(&proxied));
    let alone = failed(&alone);
    let worse: Vec<String> = failed(&proxied).into_iter().filter(|case| !alone.contains(case)).collect();
    assert_eq!(worse, Vec::<String>::new(), "the server alone fails {alone:?}");
    gateway.wait_empty();
}

/// kosoku is the upstream: each path is a case that it plays towards the gateway. A client at the other side echoes, as
/// Autobahn asks of clients, so that the gateway's upstream leg is what is judged.
#[test]
fn the_upstream_side_passes_every_case_that_a_client_passes_alone() {
    let alone = of_client(None);
    let proxied = of_client(Some(()));
    println!("figure: autobahn, ws client alone: {}; through the gateway: {}", summary(&alone), summary(&proxied));
    assert_eq!(proxied.len(), alone.len());
    let alone = failed(&alone);
    let worse: Vec<String> = failed(&proxied).into_iter().filter(|case| !alone.contains(case)).collect();
    assert_eq!(worse, Vec::<String>::new(), "the client alone fails {alone:?}");
}

/// Lets an echoing client play every case against kosoku's server, through a gateway or not.
fn of_client(gateway: Option<()>) -> Verdicts {
    let report = TempDir::new().unwrap();
    let mut server = Process::start("kosoku", &mut kosoku("fuzzingserver", "127.0.0.1:0", &report));
    let url = server.stderr.wait(Duration::from_secs(10), |lines| {
        lines.iter().find_map(|line| line.split_once("listening on ").map(|(_, url)| url.trim().to_owned()))
    });
    let direct = url.expect("kosoku's address");
    let gateway = gateway.map(|()| Gateway::start(&route_to(&direct)));
    let url = gateway.as_ref().map_or(direct, |gateway| gateway.url(""));
    let played = NodeWs.command("autobahn").arg(url).output().unwrap();
    assert!(played.status.success(), "{}", String::from_utf8_lossy(&played.stderr));
    server.wait_exit(Duration::from_secs(20));
    verdicts(&report)
}
