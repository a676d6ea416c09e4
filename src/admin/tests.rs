mod orders;

use std::{
    net::SocketAddr,
    sync::{
        Mutex,
        atomic::{AtomicBool, Ordering},
    },
};

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::*;
use crate::filter::{FilterState, FilterStatus, Mode, OrderError, RolledBack};

struct Served {
    address: SocketAddr,
    readiness: Arc<Readiness>,
    filters_ready: Arc<AtomicBool>,
    filters: Arc<Fake>,
    drain: Arc<Drain>,
}

/// Knows the filter `redact`, which has one generation before the one that serves, and remembers what it was told.
#[derive(Default)]
struct Fake {
    told: Mutex<Vec<String>>,
}

impl Fake {
    fn tell<T>(&self, filter: &str, what: String, answer: T) -> Result<T, OrderError> {
        if filter != "redact" {
            return Err(OrderError::UnknownFilter);
        }
        self.told.lock().unwrap().push(what);
        Ok(answer)
    }

    fn told(&self) -> Vec<String> {
        std::mem::take(&mut *self.told.lock().unwrap())
    }
}

impl Filters for Fake {
    fn status(&self) -> Vec<FilterStatus> {
        vec![status("redact")]
    }

    fn set_mode(&self, filter: &str, mode: Mode) -> Result<Mode, OrderError> {
        self.tell(filter, format!("mode {mode}"), Mode::Serve)
    }

    fn roll_back<'a>(&'a self, filter: &'a str) -> Answered<'a, Vec<RolledBack>> {
        let before = self.told.lock().unwrap().len();
        let done = match before {
            0 => self.tell(filter, "rollback".to_owned(), Vec::new()),
            1 => Err(OrderError::NothingBefore),
            _ => Err(OrderError::Busy),
        };
        if before == 1 {
            self.told.lock().unwrap().push("nothing".to_owned());
        }
        Box::pin(std::future::ready(done))
    }

    fn lift_quarantine<'a>(&'a self, filter: &'a str, sha256: &'a str) -> Answered<'a, bool> {
        Box::pin(std::future::ready(self.tell(filter, format!("lift {sha256}"), true)))
    }
}

#[derive(Clone, Copy)]
enum On {
    Admin,
    Health,
}

/// Runs a test against a server of its own.
fn with<F: Future<Output = ()>>(on: On, test: impl FnOnce(Served) -> F) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let filters_ready = Arc::new(AtomicBool::new(true));
        let asked = Arc::clone(&filters_ready);
        let drain = Arc::new(Drain::new(Box::new(|| (Duration::from_secs(3600), Duration::ZERO)), Arc::new([])));
        let leaves = Arc::clone(&drain);
        let readiness = Readiness::new(move || asked.load(Ordering::Relaxed));
        let readiness = Arc::new(readiness.unless(Reason::Draining, move || !leaves.is_draining()));
        let filters = Arc::new(Fake::default());
        let orders = Arc::clone(&filters);
        let metrics = Arc::new(Metrics::new().unwrap());
        let revocations = Arc::new(Revocations::in_memory(metrics.auth.revocations()));
        let (tokens, _) = Tokens::load(&[]).unwrap();
        let state = AdminState {
            metrics,
            readiness: Arc::clone(&readiness),
            filters,
            upstreams: Box::new(upstreams),
            revocations,
            tokens,
            reloads: Arc::new(NoReload),
            drain: drain.clone(),
        };
        let state = Arc::new(state);
        match on {
            On::Admin => tokio::spawn(serve(listener, state)),
            On::Health => tokio::spawn(serve_health(listener, state)),
        };
        test(Served { address, readiness, filters_ready, filters: orders, drain }).await;
    });
}

fn upstreams() -> Vec<UpstreamStatus> {
    vec![UpstreamStatus { name: "chat".to_owned(), balance: "least_conn", endpoints: Vec::new() }]
}

fn status(name: &str) -> FilterStatus {
    FilterStatus {
        name: name.to_owned(),
        file: "redact.wasm".into(),
        state: FilterState::Serving,
        mode: Mode::Serve,
        error: None,
        generation: Some("0123456789ab".to_owned()),
        loaded_at_unix_ms: None,
        wasm_bytes: 1,
        routes: Vec::new(),
        isolation: crate::config::Isolation::Shared,
        max_sessions: None,
        generations: Vec::new(),
        faults: Vec::new(),
        rollback_to: None,
        quarantine: Vec::new(),
        canary: None,
        shadow: None,
    }
}

async fn send(address: SocketAddr, request: &str) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}

