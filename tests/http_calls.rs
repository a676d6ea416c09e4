//! Filters that send HTTP requests: who may be asked, and that waiting for an answer is nobody else's concern.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
    thread,
    time::Duration,
};

use crate::support::{
    Gateway, Setup,
    http_server::{Asked, Reply, Server, answer, certificate},
    load, until,
    upstream::{ECHO, route_to},
    wire::Wire,
};

const WITHIN: Duration = Duration::from_secs(20);
/// What a connection may wait, at the 99th percentile, whose filter asks a server that answers at once, while another
/// connection's answers take 500 ms.
const CALM: Duration = Duration::from_millis(25);

/// `fetch` on a route of one worker, allowed to ask this server.
fn gateway(origin: &str, keys: &str) -> Gateway {
    gateway_of(Setup::new(), ECHO, origin, keys)
}

fn gateway_of(setup: Setup, route: &str, origin: &str, keys: &str) -> Gateway {
    let setup = setup.guest("filters/fetch.wasm", "guest_fetch");
    let filter = format!("[filters.fetch]\nallow = {{ http = [\"{origin}\"] }}\n{keys}");
    setup.start(&format!("[server]\nworkers = 1\n{route}\nfilters = [\"fetch\"]\n{filter}"))
}

/// Answers each message as it asks to be answered.
fn authority() -> Server {
    Server::start(|Asked { head, body }| {
        assert!(head.starts_with("post /check http/1.1\r\n"), "{head}");
        match &body[..] {
            b"never" => Reply::Silence(Vec::new()),
            b"bad" => Reply::Bytes(answer(403, "", "")),
            b"brief" => Reply::After(Duration::from_millis(200), answer(200, "", "")),
            b"slow" => Reply::After(Duration::from_millis(500), answer(200, "", "")),
            _ => Reply::Bytes(answer(200, "", "")),
        }
    })
}

/// Asks it about each message.
fn asking(server: &Server, keys: &str) -> Gateway {
    gateway(&server.url(""), &format!("config = {{ ask = \"{}\" }}\n{keys}", server.url("/check")))
}

fn calls(gateway: &Gateway, result: &str) -> f64 {
    gateway.metrics().sum("wsgate_filter_http_calls_total", &[("filter", "fetch"), ("result", result)])
}

fn say(wire: &mut Wire, text: &str) -> String {
    wire.text(text);
    wire.next_text()
}

/// What the guest found, without the headers.
fn get(wire: &mut Wire, url: &str) -> String {
    let answer = say(wire, &format!("GET {url}"));
    answer.split(' ').filter(|word| !word.contains(':')).collect::<Vec<_>>().join(" ")
}

#[test]
fn a_server_says_which_messages_may_pass() {
    let server = authority();
    let gateway = asking(&server, "");
    let mut wire = Wire::open(gateway.address(), "/echo");
    for _ in 0..50 {
        assert_eq!(say(&mut wire, "good"), "good");
        assert_eq!(say(&mut wire, "bad"), "refused 403");
    }
    assert_eq!((calls(&gateway, "2xx"), calls(&gateway, "4xx")), (50.0, 50.0));
    // A connection is used again; now and then two are needed, because the last is not free yet.
    assert!(server.connections.load(SeqCst) <= 5, "{}", server.connections.load(SeqCst));
}

#[test]
fn a_slow_answer_for_one_connection_leaves_the_others_where_they_were() {
    let server = authority();
    let gateway = asking(&server, "");
    gateway.wait_metric("wsgate_filter_instances", &[("filter", "fetch")], 8.0);
    let address = gateway.address();
    let probe = || load::probe(address, "/echo", 100, Duration::from_millis(10));
    let quiet = load::best_of_three(CALM, probe);
    let stop = Arc::new(AtomicBool::new(false));
    let stopped = stop.clone();
    let slow = thread::spawn(move || {
        let mut wire = Wire::open(address, "/echo");
        while !stopped.load(SeqCst) {
            assert_eq!(say(&mut wire, "slow"), "slow");
        }
    });
    let before = calls(&gateway, "2xx");
    let beside = load::best_of_three(CALM, probe);
    stop.store(true, SeqCst);
    slow.join().unwrap();
    println!("figure: asking a server that answers at once: {quiet}");
    println!("figure: beside a connection whose answers take 500 ms: {beside}");
    assert!(calls(&gateway, "2xx") > before + 99.0);
    assert!(beside.quantile(0.99) <= CALM, "{beside}");
}

