//! Messages over the limit: 1009 by the declared length already, and no memory is taken for them.

use std::{sync::mpsc, time::Duration};

use crate::support::{
    Gateway, SOON,
    upstream::{ECHO, HandMade, route_to},
    wire::{BINARY, CONTINUATION, TEXT, Wire, header},
};

fn small() -> Gateway {
    Gateway::start(&format!("{ECHO}\nclient_max_payload = \"1KiB\""))
}

#[test]
fn a_message_of_exactly_the_limit_passes_and_one_byte_more_is_1009() {
    let gateway = small();
    let mut wire = Wire::open(gateway.address(), "/echo");
    wire.send(BINARY, &[7; 1024]);
    assert_eq!(wire.next().unwrap().payload, [7; 1024]);
    wire.send(BINARY, &[7; 1025]);
    assert_eq!(wire.next_close().0, 1009);
    assert!(wire.ends(Duration::from_secs(5)));
    gateway.wait_metric("wsgate_closes_total", &[("code", "1009"), ("by", "gateway")], 1.0);
}

#[test]
fn fragments_are_added_up() {
    let gateway = small();
    let mut wire = Wire::open(gateway.address(), "/echo");
    wire.frame(TEXT, &[b'a'; 600]);
    wire.frame(CONTINUATION, &[b'a'; 600]);
    assert_eq!(wire.next_close().0, 1009);
}

#[test]
fn a_declared_length_over_the_limit_is_refused_before_the_payload() {
    let gateway = small();
    for length in [1025, 70_000, 1 << 30, u64::MAX >> 1] {
        let mut wire = Wire::open(gateway.address(), "/echo");
        wire.write(&header(0x80 | BINARY, length, true));
        wire.write(&[0; 4]);
        assert_eq!(wire.next_close().0, 1009, "{length}");
    }
}

#[test]
fn memory_stays_flat_while_a_hundred_clients_declare_a_gigabyte() {
    let gateway = Gateway::start(ECHO);
    let flood = || {
        let wires: Vec<Wire> = (0..100)
            .map(|_| {
                let mut wire = Wire::open(gateway.address(), "/echo");
                wire.write(&header(0x80 | BINARY, 1 << 30, true));
                wire.write(&[0; 4 + 4096]);
                wire
            })
            .collect();
        for mut wire in wires {
            assert_eq!(wire.next_close().0, 1009);
        }
        gateway.wait_empty();
        gateway.rss_kib()
    };
    let first = flood();
    let second = flood();
    assert!(second < first + 8 * 1024, "resident memory grew from {first} to {second} KiB");
}

#[test]
fn the_upstream_has_a_limit_of_its_own() {
    let (seen, sees) = mpsc::sync_channel(1);
    let upstream = HandMade::start(move |mut wire| {
        wire.accept("");
        wire.send(BINARY, &[7; 2048]);
        wire.send(BINARY, &[7; 2049]);
        seen.send(wire.next_close().0).unwrap();
    });
    let limits = "client_max_payload = \"1KiB\"\nupstream_max_payload = \"2KiB\"";
    let gateway = Gateway::start(&format!("{}\n{limits}", route_to(&upstream.url())));
    let mut wire = Wire::open(gateway.address(), "/");
    assert_eq!(wire.next().unwrap().payload.len(), 2048);
    assert_eq!(wire.next_close().0, 1011);
    assert_eq!(sees.recv_timeout(SOON), Ok(1009));
}

#[test]
fn the_upstream_hears_1008_when_its_client_sent_too_much() {
    let (seen, sees) = mpsc::sync_channel(1);
    let upstream = HandMade::start(move |mut wire| {
        wire.accept("");
        seen.send(wire.next_close().0).unwrap();
    });
    let gateway = Gateway::start(&format!("{}\nclient_max_payload = \"1KiB\"", route_to(&upstream.url())));
    let mut wire = Wire::open(gateway.address(), "/");
    wire.send(BINARY, &[7; 1025]);
    assert_eq!(wire.next_close().0, 1009);
    assert_eq!(sees.recv_timeout(SOON), Ok(1008));
}
