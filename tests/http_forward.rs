//! `http = "forward"`: requests that open no WebSocket, through the gateway, byte for byte.

use std::{
    io::{ErrorKind, Read, Write},
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering},
        mpsc,
    },
    time::{Duration, Instant},
};

use serde_json::json;

use crate::{
    support::{
        Gateway, SOON, Setup,
        http::{self, Response},
        until,
        upstream::{HandMade, route_to},
        wire::Wire,
    },
    tokens::{SECRET, config as token_config, now, token},
};

const OK: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

/// A gateway before an upstream; `more` are keys of the route.
fn forward(upstream: &HandMade, more: &str) -> Gateway {
    Gateway::start(&format!("{}http = \"forward\"\n{more}", route_to(&upstream.url())))
}

/// An upstream that answers every request so, and keeps its heads.
fn answering(answer: &'static [u8]) -> (HandMade, mpsc::Receiver<String>) {
    let (heads, seen) = mpsc::sync_channel(64);
    let upstream = HandMade::start(move |mut wire| {
        while let Some(head) = wire.head() {
            let _ = heads.send(head);
            wire.write(answer);
        }
    });
    (upstream, seen)
}

fn ask(wire: &mut Wire, line: &str, headers: &[&str]) -> Response {
    let mut lines = vec![line.to_owned(), "Host: a".to_owned()];
    lines.extend(headers.iter().map(|header| (*header).to_owned()));
    wire.ask(&lines)
}

#[test]
fn requests_share_connections_on_both_sides() {
    let connections = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&connections);
    let upstream = HandMade::start(move |mut wire| {
        count.fetch_add(1, Ordering::Relaxed);
        while let Some(head) = wire.head() {
            match head.split(' ').next().unwrap() {
                "HEAD" => wire.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n"),
                "DELETE" => wire.write(b"HTTP/1.1 204 No Content\r\nX-A: 1\r\n\r\n"),
                "PUT" => wire.write(b"HTTP/1.1 304 Not Modified\r\nETag: \"a\"\r\n\r\n"),
                _ => wire.write(OK),
            };
        }
    });
    let gateway = Gateway::start(&format!("[server]\nworkers = 1\n{}http = \"forward\"", route_to(&upstream.url())));
    let mut client = Wire::connect(gateway.address());
    for _ in 0..3 {
        let answer = ask(&mut client, "GET /a?b=c HTTP/1.1", &[]);
        assert_eq!((answer.status, answer.header("content-length")), (200, Some("2")));
        assert_eq!(client.take(2), b"ok");
        let answer = ask(&mut client, "HEAD / HTTP/1.1", &[]);
        assert_eq!((answer.status, answer.header("content-length")), (200, Some("1000")));
        let answer = ask(&mut client, "DELETE /x HTTP/1.1", &[]);
        assert_eq!((answer.status, answer.header("x-a")), (204, Some("1")));
        let answer = ask(&mut client, "PUT / HTTP/1.1", &["Content-Length: 0"]);
        assert_eq!((answer.status, answer.header("etag")), (304, Some("\"a\"")));
    }
    assert_eq!(connections.load(Ordering::Relaxed), 1);
    let metrics = gateway.metrics();
    assert_eq!(metrics.sum("wsgate_http_requests_total", &[("route", "main"), ("status", "2xx")]), 9.0);
    assert_eq!(metrics.sum("wsgate_http_requests_total", &[("status", "3xx")]), 3.0);
    gateway.wait_log(&["method=\"DELETE\"", "path=\"/x\"", "status=204", "end=\"done\""]);
}