#[test]
fn a_server_that_never_answers_ends_the_call_at_wait_timeout() {
    let server = authority();
    let gateway = asking(&server, "wait_timeout = \"300ms\"");
    let mut wire = Wire::open(gateway.address(), "/echo");
    wire.text("never");
    assert_eq!(wire.next_close().0, 1011);
    // `timeout` for the filter, which says that it has no answer; its instance lives.
    gateway.wait_metric("wsgate_filter_faults_total", &[("kind", "error")], 1.0);
    assert_eq!(gateway.metrics().sum("wsgate_filter_faults_total", &[]), 1.0);
    assert_eq!(calls(&gateway, "timeout"), 1.0);
    gateway.wait_log(&["filter fault: timeout"]);
    assert_eq!(say(&mut Wire::open(gateway.address(), "/echo"), "good"), "good");
    until("the connection to the server is closed", WITHIN, || server.open.load(SeqCst) <= 1);
}

/// Upstreams that close are noticed in the middle of a call, clients that leave after it: a hundred of both.
#[test]
fn connections_that_end_in_the_middle_of_a_call_cost_no_instance() {
    let (server, leave) = (authority(), Arc::new(AtomicBool::new(false)));
    let left = leave.clone();
    let upstream = load::upstream(move |_, socket| {
        let left = left.clone();
        async move {
            while !left.load(SeqCst) {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
            drop(socket);
        }
    });
    let keys = format!("config = {{ ask = \"{}\" }}\nwait_timeout = \"10s\"", server.url("/check"));
    let gateway = gateway_of(Setup::new(), &route_to(&upstream), &server.url(""), &keys);
    let instances = [("filter", "fetch")];
    gateway.wait_metric("wsgate_filter_instances", &instances, 8.0);
    let mut clients: Vec<Wire> = (0..100).map(|_| Wire::open(gateway.address(), "/")).collect();
    clients.iter_mut().for_each(|wire| wire.text("brief"));
    until("calls are under way", WITHIN, || server.requests.load(SeqCst) >= 8);
    drop(clients);
    leave.store(true, SeqCst);
    gateway.wait_empty();
    assert!(calls(&gateway, "2xx") < 100.0, "no call was under way");
    until("all calls are made", WITHIN, || calls(&gateway, "2xx") == 100.0);
    gateway.wait_metric("wsgate_filter_calls_total", &[("hook", "release")], 100.0);
    assert_eq!(gateway.metrics().sum("wsgate_filter_faults_total", &[]), 0.0);
    assert_eq!(gateway.metrics().sum("wsgate_filter_instances", &instances), 8.0);
}

#[test]
fn other_hosts_large_bodies_and_redirects_are_no_way_around() {
    let secret = Server::start(|_| Reply::Bytes(answer(200, "", "secret")));
    let location = format!("location: {}\r\n", secret.url("/"));
    let server = Server::start(move |Asked { head, .. }| match head.split(' ').nth(1) {
        Some("/large") => Reply::Bytes(answer(200, "", &"x".repeat(10_000_000))),
        Some("/redirect") => Reply::Bytes(answer(307, &location, "")),
        _ => Reply::Bytes(answer(200, "", "ok")),
    });
    let gateway = gateway(&server.url(""), "");
    let mut wire = Wire::open(gateway.address(), "/echo");
    assert_eq!(get(&mut wire, &server.url("/")), "200 ok");
    assert_eq!(get(&mut wire, &secret.url("/")), "denied");
    let asked = format!("asked=\"{}\"", secret.url(""));
    gateway.wait_log(&["denied", "filter=\"fetch\"", "import=\"http-client\"", &asked, "connection="]);
    let denied = [("filter", "fetch"), ("import", "http-client")];
    assert_eq!(gateway.metrics().sum("wsgate_filter_denied_total", &denied), 1.0);
    assert_eq!(get(&mut wire, &server.url("/large")), "too-large");
    assert!(get(&mut wire, &server.url("/redirect")).starts_with("307"));
    assert_eq!(secret.requests.load(SeqCst), 0);
    assert_eq!(gateway.metrics().sum("wsgate_filter_faults_total", &[]), 0.0);
}

#[test]
fn https_is_trusted_as_the_machine_says() {
    let (trusted, other) = (certificate(), certificate());
    let good = Server::start_tls(&trusted, |_| Reply::Bytes(answer(200, "", "over TLS")));
    let bad = Server::start_tls(&other, |_| Reply::Bytes(answer(200, "", "over TLS")));
    let setup = Setup::new();
    setup.publish("roots.pem", trusted.cert.pem().as_bytes());
    let roots = setup.path("roots.pem");
    let origins = format!("https://localhost:{}\", \"https://localhost:{}", good.address.port(), bad.address.port());
    let gateway = gateway_of(setup.with_env("SSL_CERT_FILE", &roots), ECHO, &origins, "");
    let mut wire = Wire::open(gateway.address(), "/echo");
    assert_eq!(get(&mut wire, &format!("https://localhost:{}/", good.address.port())), "200 over TLS");
    let refused = say(&mut wire, &format!("GET https://localhost:{}/", bad.address.port()));
    assert!(refused.starts_with("unavailable: TLS") || refused.contains("certificate"), "{refused}");
    assert_eq!(bad.requests.load(SeqCst), 0);
}
