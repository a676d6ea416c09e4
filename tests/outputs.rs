//! Nobody reads what the gateway writes, or the disk is full: traffic goes on.

use std::{
    fs::File,
    process::Command,
    time::{Duration, Instant},
};

use crate::support::{
    Gateway, SOON, Setup, until,
    upstream::ECHO,
    wire::{self, Wire},
};

fn dropped(gateway: &Gateway) -> f64 {
    gateway.metrics().sum("wsgate_log_lines_dropped_total", &[])
}

/// Each is logged.
fn refused(gateway: &Gateway) {
    let answer = Wire::connect(gateway.address()).ask(&wire::request(gateway.address(), "/nowhere"));
    assert_eq!(answer.status, 404);
}

/// Echoes are as quick as ever.
fn traffic_goes_on(gateway: &Gateway) {
    let mut wire = Wire::open(gateway.address(), "/echo");
    let begun = Instant::now();
    for number in 0..100 {
        wire.text(&format!("message {number}"));
        assert_eq!(wire.next_text(), format!("message {number}"));
    }
    assert!(begun.elapsed() < Duration::from_secs(3), "{:?}", begun.elapsed());
    wire.close(1000, "");
}

#[test]
fn a_full_disk_under_the_log_stops_nothing_and_is_counted() {
    let mut gateway =
        Setup::new().start_limited("exec 2>/dev/full", &format!("[server]\ndrain_delay = \"0s\"\n{ECHO}"));
    for _ in 0..20 {
        refused(&gateway);
    }
    traffic_goes_on(&gateway);
    until("lines are counted", SOON, || dropped(&gateway) >= 20.0);
    gateway.terminate();
    assert!(gateway.wait_exit(SOON).success());
}

#[test]
fn a_log_that_nobody_reads_stops_nothing_and_is_counted() {
    let setup = Setup::new().with_env("WSGATE_LOG", "trace".as_ref());
    let pipe = setup.path("log");
    assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    // Opened both ways, so that nobody waits for the other end; nobody reads from it.
    let held = File::options().read(true).write(true).open(&pipe).unwrap();
    let config = format!("[server]\ndrain_delay = \"0s\"\n{ECHO}");
    let mut gateway = setup.start_limited(&format!("exec 2>'{}'", pipe.display()), &config);
    until("lines are dropped", Duration::from_secs(60), || {
        (0..100).for_each(|_| refused(&gateway));
        dropped(&gateway) > 0.0
    });
    traffic_goes_on(&gateway);
    gateway.terminate();
    // What waits is given up after a second.
    assert!(gateway.wait_exit(SOON).success());
    drop(held);
}

#[test]
fn a_closed_stdout_and_stderr_stop_nothing() {
    let setup = Setup::new();
    let admin = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let config = format!("[admin]\naddress = \"{admin}\"\n[[listeners]]\naddress = \"{listener}\"\n{ECHO}");
    let _process = setup.launch_limited("exec >&- 2>&-", &config);
    until("ready", SOON, || crate::support::http::try_get(admin, "/readyz").is_ok_and(|answer| answer.status == 200));
    let mut wire = Wire::open(listener, "/echo");
    wire.text("hello");
    assert_eq!(wire.next_text(), "hello");
}
