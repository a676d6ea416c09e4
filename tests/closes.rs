//! How a connection ends travels exactly, in both directions.

use std::time::Duration;

use crate::support::{
    Gateway,
    peer::{LIBRARIES, PeerClient, PeerServer},
    upstream::{ECHO, HandMade, route_to},
    wire::{CLOSE, TEXT, Wire, header},
};

const ENDS: [(u16, &str); 5] =
    [(1000, "done"), (1001, "leaving"), (3000, "unauthorized"), (4999, "last of its kind"), (1000, "")];

fn proxied(body: impl Fn(&PeerClient, &PeerServer)) {
    for upstream in LIBRARIES {
        let server = PeerServer::start(upstream);
        let gateway = Gateway::start(&route_to(&server.url("")));
        for client in LIBRARIES {
            eprintln!("{client:?} -> gateway -> {upstream:?}");
            body(&PeerClient::connected(client, &gateway.url("/closes")), &server);
        }
        gateway.wait_empty();
    }
}

fn reconnected(client: &PeerClient, gateway: &Gateway) {
    let answer = client.connect(serde_json::json!({ "url": gateway.url("/closes") }));
    assert_eq!(answer["status"], 101);
}

#[test]
fn a_clients_code_and_reason_reach_the_upstream() {
    for upstream in LIBRARIES {
        let server = PeerServer::start(upstream);
        let gateway = Gateway::start(&route_to(&server.url("")));
        for client in LIBRARIES.map(PeerClient::start) {
            for (code, reason) in ENDS {
                reconnected(&client, &gateway);
                assert_eq!(client.close(Some((code, reason))).0, u64::from(code));
                assert_eq!(server.closed(), (u64::from(code), reason.to_owned()));
            }
        }
    }
}

#[test]
fn an_upstreams_code_and_reason_reach_the_client() {
    for upstream in LIBRARIES {
        let server = PeerServer::start(upstream);
        let gateway = Gateway::start(&route_to(&server.url("")));
        for client in LIBRARIES.map(PeerClient::start) {
            for (code, reason) in ENDS {
                reconnected(&client, &gateway);
                client.send(&format!("!close {code} {reason}"));
                assert_eq!(client.closed(), (u64::from(code), reason.to_owned()));
                assert_eq!(server.closed().0, u64::from(code));
            }
        }
    }
}

#[test]
fn an_empty_close_of_the_client_stays_empty() {
    proxied(|client, server| {
        assert_eq!(client.close(None), (1005, String::new()));
        assert_eq!(server.closed(), (1005, String::new()));
    });
}

#[test]
fn an_empty_close_of_the_upstream_stays_empty() {
    proxied(|client, server| {
        client.send("!close");
        assert_eq!(client.closed(), (1005, String::new()));
        assert_eq!(server.closed(), (1005, String::new()));
    });
}

#[test]
fn the_upstreams_1014_is_1011_for_the_client() {
    proxied(|client, _| {
        client.send("!close 1014 bad gateway");
        assert_eq!(client.closed().0, 1011);
    });
}

#[test]
fn an_upstream_that_dies_is_1011_for_the_client() {
    proxied(|client, _| {
        client.send("!die");
        assert_eq!(client.closed().0, 1011);
    });
}

#[test]
fn a_client_that_vanishes_is_1001_for_the_upstream() {
    proxied(|client, server| {
        client.vanish();
        assert_eq!(server.closed().0, 1001);
    });
}

#[test]
fn the_echo_target_answers_a_close_in_kind() {
    let gateway = Gateway::start(ECHO);
    for client in LIBRARIES.map(PeerClient::start) {
        for (code, reason) in ENDS {
            client.connect(serde_json::json!({ "url": gateway.url("/echo") }));
            assert_eq!(client.close(Some((code, reason))).0, u64::from(code));
        }
        client.connect(serde_json::json!({ "url": gateway.url("/echo") }));
        assert_eq!(client.close(None), (1005, String::new()));
    }
}

#[test]
fn messages_before_the_upstreams_close_arrive_before_it() {
    proxied(|client, _| {
        client.send("!push 200 last words");
        client.send("!close 1000 said all");
        for number in 0..200 {
            assert_eq!(client.receive(), format!("last words {number}"));
        }
        assert_eq!(client.closed(), (1000, "said all".to_owned()));
    });
}

#[test]
fn half_a_message_of_a_dying_upstream_never_arrives_as_a_whole_one() {
    let upstream = HandMade::start(|mut wire| {
        wire.accept("");
        wire.write(&header(0x80 | TEXT, 100, false));
        wire.write(b"only the beginning");
        wire.next();
    });
    let gateway = Gateway::start(&route_to(&upstream.url()));
    let mut wire = Wire::open(gateway.address(), "/");
    wire.text("go on and die");
    let frame = wire.next().unwrap();
    assert_eq!(frame.opcode(), CLOSE, "{frame:?}");
    assert_eq!(frame.close().0, 1011);
}

#[test]
fn after_a_close_the_tcp_connection_ends_too() {
    let gateway = Gateway::start(ECHO);
    let mut wire = Wire::open(gateway.address(), "/echo");
    wire.close(1000, "bye");
    assert_eq!(wire.next_close().0, 1000);
    assert!(wire.ends(Duration::from_secs(5)));
    gateway.wait_empty();
}

#[test]
fn closes_are_counted_by_code_and_by_who_began() {
    let gateway = Gateway::start(ECHO);
    for code in [1000, 3000, 4321] {
        let mut wire = Wire::open(gateway.address(), "/echo");
        wire.close(code, "");
        wire.next_close();
    }
    for label in ["1000", "3xxx", "4xxx"] {
        gateway.wait_metric("wsgate_closes_total", &[("route", "echo"), ("code", label), ("by", "client")], 1.0);
    }
}