#[test]
fn headers_are_kept_clean() {
    let (upstream, heads) = answering(
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: X-Mine\r\nX-Mine: 1\r\nKeep-Alive: timeout=9\r\nSet-Cookie: a=b\r\n\r\nok",
    );
    let gateway = forward(&upstream, "request_headers = { set = { x-gateway = \"wsgate\" } }");
    let mut client = Wire::connect(gateway.address());
    let sent = [
        "Connection: X-Private, keep-alive",
        "X-Private: 1",
        "X-Forwarded-For: 6.6.6.6",
        "Forwarded: for=6.6.6.6",
        "Upgrade: h2c",
        "X-Request-Id: mine",
        "X-Kept: yes",
        "X-Gateway: forged",
    ];
    let answer = ask(&mut client, "GET /p HTTP/1.1", &sent);
    assert_eq!((answer.status, answer.header("set-cookie")), (200, Some("a=b")));
    assert!(["x-mine", "keep-alive"].iter().all(|name| answer.header(name).is_none()), "{answer:?}");
    let head = heads.recv_timeout(SOON).unwrap().to_ascii_lowercase();
    assert!(head.starts_with("get /p http/1.1\r\n"), "{head}");
    for line in ["x-kept: yes", "x-forwarded-for: 127.0.0.1", "x-gateway: wsgate", "host: a", "x-request-id: "] {
        assert!(head.contains(line), "{line}: {head}");
    }
    for gone in ["x-private", "6.6.6.6", "upgrade", "x-request-id: mine", "forged", "connection"] {
        assert!(!head.contains(gone), "{gone}: {head}");
    }
}

#[test]
fn each_event_passes_at_once_and_a_client_that_leaves_takes_the_request_along() {
    let (go, next) = mpsc::sync_channel::<()>(64);
    let (gone, left) = mpsc::sync_channel(64);
    let (next, gone) = (std::sync::Mutex::new(next), std::sync::Mutex::new(gone));
    let upstream = HandMade::start(move |mut wire| {
        wire.head();
        wire.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n");
        while next.lock().unwrap().recv().is_ok() {
            wire.write(b"9\r\ndata: 1\n\n\r\n");
        }
        gone.lock().unwrap().send(wire.ends(SOON)).unwrap();
    });
    let gateway = forward(&upstream, "");
    let mut client = Wire::connect(gateway.address());
    assert_eq!(ask(&mut client, "GET /events HTTP/1.1", &[]).header("content-type"), Some("text/event-stream"));
    for _ in 0..5 {
        go.send(()).unwrap();
        assert_eq!(client.take(14), b"9\r\ndata: 1\n\n\r\n");
    }
    drop((client, go));
    assert!(left.recv_timeout(SOON).unwrap(), "the upstream still has its request");
    gateway.wait_log(&["path=\"/events\"", "end=\"client_gone\"", "bytes_to_client=45"]);
}

#[test]
fn announced_trailers_pass_both_ways_but_none_that_the_gateway_sets() {
    let (bodies, seen) = mpsc::sync_channel(64);
    let upstream = HandMade::start(move |mut wire| {
        let head = wire.head().unwrap();
        bodies.send(format!("{head}\r\n{}", wire.until("0\r\n", "\r\n\r\n"))).unwrap();
        wire.write(
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n1\r\na\r\n0\r\nX-Sum: 7\r\n\r\n",
        );
        wire.head();
    });
    let gateway = forward(&upstream, "");
    let mut client = Wire::connect(gateway.address());
    client.write(
        b"POST / HTTP/1.1\r\nHost: a\r\nTE: trailers\r\nTransfer-Encoding: chunked\r\nTrailer: X-Check, X-Forwarded-For, Authorization\r\n\r\n\
        3\r\nabc\r\n0\r\nX-Check: 5\r\nX-Forwarded-For: 6.6.6.6\r\nAuthorization: forged\r\n\r\n",
    );
    let answer = client.rest();
    assert!(answer.ends_with("1\r\na\r\n0\r\nx-sum: 7\r\n\r\n"), "{answer}");
    let seen = seen.recv_timeout(SOON).unwrap().to_ascii_lowercase();
    assert!(seen.contains("3\r\nabc\r\n0\r\nx-check: 5\r\n"), "{seen}");
    assert!(!seen.contains("6.6.6.6") && !seen.contains("forged"), "{seen}");
}

