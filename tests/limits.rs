//! How much may come: connections, handshakes, messages and bytes; what exceeds it, and who notices.

use std::{
    net::Ipv4Addr,
    time::{Duration, Instant},
};

use crate::support::{
    Gateway, Setup,
    http::Response,
    load,
    peer::{PeerServer, PythonWebsockets},
    until,
    upstream::{ECHO, route_to},
    wire::{self, BINARY, Wire},
};

fn start(limits: &str) -> Gateway {
    Gateway::start(&format!("{ECHO}[routes.limits]\n{limits}"))
}

/// Asks from this address of the loopback network.
fn ask(gateway: &Gateway, address: &str) -> (Wire, Response) {
    let from: Ipv4Addr = address.parse().unwrap();
    let mut wire = Wire::connect_from(from.octets(), gateway.address());
    let response = wire.ask(&wire::request(gateway.address(), "/echo"));
    (wire, response)
}

fn limited(gateway: &Gateway, route: &str, limit: &str, action: &str) -> f64 {
    let labels = [("route", route), ("limit", limit), ("action", action)];
    gateway.metrics().sum("wsgate_ratelimited_total", &labels)
}

/// Later, and not all at the same time.
fn says_when_to_come_back(response: &Response) {
    let seconds: u32 = response.header("retry-after").expect("Retry-After").parse().unwrap();
    assert!((1..=60).contains(&seconds), "{seconds}");
    assert_eq!(response.header("content-type"), Some("application/problem+json"));
}

#[test]
fn a_route_that_is_full_answers_503_until_somebody_leaves() {
    let gateway = start("connections = 3");
    let mut open: Vec<Wire> = (0..3).map(|_| Wire::open(gateway.address(), "/echo")).collect();
    let (_, refused) = ask(&gateway, "127.0.0.1");
    assert_eq!(refused.status, 503);
    says_when_to_come_back(&refused);
    assert_eq!(limited(&gateway, "echo", "connections", "refuse"), 1.0);
    // Those who are in notice nothing, and a place is free as soon as one of them has left.
    for wire in &mut open {
        wire.text("still here");
        assert_eq!(wire.next_text(), "still here");
    }
    open.pop();
    until("a place is free", Duration::from_secs(5), || ask(&gateway, "127.0.0.1").1.status == 101);
    drop(open);
    gateway.wait_empty();
}

#[test]
fn an_address_that_has_its_share_leaves_the_others_theirs() {
    let gateway = start("connections_per_ip = 2");
    let _open = [ask(&gateway, "127.0.0.2").0, ask(&gateway, "127.0.0.2").0];
    let (_, refused) = ask(&gateway, "127.0.0.2");
    assert_eq!(refused.status, 429);
    says_when_to_come_back(&refused);
    assert_eq!(ask(&gateway, "127.0.0.3").1.status, 101);
    assert_eq!(limited(&gateway, "echo", "connections_per_ip", "refuse"), 1.0);
    let labels = [("route", "echo"), ("result", "limited")];
    assert_eq!(gateway.metrics().sum("wsgate_handshakes_total", &labels), 1.0);
}

#[test]
fn a_thousand_addresses_of_one_64_share_what_one_address_has() {
    let listener = "[[listeners]]\naddress = \"127.0.0.1:0\"\ntrusted_proxies = [\"127.0.0.1\"]\n";
    let gateway = Gateway::start(&format!("{listener}{ECHO}[routes.limits]\nconnections_per_ip = 20"));
    let ask_for = |client: String| {
        let mut lines = wire::request(gateway.address(), "/echo");
        lines.push(format!("X-Forwarded-For: {client}"));
        let mut wire = Wire::connect(gateway.address());
        let status = wire.ask(&lines).status;
        (status == 101).then_some(wire)
    };
    let open: Vec<Wire> = (0..1_000).filter_map(|n| ask_for(format!("2001:db8:0:7:{:x}::{n:x}", n * 61))).collect();
    assert_eq!(open.len(), 20);
    assert_eq!(limited(&gateway, "echo", "connections_per_ip", "refuse"), 980.0);
    assert!(ask_for("2001:db8:0:8::1".to_owned()).is_some(), "the next network has its own");
    drop(open);
    gateway.wait_empty();
    assert!(ask_for("2001:db8:0:7::1".to_owned()).is_some());
}

#[test]
fn the_gateways_own_limit_counts_all_routes() {
    let second = "[[routes]]\nname = \"second\"\npath = \"/second\"\ntarget = \"echo\"\n";
    let server = "[server.limits]\nconnections = 2\nconnections_per_ip = 1\n";
    let gateway = Gateway::start(&format!("{server}{ECHO}{second}"));
    let _open = (Wire::open(gateway.address(), "/second"), ask(&gateway, "127.0.0.2").0);
    assert_eq!(ask(&gateway, "127.0.0.2").1.status, 429);
    assert_eq!(ask(&gateway, "127.0.0.3").1.status, 503);
    assert_eq!(limited(&gateway, "-", "connections", "refuse"), 1.0);
    assert_eq!(limited(&gateway, "-", "connections_per_ip", "refuse"), 1.0);
}

#[test]
fn handshakes_beyond_the_rate_are_refused_whatever_they_ask_for() {
    let gateway = start("handshakes_per_second = 100\nhandshakes_per_second_per_ip = 5");
    let asked = |address: &str| -> Vec<u16> { (0..20).map(|_| ask(&gateway, address).1.status).collect() };
    let statuses = asked("127.0.0.2");
    assert_eq!(statuses[..5], [101; 5]);
    assert_eq!(statuses[19], 429);
    assert_eq!(ask(&gateway, "127.0.0.3").1.status, 101, "another address has its own");
    // A second later it may again.
    until("the rate is over", Duration::from_secs(5), || ask(&gateway, "127.0.0.2").1.status == 101);
}

