//! Proxies in front of the gateway: who is believed, and what the upstream and filters then see.

use std::{net::TcpStream, time::Duration};

use serde_json::Value;

use crate::support::{
    Gateway, SOON, Setup,
    peer::{PeerServer, PythonWebsockets},
    tls::{Authority, TlsClient, VERSIONS},
    upstream::{ECHO, route_to},
    wire::{Wire, request},
};

const FAILURES: &str = "wsgate_listener_failures_total";

/// A gateway whose filter says what it sees; 127.0.0.1 is a trusted proxy where `trusted` names it.
fn reporting(more: &str) -> Gateway {
    let setup = Setup::new().guest("filters/faulty.wasm", "guest_faulty");
    setup.start(&format!("[[listeners]]\naddress = \"127.0.0.1:0\"\n{more}\n{ECHO}filters = [\"faulty\"]"))
}

fn report(wire: &mut Wire, lines: &[&str], path: &str) -> Value {
    let mut head = request("chat.example.com", path);
    head.extend(lines.iter().map(|line| (*line).to_owned()));
    assert_eq!(wire.ask(&head).status, 101);
    wire.frame(0x81, b"handshake");
    serde_json::from_str(&wire.next_text()).unwrap()
}

const SPOOFED: [&str; 4] = [
    "X-Forwarded-For: 203.0.113.9",
    "X-Forwarded-Proto: https",
    "Forwarded: for=203.0.113.9;proto=https",
    "X-Request-Id: mine",
];

#[test]
fn what_an_untrusted_client_claims_reaches_nobody() {
    for more in ["", "trusted_proxies = [\"127.0.0.2\"]"] {
        let gateway = reporting(more);
        let seen = report(&mut Wire::connect(gateway.address()), &SPOOFED, "/echo");
        assert!(seen["client"].as_str().unwrap().starts_with("127.0.0.1:"), "{seen}");
        assert_eq!(seen["secure"], false);
        assert!(!seen["headers"].to_string().contains("203.0.113.9"), "{seen}");
    }
}

#[test]
fn what_a_trusted_proxy_says_is_what_filters_and_logs_see() {
    let gateway = reporting("trusted_proxies = [\"127.0.0.1\"]");
    let seen = report(&mut Wire::connect(gateway.address()), &SPOOFED, "/echo");
    assert_eq!((&seen["client"], &seen["secure"]), (&"203.0.113.9:0".into(), &true.into()), "{seen}");
    gateway.wait_log(&["closed", "client=203.0.113.9:0"]);
    // On one connection of a proxy, each request has its own client.
    let mut wire = Wire::connect(gateway.address());
    let mut head = request("chat.example.com", "/nowhere");
    head.push("X-Forwarded-For: 203.0.113.77".to_owned());
    assert_eq!(wire.ask(&head).status, 404);
    gateway.wait_log(&["refused", "client=203.0.113.77:0"]);
}

#[test]
fn the_upstream_gets_the_chain() {
    let upstream = PeerServer::start(PythonWebsockets);
    let listener = "[[listeners]]\naddress = \"127.0.0.1:0\"\ntrusted_proxies = [\"127.0.0.2\"]\n";
    let gateway = Gateway::start(&format!("{listener}{}", route_to(&upstream.url(""))));
    let ask = |source: [u8; 4]| {
        let mut wire = Wire::connect_from(source, gateway.address());
        let mut head = request("chat.example.com", "/");
        head.extend(["X-Forwarded-For: 10.1.1.1, 203.0.113.9".to_owned(), "X-Forwarded-Proto: https".to_owned()]);
        head.extend(["X-Request-Id: theirs".to_owned(), "traceparent: 00-a-b-01".to_owned()]);
        assert_eq!(wire.ask(&head).status, 101);
        let opened = upstream.opened();
        let header = |name: &str| {
            let headers = opened["headers"].clone();
            let pairs = headers.as_array().cloned().unwrap_or_default();
            let listed = pairs.iter().find(|pair| pair[0].as_str().unwrap().eq_ignore_ascii_case(name));
            listed.map(|pair| pair[1].clone()).unwrap_or_else(|| headers[name].clone())
        };
        ["x-forwarded-for", "x-forwarded-proto", "x-request-id", "traceparent"].map(header)
    };
    let trusted = ask([127, 0, 0, 2]);
    assert_eq!(trusted, ["10.1.1.1, 203.0.113.9, 127.0.0.2", "https", "theirs", "00-a-b-01"].map(Value::from));
    let [chain, proto, id, trace] = ask([127, 0, 0, 1]);
    assert_eq!((chain, proto, trace), ("127.0.0.1".into(), "http".into(), Value::Null));
    assert_ne!(id, "theirs");
}

