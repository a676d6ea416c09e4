//! `route`: single messages to other upstreams, over one connection of a client.

use std::{
    sync::atomic::{AtomicBool, AtomicUsize, Ordering},
    thread,
    time::Duration,
};

use crate::support::{
    Gateway, SOON, Setup,
    peer::{LIBRARIES, NodeWs, PeerClient, PeerServer, PythonWebsockets},
    until,
    upstream::HandMade,
    wire::{TEXT, Wire},
};

/// Refuses connections.
const NOBODY: &str = "ws://127.0.0.1:1";

/// `main` is the route's own upstream; the guest sends messages on to `a`, `b` and `c`.
fn config(main: &str, others: [&str; 3]) -> String {
    let [a, b, c] = others;
    format!(
        r#"
        [upstreams]
        main = {{ endpoints = ["{main}"] }}
        a = {{ endpoints = ["{a}"] }}
        b = {{ endpoints = ["{b}"] }}
        c = {{ endpoints = ["{c}"] }}

        [filters.router]
        file = "filters/guest_router.wasm"
        allow = {{ upstreams = ["main", "a", "b", "c"] }}

        [[routes]]
        name = "main"
        path = "/*"
        path_rewrite = "/v2/*"
        upstream = "main"
        filters = ["router"]
        request_headers = {{ set = {{ x-gateway = "wsgate" }} }}
        "#
    )
}

fn start(main: &str, others: [&str; 3]) -> Gateway {
    Setup::new().guest("filters/guest_router.wasm", "guest_router").start(&config(main, others))
}