async fn get(address: SocketAddr, path: &str) -> String {
    send(address, &format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")).await
}

fn status_of(answer: &str) -> &str {
    answer.split(' ').nth(1).unwrap_or_default()
}

fn body_of(answer: &str) -> &str {
    answer.split_once("\r\n\r\n").map_or("", |(_, body)| body)
}

struct NoReload;

impl Reload for NoReload {
    fn reload(&self) -> std::pin::Pin<Box<dyn Future<Output = Reloaded> + Send + '_>> {
        Box::pin(async { Err("no file".to_owned()) })
    }

    fn check(
        &self,
        text: String,
        _: std::path::PathBuf,
    ) -> std::pin::Pin<Box<dyn Future<Output = Reloaded> + Send + '_>> {
        Box::pin(async { Ok(ReloadReport { changed: vec![text], ..ReloadReport::default() }) })
    }
}

#[test]
fn it_is_alive_from_the_start() {
    with(On::Admin, |served| async move {
        for path in ["/livez", "/healthz"] {
            let answer = get(served.address, path).await;
            assert_eq!((status_of(&answer), body_of(&answer)), ("200", "ok\n"));
        }
    });
}

#[test]
fn it_is_ready_between_start_and_drain_while_its_filters_are_there() {
    with(On::Admin, |served| async move {
        let ready = async || {
            let answer = get(served.address, "/readyz").await;
            (status_of(&answer).to_owned(), body_of(&answer).to_owned())
        };
        let answer = |status: &str, body: &str| (status.to_owned(), body.to_owned());
        assert_eq!(ready().await, answer("503", "not ready: starting\n"));
        served.readiness.started();
        assert_eq!(ready().await, answer("200", "ready\n"));
        served.filters_ready.store(false, Ordering::Relaxed);
        assert_eq!(ready().await, answer("503", "not ready: a required filter is missing\n"));
        served.drain.start();
        assert_eq!(ready().await, answer("503", "not ready: a required filter is missing\nnot ready: draining\n"));
        served.filters_ready.store(true, Ordering::Relaxed);
        assert_eq!(ready().await, answer("503", "not ready: draining\n"));
    });
}

#[test]
fn metrics_are_prometheus_text() {
    with(On::Admin, |served| async move {
        let answer = get(served.address, "/metrics").await;
        assert_eq!(status_of(&answer), "200");
        assert!(answer.contains("content-type: text/plain; version=0.0.4"), "{answer}");
        assert!(answer.contains("wsgate_build_info{version="), "{answer}");
    });
}

#[test]
fn filters_are_json() {
    with(On::Admin, |served| async move {
        let answer = get(served.address, "/v1/filters?x=1").await;
        let filters: serde_json::Value = serde_json::from_str(body_of(&answer)).unwrap();
        assert_eq!((&filters[0]["name"], &filters[0]["state"]), (&"redact".into(), &"serving".into()));
    });
}

#[test]
fn upstreams_are_json() {
    with(On::Admin, |served| async move {
        let upstreams: serde_json::Value =
            serde_json::from_str(body_of(&get(served.address, "/v1/upstreams").await)).unwrap();
        assert_eq!((&upstreams[0]["name"], &upstreams[0]["balance"]), (&"chat".into(), &"least_conn".into()));
    });
    with(On::Health, |served| async move {
        assert_eq!(status_of(&get(served.address, "/v1/upstreams").await), "404");
    });
}

/// A request with a body; what it was answered, and the body of that.
async fn tell(address: SocketAddr, method: &str, path: &str, media_type: &str, body: &str) -> (String, String) {
    let length = body.len();
    let head =
        format!("Host: localhost\r\nConnection: close\r\nContent-Type: {media_type}\r\nContent-Length: {length}");
    let answer = send(address, &format!("{method} {path} HTTP/1.1\r\n{head}\r\n\r\n{body}")).await;
    (status_of(&answer).to_owned(), body_of(&answer).to_owned())
}

const JSON_TYPE: &str = "application/json";

#[test]
fn a_head_request_has_no_body_and_the_connection_serves_the_next_one() {
    with(On::Admin, |served| async move {
        let request = "HEAD /livez HTTP/1.1\r\nHost: localhost\r\n\r\nGET /livez HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
        let answer = send(served.address, request).await;
        assert_eq!((answer.matches("HTTP/1.1 200").count(), answer.matches("ok\n").count()), (2, 1), "{answer}");
    });
}

