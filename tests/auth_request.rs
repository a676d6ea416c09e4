//! A service that is asked whether a client may connect.

use std::{
    net::{SocketAddr, TcpListener},
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::Duration,
};

use crate::support::{
    Gateway,
    http::Response,
    peer::{PeerServer, PythonWebsockets},
    upstream::{ECHO, route_to},
    wire::{self, Wire},
};

/// A service that keeps the heads of the requests, and answers as `answer` says; an empty text is never sent.
struct Service {
    address: SocketAddr,
    heads: Arc<Mutex<Vec<String>>>,
}

impl Service {
    fn start(answer: impl Fn(usize, &str) -> String + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let heads: Arc<Mutex<Vec<String>>> = Arc::default();
        let (answer, kept, count) = (Arc::new(answer), heads.clone(), Arc::new(AtomicUsize::new(0)));
        thread::spawn(move || {
            for stream in listener.incoming() {
                let mut wire = Wire::server_of(stream.unwrap());
                let (answer, kept, count) = (answer.clone(), kept.clone(), count.clone());
                thread::spawn(move || {
                    while let Some(head) = wire.head() {
                        let answer = answer(count.fetch_add(1, Ordering::Relaxed), &head);
                        kept.lock().unwrap().push(head);
                        match answer.is_empty() {
                            true => thread::sleep(Duration::from_secs(60)),
                            false => drop(wire.write(answer.as_bytes())),
                        }
                    }
                });
            }
        });
        Self { address, heads }
    }

    fn asked(&self) -> usize {
        self.heads.lock().unwrap().len()
    }

    fn key(&self, more: &str) -> String {
        format!("auth_request = {{ url = \"http://{}/check?x=1\", {more} }}", self.address)
    }
}

fn ask(gateway: &Gateway, path: &str, lines: &[&str]) -> Response {
    let mut head = wire::request(gateway.address(), path);
    head.extend(lines.iter().map(|line| (*line).to_owned()));
    Wire::connect(gateway.address()).ask(&head)
}

fn empty(status: &str) -> String {
    format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\n\r\n")
}

#[test]
fn a_service_that_says_yes_lets_in_and_says_who_it_is() {
    let service = Service::start(|_, _| "HTTP/1.1 204 No Content\r\nX-User-Id: ann\r\nX-Other: no\r\n\r\n".to_owned());
    let upstream = PeerServer::start(PythonWebsockets);
    let copied = service.key("copy_headers = [\"x-user-id\", \"x-tenant\"]");
    let gateway = Gateway::start(&format!("{}{copied}", route_to(&upstream.url(""))));
    let response =
        ask(&gateway, "/room?y=2", &["Cookie: s=1", "X-User-Id: eve", "X-Tenant: evil", "X-Forwarded-For: 10.0.0.1"]);
    assert_eq!(response.status, 101);
    let headers = upstream.opened()["headers"].clone();
    assert_eq!(headers["x-user-id"], "ann");
    assert_eq!((headers.get("x-tenant"), headers.get("x-other")), (None, None), "{headers}");
    // It was asked with the client's headers and what it wanted, and not to speak WebSocket.
    let head = service.heads.lock().unwrap()[0].to_ascii_lowercase();
    assert!(head.starts_with("get /check?x=1 http/1.1\r\n"), "{head}");
    for line in ["cookie: s=1", "x-forwarded-uri: /room?y=2", "x-forwarded-method: get", "x-forwarded-for: 127.0.0.1"] {
        assert!(head.contains(&format!("\r\n{line}")), "{line}: {head}");
    }
    for name in ["upgrade:", "connection: upgrade", "sec-websocket", "10.0.0.1"] {
        assert!(!head.contains(name), "{name}: {head}");
    }
}

#[test]
fn a_refusal_is_passed_on_and_nothing_reaches_the_upstream() {
    let service = Service::start(|_, head| {
        match head.contains("/none") {
        true => "HTTP/1.1 401 Unauthorized\r\nWWW-Authenticate: Bearer realm=\"x\"\r\nSet-Cookie: a=b\r\nContent-Length: 0\r\n\r\n".to_owned(),
        false => "HTTP/1.1 403 Forbidden\r\nContent-Type: text/plain\r\nContent-Length: 8\r\n\r\nnot here".to_owned(),
    }
    });
    let gateway = Gateway::start(&format!("{}{}", route_to("ws://127.0.0.1:9"), service.key("")));
    let refused = ask(&gateway, "/none", &[]);
    assert_eq!((refused.status, refused.header("www-authenticate")), (401, Some("Bearer realm=\"x\"")));
    assert_eq!(refused.header("set-cookie"), None);
    let refused = ask(&gateway, "/", &[]);
    assert_eq!((refused.status, refused.header("content-type")), (403, Some("text/plain")));
    assert_eq!(gateway.metrics().sum("wsgate_upstream_connect_duration_seconds_count", &[]), 0.0);
}

#[test]
fn a_service_that_is_slow_down_or_broken_is_503() {
    let answers = ["500 Internal Server Error", "302 Found", "429 Too Many Requests", "101 Switching Protocols"];
    let service = Service::start(move |n, _| answers.get(n).map(|status| empty(status)).unwrap_or_default());
    let gateway = Gateway::start(&format!("{ECHO}{}", service.key("timeout = \"300ms\"")));
    for _ in 0..=answers.len() {
        let refused = ask(&gateway, "/echo", &[]);
        assert_eq!(refused.status, 503);
        assert!(refused.header("retry-after").is_some());
    }
    let nobody = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let gateway = Gateway::start(&format!("{ECHO}auth_request = {{ url = \"http://{nobody}\" }}"));
    assert_eq!(ask(&gateway, "/echo", &[]).status, 503);
    gateway.wait_log(&["auth_request", "did not answer"]);
}

#[test]
fn answers_are_kept_for_those_who_show_the_same() {
    let service =
        Service::start(|_, head| if head.contains("s=bad") { empty("403 Forbidden") } else { empty("200 OK") });
    let cached = service.key("cache = \"1m\", cache_by = [\"cookie\"]");
    let gateway = Gateway::start(&format!("[server]\nworkers = 1\n{ECHO}{cached}"));
    for _ in 0..3 {
        assert_eq!(ask(&gateway, "/echo", &["Cookie: s=good"]).status, 101);
        assert_eq!(ask(&gateway, "/echo", &["Cookie: s=bad"]).status, 403);
    }
    assert_eq!(service.asked(), 2);
    // Who shows nothing is nobody in particular.
    for _ in 0..2 {
        assert_eq!(ask(&gateway, "/echo", &[]).status, 101);
    }
    assert_eq!(service.asked(), 4);
    assert_eq!(gateway.metrics().sum("wsgate_auth_requests_total", &[("result", "cached")]), 4.0);
}