#[test]
fn an_upstream_that_breaks_off_breaks_the_answer() {
    for head in ["Content-Length: 100", "Transfer-Encoding: chunked"] {
        let upstream = HandMade::start(move |mut wire| {
            wire.head();
            wire.write(format!("HTTP/1.1 200 OK\r\n{head}\r\n\r\n4\r\nhalf\r\n").as_bytes());
        });
        let gateway = forward(&upstream, "");
        let mut client = Wire::connect(gateway.address());
        assert_eq!(ask(&mut client, "GET / HTTP/1.1", &[]).status, 200);
        assert_eq!(client.rest(), "4\r\nhalf\r\n", "{head}: no clean end");
        gateway.wait_log(&["end=\"upstream_broke\""]);
    }
}

#[test]
fn what_two_servers_could_read_differently_is_refused_and_not_a_byte_goes_on() {
    let (upstream, heads) = answering(OK);
    let gateway = forward(&upstream, "");
    for (lines, status) in [
        ("Content-Length: 5\r\nTransfer-Encoding: chunked", 400),
        ("Transfer-Encoding: chunked\r\nContent-Length: 5", 400),
        ("Transfer-Encoding : chunked\r\nContent-Length: 5", 400),
        ("Content-Length: 5\r\nContent-Length: 6", 400),
        ("Content-Length: 5\r\nContent-Length: 5", 400),
        ("Content-Length: 5, 5", 400),
        ("Content-Length: +5", 400),
        ("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked", 400),
        ("Transfer-Encoding: gzip, chunked", 501),
        ("Transfer-Encoding: chunked, identity", 400),
        ("X-A: 1\r\n folded: 2", 400),
        ("Host: b", 400),
    ] {
        let mut client = Wire::connect(gateway.address());
        let smuggled = "0\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n";
        client.write(format!("POST / HTTP/1.1\r\nHost: a\r\n{lines}\r\n\r\n{smuggled}").as_bytes());
        let answer = client.rest();
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{lines}: {answer}");
        assert_eq!(answer.matches("HTTP/1.1").count(), 1, "{lines}: {answer}");
    }
    assert!(heads.try_recv().is_err(), "something reached the upstream");
    for (line, status) in [("TRACE / HTTP/1.1", 405), ("GET / HTTP/1.0", 400), ("OPTIONS * HTTP/1.1", 400)] {
        assert_eq!(ask(&mut Wire::connect(gateway.address()), line, &[]).status, status, "{line}");
    }
    // What follows chunks is never taken for another request.
    let mut client = Wire::connect(gateway.address());
    client.write(
        b"POST /1 HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET /2 HTTP/1.1\r\nHost: a\r\n\r\n",
    );
    assert_eq!(client.rest().matches("HTTP/1.1 200").count(), 1);
    assert!(heads.recv_timeout(SOON).unwrap().starts_with("POST /1 "));
    assert!(heads.try_iter().all(|head| !head.contains("/2")));
}

#[test]
fn bodies_are_bounded_in_size_and_time() {
    let (ended, upstream_saw) = mpsc::sync_channel(64);
    let upstream = HandMade::start(move |mut wire| {
        wire.head();
        let _ = ended.send(wire.rest());
    });
    let gateway = forward(&upstream, "http_max_body = \"10B\"\nhttp_body_timeout = \"300ms\"");
    let asked = |lines: &str, body: &str| {
        let mut client = Wire::connect(gateway.address());
        client.write(format!("POST / HTTP/1.1\r\nHost: a\r\n{lines}\r\n\r\n{body}").as_bytes());
        Response::parse_head(&client.head().unwrap()).status
    };
    assert_eq!(asked("Content-Length: 11", ""), 413);
    assert!(upstream_saw.try_recv().is_err());
    assert_eq!(asked("Transfer-Encoding: chunked", "6\r\nabcdef\r\n6\r\nabcdef\r\n0\r\n\r\n"), 413);
    assert!(!upstream_saw.recv_timeout(SOON).unwrap().contains("0\r\n\r\n"), "the body seems whole");
    assert_eq!(asked("Content-Length: 10", "abc"), 408);
    assert_eq!(upstream_saw.recv_timeout(SOON).unwrap(), "abc");
}