#[test]
fn unknown_paths_and_methods_are_problems() {
    with(On::Admin, |served| async move {
        for path in [
            "/",
            "/livez/",
            "/Livez",
            "/v1",
            "/v1/filters/",
            "/v1/filters/redact/x",
            "/v1/filters/redact/quarantine",
            "//livez",
        ] {
            let answer = get(served.address, path).await;
            assert_eq!(status_of(&answer), "404", "{path}");
            assert_eq!(body_of(&answer), r#"{"status":404,"title":"Not Found","type":"about:blank"}"#);
        }
        for method in ["POST", "DELETE", "OPTIONS", "BREW"] {
            let request = format!(
                "{method} /livez HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: 2\r\n\r\nhi"
            );
            let answer = send(served.address, &request).await;
            assert_eq!(status_of(&answer), "405", "{method}");
            assert!(answer.contains("allow: GET, HEAD\r\n"), "{answer}");
        }
    });
}

#[test]
fn the_admin_listener_answers_to_its_own_names() {
    with(On::Admin, |served| async move {
        let own = served.address.to_string();
        let hosts = ["localhost", "LOCALHOST:9901", "127.0.0.1", "127.0.0.1:80", "127.1.2.3", "[::1]:9901", &own];
        for host in hosts {
            let request = format!("GET /livez HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
            assert_eq!(status_of(&send(served.address, &request).await), "200", "{host}");
        }
    });
}

#[test]
fn the_admin_listener_refuses_foreign_names_and_sites() {
    with(On::Admin, |served| async move {
        let heads = [
            "Host: evil.example",
            "Host: localhost.evil.example",
            "Host: 127.0.0.1.evil.example",
            "Host: evil.example:9901",
            "Host: 192.0.2.1",
            "Host: [::2]",
            "Host: localhost@evil.example",
            "Host: evil@localhost",
            "Host:",
            "Host: localhost\r\nHost: localhost",
            "X-No-Host: 1",
            "Host: localhost\r\nOrigin: https://evil.example",
            "Host: localhost\r\nOrigin: null",
            "Host: localhost\r\nOrigin: http://localhost\r\nOrigin: https://evil.example",
            "Host: localhost\r\nSec-Fetch-Site: cross-site",
            "Host: localhost\r\nSec-Fetch-Site: same-site",
        ];
        for head in heads {
            for path in ["/metrics", "/v1/filters", "/unknown"] {
                let answer =
                    send(served.address, &format!("GET {path} HTTP/1.1\r\n{head}\r\nConnection: close\r\n\r\n")).await;
                assert_eq!(status_of(&answer), "403", "{head} {path}");
                assert!(!answer.contains("redact") && !answer.contains("build_info"), "{answer}");
            }
        }
        let absolute = "GET http://evil.example/metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
        assert_eq!(status_of(&send(served.address, absolute).await), "403");
    });
}

#[test]
fn a_page_of_its_own_may_ask() {
    with(On::Admin, |served| async move {
        let head = "Host: localhost:9901\r\nOrigin: http://localhost:9901\r\nSec-Fetch-Site: same-origin";
        let answer = send(served.address, &format!("GET /livez HTTP/1.1\r\n{head}\r\nConnection: close\r\n\r\n")).await;
        assert_eq!(status_of(&answer), "200");
    });
}

#[test]
fn the_health_listener_serves_probes_under_any_name_and_nothing_else() {
    with(On::Health, |served| async move {
        served.readiness.started();
        let paths =
            [("/livez", "200"), ("/healthz", "200"), ("/readyz", "200"), ("/metrics", "200"), ("/v1/filters", "404")];
        let (order, _) = tell(served.address, "POST", "/v1/filters/redact/rollback", JSON_TYPE, "").await;
        assert_eq!(order, "404");
        for (path, expected) in paths {
            let request = format!("GET {path} HTTP/1.1\r\nHost: pod-7.example\r\nConnection: close\r\n\r\n");
            assert_eq!(status_of(&send(served.address, &request).await), expected, "{path}");
        }
    });
}

#[test]
fn a_head_that_is_too_long_is_refused() {
    with(On::Admin, |served| async move {
        let many: String = (0..=MAX_HEADERS).map(|n| format!("X-{n}: 1\r\n")).collect();
        let long = format!("X: {}\r\n", "x".repeat(MAX_HEAD_BYTES));
        for lines in [many, long] {
            let answer = send(served.address, &format!("GET /livez HTTP/1.1\r\nHost: localhost\r\n{lines}\r\n")).await;
            assert_eq!(status_of(&answer), "431", "{answer}");
        }
    });
}

#[test]
fn connections_beyond_the_limit_wait_for_a_place() {
    with(On::Admin, |served| async move {
        let mut silent = Vec::new();
        for _ in 0..MAX_CONNECTIONS {
            silent.push(TcpStream::connect(served.address).await.unwrap());
        }
        assert!(timeout(Duration::from_millis(300), get(served.address, "/livez")).await.is_err());
        silent.pop();
        assert_eq!(status_of(&get(served.address, "/livez").await), "200");
    });
}

#[test]
fn a_head_that_does_not_come_to_its_end_is_closed_in_time() {
    with(On::Health, |served| async move {
        let start = tokio::time::Instant::now();
        let answer = send(served.address, "GET /livez HTTP/1.1\r\nHost: loc").await;
        assert_eq!(answer, "");
        assert!((HEADER_TIMEOUT..2 * HEADER_TIMEOUT).contains(&start.elapsed()));
    });
}
