//! Each request is sent to a hyper server as bytes, because what hyper makes of them is half of what is tested.

use std::{cell::RefCell, convert::Infallible, rc::Rc};

use hyper::{server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use proptest::prelude::{ProptestConfig, any, proptest};
use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

use super::*;
use crate::handshake::headers::switching_protocols;

const GOOD: &str = "GET /chat?room=1 HTTP/1.1\r\n\
    Host: Chat.Example.com:8080\r\n\
    Upgrade: websocket\r\n\
    Connection: keep-alive, Upgrade\r\n\
    Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
    Sec-WebSocket-Version: 13\r\n\
    Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r\n\
    Sec-WebSocket-Protocol: chat, superchat\r\n\r\n";

/// The head of the answer to these bytes, and what the check said, if hyper let the request through.
fn answer(request: &str) -> (String, Option<Result<Opening, Refusal>>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let checked = Rc::new(RefCell::new(None));
    let seen = Rc::clone(&checked);
    let service = service_fn(move |request: http::Request<hyper::body::Incoming>| {
        let checked = Opening::check(&request.into_parts().0);
        seen.replace(Some(checked.clone()));
        let response = match checked {
            Ok(opening) => switching_protocols(&opening, None, &HeaderMap::new(), &crate::filter::Edits::default()),
            Err(refusal) => refusal.into_response(),
        };
        std::future::ready(Ok::<_, Infallible>(response))
    });
    let mut answered = Vec::new();
    runtime.block_on(async {
        let (mut client, server) = duplex(1 << 20);
        client.write_all(request.as_bytes()).await.unwrap();
        let served = http1::Builder::new().serve_connection(TokioIo::new(server), service).without_shutdown();
        // What hyper refuses by itself it reports here, and answers.
        drop(served.await);
        client.read_to_end(&mut answered).await.unwrap();
    });
    let result = checked.borrow_mut().take();
    (String::from_utf8(answered).unwrap().to_ascii_lowercase(), result)
}

fn opening(request: &str) -> Opening {
    answer(request).1.expect("hyper takes the request").expect("the check takes the request")
}

fn without(line_start: &str) -> String {
    GOOD.split_inclusive("\r\n").filter(|line| !line.starts_with(line_start)).collect()
}

fn with(line: &str) -> String {
    GOOD.replace("\r\n\r\n", &format!("\r\n{line}\r\n\r\n"))
}

fn instead(line_start: &str, line: &str) -> String {
    without(line_start).replace("\r\n\r\n", &format!("\r\n{line}\r\n\r\n"))
}

#[test]
fn the_example_of_the_rfc_is_accepted() {
    let (head, result) = answer(GOOD);
    let opening = result.unwrap().unwrap();
    assert!(head.starts_with("http/1.1 101 "), "{head}");
    assert_eq!(opening.accept, "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    assert_eq!(
        (opening.requested.host.as_str(), opening.requested.authority.to_str().unwrap()),
        ("chat.example.com", "Chat.Example.com:8080")
    );
    assert_eq!((opening.requested.path.as_str(), opening.requested.query.as_deref()), ("/chat", Some("room=1")));
    assert_eq!(opening.subprotocols, ["chat", "superchat"]);
}

#[test]
fn what_the_rfc_leaves_open_is_accepted() {
    let requests = [
        instead("Upgrade", "UPGRADE: h2c, WebSocket"),
        instead("Connection", "Connection: close\r\nConnection: UPGRADE"),
        with("Content-Length: 0"),
        with("Content-Length: 0\r\nContent-Length: 0"),
        GOOD.replace("GET /chat?room=1", "GET http://chat.example.com:8080/chat?room=1"),
        GOOD.replace("GET /chat?room=1", "GET http://chat.example.com/chat").replace(".com:8080", ".com:80"),
        instead("Host", "Host: [::1]:80"),
        instead("Host", "Host: 127.0.0.1"),
        instead("Host", "Host: chat.example.com."),
        instead("Sec-WebSocket-Key", "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAB=="),
        without("Sec-WebSocket-Protocol"),
        instead("Sec-WebSocket-Protocol", "Sec-WebSocket-Protocol: a\r\nSec-WebSocket-Protocol: b"),
        with(&format!("Cookie: {}", "x".repeat(12_000))),
    ];
    for request in requests {
        let (head, _) = answer(&request);
        assert!(head.starts_with("http/1.1 101 "), "{request}\n{head}");
    }
}

#[test]
fn a_host_has_one_spelling() {
    for (host, expected) in
        [("CHAT.example.COM.", "chat.example.com"), ("[0:0::1]:9000", "[::1]"), ("a_b-c:1", "a_b-c")]
    {
        assert_eq!(opening(&instead("Host", &format!("Host: {host}"))).requested.host, expected);
    }
}

#[test]
fn a_malformed_or_ambiguous_request_is_a_400() {
    let mut requests = vec![
        GOOD.replace("HTTP/1.1", "HTTP/1.0"),
        GOOD.replace("GET", "POST"),
        GOOD.replace("GET", "CONNECT"),
        GOOD.replace("/chat?room=1", "*"),
        GOOD.replace("/chat?room=1", "other.example.com:443"),
        GOOD.replace("/chat?room=1", "http://other.example.com/chat"),
        GOOD.replace("/chat?room=1", "http://other.example.com:8080/chat"),
        GOOD.replace("/chat?room=1", "http://chat.example.com/chat"),
        GOOD.replace("/chat?room=1", "http://user@chat.example.com:8080/chat"),
        GOOD.replace("/chat?room=1", "ftp://chat.example.com:8080/chat"),
        without("Host"),
        with("Host: chat.example.com:8080"),
        with("Host: other.example.com"),
        instead("Upgrade", "Upgrade: h2c"),
        instead("Upgrade", "Upgrade: websocket2"),
        instead("Upgrade", "Upgrade:"),
        without("Connection"),
        instead("Connection", "Connection: keep-alive"),
        instead("Connection", "Connection: upgraded"),
        without("Sec-WebSocket-Key"),
        with("Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="),
        with("Transfer-Encoding: chunked"),
        with("Transfer-Encoding: identity"),
        with("Transfer-Encoding: chunked\r\nContent-Length: 0"),
        with("Content-Length: 5") + "hello",
        with("Content-Length: 0\r\nContent-Length: 5") + "hello",
        with("Content-Length: +0"),
        with("Content-Length: 0, 0"),
        with("X-Folded: a\r\n b"),
        with("X-Space : a"),
        with(": nameless"),
    ];
    let hosts = [
        "", "a b", "user@a", "a:", "a:+80", "a:65536", "a/b", "a..b", ".", "[::1", "[::g]", "[::1]x", "a%41", "é",
        "a,b",
    ];
    requests.extend(hosts.map(|host| instead("Host", &format!("Host: {host}"))));
    let keys = [
        "",
        "dGhlIHNhbXBsZSBub25jZQ",
        "dGhlIHNhbXBsZSBub25jZQ=",
        "dGhlIHNhbXBsZSBub25jZ===",
        "dGhl",
        "dGhlIHNhbXBsZSBub25j*Q==",
    ];
    requests.extend(keys.map(|key| instead("Sec-WebSocket-Key", &format!("Sec-WebSocket-Key: {key}"))));
    let many = (0..=MAX_SUBPROTOCOLS).map(|n| format!("p{n}")).collect::<Vec<_>>().join(",");
    let subprotocols = ["", "a,", "a,,b", "a b", "a, a", "a;q=1", "\"a\"", "é", many.as_str()];
    requests.extend(
        subprotocols.map(|names| instead("Sec-WebSocket-Protocol", &format!("Sec-WebSocket-Protocol: {names}"))),
    );
    requests.push(with("Sec-WebSocket-Protocol: chat"));
    for request in requests {
        let (head, result) = answer(&request);
        // hyper answers HTTP/1.0 in kind.
        assert_eq!(head.split(' ').nth(1), Some("400"), "{request}\n{head}");
        assert!(!matches!(result, Some(Ok(_))), "{request}");
    }
}

#[test]
fn another_version_is_a_426_that_names_13() {
    let mut requests = vec![without("Sec-WebSocket-Version"), with("Sec-WebSocket-Version: 13")];
    let versions = ["", "8", "14", "013", "13, 8", "thirteen"];
    requests.extend(versions.map(|v| instead("Sec-WebSocket-Version", &format!("Sec-WebSocket-Version: {v}"))));
    for request in requests {
        let (head, _) = answer(&request);
        assert!(head.starts_with("http/1.1 426 "), "{request}\n{head}");
        assert!(head.contains("\r\nsec-websocket-version: 13\r\n"), "{head}");
        assert!(
            head.contains("\r\nupgrade: websocket\r\n") && head.contains("\r\nconnection: close, upgrade\r\n"),
            "{head}"
        );
    }
}

#[test]
fn a_plain_request_is_a_426_that_names_websocket() {
    let (head, _) = answer("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    assert!(head.starts_with("http/1.1 426 ") && head.contains("\r\nupgrade: websocket\r\n"), "{head}");
    assert!(head.contains("\r\ncontent-type: application/problem+json\r\n"), "{head}");
    assert!(head.ends_with(
        r#"{"detail":"this is a websocket endpoint","status":426,"title":"upgrade required","type":"about:blank"}"#
    ));
}

#[test]
fn what_follows_a_refused_request_is_not_answered() {
    let (head, _) = answer(&format!("{}{GOOD}", without("Host")));
    assert_eq!(head.matches("http/1.1").count(), 1, "{head}");
    assert!(head.contains("\r\nconnection: close\r\n"), "{head}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn no_head_gets_past_the_check_without_a_host_that_can_be_read_again(host in ".{0,12}", path in "[!-~]{0,12}") {
        let request = instead("Host", &format!("Host: {host}")).replace("/chat?room=1", &path);
        if let (_, Some(Ok(opening))) = answer(&request) {
            let again = Authority::parse(&opening.requested.host).expect("a checked host is a host");
            assert_eq!(again, Authority { host: opening.requested.host.clone(), port: None });
            assert!(opening.requested.path.starts_with('/'));
        }
    }

    #[test]
    fn any_16_bytes_are_a_key(bytes in any::<[u8; 16]>()) {
        let key = data_encoding::BASE64.encode(&bytes);
        opening(&instead("Sec-WebSocket-Key", &format!("Sec-WebSocket-Key: {key}")));
    }
}
