//! More clients than the process has file descriptors.

use std::time::{Duration, Instant};

use crate::support::{
    Gateway, Setup, http, until,
    upstream::ECHO,
    wire::{self, Wire},
};

const LIMIT: usize = 256;
const RESERVED: usize = 64;

fn open(gateway: &Gateway) -> Option<Wire> {
    let mut wire = Wire::connect(gateway.address());
    wire.stream.set_read_timeout(Some(Duration::from_secs(2))).unwrap();
    wire.write(format!("{}\r\n\r\n", wire::request(gateway.address(), "/echo").join("\r\n")).as_bytes());
    wire.head().map(|_| wire)
}

/// Clock ticks of processor time, a hundred a second.
fn ticks(gateway: &Gateway) -> u64 {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", gateway.pid())).unwrap();
    let fields: Vec<&str> = stat.rsplit_once(')').unwrap().1.split_whitespace().collect();
    fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()
}

#[test]
fn out_of_descriptors_accepting_pauses_and_the_admin_api_answers() {
    let gateway = Setup::new().start_limited(&format!("ulimit -n {LIMIT}"), ECHO);
    let mut held = Vec::new();
    while let Some(wire) = open(&gateway) {
        held.push(wire);
        assert!(held.len() < LIMIT, "no limit was met");
    }
    assert!(gateway.fds() <= LIMIT - RESERVED + 8, "{} descriptors, {} clients", gateway.fds(), held.len());
    gateway.wait_log(&["too few file descriptors are left"]);
    // More knock all the time; nothing spins.
    let (began, before) = (Instant::now(), ticks(&gateway));
    let knocking: Vec<Wire> = (0..50).map(|_| Wire::connect(gateway.address())).collect();
    while began.elapsed() < Duration::from_secs(2) {
        for path in ["/livez", "/readyz", "/metrics"] {
            assert_eq!(http::get(gateway.admin(), path).status, 200, "{path}");
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    let spent = ticks(&gateway) - before;
    assert!(spent < 60, "{spent} ticks in two seconds");
    assert!(gateway.metrics().sum("wsgate_listener_failures_total", &[("reason", "descriptors")]) > 0.0);
    for wire in &mut held {
        wire.text("still here");
        assert_eq!(wire.next_text(), "still here");
    }
    drop(knocking);
    held.truncate(10);
    until("clients are taken again", Duration::from_secs(10), || open(&gateway).is_some());
    drop(held);
    gateway.wait_empty();
}

#[test]
fn a_low_soft_limit_is_raised() {
    let gateway = Setup::new().start_limited("ulimit -Sn 128; ulimit -Hn 1024", ECHO);
    let held: Vec<Wire> = (0..300).map(|_| Wire::open(gateway.address(), "/echo")).collect();
    assert_eq!(held.len(), 300);
}