fn to(upstream: &str, n: usize) -> String {
    format!(r#"{{"to":"{upstream}","n":{n}}}"#)
}

#[test]
fn ten_thousand_messages_over_three_upstreams_are_in_order_for_each() {
    let servers = [NodeWs, PythonWebsockets, NodeWs].map(PeerServer::start);
    let [main, a, b] = servers.each_ref().map(|server| server.url(""));
    let gateway = start(&main, [&a, &b, NOBODY]);
    let mut wire = Wire::open(gateway.address(), "/orders");
    let names = ["main", "a", "b"];
    let mut expected = [0, 1, 2];
    for batch in (0..10_000).collect::<Vec<_>>().chunks(200) {
        batch.iter().for_each(|n| wire.text(&to(names[n % names.len()], *n)));
        for _ in batch {
            let answer = wire.next_text();
            let at = names.iter().zip(expected).position(|(name, n)| answer == to(name, n));
            let at = at.unwrap_or_else(|| panic!("{answer}; expected next: {expected:?}"));
            expected[at] += names.len();
        }
    }
    assert_eq!(expected, [10_002, 10_000, 10_001]);
    for server in &servers {
        let opened = server.opened();
        assert_eq!((&opened["path"], &opened["headers"]["x-gateway"]), (&"/v2/orders".into(), &"wsgate".into()));
    }
    wire.close(4002, "done");
    for server in &servers {
        assert_eq!(server.closed(), (4002, "done".to_owned()));
    }
}

#[test]
fn an_upstream_is_dialled_on_first_use_and_what_it_says_reaches_the_client() {
    for library in LIBRARIES {
        let [main, a] = [PeerServer::start(library), PeerServer::start(library)];
        let gateway = start(&main.url(""), [&a.url(""), NOBODY, NOBODY]);
        let client = PeerClient::connected(PythonWebsockets, &gateway.url("/x"));
        let connections = |upstream| gateway.metrics().sum("wsgate_upstream_connections", &[("upstream", upstream)]);
        assert_eq!((connections("main"), connections("a")), (1.0, 0.0));
        client.send(&to("a", 1));
        assert_eq!(client.receive(), to("a", 1));
        assert_eq!(a.opened()["path"], "/v2/x");
        assert_eq!(connections("a"), 1.0);
        client.send("plain");
        assert_eq!(client.receive(), "plain");
        drop(client);
        assert_eq!(a.closed().0, 1001, "the client vanished");
        until("both connections are given back", SOON, || (connections("main"), connections("a")) == (0.0, 0.0));
    }
}

#[test]
fn what_a_client_sent_before_it_closed_arrives_although_its_upstream_was_still_dialled() {
    static RECEIVED: AtomicBool = AtomicBool::new(false);
    let slow = HandMade::start(|mut wire| {
        thread::sleep(Duration::from_millis(300));
        wire.accept("");
        let (text, close) = (wire.next_text(), wire.next_close());
        wire.close(close.0, "");
        assert_eq!((text, close), (to("a", 7), (1000, "bye".to_owned())));
        RECEIVED.store(true, Ordering::SeqCst);
    });
    let main = PeerServer::start(NodeWs);
    let gateway = start(&main.url(""), [&slow.url(), NOBODY, NOBODY]);
    let mut wire = Wire::open(gateway.address(), "/");
    wire.text(&to("a", 7));
    wire.close(1000, "bye");
    assert_eq!(wire.next_close(), (1000, "bye".to_owned()));
    until("the message has arrived", SOON, || RECEIVED.load(Ordering::SeqCst));
}

#[test]
fn a_routed_upstream_that_closes_normally_is_dialled_again() {
    static CLOSED: AtomicUsize = AtomicUsize::new(0);
    let polite = HandMade::start(|mut wire| {
        wire.accept("");
        let text = wire.next_text();
        wire.text(&text);
        wire.close(1000, "enough");
        assert_eq!(wire.next_close(), (1000, "enough".to_owned()));
        CLOSED.fetch_add(1, Ordering::SeqCst);
    });
    let main = PeerServer::start(NodeWs);
    let gateway = start(&main.url(""), [&polite.url(), NOBODY, NOBODY]);
    let client = PeerClient::connected(PythonWebsockets, &gateway.url("/"));
    for n in 1..4 {
        client.send(&to("a", n));
        assert_eq!(client.receive(), to("a", n));
        until("its close is answered", SOON, || CLOSED.load(Ordering::SeqCst) == n);
    }
    client.send("still there");
    assert_eq!(client.receive(), "still there");
}

#[test]
fn a_routed_upstream_that_ends_otherwise_ends_the_connection() {
    // A close with a code of its own is relayed; a broken connection is 1011. The other upstream is left properly.
    let closes = HandMade::start(|mut wire| {
        wire.accept("");
        wire.next_text();
        wire.close(4123, "no");
        wire.next();
    });
    let breaks = HandMade::start(|mut wire| {
        wire.accept("");
        wire.next_text();
    });
    let main = PeerServer::start(NodeWs);
    let gateway = start(&main.url(""), [&closes.url(), &breaks.url(), NOBODY]);
    for (upstream, code) in
        [("a", (4123, "no")), ("b", (1011, "upstream connection lost")), ("c", (1011, "upstream connection lost"))]
    {
        let mut wire = Wire::open(gateway.address(), "/");
        wire.text(&to(upstream, 1));
        assert_eq!(wire.next_close(), (code.0, code.1.to_owned()), "{upstream}");
        assert_eq!(main.closed().0, 1001);
    }
}

#[test]
fn a_routed_upstream_that_does_not_read_pauses_the_client_alone() {
    let stalled = HandMade::start(|mut wire| {
        wire.accept("");
        thread::sleep(SOON);
    });
    let main = PeerServer::start(NodeWs);
    let config = config(&main.url(""), [&stalled.url(), NOBODY, NOBODY])
        + "queue_max_size = \"1MiB\"\nclient_max_payload = \"512KiB\"\nupstream_max_payload = \"512KiB\"\nsend_timeout = \"2s\"\n";
    let gateway = Setup::new().guest("filters/guest_router.wasm", "guest_router").start(&config);
    let mut wire = Wire::open(gateway.address(), "/");
    let padding = "x".repeat(400 << 10);
    let message = format!(r#"{{"to":"a","padding":"{padding}"}}"#);
    // Far more than the queue and all socket buffers take; the peer that does not read is left after `send_timeout`.
    for _ in 0..200 {
        wire.send(TEXT, message.as_bytes());
        let queued = gateway.metrics().sum("wsgate_queue_bytes", &[("route", "main")]);
        assert!(queued <= f64::from(2 << 20), "{queued}");
    }
    let line = gateway.wait_log(&["routed_upstream_lost"]);
    let relayed = line.split("messages_to_upstream=").nth(1).and_then(|rest| rest.split(' ').next()).unwrap();
    assert!(relayed.parse::<u32>().unwrap() < 100, "the client was never paused: {line}");
    assert_eq!(main.closed().0, 1001);
}
