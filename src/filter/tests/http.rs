//! HTTP requests of guests: who may send which, and what a call that waits costs others.

use std::{sync::atomic::Ordering::SeqCst, time::Duration};

use futures_util::FutureExt;
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::{
    config::Filter,
    filter::{
        Chain, Closer, finish,
        test_support::{Bed, Started, hear, say, until},
    },
    http_client::tests::server::{Asked, Reply, Server, answer},
    message::{CloseFrame, Direction, Message},
};

fn allow(filter: &mut Filter, origins: &[String]) {
    filter.allow.http = origins.iter().map(|origin| origin.parse().unwrap()).collect();
}

fn fetch(config: Value, server: &Server, tune: impl FnOnce(&mut Filter)) -> Bed {
    let bed = Bed::new().tuned("fetch", "guest_fetch", config, |filter| {
        allow(filter, &[server.url("")]);
        tune(filter);
    });
    bed.route(&["fetch"])
}

async fn ask(chain: &Chain, text: &str) -> String {
    say(chain, text).await.trim_start_matches("client ").to_owned()
}

fn calls(started: &Started, result: &str) -> f64 {
    let line = format!(r#"wsgate_filter_http_calls_total{{filter="fetch",result="{result}"}}"#);
    started.metric(&line).unwrap_or(0.0)
}

fn instances(started: &Started) -> f64 {
    started.metric(r#"wsgate_filter_instances{filter="fetch"}"#).unwrap()
}

/// `ok`, after a while where the path says so.
fn server() -> Server {
    Server::start(|Asked { head, .. }| match head.split(' ').nth(1) {
        Some("/never") => Reply::Silence(Vec::new()),
        Some("/slow") => Reply::After(Duration::from_millis(300), answer(200, "", "ok")),
        Some("/forbidden") => Reply::Bytes(answer(403, "", "no")),
        _ => Reply::Bytes(answer(200, "x-a: 1\r\n", "ok")),
    })
}

#[test]
fn a_guest_sends_a_request_and_reads_the_response() {
    let server = server();
    fetch(json!({}), &server, |_| {}).run(async |started, worker| {
        let chain = worker.open().await;
        assert_eq!(ask(&chain, &format!("GET {}", server.url("/a"))).await, "200 content-length:2 x-a:1 ok");
        assert_eq!(
            ask(&chain, &format!("POST {} x-b:c body=text", server.url("/forbidden"))).await,
            "403 content-length:2 no"
        );
        assert_eq!((calls(started, "2xx"), calls(started, "4xx")), (1.0, 1.0));
        assert_eq!(started.metric(r#"wsgate_filter_http_duration_seconds_count{filter="fetch"}"#), Some(2.0));
    });
}

#[test]
fn only_allowed_origins_are_called() {
    let (server, other) = (server(), server());
    let lines = super::logs::lines(fetch(json!({}), &server, |_| {}), async |started, worker| {
        let chain = worker.open().await;
        let port = server.address.port();
        for url in [
            other.url("/token=secret"),
            format!("https://127.0.0.1:{port}/"),
            format!("http://localhost:{port}/"),
            format!("http://127.0.0.2:{port}/"),
            "http://127.0.0.1/".to_owned(),
        ] {
            assert_eq!(ask(&chain, &format!("GET {url}")).await, "denied", "{url}");
        }
        assert!(ask(&chain, "GET file:///etc/passwd").await.starts_with("invalid: the URL"));
        assert!(
            ask(&chain, &format!("GET http://a@127.0.0.1:{port}/")).await.starts_with("invalid: the URL has a user")
        );
        assert!(ask(&chain, &format!("TRACE {}", server.url("/"))).await.starts_with("invalid: the method"));
        assert!(
            ask(&chain, &format!("GET {} host:evil", server.url("/"))).await.starts_with("invalid: the header host")
        );
        assert_eq!(ask(&chain, &format!("GET {} timeout=0", server.url("/"))).await, "invalid: timeout-ms is 0");
        let denied = r#"wsgate_filter_denied_total{filter="fetch",import="http-client"}"#;
        assert_eq!(started.metric(denied), Some(5.0));
        assert_eq!((calls(started, "denied"), calls(started, "invalid")), (5.0, 5.0));
    });
    assert_eq!(server.requests.load(SeqCst) + other.requests.load(SeqCst), 0);
    assert_eq!(lines.len(), 5, "{lines:#?}");
    assert!(lines[0].contains(&format!("asked=\"{}\"", other.url(""))) && !lines[0].contains("secret"), "{}", lines[0]);
}

#[test]
fn without_rights_all_is_denied() {
    let server = server();
    let bed = Bed::new().filter("fetch", "guest_fetch", json!({})).route(&["fetch"]);
    bed.run(async |_, worker| {
        let chain = worker.open().await;
        assert_eq!(ask(&chain, &format!("GET {}", server.url("/"))).await, "denied");
        assert_eq!(ask(&chain, "GET nonsense").await, "denied");
        assert_eq!(server.requests.load(SeqCst), 0);
    });
}

#[test]
fn a_filter_that_imports_the_client_has_eight_instances() {
    let server = server();
    let bed = fetch(json!({}), &server, |_| {}).filter("stamp", "stamp", json!({}));
    bed.route_named("second", &["stamp"]).run(async |started, _| {
        until("all are made", || instances(started) == 8.0).await;
        assert_eq!(started.metric(r#"wsgate_filter_instances{filter="stamp"}"#), Some(1.0));
    });
    fetch(json!({}), &server, |filter| filter.instances = Some(2)).run(async |started, worker| {
        until("two are made", || instances(started) == 2.0).await;
        let _chains = (worker.open().await, worker.open().await, worker.open().await);
        assert_eq!(instances(started), 2.0);
    });
}

#[test]
fn waiting_is_no_guest_time_and_ends_with_an_error_value() {
    let server = server();
    let tune = |filter: &mut Filter| {
        filter.cpu_timeout = Duration::from_millis(20);
        filter.wait_timeout = Duration::from_millis(500);
    };
    fetch(json!({}), &server, tune).run(async |started, worker| {
        let chain = worker.open().await;
        assert!(ask(&chain, &format!("GET {}", server.url("/slow"))).await.starts_with("200"));
        let began = Instant::now();
        assert_eq!(ask(&chain, &format!("GET {} timeout=100", server.url("/never"))).await, "timeout");
        assert!(began.elapsed() < Duration::from_millis(450), "{:?}", began.elapsed());
        // What the request allows is more than what is left of wait_timeout.
        let began = Instant::now();
        assert_eq!(ask(&chain, &format!("GET {} timeout=60000", server.url("/never"))).await, "timeout");
        assert!(began.elapsed() >= Duration::from_millis(490), "{:?}", began.elapsed());
        assert_eq!(started.metric("wsgate_filter_faults_total"), None);
        assert_eq!(calls(started, "timeout"), 2.0);
        // The instance is the same, and goes on.
        assert!(ask(&chain, &format!("GET {}", server.url("/"))).await.starts_with("200"));
    });
}

#[test]
fn a_call_that_waits_keeps_nobody_but_its_own_instance() {
    let server = server();
    fetch(json!({}), &server, |_| {}).run(async |_, worker| {
        let (slow, other) = (worker.open().await, worker.open().await);
        let run = slow.on_message(Direction::ToUpstream, Message::text(format!("GET {}", server.url("/slow"))));
        let task = tokio::task::spawn_local(run);
        until("the request has arrived", || server.requests.load(SeqCst) == 1).await;
        let began = Instant::now();
        for _ in 0..10 {
            assert!(ask(&other, &format!("GET {}", server.url("/"))).await.starts_with("200"));
        }
        assert!(!task.is_finished(), "{:?}", began.elapsed());
        // The other direction of the same connection is not asked for, and so does not wait.
        assert_eq!(hear(&slow, "pass").await, "pass pass");
        task.await.unwrap();
    });
}

#[test]
fn what_a_hundred_clients_left_behind_is_finished_and_no_instance_is_lost() {
    let server = server();
    fetch(json!({}), &server, |_| {}).run(async |started, worker| {
        until("all instances are made", || instances(started) == 8.0).await;
        let (mut chains, mut left) = (Vec::new(), Vec::new());
        for _ in 0..100 {
            chains.push(worker.open().await);
        }
        for chain in chains {
            let mut run =
                chain.on_message(Direction::ToUpstream, Message::text(format!("GET {}", server.url("/slow"))));
            assert!((&mut run).now_or_never().is_none());
            left.push((chain, run));
        }
        until("the first requests have arrived", || server.requests.load(SeqCst) >= 8).await;
        for (chain, run) in left {
            // What a session does that ends in the middle of a run.
            finish(Box::pin(async move {
                run.await;
                chain.close(Closer::Client, CloseFrame::new(1006, "")).await;
            }));
        }
        until("all calls are made", || calls(started, "2xx") == 100.0).await;
        until("all sessions are gone", || started.status("fetch").generations[0].sessions == 0).await;
        assert_eq!(instances(started), 8.0);
        assert_eq!(started.metric("wsgate_filter_faults_total"), None);
        assert!(ask(&worker.open().await, &format!("GET {}", server.url("/"))).await.starts_with("200"));
    });
}

#[test]
fn open_may_ask_too() {
    let server = server();
    fetch(json!({"open": server.url("/forbidden")}), &server, |_| {}).run(async |_, worker| {
        assert!(matches!(
            worker.try_open().await,
            Err(crate::filter::NotAdmitted::Refused { status, .. }) if status.as_u16() == 403
        ));
    });
    fetch(json!({"open": server.url("/slow")}), &server, |_| {}).run(async |_, worker| {
        worker.open().await;
    });
}

#[test]
fn a_large_body_is_too_large_and_too_large_a_request_is_as_well() {
    let server = Server::start(|_| Reply::Bytes(answer(200, "", &"x".repeat(10 << 20))));
    let tune = |filter: &mut Filter| filter.cpu_timeout = Duration::from_secs(5);
    fetch(json!({}), &server, tune).run(async |started, worker| {
        let chain = worker.open().await;
        assert_eq!(ask(&chain, &format!("GET {}", server.url("/"))).await, "too-large");
        assert_eq!(ask(&chain, &format!("POST {} zeros=4194305", server.url("/"))).await, "too-large");
        assert_eq!(calls(started, "too_large"), 2.0);
        assert_eq!(started.metric("wsgate_filter_faults_total"), None);
    });
}