/// Sends as fast as it can and reads all answers; returns how long that took.
fn flood(wire: &mut Wire, count: usize, payload: &[u8]) -> Duration {
    let began = Instant::now();
    wire.write(&wire::encode(0x80 | BINARY, payload, true).repeat(count));
    for _ in 0..count {
        assert_eq!(wire.next().expect("an answer").payload, payload);
    }
    began.elapsed()
}

#[test]
fn a_flood_of_messages_is_delayed_and_none_is_lost() {
    let gateway = start("messages = { rate = \"100/s\", burst = 20 }");
    let mut wire = Wire::open(gateway.address(), "/echo");
    let took = flood(&mut wire, 120, b"x");
    // 20 at once, a hundred more at ten milliseconds each.
    assert!(took >= Duration::from_millis(990), "{took:?}");
    assert!(took < Duration::from_secs(5), "{took:?}");
    let delayed = limited(&gateway, "echo", "messages", "delay");
    assert!((50.0..=100.0).contains(&delayed), "{delayed}");
}

#[test]
fn a_flood_of_bytes_is_delayed_and_nobody_else_notices() {
    let config = "client_max_payload = \"64KiB\"\nupstream_max_payload = \"64KiB\"\n[routes.limits]\n\
                  bytes = { rate = \"640KiB/s\", burst = \"64KiB\" }";
    let gateway = Gateway::start(&format!("[server]\nworkers = 1\n{ECHO}{config}"));
    let mut wire = Wire::open(gateway.address(), "/echo");
    let address = gateway.address();
    let beside = std::thread::spawn(move || {
        load::best_of_three(Duration::from_millis(20), || load::probe(address, "/echo", 60, Duration::from_millis(5)))
    });
    let took = flood(&mut wire, 11, &[7; 65_536]);
    assert!(took >= Duration::from_millis(990), "{took:?}");
    let beside = beside.join().unwrap();
    println!("figure: beside a client that is held back: {beside}");
    assert!(beside.quantile(0.99) <= Duration::from_millis(20), "{beside}");
}

#[test]
fn what_exceeds_a_rate_of_an_address_is_dropped_over_all_its_connections() {
    let gateway = start("messages = { rate = \"1/m\", burst = 5, by = \"ip\", action = \"drop\" }");
    let mut open: Vec<Wire> = (0..4).map(|_| Wire::open(gateway.address(), "/echo")).collect();
    for wire in &mut open {
        wire.text("one");
        wire.text("two");
    }
    gateway.wait_metric("wsgate_ratelimited_total", &[("limit", "messages"), ("action", "drop")], 3.0);
    gateway.wait_metric("wsgate_messages_total", &[("direction", "to_client")], 5.0);
    let (mut other, _) = ask(&gateway, "127.0.0.9");
    other.text("another address");
    assert_eq!(other.next_text(), "another address");
}

#[test]
fn a_client_over_its_rate_is_closed_with_4429_and_its_upstream_hears_1008() {
    let server = PeerServer::start(PythonWebsockets);
    let limit = "[routes.limits]\nmessages = { rate = \"1/m\", burst = 3, action = \"close\" }";
    let gateway = Gateway::start(&format!("{}{limit}", route_to(&server.url(""))));
    let mut wire = Wire::open(gateway.address(), "/");
    for _ in 0..3 {
        wire.text("x");
        assert_eq!(wire.next_text(), "x");
    }
    wire.text("x");
    assert_eq!(server.closed(), (1008, "closed by a limit".to_owned()));
    assert_eq!(wire.next_close(), (4429, "too many messages".to_owned()));
    gateway.wait_metric("wsgate_closes_total", &[("code", "4429"), ("by", "gateway")], 1.0);
    gateway.wait_log(&["rate_limited"]);
}

#[test]
fn a_reload_of_filters_in_the_middle_of_a_burst_does_not_refill_it() {
    let setup = Setup::new().guest("filters/stamp.wasm", "stamp");
    let config = format!(
        "{ECHO}filters = [\"stamp\"]\n[routes.limits]\n{}",
        "messages = { rate = \"1/m\", burst = 6, action = \"close\" }"
    );
    let gateway = setup.start(&config);
    let mut wire = Wire::open(gateway.address(), "/echo");
    for _ in 0..3 {
        wire.text("{}");
        wire.next_text();
    }
    let generation = gateway.metrics().sum("wsgate_filter_generation", &[("filter", "stamp")]);
    gateway.folder().publish("filters/stamp.wasm", &crate::support::guests::bytes("stamp-v2"));
    gateway.wait_metric("wsgate_filter_generation", &[("filter", "stamp")], generation + 1.0);
    for _ in 0..3 {
        wire.text("{}");
        wire.next_text();
    }
    wire.text("{}");
    assert_eq!(wire.next_close().0, 4429);
}

/// What is held back is still there when the client has said goodbye behind it.
#[test]
fn a_close_behind_delayed_messages_comes_after_them() {
    let gateway = start("messages = { rate = \"50/s\", burst = 1 }");
    let mut wire = Wire::open(gateway.address(), "/echo");
    for n in 0..10 {
        wire.text(&n.to_string());
    }
    wire.close(1000, "bye");
    for n in 0..10 {
        assert_eq!(wire.next_text(), n.to_string());
    }
    assert_eq!(wire.next_close(), (1000, "bye".to_owned()));
}
