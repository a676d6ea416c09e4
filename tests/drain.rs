//! SIGTERM: not ready first, still accepting, then closes that are spread out, then exit 0.

use std::{
    thread,
    time::{Duration, Instant},
};

use rustix::process::Signal;

use crate::support::{Gateway, SOON, http, until, upstream::ECHO, wire::Wire};

fn gateway(delay: &str, timeout: &str) -> Gateway {
    Gateway::start(&format!("[server]\ndrain_delay = \"{delay}\"\ndrain_timeout = \"{timeout}\"\n{ECHO}"))
}

fn is_ready(gateway: &Gateway) -> bool {
    http::get(gateway.admin(), "/readyz").status == 200
}

#[test]
fn in_drain_delay_readiness_fails_while_connections_are_still_taken() {
    let mut gateway = gateway("2s", "1s");
    assert!(is_ready(&gateway));
    let mut before = Wire::open(gateway.address(), "/echo");
    let asked = Instant::now();
    gateway.terminate();
    until("not ready", Duration::from_secs(1), || !is_ready(&gateway));
    assert_eq!(http::get(gateway.admin(), "/readyz").status, 503);
    assert_eq!(http::get(gateway.admin(), "/livez").status, 200);
    let mut during = Wire::open(gateway.address(), "/echo");
    for wire in [&mut before, &mut during] {
        wire.text("served while draining");
        assert_eq!(wire.next_text(), "served while draining");
    }
    for wire in [&mut before, &mut during] {
        let (code, _) = wire.next_close();
        assert_eq!(code, 1001);
        wire.close(code, "");
    }
    assert!(asked.elapsed() >= Duration::from_secs(2), "closed after {:?}", asked.elapsed());
    assert!(gateway.wait_exit(SOON).success());
}

#[test]
fn closes_are_spread_over_drain_timeout() {
    let mut gateway = gateway("0s", "3s");
    let wires: Vec<Wire> = (0..60).map(|_| Wire::open(gateway.address(), "/echo")).collect();
    let asked = Instant::now();
    gateway.terminate();
    let threads = wires.into_iter().map(|mut wire| {
        thread::spawn(move || {
            let (code, _) = wire.next_close();
            let at = asked.elapsed();
            wire.close(code, "");
            assert_eq!(code, 1001);
            at
        })
    });
    let threads: Vec<_> = threads.collect();
    let mut closes: Vec<Duration> = threads.into_iter().map(|thread| thread.join().unwrap()).collect();
    closes.sort();
    eprintln!("first close after {:?}, middle {:?}, last {:?}", closes[0], closes[30], closes[59]);
    // Spread: neither all at once, nor most of them at the end.
    assert!(closes[59] - closes[0] > Duration::from_millis(1200), "{closes:?}");
    assert!(closes[30] > Duration::from_millis(500) && closes[30] < Duration::from_millis(2500), "{closes:?}");
    assert!(closes[59] < Duration::from_millis(3500), "{closes:?}");
    assert!(gateway.wait_exit(SOON).success());
}

#[test]
fn clients_that_never_answer_do_not_hold_it_up() {
    let mut gateway = gateway("0s", "1s");
    let _silent: Vec<Wire> = (0..20).map(|_| Wire::open(gateway.address(), "/echo")).collect();
    let asked = Instant::now();
    gateway.terminate();
    assert!(gateway.wait_exit(SOON).success());
    assert!(asked.elapsed() < Duration::from_secs(4), "out after {:?}", asked.elapsed());
}

#[test]
fn without_connections_it_is_out_at_once_after_the_delay() {
    let mut gateway = gateway("0s", "30s");
    let asked = Instant::now();
    gateway.terminate();
    assert!(gateway.wait_exit(SOON).success());
    assert!(asked.elapsed() < Duration::from_secs(5), "out after {:?}", asked.elapsed());
}

#[test]
fn after_the_delay_new_connections_are_refused() {
    let gateway = gateway("0s", "5s");
    let _open = Wire::open(gateway.address(), "/echo");
    let address = gateway.address();
    gateway.terminate();
    until("the listener is closed", SOON, || std::net::TcpStream::connect(address).is_err());
}

#[test]
fn an_interrupt_skips_the_delay_and_a_second_one_the_rest() {
    let mut gateway = gateway("60s", "60s");
    let mut wire = Wire::open(gateway.address(), "/echo");
    let asked = Instant::now();
    gateway.signal(Signal::INT);
    assert_eq!(wire.next_close().0, 1001);
    assert!(asked.elapsed() < Duration::from_secs(60));
    gateway.signal(Signal::INT);
    assert!(gateway.wait_exit(SOON).success());
}

#[test]
fn a_second_sigterm_skips_the_delay() {
    let mut gateway = gateway("60s", "2s");
    let mut wire = Wire::open(gateway.address(), "/echo");
    gateway.terminate();
    until("not ready", SOON, || !is_ready(&gateway));
    gateway.terminate();
    let (code, _) = wire.next_close();
    assert_eq!(code, 1001);
    wire.close(code, "");
    assert!(gateway.wait_exit(SOON).success());
}
