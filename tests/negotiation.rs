//! The opening handshake is the upstream's decision too: subprotocols, refusals, and answers that are wrong.

use std::time::{Duration, Instant};

use serde_json::json;

use crate::support::{
    Gateway, http,
    peer::{LIBRARIES, PeerClient, PeerServer, PythonWebsockets},
    upstream::{HandMade, route_to},
    wire::{self, Wire},
};

#[test]
fn the_upstream_chooses_among_the_offered_subprotocols() {
    for upstream in LIBRARIES {
        let server = PeerServer::start(upstream);
        let gateway = Gateway::start(&route_to(&server.url("")));
        for client in LIBRARIES.map(PeerClient::start) {
            let offered = ["chat.v1", "chat.v2", "other"];
            let answer = client.connect(json!({ "url": gateway.url("/"), "subprotocols": offered }));
            assert_eq!(answer["subprotocol"], "chat.v2", "{answer}");
            assert_eq!(server.opened()["subprotocol"], "chat.v2");
        }
    }
}

#[test]
fn no_subprotocol_in_common_is_a_connection_without_one() {
    let server = PeerServer::start(PythonWebsockets);
    let gateway = Gateway::start(&route_to(&server.url("")));
    let client = PeerClient::start(PythonWebsockets);
    let answer = client.connect(json!({ "url": gateway.url("/"), "subprotocols": ["unheard-of"] }));
    assert_eq!((&answer["status"], &answer["subprotocol"]), (&json!(101), &json!(null)));
}

#[test]
fn a_route_offers_the_upstream_only_its_own_subprotocols() {
    let server = PeerServer::start(PythonWebsockets);
    let config = format!("{}\nsubprotocols = [\"chat.v1\"]", route_to(&server.url("")));
    let gateway = Gateway::start(&config);
    let client = PeerClient::start(PythonWebsockets);
    let answer = client.connect(json!({ "url": gateway.url("/"), "subprotocols": ["chat.v2", "chat.v1"] }));
    assert_eq!(answer["subprotocol"], "chat.v1", "{answer}");
    assert_eq!(server.opened()["headers"]["sec-websocket-protocol"], "chat.v1");
}

#[test]
fn an_upstreams_refusal_is_passed_on_with_its_body() {
    for upstream in LIBRARIES {
        let server = PeerServer::start(upstream);
        let gateway = Gateway::start(&route_to(&server.url("")));
        for client in LIBRARIES.map(PeerClient::start) {
            for status in [401, 403, 503] {
                let answer = client.connect(json!({ "url": gateway.url(&format!("/refuse/{status}")) }));
                assert_eq!(answer["status"], status, "{answer}");
                assert_eq!(answer["headers"]["www-authenticate"], "Bearer");
                assert!(answer["headers"]["x-internal"].is_null(), "{answer}");
                assert_eq!(answer["body"], format!("refused by the upstream with {status}"));
            }
        }
        gateway.wait_metric("wsgate_upstream_connections", &[], 0.0);
    }
}

/// Asks through the gateway while the upstream answers the handshake with what `answer` writes.
fn status_when_the_upstream(answer: impl Fn(&mut Wire) + Send + Sync + 'static) -> u16 {
    let upstream = HandMade::start(move |mut wire| {
        answer(&mut wire);
        wire.next();
    });
    let gateway = Gateway::start(&route_to(&upstream.url()));
    let mut lines = wire::request(gateway.address(), "/");
    lines.push("Sec-WebSocket-Protocol: chat".to_owned());
    let status = Wire::connect(gateway.address()).ask(&lines).status;
    gateway.wait_metric("wsgate_upstream_connections", &[], 0.0);
    status
}

#[test]
fn an_upstream_that_answers_correctly_is_let_through() {
    let status = status_when_the_upstream(|wire| {
        wire.accept("Sec-WebSocket-Protocol: chat\r\n");
        wire.close(1000, "");
    });
    assert_eq!(status, 101);
}

#[test]
fn a_subprotocol_that_was_not_offered_is_502() {
    let status = status_when_the_upstream(|wire| {
        wire.accept("Sec-WebSocket-Protocol: other\r\n");
    });
    assert_eq!(status, 502);
}

#[test]
fn an_extension_that_was_not_offered_is_502() {
    let status = status_when_the_upstream(|wire| {
        wire.accept("Sec-WebSocket-Extensions: permessage-deflate\r\n");
    });
    assert_eq!(status, 502);
}

#[test]
fn a_wrong_accept_key_is_502() {
    let status = status_when_the_upstream(|wire| {
        wire.head();
        let head = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n";
        wire.write(format!("{head}Sec-WebSocket-Accept: {}\r\n\r\n", wire::accept_for("another key")).as_bytes());
    });
    assert_eq!(status, 502);
}

#[test]
fn something_that_is_not_http_is_502() {
    let status = status_when_the_upstream(|wire| {
        wire.head();
        wire.write(b"220 mail.example ESMTP\r\n\r\n");
    });
    assert_eq!(status, 502);
}

#[test]
fn an_upstream_that_refuses_the_connection_is_502() {
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let gateway = Gateway::start(&route_to(&format!("ws://{nobody}")));
    let answer = Wire::connect(gateway.address()).ask(&wire::request(gateway.address(), "/"));
    assert_eq!(answer.status, 502);
}

#[test]
fn an_upstream_that_never_answers_is_504_after_handshake_timeout() {
    let upstream = HandMade::start(|mut wire| {
        wire.head();
        wire.next();
    });
    let gateway = Gateway::start(&format!("{}\nhandshake_timeout = \"300ms\"", route_to(&upstream.url())));
    let asked = Instant::now();
    let answer = Wire::connect(gateway.address()).ask(&wire::request(gateway.address(), "/"));
    assert_eq!(answer.status, 504);
    assert!(asked.elapsed() >= Duration::from_millis(300), "{:?}", asked.elapsed());
    assert!(asked.elapsed() < Duration::from_secs(5), "{:?}", asked.elapsed());
}

#[test]
fn a_deflate_offer_is_answered_without_it_and_not_passed_on() {
    let server = PeerServer::start(PythonWebsockets);
    let gateway = Gateway::start(&route_to(&server.url("")));
    let mut lines = wire::request(gateway.address(), "/");
    lines.push("Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits".to_owned());
    let (_wire, response) = Wire::open_with(gateway.address(), &lines);
    assert_eq!(response.header("sec-websocket-extensions"), None);
    assert!(server.opened()["headers"]["sec-websocket-extensions"].is_null());
}

#[test]
fn bytes_before_the_upstreams_answer_do_not_overtake_it() {
    let upstream = HandMade::start(|mut wire| {
        wire.head().unwrap();
        // Whatever the client already sent must still be on its way: nothing may follow the request.
        wire.stream.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
        let mut byte = [0];
        let early = std::io::Read::read(&mut wire.stream, &mut byte).is_ok();
        wire.write(
            format!("HTTP/1.1 403 Forbidden\r\nRetry-After: {}\r\nContent-Length: 0\r\n\r\n", u8::from(early))
                .as_bytes(),
        );
    });
    let gateway = Gateway::start(&route_to(&upstream.url()));
    let request = wire::request(gateway.address(), "/").join("\r\n");
    let smuggled = wire::encode(0x81, b"GET /admin HTTP/1.1", true);
    let mut wire = Wire::connect(gateway.address());
    wire.write(&[format!("{request}\r\n\r\n").as_bytes(), &smuggled].concat());
    let answer = http::Response::parse_head(&wire.head().unwrap());
    assert_eq!((answer.status, answer.header("retry-after")), (403, Some("0")));
}
