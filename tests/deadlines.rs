//! Time: who is silent, who does not take what is sent, and who has been here long enough.

use std::{
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};

use crate::support::{
    Gateway, SOON,
    upstream::{ECHO, HandMade, route_to},
    wire::{BINARY, PING, PONG, Wire},
};

const PINGED: &str = "ping_interval = \"200ms\"\npong_timeout = \"300ms\"";

/// The end of a connection as the metrics and the log have it.
fn counted(gateway: &Gateway, code: &str, reason: &str) {
    gateway.wait_metric("wsgate_closes_total", &[("code", code), ("by", "gateway")], 1.0);
    gateway.wait_log(&[reason]);
    gateway.wait_empty();
}

#[test]
fn a_client_that_answers_no_ping_is_closed_for_that_reason() {
    let gateway = Gateway::start(&format!("{ECHO}\n{PINGED}"));
    let opened = Instant::now();
    let mut wire = Wire::open(gateway.address(), "/echo");
    assert_eq!(wire.next().unwrap().opcode(), PING);
    assert_eq!(wire.next_close().0, 1001);
    assert!(opened.elapsed() >= Duration::from_millis(500), "closed after {:?}", opened.elapsed());
    assert!(opened.elapsed() < Duration::from_secs(5), "closed after {:?}", opened.elapsed());
    counted(&gateway, "1001", "client_pong_timeout");
}

#[test]
fn a_client_that_answers_pings_stays() {
    let gateway = Gateway::start(&format!("{ECHO}\n{PINGED}"));
    let mut wire = Wire::open(gateway.address(), "/echo");
    for _ in 0..10 {
        let ping = wire.next().unwrap();
        assert_eq!(ping.opcode(), PING);
        wire.send(PONG, &ping.payload);
    }
    wire.text("still here");
    assert_eq!(wire.next_text(), "still here");
}

#[test]
fn an_upstream_that_answers_no_ping_is_1011_for_the_client() {
    let upstream = HandMade::start(|mut wire| {
        wire.accept("");
        while wire.next().is_some() {}
    });
    let gateway = Gateway::start(&format!("{}\n{PINGED}", route_to(&upstream.url())));
    let mut wire = Wire::open(gateway.address(), "/");
    // The client itself answers, so that only the upstream is to blame.
    loop {
        let frame = wire.next().unwrap();
        match frame.opcode() {
            PING => assert!(wire.send(PONG, &frame.payload)),
            _ => break assert_eq!(frame.close().0, 1011),
        }
    }
    counted(&gateway, "1011", "upstream_pong_timeout");
}

#[test]
fn a_connection_without_messages_is_closed_at_idle_timeout() {
    let gateway = Gateway::start(&format!("{ECHO}\nidle_timeout = \"600ms\""));
    let mut wire = Wire::open(gateway.address(), "/echo");
    for _ in 0..6 {
        thread::sleep(Duration::from_millis(200));
        wire.text("not idle");
        assert_eq!(wire.next_text(), "not idle");
    }
    let last = Instant::now();
    assert_eq!(wire.next_close().0, 1001);
    assert!(last.elapsed() >= Duration::from_millis(500), "closed after {:?}", last.elapsed());
    counted(&gateway, "1001", "idle_timeout");
}

#[test]
fn a_busy_connection_is_closed_at_max_connection_duration() {
    let gateway = Gateway::start(&format!("{ECHO}\nmax_connection_duration = \"700ms\""));
    let opened = Instant::now();
    let mut wire = Wire::open(gateway.address(), "/echo");
    let code = loop {
        wire.text("busy");
        let frame = wire.next().unwrap();
        if frame.opcode() != 1 {
            break frame.close().0;
        }
    };
    assert_eq!(code, 1001);
    let age = opened.elapsed();
    assert!(age > Duration::from_millis(600) && age < Duration::from_secs(5), "closed after {age:?}");
    counted(&gateway, "1001", "max_connection_duration");
}

#[test]
fn a_client_that_takes_nothing_is_closed_at_send_timeout() {
    let upstream = HandMade::start(|mut wire| {
        wire.accept("");
        while wire.send(BINARY, &[0; 65_536]) {}
    });
    let limits = "send_timeout = \"700ms\"\nupstream_max_payload = \"1MiB\"\nqueue_max_size = \"1MiB\"";
    let gateway = Gateway::start(&format!("{}\n{limits}", route_to(&upstream.url())));
    let _never_reads = Wire::open(gateway.address(), "/");
    counted(&gateway, "1008", "client_send_timeout");
    gateway.wait_metric("wsgate_upstream_connections", &[], 0.0);
}

#[test]
fn a_client_that_takes_little_by_little_stays() {
    let upstream = HandMade::start(|mut wire| {
        wire.accept("");
        while wire.send(BINARY, &[0; 65_536]) {}
    });
    let limits = "send_timeout = \"1s\"\nupstream_max_payload = \"1MiB\"\nqueue_max_size = \"1MiB\"";
    let gateway = Gateway::start(&format!("{}\n{limits}", route_to(&upstream.url())));
    let mut wire = Wire::open(gateway.address(), "/");
    let began = Instant::now();
    // Enough at a time that TCP opens its window again, and never all that is there.
    while began.elapsed() < Duration::from_secs(4) {
        for _ in 0..32 {
            assert_eq!(wire.next().expect("still open").opcode(), BINARY);
        }
        thread::sleep(Duration::from_millis(150));
    }
    assert_eq!(gateway.metrics().sum("wsgate_closes_total", &[]), 0.0);
}

#[test]
fn an_upstream_that_takes_nothing_pauses_its_client_and_is_1011_at_send_timeout() {
    let (done, hold) = mpsc::sync_channel::<()>(1);
    let hold = std::sync::Mutex::new(hold);
    let upstream = HandMade::start(move |mut wire| {
        wire.accept("");
        let _ = hold.lock().unwrap().recv_timeout(SOON * 3);
    });
    let limits = "send_timeout = \"700ms\"\nupstream_max_payload = \"1MiB\"\nqueue_max_size = \"1MiB\"";
    let gateway = Gateway::start(&format!("{}\n{limits}", route_to(&upstream.url())));
    let mut wire = Wire::open(gateway.address(), "/");
    let reader = wire.stream.try_clone().unwrap();
    let flood = thread::spawn(move || while wire.send(BINARY, &[0; 65_536]) {});
    assert_eq!(Wire::client_of(reader).next_close().0, 1011);
    counted(&gateway, "1011", "upstream_send_timeout");
    drop(done);
    flood.join().unwrap();
}
