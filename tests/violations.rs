//! What breaks RFC 6455 ends with the right Close frame on the wire, and harms nobody else.

use std::{sync::mpsc, time::Duration};

use crate::support::{
    Gateway, SOON,
    upstream::{ECHO, HandMade, route_to},
    wire::{self, BINARY, CLOSE, CONTINUATION, PING, PONG, TEXT, Wire},
};

/// A client sends these bytes after the handshake; expects a Close frame with this code, then the end of the stream.
fn ends_with(code: u16, cases: &[(&str, Vec<u8>)]) {
    let gateway = Gateway::start(ECHO);
    let mut calm = Wire::open(gateway.address(), "/echo");
    let before = gateway.settled_fds();
    for (what, bytes) in cases {
        let mut wire = Wire::open(gateway.address(), "/echo");
        wire.write(bytes);
        assert_eq!(wire.next_close().0, code, "{what}");
        assert!(wire.ends(Duration::from_secs(5)), "{what}: the connection stays open");
        calm.text(what);
        assert_eq!(calm.next_text(), *what);
    }
    let label = code.to_string();
    gateway.wait_metric("wsgate_closes_total", &[("code", &label), ("by", "gateway")], cases.len() as f64);
    gateway.wait_fds("after the violations", before);
}

fn masked(first_byte: u8, payload: &[u8]) -> Vec<u8> {
    wire::encode(first_byte, payload, true)
}

fn close(payload: &[u8]) -> Vec<u8> {
    masked(0x80 | CLOSE, payload)
}

#[test]
fn text_that_is_not_utf8_is_1007() {
    let split = [masked(TEXT, b"caf\xC3"), masked(0x80 | CONTINUATION, b"\x28")].concat();
    let unfinished = [masked(TEXT, b"caf"), masked(0x80 | CONTINUATION, b"\xC3")].concat();
    ends_with(
        1007,
        &[
            ("a lone byte", masked(0x80 | TEXT, b"\xFF")),
            ("an overlong form", masked(0x80 | TEXT, b"\xC0\xAF")),
            ("a surrogate", masked(0x80 | TEXT, b"\xED\xA0\x80")),
            ("beyond Unicode", masked(0x80 | TEXT, b"\xF4\x90\x80\x80")),
            ("split over fragments", split),
            ("unfinished at the end", unfinished),
        ],
    );
}

#[test]
fn a_close_reason_that_is_not_utf8_is_1007() {
    ends_with(1007, &[("reason", close(b"\x03\xE8\xFF\xFE"))]);
}

#[test]
fn frames_against_the_protocol_are_1002() {
    ends_with(
        1002,
        &[
            ("reserved data opcode", masked(0x83, b"x")),
            ("reserved control opcode", masked(0x8B, b"")),
            ("RSV1 without an extension", masked(0xC0 | TEXT, b"x")),
            ("RSV2", masked(0xA0 | TEXT, b"x")),
            ("RSV3", masked(0x90 | BINARY, b"x")),
            ("an unmasked frame", wire::encode(0x80 | TEXT, b"x", false)),
            ("a fragmented ping", masked(PING, b"x")),
            ("a ping of 126 bytes", masked(0x80 | PING, &[0; 126])),
            ("a continuation of nothing", masked(0x80 | CONTINUATION, b"x")),
            ("a new message inside another", [masked(TEXT, b"a"), masked(0x80 | TEXT, b"b")].concat()),
        ],
    );
}

#[test]
fn close_frames_against_the_protocol_are_1002() {
    let code = |code: u16| close(&code.to_be_bytes());
    ends_with(
        1002,
        &[
            ("half a code", close(b"\x03")),
            ("999", code(999)),
            ("1004", code(1004)),
            ("1005", code(1005)),
            ("1006", code(1006)),
            ("1015", code(1015)),
            ("1016", code(1016)),
            ("2999", code(2999)),
            ("5000", code(5000)),
            ("a long reason", close(&[&1000_u16.to_be_bytes()[..], &[b'x'; 124]].concat())),
        ],
    );
}

#[test]
fn the_upstream_hears_1002_when_its_client_broke_the_protocol() {
    let (seen, sees) = mpsc::sync_channel(1);
    let upstream = HandMade::start(move |mut wire| {
        wire.accept("");
        seen.send(wire.next_close().0).unwrap();
    });
    let gateway = Gateway::start(&route_to(&upstream.url()));
    let mut wire = Wire::open(gateway.address(), "/");
    wire.frame(0x83, b"x");
    assert_eq!(wire.next_close().0, 1002);
    assert_eq!(sees.recv_timeout(SOON), Ok(1002));
}

#[test]
fn an_upstream_that_breaks_the_protocol_is_1011_for_the_client() {
    let upstream = HandMade::start(|mut wire| {
        wire.accept("");
        wire.text("fine so far");
        wire.write(&masked(0x80 | TEXT, b"a server must not mask"));
        wire.next();
    });
    let gateway = Gateway::start(&route_to(&upstream.url()));
    let mut wire = Wire::open(gateway.address(), "/");
    assert_eq!(wire.next_text(), "fine so far");
    assert_eq!(wire.next_close().0, 1011);
}

#[test]
fn a_ping_is_answered_with_its_payload_also_between_fragments() {
    let gateway = Gateway::start(ECHO);
    let mut wire = Wire::open(gateway.address(), "/echo");
    wire.frame(TEXT, b"first ");
    wire.send(PING, b"are you there");
    let pong = wire.next().unwrap();
    assert_eq!((pong.opcode(), pong.payload.as_slice()), (PONG, &b"are you there"[..]));
    wire.frame(0x80 | CONTINUATION, b"second");
    assert_eq!(wire.next_text(), "first second");
    wire.send(PING, &[0x2A; 125]);
    assert_eq!(wire.next().unwrap().payload, [0x2A; 125]);
}

#[test]
fn pings_and_pongs_go_no_further_than_the_gateway() {
    let upstream = HandMade::start(|mut wire| {
        wire.accept("");
        let first = wire.next().unwrap();
        wire.text(&format!("{}", first.opcode()));
        wire.next();
    });
    let gateway = Gateway::start(&route_to(&upstream.url()));
    let mut wire = Wire::open(gateway.address(), "/");
    wire.send(PING, b"x");
    wire.send(PONG, b"unasked");
    assert_eq!(wire.next().unwrap().opcode(), PONG);
    wire.text("the first that the upstream sees");
    assert_eq!(wire.next_text(), TEXT.to_string());
}

#[test]
fn endless_empty_fragments_are_1008() {
    let gateway = Gateway::start(ECHO);
    let mut wire = Wire::open(gateway.address(), "/echo");
    wire.frame(TEXT, b"");
    let some = masked(CONTINUATION, b"").repeat(10_000);
    for _ in 0..100 {
        wire.write(&some);
    }
    assert_eq!(wire.next_close().0, 1008);
    assert!(wire.ends(Duration::from_secs(10)));
    let mut fresh = Wire::open(gateway.address(), "/echo");
    fresh.text("still here");
    assert_eq!(fresh.next_text(), "still here");
}
