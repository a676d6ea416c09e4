//! Opening requests that are not quite right, byte by byte: each is refused, and nothing of it reaches an upstream.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use crate::support::{
    Gateway,
    http::Response,
    upstream::{HandMade, route_to},
    wire::{self, Wire},
};

/// An upstream that counts who comes, behind a gateway.
struct Counted {
    gateway: Gateway,
    came: Arc<AtomicUsize>,
}

impl Counted {
    fn start() -> Self {
        let came = Arc::new(AtomicUsize::new(0));
        let count = came.clone();
        let upstream = HandMade::start(move |mut wire| {
            count.fetch_add(1, Ordering::SeqCst);
            wire.accept("");
            wire.next();
        });
        Self { gateway: Gateway::start(&route_to(&upstream.url())), came }
    }

    /// Sends these lines; expects this status, no upstream connection, and a gateway that goes on.
    fn refuses(&self, what: &str, lines: &[String], expected: &[u16]) -> Response {
        let before = self.came.load(Ordering::SeqCst);
        let answer = Wire::connect(self.gateway.address()).ask(lines);
        assert!(expected.contains(&answer.status), "{what}: {} instead of {expected:?}", answer.status);
        assert_eq!(self.came.load(Ordering::SeqCst), before, "{what} reached the upstream");
        Wire::open(self.gateway.address(), "/");
        assert_eq!(self.came.load(Ordering::SeqCst), before + 1);
        answer
    }

    /// A good request with one line replaced.
    fn changed(&self, line: usize, with: &str) -> Vec<String> {
        let mut lines = wire::request(self.gateway.address(), "/");
        with.clone_into(&mut lines[line]);
        lines
    }

    /// A good request with more lines.
    fn with(&self, more: &[&str]) -> Vec<String> {
        let mut lines = wire::request(self.gateway.address(), "/");
        lines.extend(more.iter().map(|&line| line.to_owned()));
        lines
    }

    /// A good request without one line.
    fn without(&self, line: usize) -> Vec<String> {
        let mut lines = wire::request(self.gateway.address(), "/");
        lines.remove(line);
        lines
    }
}

const REQUEST: usize = 0;
const HOST: usize = 1;
const UPGRADE: usize = 2;
const CONNECTION: usize = 3;
const KEY: usize = 4;
const VERSION: usize = 5;

#[test]
fn a_bad_key_is_400() {
    let gateway = Counted::start();
    gateway.refuses("no key", &gateway.without(KEY), &[400]);
    for key in ["", "c2hvcnQ=", "not base64 at all!!!!!!", "dGhlIHNhbXBsZSBub25jZQ", "AAAAAAAAAAAAAAAAAAAAAAAAAA=="] {
        gateway.refuses(key, &gateway.changed(KEY, &format!("Sec-WebSocket-Key: {key}")), &[400]);
    }
    let doubled = gateway.with(&["Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="]);
    gateway.refuses("two keys", &doubled, &[400]);
}

#[test]
fn another_version_is_426_and_names_13() {
    let gateway = Counted::start();
    for version in ["12", "14", "8", "013", "+13", "13, 8", "x"] {
        let lines = gateway.changed(VERSION, &format!("Sec-WebSocket-Version: {version}"));
        let answer = gateway.refuses(version, &lines, &[426]);
        assert_eq!(answer.header("sec-websocket-version"), Some("13"), "{version}");
    }
    gateway.refuses("no version", &gateway.without(VERSION), &[400, 426]);
}

#[test]
fn another_method_or_http_version_is_400() {
    let gateway = Counted::start();
    for line in ["POST / HTTP/1.1", "PUT / HTTP/1.1", "HEAD / HTTP/1.1", "GET / HTTP/1.0", "CONNECT / HTTP/1.1"] {
        gateway.refuses(line, &gateway.changed(REQUEST, line), &[400]);
    }
}

#[test]
fn a_request_with_a_body_is_400() {
    let gateway = Counted::start();
    gateway.refuses("chunked", &gateway.with(&["Transfer-Encoding: chunked"]), &[400]);
    gateway.refuses("identity", &gateway.with(&["Transfer-Encoding: identity"]), &[400]);
    gateway.refuses("a length", &gateway.with(&["Content-Length: 5"]), &[400]);
    gateway.refuses("two lengths", &gateway.with(&["Content-Length: 5", "Content-Length: 6"]), &[400]);
    gateway.refuses("both", &gateway.with(&["Transfer-Encoding: chunked", "Content-Length: 5"]), &[400]);
}

#[test]
fn anything_but_one_host_is_400() {
    let gateway = Counted::start();
    gateway.refuses("no host", &gateway.without(HOST), &[400]);
    gateway.refuses("two hosts", &gateway.with(&["Host: other.example"]), &[400]);
    gateway.refuses("an empty host", &gateway.changed(HOST, "Host:"), &[400]);
    let other = gateway.changed(REQUEST, "GET http://other.example/ HTTP/1.1");
    gateway.refuses("a target that disagrees", &other, &[400]);
}

#[test]
fn headers_that_only_look_like_an_upgrade_do_not_upgrade() {
    let gateway = Counted::start();
    gateway.refuses("h2c", &gateway.changed(UPGRADE, "Upgrade: h2c"), &[400, 426]);
    gateway.refuses("no upgrade", &gateway.without(UPGRADE), &[400, 426]);
    gateway.refuses("connection: close", &gateway.changed(CONNECTION, "Connection: close"), &[400, 426]);
    gateway.refuses("a folded header", &gateway.with(&["X-Folded: one", " two"]), &[400]);
    gateway.refuses("a space before the colon", &gateway.with(&["Content-Length : 5"]), &[400]);
}

#[test]
fn upgrade_and_connection_are_read_as_lists_without_case() {
    let gateway = Counted::start();
    let mut lines = gateway.changed(UPGRADE, "upgrade: WebSocket");
    "CONNECTION: keep-alive, UPGRADE".clone_into(&mut lines[CONNECTION]);
    Wire::open_with(gateway.gateway.address(), &lines);
}

#[test]
fn too_many_or_too_long_headers_are_431() {
    let gateway = Counted::start();
    let many: Vec<String> = (0..101).map(|number| format!("X-{number}: 1")).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    gateway.refuses("101 headers", &gateway.with(&many), &[431]);
    let long = format!("X-Long: {}", "x".repeat(17 * 1024));
    gateway.refuses("17 KiB", &gateway.with(&[&long]), &[431]);
}

#[test]
fn refusals_are_counted_by_result() {
    let gateway = Counted::start();
    gateway.refuses("no key", &gateway.without(KEY), &[400]);
    let metrics = gateway.gateway.metrics();
    assert_eq!(metrics.sum("wsgate_handshakes_total", &[]), 2.0);
    // A session begins when its 101 is written, which the client sees first.
    gateway.gateway.wait_metric("wsgate_connections_total", &[], 1.0);
}

#[test]
fn headers_that_trickle_in_are_cut_off_after_ten_seconds() {
    let gateway = Counted::start();
    let began = Instant::now();
    let mut wire = Wire::connect(gateway.gateway.address());
    wire.write(b"GET / HTTP/1.1\r\nHost: slow.example\r\n");
    assert!(wire.ends(Duration::from_secs(20)), "still open");
    assert!(began.elapsed() > Duration::from_secs(5), "cut off after {:?}", began.elapsed());
    Wire::open(gateway.gateway.address(), "/");
}
