//! `POST /v1/drain`: out of service while the process stays, and back again.

use std::{
    io::Read,
    process::Command,
    time::{Duration, Instant},
};

use serde_json::Value;

use crate::support::{
    Gateway, SOON, http, until,
    upstream::{ECHO, HandMade, route_to},
    wire::{self, Wire},
};

fn gateway(delay: &str, timeout: &str) -> Gateway {
    Gateway::start(&format!("[server]\ndrain_delay = \"{delay}\"\ndrain_timeout = \"{timeout}\"\n{ECHO}"))
}

fn status(gateway: &Gateway) -> Value {
    serde_json::from_str(&http::get(gateway.admin(), "/v1/drain").body).unwrap()
}

fn is_ready(gateway: &Gateway) -> bool {
    http::get(gateway.admin(), "/readyz").status == 200
}

#[test]
fn out_of_service_it_answers_503_and_back_in_service_it_serves() {
    let gateway = gateway("300ms", "1s");
    let mut before = Wire::open(gateway.address(), "/echo");
    assert_eq!(status(&gateway)["phase"], "serving");
    let answer = gateway.order("POST", "/v1/drain", "{}");
    assert_eq!(answer.status, 200, "{}", answer.body);
    let ready = http::get(gateway.admin(), "/readyz");
    assert_eq!((ready.status, ready.body.as_str()), (503, "not ready: draining\n"));
    let mut during = Wire::open(gateway.address(), "/echo");
    for wire in [&mut before, &mut during] {
        let (code, _) = wire.next_close();
        assert_eq!(code, 1001);
        wire.close(code, "");
    }
    until("drained", SOON, || status(&gateway)["phase"] == "drained");
    assert_eq!(status(&gateway)["connections"], 0);
    let refused = Wire::connect(gateway.address()).ask(&wire::request(gateway.address(), "/echo"));
    assert_eq!(refused.status, 503);
    let retry: u32 = refused.header("retry-after").unwrap().parse().unwrap();
    assert!(retry > 0);
    assert_eq!(http::get(gateway.admin(), "/livez").status, 200);
    assert_eq!(gateway.order("DELETE", "/v1/drain", "{}").status, 200);
    until("ready again", SOON, || is_ready(&gateway));
    until("serving again", SOON, || status(&gateway)["phase"] == "serving");
    let mut after = Wire::open(gateway.address(), "/echo");
    after.text("back");
    assert_eq!(after.next_text(), "back");
}

#[test]
fn a_drain_that_is_taken_back_leaves_the_connections_that_it_has_not_reached() {
    let gateway = gateway("0s", "60s");
    let mut wires: Vec<Wire> = (0..40).map(|_| Wire::open(gateway.address(), "/echo")).collect();
    gateway.order("POST", "/v1/drain", "");
    let told = |wire: &Wire| {
        wire.stream.set_read_timeout(Some(Duration::from_millis(1))).unwrap();
        wire.stream.peek(&mut [0]).is_ok_and(|read| read > 0)
    };
    until("some are told to go", SOON, || wires.iter().any(told));
    assert_eq!(gateway.order("DELETE", "/v1/drain", "").status, 200);
    until("serving", SOON, || status(&gateway)["phase"] == "serving");
    let mut stayed = 0;
    for wire in &mut wires {
        wire.stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        wire.text("still here?");
        let frame = wire.next().unwrap();
        if frame.opcode() == wire::TEXT {
            assert_eq!(frame.text(), "still here?");
            stayed += 1;
        } else {
            assert_eq!(frame.close().0, 1001);
        }
    }
    assert!((30..40).contains(&stayed), "{stayed} stayed");
}

#[test]
fn who_never_answers_is_cut_off_by_the_deadline_while_the_process_stays() {
    let gateway = gateway("0s", "2s");
    let mut silent: Vec<Wire> = (0..20).map(|_| Wire::open(gateway.address(), "/echo")).collect();
    let asked = Instant::now();
    gateway.order("POST", "/v1/drain", "{}");
    for wire in &mut silent {
        assert_eq!(wire.next_close().0, 1001);
        // No answer; then the end of the stream.
        assert!(wire.ends(Duration::from_secs(5)));
    }
    assert!(asked.elapsed() < Duration::from_millis(3500), "the last socket ended after {:?}", asked.elapsed());
    until("drained", SOON, || status(&gateway)["connections"] == 0);
    assert_eq!(status(&gateway)["phase"], "drained");
}

#[test]
fn whoever_is_in_the_middle_of_a_handshake_is_answered() {
    let (dialled, dials) = std::sync::mpsc::sync_channel(1);
    let slow = HandMade::start(move |mut wire| {
        dialled.send(()).unwrap();
        std::thread::sleep(Duration::from_secs(1));
        wire.accept("");
        let (code, _) = wire.next_close();
        wire.close(code, "");
    });
    let config = format!("[server]\ndrain_delay = \"0s\"\ndrain_timeout = \"5s\"\n{}", route_to(&slow.url()));
    let mut gateway = Gateway::start(&config);
    let mut asking = Wire::connect(gateway.address());
    asking.write(format!("{}\r\n\r\n", wire::request(gateway.address(), "/").join("\r\n")).as_bytes());
    let mut silent = Wire::connect(gateway.address());
    dials.recv_timeout(SOON).unwrap();
    until("both are in", SOON, || status(&gateway)["connections"] == 2);
    let asked = Instant::now();
    gateway.terminate();
    assert!(asking.head().unwrap().starts_with("HTTP/1.1 101"));
    assert_eq!(asking.next_close().0, 1001);
    asking.close(1001, "");
    drop(asking);
    // It has asked for nothing; it is not waited for until its ten seconds are over.
    let _ = silent.stream.read(&mut [0; 16]);
    assert!(gateway.wait_exit(SOON).success());
    assert!(asked.elapsed() < Duration::from_secs(4), "out after {:?}", asked.elapsed());
}

#[test]
fn a_signal_after_an_order_leads_to_the_end_at_once() {
    let mut gateway = gateway("60s", "60s");
    gateway.order("POST", "/v1/drain", "{}");
    assert_eq!(status(&gateway)["phase"], "delay");
    gateway.signal(rustix::process::Signal::INT);
    assert!(gateway.wait_exit(SOON).success());
}

fn drain(gateway: &Gateway, arguments: &[&str]) -> std::process::Output {
    let url = format!("http://{}", gateway.admin());
    let mut command = Command::new(env!("CARGO_BIN_EXE_wsgate"));
    command.arg("drain").args(["--admin", &url]).args(arguments).output().unwrap()
}

#[test]
fn the_command_drains_waits_and_takes_back() {
    let gateway = gateway("100ms", "1s");
    let _open = Wire::open(gateway.address(), "/echo");
    let output = drain(&gateway, &["--wait"]);
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{text}{}", String::from_utf8_lossy(&output.stderr));
    assert!(text.ends_with("drained: no connections\n"), "{text}");
    assert_eq!(status(&gateway)["phase"], "drained");
    let output = drain(&gateway, &["--status"]);
    assert_eq!(String::from_utf8_lossy(&output.stdout), "drained: no connections\n");
    let output = drain(&gateway, &["--undo"]);
    assert!(output.status.success());
    assert_eq!(String::from_utf8_lossy(&output.stdout), "serving: no connections\n");
    until("ready again", SOON, || is_ready(&gateway));
}
