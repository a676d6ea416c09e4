//! Requests to a server that does what each test says.

pub(crate) mod server;

use std::sync::atomic::Ordering::SeqCst;

use self::server::{Asked, Reply, Server, answer, certificate, nobody, trusting};
use super::*;
use crate::telemetry::metrics::Metrics;

const LONG: Duration = Duration::from_secs(20);

fn run<T>(test: impl AsyncFnOnce(Caller) -> T) -> T {
    run_with(Clients::trusting(None), test)
}

fn run_with<T>(clients: Clients, test: impl AsyncFnOnce(Caller) -> T) -> T {
    // The runtime of a worker.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build_local(Default::default()).unwrap();
    runtime.block_on(async { test(clients.caller(&"f".into(), Metrics::new().unwrap().filter("f"))).await })
}

fn request(method: &str, url: &str, body: &[u8]) -> Request {
    let headers = vec![("x-one".to_owned(), b"1".to_vec())];
    Request::check(Call { method: method.to_owned(), url: url.to_owned(), headers, body: body.to_vec() }).unwrap()
}

async fn get(caller: &Caller, url: &str) -> Result<Response, CallError> {
    caller.send(request("GET", url, b""), LONG, usize::MAX).await
}

async fn until(what: &str, condition: impl Fn() -> bool) {
    let end = Instant::now() + LONG;
    while !condition() {
        assert!(Instant::now() < end, "never: {what}");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

#[test]
fn a_request_arrives_as_it_was_made_and_its_response_comes_back() {
    let server = Server::start(|Asked { head, body }| {
        let text = format!("{head}{}", String::from_utf8(body).unwrap());
        Reply::Bytes(answer(201, "x-a: 1\r\nX-A: 2\r\nconnection: keep-alive\r\n", &text))
    });
    run(async |caller| {
        let response = caller.send(request("POST", &server.url("/p?q=1"), b"hello"), LONG, usize::MAX).await.unwrap();
        assert_eq!(response.status, 201);
        let header = |name: &str, value: &str| (name.to_owned(), value.as_bytes().to_vec());
        assert_eq!(response.headers[1..], [header("x-a", "1"), header("x-a", "2")]);
        let text = String::from_utf8(response.body).unwrap();
        assert!(text.starts_with("post /p?q=1 http/1.1\r\n") && text.ends_with("\r\n\r\nhello"), "{text}");
        for line in [format!("host: {}", server.address), "content-length: 5".into(), "x-one: 1".into()] {
            assert_eq!(text.lines().filter(|found| **found == line).count(), 1, "{line} in {text}");
        }
        assert!(text.contains("user-agent: wsgate/") && !text.contains("transfer-encoding"), "{text}");
    });
}

#[test]
fn a_connection_is_used_again_and_closed_when_it_is_idle() {
    let server = Server::start(|_| Reply::Bytes(answer(200, "", "ok")));
    run(async |caller| {
        for _ in 0..20 {
            assert_eq!(get(&caller, &server.url("/")).await.unwrap().body, b"ok");
            until("the connection is idle", || caller.client.idle_count() == 1).await;
        }
        assert_eq!(server.connections.load(SeqCst), 1);
        until("nobody needs it any more", || caller.client.idle_count() == 0).await;
        until("it is closed", || server.open.load(SeqCst) == 0).await;
    });
}

#[test]
fn few_idle_connections_are_kept() {
    let server = Server::start(|_| Reply::After(Duration::from_millis(50), answer(200, "", "ok")));
    run(async |caller| {
        let url = server.url("/");
        let calls = (0..40).map(|_| get(&caller, &url));
        assert!(futures_util::future::join_all(calls).await.iter().all(Result::is_ok));
        assert_eq!(server.connections.load(SeqCst), 40);
        until("the others are closed", || server.open.load(SeqCst) == 16).await;
        assert_eq!(caller.client.idle_count(), 16);
    });
}

#[test]
fn a_connection_that_the_server_closed_is_replaced() {
    let server = Server::start(|_| Reply::Last(answer(200, "", "ok")));
    run(async |caller| {
        for _ in 0..20 {
            assert_eq!(get(&caller, &server.url("/")).await.unwrap().status, 200);
        }
        assert_eq!(server.connections.load(SeqCst), 20);
    });
}

#[test]
fn what_may_have_arrived_is_not_sent_again_unless_that_does_no_harm() {
    for (method, status, requests) in [("POST", None, 2), ("GET", Some(200), 3)] {
        let seen = AtomicUsize::new(0);
        // The second request is read and not answered.
        let server = Server::start(move |_| match seen.fetch_add(1, SeqCst) {
            1 => Reply::Last(Vec::new()),
            _ => Reply::Bytes(answer(200, "", "ok")),
        });
        run(async |caller| {
            let send = || caller.send(request(method, &server.url("/"), b""), LONG, usize::MAX);
            assert_eq!(send().await.unwrap().status, 200);
            until("the connection is idle", || caller.client.idle_count() == 1).await;
            let second = send().await;
            match status {
                Some(status) => assert_eq!(second.unwrap().status, status),
                None => assert!(matches!(second, Err(CallError::Unavailable(_))), "{second:?}"),
            }
            assert_eq!(server.requests.load(SeqCst), requests, "{method}");
        });
    }
}

#[test]
fn a_redirect_is_a_response() {
    let server = Server::start(|_| Reply::Bytes(answer(302, "location: http://127.0.0.1:1/\r\n", "")));
    run(async |caller| {
        let response = get(&caller, &server.url("/")).await.unwrap();
        assert_eq!(response.status, 302);
        assert!(response.headers.contains(&("location".to_owned(), b"http://127.0.0.1:1/".to_vec())));
        assert_eq!(server.requests.load(SeqCst), 1);
    });
}

#[test]
fn a_response_that_is_too_large_is_refused_before_it_is_read() {
    let declared = Server::start(|_| Reply::Silence(b"HTTP/1.1 200 X\r\ncontent-length: 10000000\r\n\r\n".to_vec()));
    let chunked = Server::start(|_| {
        let chunk = format!("{:x}\r\n{}\r\n", 1 << 20, "x".repeat(1 << 20));
        let head = "HTTP/1.1 200 X\r\ntransfer-encoding: chunked\r\n\r\n".to_owned();
        Reply::Silence((head + &chunk.repeat(10)).into_bytes())
    });
    let many = Server::start(|_| Reply::Bytes(answer(200, &"x: y\r\n".repeat(RESPONSE_HEADERS + 1), "")));
    let long = Server::start(|_| Reply::Silence(answer(200, &format!("x: {}\r\n", "y".repeat(100_000)), "")));
    run(async |caller| {
        for server in [declared, chunked, many, long] {
            let status = get(&caller, &server.url("/")).await.map(|response| response.status);
            assert_eq!(status, Err(CallError::TooLarge));
            until("the connection is closed", || server.open.load(SeqCst) == 0).await;
        }
        let small = Server::start(|_| Reply::Bytes(answer(200, "", "12345")));
        let send = |most| caller.send(request("GET", &small.url("/"), b""), LONG, most);
        assert_eq!(send(4).await, Err(CallError::TooLarge));
        assert!(send(5).await.is_ok());
    });
}

#[test]
fn a_server_that_never_answers_times_out() {
    let silent = Server::start(|_| Reply::Silence(Vec::new()));
    let half = Server::start(|_| Reply::Silence(b"HTTP/1.1 200 X\r\ncontent-length: 5\r\n\r\n123".to_vec()));
    run(async |caller| {
        for server in [silent, half] {
            let started = Instant::now();
            let timeout = Duration::from_millis(50);
            let result = caller.send(request("GET", &server.url("/"), b""), timeout, usize::MAX).await;
            assert_eq!(result, Err(CallError::Timeout));
            assert!(started.elapsed() >= timeout && started.elapsed() < LONG / 2);
            until("the connection is closed", || server.open.load(SeqCst) == 0).await;
        }
    });
}

#[test]
fn what_cannot_be_reached_is_unavailable() {
    let garbage = Server::start(|_| Reply::Last(b"SSH-2.0-OpenSSH\r\n\r\n".to_vec()));
    let switching = Server::start(|_| Reply::Silence(b"HTTP/1.1 101 X\r\nupgrade: x\r\n\r\n".to_vec()));
    run(async |caller| {
        let refused = get(&caller, &format!("http://{}/", nobody())).await;
        assert!(matches!(&refused, Err(CallError::Unavailable(text)) if text.contains("refused")), "{refused:?}");
        for server in [garbage, switching] {
            let result = get(&caller, &server.url("/")).await;
            assert!(matches!(result, Err(CallError::Unavailable(_))), "{result:?}");
        }
    });
}

#[test]
fn too_many_calls_at_once_are_refused_and_dropped_ones_make_room() {
    let server = Server::start(|_| Reply::Silence(Vec::new()));
    run(async |caller| {
        let url = server.url("/");
        let calls = || Box::pin(futures_util::future::join_all((0..CALLS_OF_A_FILTER).map(|_| get(&caller, &url))));
        let mut waiting = calls();
        assert!(tokio::time::timeout(Duration::from_millis(20), &mut waiting).await.is_err());
        let one_more = get(&caller, &url).await;
        assert!(matches!(&one_more, Err(CallError::Unavailable(text)) if text.starts_with("64 calls")), "{one_more:?}");
        until("all have arrived", || server.open.load(SeqCst) == CALLS_OF_A_FILTER).await;
        drop(waiting);
        until("all are gone", || server.open.load(SeqCst) == 0).await;
        assert_eq!(caller.calls.load(SeqCst), 0);
    });
}

#[test]
fn https_is_checked_against_the_roots() {
    let (trusted, other) = (certificate(), certificate());
    let tls = crate::upstream::roots::trusting(trusting(&trusted)).unwrap();
    let reply = |_| Reply::Bytes(answer(200, "", "over TLS"));
    let (good, bad) = (Server::start_tls(&trusted, reply), Server::start_tls(&other, reply));
    run_with(Clients::trusting(Some(tls)), async |caller| {
        let url = |server: &Server, host: &str| format!("https://{host}:{}/", server.address.port());
        assert_eq!(get(&caller, &url(&good, "localhost")).await.unwrap().body, b"over TLS");
        for (server, host) in [(&bad, "localhost"), (&good, "127.0.0.1")] {
            let result = get(&caller, &url(server, host)).await;
            assert!(matches!(&result, Err(CallError::Unavailable(text)) if text.contains("certificate")), "{result:?}");
        }
        assert_eq!(bad.requests.load(SeqCst), 0);
        // A plain request to a TLS port, and the other way round.
        assert!(get(&caller, &good.url("/")).await.is_err());
    });
}

#[test]
fn runtimes_do_not_share_connections_and_callers_of_one_do() {
    let server = Server::start(|_| Reply::Bytes(answer(200, "", "ok")));
    let clients = Arc::new(Clients::trusting(None));
    for connections in [1, 2] {
        let clients = clients.clone();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let caller = |name: &str| clients.caller(&name.into(), Metrics::new().unwrap().filter(name));
            let (a, b) = (caller("a"), caller("b"));
            assert!(get(&a, &server.url("/")).await.is_ok());
            until("the connection is idle", || a.client.idle_count() == 1).await;
            assert!(get(&b, &server.url("/")).await.is_ok());
            assert_eq!(server.connections.load(SeqCst), connections);
        });
    }
}