#[test]
fn an_upstream_that_is_away_or_slow_is_502_or_504() {
    let silent = HandMade::start(|mut wire| {
        wire.head();
        wire.ends(Duration::from_secs(20));
    });
    let gateway = forward(&silent, "http_response_timeout = \"200ms\"");
    assert_eq!(http::get(gateway.address(), "/").status, 504);
    let rude = HandMade::start(|mut wire| drop(wire.head()));
    assert_eq!(http::get(forward(&rude, "").address(), "/").status, 502);
    let gateway = Gateway::start(&format!("{}http = \"forward\"", route_to("ws://127.0.0.1:1")));
    assert_eq!(http::get(gateway.address(), "/").status, 502);
    let (switching, _heads) = answering(b"HTTP/1.1 101 X\r\nUpgrade: websocket\r\nConnection: upgrade\r\n\r\n");
    assert_eq!(http::get(forward(&switching, "").address(), "/").status, 502);
}

#[test]
fn a_kept_connection_that_the_upstream_closed_costs_no_request() {
    let (heads, asked) = mpsc::sync_channel(64);
    let upstream = HandMade::start(move |mut wire| {
        // One answer; then it hears one more request, and closes without a word.
        heads.send(wire.head().is_some()).unwrap();
        wire.write(OK);
        heads.send(wire.head().is_some()).unwrap();
    });
    // Nothing but the resend may help.
    let config = route_to(&upstream.url()).replacen("endpoints", "retries = 0\nendpoints", 1);
    let gateway = Gateway::start(&format!("[server]\nworkers = 1\n{config}http = \"forward\""));
    for _ in 0..20 {
        assert_eq!(http::get(gateway.address(), "/").status, 200);
    }
    // 19 of them came over a kept connection first, in vain.
    assert_eq!(asked.try_iter().filter(|came| *came).count(), 39);
}

