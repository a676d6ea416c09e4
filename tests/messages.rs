//! Messages of every kind and size arrive whole, once and in order.

use crate::support::{
    Gateway,
    peer::{LIBRARIES, PeerClient, PeerServer},
    upstream::{ECHO, route_to},
    wire::{BINARY, CONTINUATION, TEXT, Wire},
};

/// Runs the body for each third-party client against each third-party upstream behind the gateway.
fn proxied(body: impl Fn(&PeerClient)) {
    for upstream in LIBRARIES {
        let server = PeerServer::start(upstream);
        let gateway = Gateway::start(&route_to(&server.url("")));
        for client in LIBRARIES {
            eprintln!("{client:?} -> gateway -> {upstream:?}");
            body(&PeerClient::connected(client, &gateway.url("/messages")));
        }
    }
}

/// Runs the body for each third-party client against the `echo` target.
fn echoed(body: impl Fn(&PeerClient)) {
    let gateway = Gateway::start(ECHO);
    for client in LIBRARIES {
        eprintln!("{client:?} -> gateway");
        body(&PeerClient::connected(client, &gateway.url("/echo")));
    }
}

#[test]
fn text_and_binary_of_every_size_come_back_through_an_upstream() {
    proxied(every_size);
}

#[test]
fn text_and_binary_of_every_size_come_back_from_the_echo_target() {
    echoed(every_size);
}

fn every_size(client: &PeerClient) {
    for kind in ["text", "binary"] {
        // Around the two steps of the length field, and beyond.
        for size in [8, 125, 126, 127, 65_535, 65_536, 100_000, 1 << 20] {
            client.roundtrips(kind, 2, size, 1);
        }
    }
}

#[test]
fn ten_thousand_messages_come_back_in_order_through_an_upstream() {
    proxied(|client| client.roundtrips("text", 10_000, 64, 32));
}

#[test]
fn ten_thousand_messages_come_back_in_order_from_the_echo_target() {
    echoed(|client| client.roundtrips("binary", 10_000, 64, 32));
}

#[test]
fn an_empty_message_is_a_message() {
    let gateway = Gateway::start(ECHO);
    let mut wire = Wire::open(gateway.address(), "/echo");
    wire.text("");
    wire.send(BINARY, b"");
    assert_eq!(wire.next_text(), "");
    let binary = wire.next().unwrap();
    assert_eq!((binary.opcode(), binary.payload.len()), (BINARY, 0));
}

#[test]
fn fragments_arrive_joined_and_in_one_piece() {
    let gateway = Gateway::start(ECHO);
    let mut wire = Wire::open(gateway.address(), "/echo");
    // The é is cut in two: only the whole text has to be UTF-8.
    wire.frame(TEXT, b"caf\xC3");
    wire.frame(CONTINUATION, b"");
    wire.frame(0x80 | CONTINUATION, b"\xA9 au lait");
    assert_eq!(wire.next_text(), "café au lait");
}

#[test]
fn frames_to_clients_are_never_masked() {
    let gateway = Gateway::start(ECHO);
    let mut wire = Wire::open(gateway.address(), "/echo");
    wire.text("hello");
    assert!(!wire.next().unwrap().masked);
}

#[test]
fn messages_sent_in_one_write_with_the_handshake_are_not_lost() {
    let gateway = Gateway::start(ECHO);
    let mut wire = Wire::connect(gateway.address());
    let request = crate::support::wire::request(gateway.address(), "/echo").join("\r\n");
    let early = crate::support::wire::encode(0x80 | TEXT, b"early", true);
    wire.write(&[format!("{request}\r\n\r\n").as_bytes(), &early].concat());
    assert!(wire.head().unwrap().starts_with("HTTP/1.1 101"));
    assert_eq!(wire.next_text(), "early");
}