#[test]
fn a_proxy_header_names_the_client() {
    let gateway = reporting("proxy_protocol = true");
    let v2 = [&b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c"[..], &[203, 0, 113, 9, 127, 0, 0, 1, 0x12, 0x67, 0, 80]].concat();
    for header in [&b"PROXY TCP4 203.0.113.9 127.0.0.1 4711 80\r\n"[..], &v2] {
        let mut wire = Wire::connect(gateway.address());
        // In two parts, the second with what follows.
        wire.write(&header[..14]);
        std::thread::sleep(Duration::from_millis(20));
        wire.write(&header[14..]);
        let seen = report(&mut wire, &SPOOFED, "/echo");
        assert_eq!(seen["client"], "203.0.113.9:4711", "{seen}");
    }
    let mut local = Wire::connect(gateway.address());
    local.write(b"PROXY UNKNOWN\r\n");
    let seen = report(&mut local, &[], "/echo");
    assert!(seen["client"].as_str().unwrap().starts_with("127.0.0.1:"), "{seen}");
}

#[test]
fn without_a_well_formed_proxy_header_nobody_gets_in() {
    let gateway = reporting("proxy_protocol = true");
    for (bytes, reason) in [
        (&b"GET /echo HTTP/1.1\r\nHost: a\r\n\r\n"[..], "proxy_header_missing"),
        (b"PROXY TCP4 nowhere 127.0.0.1 1 2\r\n", "proxy_header_malformed"),
    ] {
        let mut wire = Wire::connect(gateway.address());
        wire.write(bytes);
        assert!(wire.ends(SOON));
        gateway.wait_metric(FAILURES, &[("reason", reason)], 1.0);
    }
    let mut stalled = Wire::connect(gateway.address());
    stalled.write(b"PROXY TCP4 ");
    assert!(stalled.ends(Duration::from_secs(15)));
    gateway.wait_metric(FAILURES, &[("reason", "timeout")], 1.0);
}

#[test]
fn only_trusted_proxies_may_send_the_header() {
    let gateway = reporting("proxy_protocol = true\ntrusted_proxies = [\"127.0.0.2\"]");
    let header = b"PROXY TCP4 203.0.113.9 127.0.0.1 4711 80\r\n";
    let mut stranger = Wire::connect(gateway.address());
    stranger.write(header);
    assert!(stranger.ends(SOON));
    gateway.wait_metric(FAILURES, &[("reason", "proxy_untrusted")], 1.0);
    let mut proxy = Wire::connect_from([127, 0, 0, 2], gateway.address());
    proxy.write(header);
    assert_eq!(report(&mut proxy, &[], "/echo")["client"], "203.0.113.9:4711");
}

#[test]
fn a_proxy_header_stands_before_tls() {
    let authority = Authority::new();
    let pair = authority.issue("gateway");
    let setup = Setup::new().guest("filters/faulty.wasm", "guest_faulty");
    setup.publish("cert.pem", pair.certificate.as_bytes());
    setup.publish("key.pem", pair.key.as_bytes());
    let listener = "[[listeners]]\naddress = \"127.0.0.1:0\"\nproxy_protocol = true\n\
                    tls = { certificate = \"cert.pem\", private_key = \"key.pem\" }\n";
    let gateway = setup.start(&format!("{listener}{ECHO}filters = [\"faulty\"]"));
    let mut stream = TcpStream::connect(gateway.address()).unwrap();
    std::io::Write::write_all(&mut stream, b"PROXY TCP6 2001:db8::9 ::1 4711 443\r\n").unwrap();
    let mut client = TlsClient::connect(stream, authority.trusting(VERSIONS[1], None), "localhost").unwrap();
    assert_eq!(client.ask(&request("localhost", "/echo")).unwrap().status, 101);
    client.text("handshake");
    let seen: Value = serde_json::from_str(&client.next_text()).unwrap();
    assert_eq!((&seen["client"], &seen["secure"]), (&"[2001:db8::9]:4711".into(), &true.into()), "{seen}");
}