#[test]
fn an_endpoint_that_says_that_it_cannot_serve_is_ejected() {
    let (well, _heads) = answering(OK);
    let (ill, asked) = answering(b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n");
    let gateway = Gateway::start(&format!(
        r#"
        [upstreams.main]
        endpoints = ["{}", "{}"]
        balance = "round_robin"
        outlier_detection = {{ consecutive_failures = 2 }}

        [[routes]]
        path = "/*"
        upstream = "main"
        http = "forward"
        "#,
        well.url(),
        ill.url()
    ));
    let refused = (0..20).filter(|_| http::get(gateway.address(), "/").status == 503).count();
    assert_eq!((refused, asked.try_iter().count()), (2, 2));
}

#[test]
fn pages_of_other_origins_are_refused() {
    let (upstream, heads) = answering(OK);
    let gateway = forward(&upstream, "allowed_origins = [\"https://app.example.com\"]");
    for (line, header, status) in [
        ("GET / HTTP/1.1", "X: 1", 200),
        ("GET / HTTP/1.1", "Origin: https://evil.example.com", 403),
        ("OPTIONS / HTTP/1.1", "Origin: https://evil.example.com", 403),
        ("POST / HTTP/1.1", "Origin: https://evil.example.com", 403),
        ("POST / HTTP/1.1", "Origin: null", 403),
        ("POST / HTTP/1.1", "X: 1", 403),
        ("POST / HTTP/1.1", "Origin: https://app.example.com", 200),
    ] {
        let answer = ask(&mut Wire::connect(gateway.address()), line, &[header, "Content-Length: 0"]);
        assert_eq!(answer.status, status, "{line} {header}");
    }
    assert_eq!(heads.try_iter().count(), 2);
}

#[test]
fn tokens_count_here_too_and_end_what_streams() {
    let (heads, seen) = mpsc::sync_channel(64);
    let upstream = HandMade::start(move |mut wire| {
        heads.send(wire.head().unwrap()).unwrap();
        wire.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
        wire.ends(Duration::from_secs(20));
    });
    let setup = Setup::new();
    setup.publish("secret", SECRET.as_bytes());
    let route = "http = \"forward\"\nclaims_to_headers = { x-user-id = \"sub\" }";
    let jwt = "from = [\"query:access_token\"]\nleeway = \"0s\"\non_expiry = { grace = \"0s\" }";
    let gateway = setup.start(&token_config(Some(&upstream.url()), jwt, route));
    let mut client = Wire::connect(gateway.address());
    assert_eq!(ask(&mut client, "GET / HTTP/1.1", &["X-User-Id: root"]).status, 401);
    assert!(seen.try_recv().is_err());
    let mut client = Wire::connect(gateway.address());
    let line = format!("GET /?access_token={}&x=1 HTTP/1.1", token(json!({ "exp": now() + 2 })));
    assert_eq!(ask(&mut client, &line, &["X-User-Id: root"]).status, 200);
    let head = seen.recv_timeout(SOON).unwrap();
    assert!(head.starts_with("GET /?x=1 ") && head.contains("x-user-id: ann") && !head.contains("root"), "{head}");
    assert_eq!(client.rest(), "", "no clean end");
    gateway.wait_log(&["end=\"token_expired\""]);
}

#[test]
fn filters_that_refuse_openings_refuse_these_requests() {
    let (upstream, heads) = answering(OK);
    let config = |key: &str| {
        let upstream = route_to(&upstream.url());
        Setup::new()
            .guest("filters/reason.wasm", "guest_reason")
            .start(&format!("{upstream}http = \"forward\"\nfilters = [\"reason\"]\n{key}"))
    };
    let gateway = config("");
    assert_eq!(http::get(gateway.address(), "/?refuse=blocked").status, 403);
    assert!(heads.try_recv().is_err());
    gateway.wait_log(&["end=\"filter_refused\"", "filter_reason=reason:blocked"]);
    assert_eq!(http::get(gateway.address(), "/").status, 200);
    until("the filter's session has ended", SOON, || {
        gateway.metrics().sum("wsgate_filter_calls_total", &[("hook", "open")]) == 2.0
    });
    assert_eq!(http::get(config("http_filters = \"skip\"").address(), "/?refuse=blocked").status, 200);
}

#[test]
fn requests_count_against_the_limits() {
    let (hold, held) = mpsc::sync_channel::<()>(64);
    let (heads, seen) = mpsc::sync_channel(64);
    let held = std::sync::Mutex::new(held);
    let upstream = HandMade::start(move |mut wire| {
        while let Some(head) = wire.head() {
            let _ = heads.send(head);
            let _ = held.lock().unwrap().recv();
            wire.write(OK);
        }
    });
    let gateway = forward(&upstream, "limits = { connections_per_ip = 1 }");
    let mut first = Wire::connect(gateway.address());
    first.write(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    seen.recv_timeout(SOON).unwrap();
    assert_eq!(http::get(gateway.address(), "/").status, 429);
    hold.send(()).unwrap();
    assert_eq!(Response::parse_head(&first.head().unwrap()).status, 200);
    drop(hold);
    until("there is room again", SOON, || http::get(gateway.address(), "/").status == 200);
}

#[test]
fn a_drain_lets_requests_come_to_their_end() {
    let (hold, held) = mpsc::sync_channel::<()>(64);
    let held = std::sync::Mutex::new(held);
    let upstream = HandMade::start(move |mut wire| {
        wire.head();
        wire.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n");
        let _ = held.lock().unwrap().recv();
        wire.write(b"1\r\nb\r\n0\r\n\r\n");
        wire.head();
    });
    let route = route_to(&upstream.url());
    let mut gateway =
        Gateway::start(&format!("[server]\ndrain_delay = \"0s\"\ndrain_timeout = \"20s\"\n{route}http = \"forward\""));
    let mut client = Wire::connect(gateway.address());
    assert_eq!(ask(&mut client, "GET / HTTP/1.1", &[]).status, 200);
    assert_eq!(client.take(6), b"1\r\na\r\n");
    let asked = Instant::now();
    gateway.terminate();
    gateway.wait_log(&["closing connections"]);
    hold.send(()).unwrap();
    assert_eq!(client.take(11), b"1\r\nb\r\n0\r\n\r\n");
    drop(client);
    assert!(gateway.wait_exit(Duration::from_secs(15)).success());
    assert!(asked.elapsed() < Duration::from_secs(15), "{:?}", asked.elapsed());
}

#[test]
fn other_routes_still_ask_for_a_websocket() {
    let (upstream, _heads) = answering(OK);
    let gateway = Gateway::start(&route_to(&upstream.url()));
    assert_eq!(http::get(gateway.address(), "/").status, 426);
}

#[test]
fn a_gibibyte_passes_in_little_memory() {
    const BYTES: u64 = 1 << 30;
    let upstream = HandMade::start(|mut wire| {
        wire.head();
        let (mut part, mut left) = (vec![0; 1 << 20], BYTES - wire.buffered() as u64);
        while left > 0 {
            left -= wire.stream.read(&mut part).unwrap() as u64;
        }
        wire.write(OK);
        wire.head();
    });
    let gateway = forward(&upstream, "http_max_body = \"off\"");
    let mut client = Wire::connect(gateway.address());
    let before = gateway.rss_kib();
    client.write(format!("PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: {BYTES}\r\n\r\n").as_bytes());
    let (part, mut most) = (vec![7; 1 << 20], 0);
    for sent in 0..BYTES >> 20 {
        client.stream.write_all(&part).unwrap();
        if sent % 64 == 0 {
            most = most.max(gateway.rss_kib());
        }
    }
    assert_eq!(Response::parse_head(&client.head().unwrap()).status, 200);
    let grown = most.saturating_sub(before);
    eprintln!("{grown} KiB more at most");
    assert!(grown < 16 << 10, "{grown} KiB more");
}

#[test]
fn a_client_that_does_not_read_holds_up_the_upstream_and_is_closed() {
    let written = Arc::new(AtomicU64::new(0));
    let count = Arc::clone(&written);
    let upstream = HandMade::start(move |mut wire| {
        wire.head();
        wire.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
        let chunk = [b"10000\r\n".as_slice(), &[b'x'; 65536], b"\r\n"].concat();
        while wire.write(&chunk) {
            count.fetch_add(65536, Ordering::Relaxed);
        }
    });
    let gateway = forward(&upstream, "send_timeout = \"1s\"");
    let before = gateway.rss_kib();
    let mut client = Wire::connect(gateway.address());
    assert_eq!(ask(&mut client, "GET / HTTP/1.1", &[]).status, 200);
    gateway.wait_log(&["end=\"client_gone\""]);
    let (written, grown) = (written.load(Ordering::Relaxed), gateway.rss_kib().saturating_sub(before));
    assert!(written < 32 << 20 && grown < 16 << 10, "{written} bytes were taken, {grown} KiB more");
    client.stream.set_read_timeout(Some(SOON)).unwrap();
    let mut sink = vec![0; 1 << 20];
    loop {
        match client.stream.read(&mut sink) {
            Ok(0) => break,
            Ok(_) => {}
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::ConnectionReset);
                break;
            }
        }
    }
}
