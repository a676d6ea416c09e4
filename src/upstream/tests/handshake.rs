use std::time::Duration;

use http::{HeaderValue, StatusCode, header};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
    time::Instant,
};

use super::{
    super::{Answer, BadUpgrade, DialError},
    fake::{configured, dial, endpoint, good_101, header, plain, read_head, request, run, serve, soon},
};
use crate::config::HostHeader;

#[test]
fn an_upstream_that_switches_protocols_is_established() {
    run(async {
        let (address, served) =
            serve(|head| good_101(head).replace("\r\n\r\n", "\r\nSet-Cookie: a=1\r\n\r\n").into()).await;
        let upstreams = plain(configured(vec![endpoint(address)]));
        let mut established = upstreams.dial("chat", request(&[]), soon()).await.unwrap();
        let (head, mut stream) = served.await.unwrap();

        assert!(head.starts_with("GET /room?x=1 HTTP/1.1\r\n"), "{head}");
        assert_eq!(header(&head, "host"), Some("client.example:8080"));
        assert_eq!(header(&head, "sec-websocket-version"), Some("13"));
        assert_eq!(
            data_encoding::BASE64.decode(header(&head, "sec-websocket-key").unwrap().as_bytes()).unwrap().len(),
            16
        );
        assert_eq!(established.response_headers["set-cookie"], "a=1");

        stream.write_all(b"pong").await.unwrap();
        established.transport.write_all(b"ping").await.unwrap();
        let (mut up, mut down) = ([0; 4], [0; 4]);
        stream.read_exact(&mut up).await.unwrap();
        established.transport.read_exact(&mut down).await.unwrap();
        assert_eq!((&up, &down), (b"ping", b"pong"));
    });
}

#[test]
fn bytes_that_came_with_the_101_are_kept() {
    let early = [0x81, 0x02, b'h', b'i'];
    let established = run(dial(move |head| [good_101(head).as_bytes(), &early].concat(), &[])).unwrap();
    assert_eq!(established.read_ahead, &early[..]);
}

#[test]
fn keys_are_not_repeated_and_nothing_of_the_clients_handshake_is_sent() {
    run(async {
        let mut keys = Vec::new();
        for _ in 0..2 {
            let (address, served) = serve(|head| good_101(head).into()).await;
            let mut request = request(&["b", "a"]);
            for name in
                ["sec-websocket-key", "sec-websocket-extensions", "sec-websocket-protocol", "connection", "upgrade"]
            {
                request.headers.insert(name, HeaderValue::from_static("forged"));
            }
            plain(configured(vec![endpoint(address)])).dial("chat", request, soon()).await.unwrap();
            let (head, _) = served.await.unwrap();
            assert!(!head.contains("forged"), "{head}");
            assert_eq!(header(&head, "sec-websocket-protocol"), Some("b, a"));
            keys.push(header(&head, "sec-websocket-key").unwrap().to_owned());
        }
        assert_ne!(keys[0], keys[1]);
    });
}

#[test]
fn the_endpoint_is_shown_the_host_that_the_configuration_says() {
    run(async {
        let shown = [
            (HostHeader::Preserve, None, "client.example:8080".to_owned()),
            (HostHeader::Literal("inner.example".to_owned()), None, "inner.example".to_owned()),
            (HostHeader::Endpoint, None, String::new()),
            (HostHeader::Endpoint, Some("edited.example"), "edited.example".to_owned()),
        ];
        for (host_header, edit, mut expected) in shown {
            let (address, served) = serve(|head| good_101(head).into()).await;
            if expected.is_empty() {
                expected = address.to_string();
            }
            let mut upstream = configured(vec![endpoint(address)]);
            upstream.host_header = host_header;
            upstream.endpoints[0].base_path = "/base".to_owned();
            let mut request = request(&[]);
            if let Some(edit) = edit {
                request.headers.insert(header::HOST, HeaderValue::from_static(edit));
            }
            plain(upstream).dial("chat", request, soon()).await.unwrap();
            let (head, _) = served.await.unwrap();
            assert_eq!(header(&head, "host"), Some(expected.as_str()));
            assert!(head.starts_with("GET /base/room?x=1 "), "{head}");
        }
    });
}

#[test]
fn a_subprotocol_that_was_offered_may_be_chosen_or_none() {
    let chosen = |line: &'static str| {
        run(dial(move |head| good_101(head).replace("\r\n\r\n", &format!("{line}\r\n\r\n")).into(), &["a", "b"]))
            .unwrap()
            .subprotocol
    };
    assert_eq!(chosen("\r\nSec-WebSocket-Protocol: b").as_deref(), Some("b"));
    assert_eq!(chosen("\r\nSec-WebSocket-Extensions: "), None);
}

#[test]
fn a_101_that_the_rfc_forbids_is_a_bad_upgrade() {
    let cases: [(&str, &str, BadUpgrade); 14] = [
        ("HTTP/1.1", "HTTP/1.0", BadUpgrade::Version),
        ("Upgrade: websocket\r\n", "", BadUpgrade::Upgrade),
        ("Upgrade: websocket", "Upgrade: h2c", BadUpgrade::Upgrade),
        ("Connection: Upgrade\r\n", "", BadUpgrade::Connection),
        ("Connection: Upgrade", "Connection: keep-alive", BadUpgrade::Connection),
        ("Sec-WebSocket-Accept: ", "X-Other: ", BadUpgrade::Accept),
        ("Sec-WebSocket-Accept: ", "Sec-WebSocket-Accept: A", BadUpgrade::Accept),
        ("\r\n\r\n", "\r\nSec-WebSocket-Accept: x\r\n\r\n", BadUpgrade::Accept),
        ("\r\n\r\n", "\r\nSec-WebSocket-Extensions: permessage-deflate\r\n\r\n", BadUpgrade::Extension),
        ("\r\n\r\n", "\r\nSec-WebSocket-Protocol: c\r\n\r\n", BadUpgrade::Subprotocol),
        ("\r\n\r\n", "\r\nSec-WebSocket-Protocol: A\r\n\r\n", BadUpgrade::Subprotocol),
        ("\r\n\r\n", "\r\nSec-WebSocket-Protocol: a, b\r\n\r\n", BadUpgrade::Subprotocol),
        ("\r\n\r\n", "\r\nSec-WebSocket-Protocol:\r\n\r\n", BadUpgrade::Subprotocol),
        ("\r\n\r\n", "\r\nSec-WebSocket-Protocol: a\r\nSec-WebSocket-Protocol: a\r\n\r\n", BadUpgrade::Subprotocol),
    ];
    for (from, to, expected) in cases {
        let result = run(dial(move |head| good_101(head).replace(from, to).into(), &["a", "b"]));
        assert!(
            matches!(&result, Err(DialError::BadUpgrade { source, .. }) if *source == expected),
            "{to}: {result:?}"
        );
    }
}

fn answer(bytes: Vec<u8>) -> Answer {
    match run(dial(move |_| bytes.clone(), &[])) {
        Err(DialError::Answered(answer)) => *answer,
        other => panic!("{other:?}"),
    }
}

#[test]
fn another_status_is_handed_on_with_its_safe_headers_and_body() {
    let answer = answer(
        b"HTTP/1.1 401 Unauthorized\r\nContent-Type: text/plain\r\nContent-Length: 4\r\nWWW-Authenticate: Bearer\r\n\
          X-Internal: secret\r\nSet-Cookie: a=1\r\nConnection: keep-alive\r\n\r\nnope"
            .to_vec(),
    );
    assert_eq!(answer.status, StatusCode::UNAUTHORIZED);
    assert_eq!(answer.body.as_deref(), Some(&b"nope"[..]));
    assert_eq!(answer.headers.len(), 2, "{:?}", answer.headers);
    assert_eq!(answer.headers[header::WWW_AUTHENTICATE], "Bearer");
}

#[test]
fn bodies_are_read_however_they_are_framed_and_informational_answers_are_passed_over() {
    assert_eq!(
        answer(b"HTTP/1.1 403 No\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n1\r\nc\r\n0\r\n\r\n".to_vec())
            .body
            .as_deref(),
        Some(&b"abc"[..])
    );
    assert_eq!(
        answer(b"HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 204 No Content\r\n\r\n".to_vec()).status,
        StatusCode::NO_CONTENT
    );
    assert_eq!(answer(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n".to_vec()).body.as_deref(), Some(&b""[..]));
}

#[test]
fn a_body_that_is_too_long_broken_or_late_is_left_out() {
    let longest = 64 << 10;
    let sized = |length: usize| {
        [format!("HTTP/1.1 500 Oops\r\nContent-Length: {length}\r\n\r\n").as_bytes(), &vec![b'x'; length]].concat()
    };
    assert_eq!(answer(sized(longest)).body.map(|body| body.len()), Some(longest));
    assert_eq!(answer(sized(longest + 1)).body, None);
    assert_eq!(answer(b"HTTP/1.1 500 Oops\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n".to_vec()).body, None);

    let start = Instant::now();
    let late = answer(b"HTTP/1.1 500 Oops\r\nContent-Length: 5\r\n\r\nx".to_vec());
    assert_eq!((late.status.as_u16(), late.body), (500, None));
    assert!(start.elapsed() < Duration::from_secs(5));
}

#[test]
fn what_is_not_http_or_too_much_of_it_breaks_the_handshake() {
    let many: String = (0..=100).map(|n| format!("X-{n}: 1\r\n")).collect();
    let bad: [Vec<u8>; 5] = [
        b"SSH-2.0-OpenSSH_9.6\r\n".to_vec(),
        b"HTTP/2 101\r\n\r\n".to_vec(),
        format!("HTTP/1.1 200 OK\r\n{many}\r\n").into(),
        [b"HTTP/1.1 200 OK\r\nX-Long: ", &vec![b'x'; 20 << 10][..]].concat(),
        b"HTTP/1.1 200 OK\r\nBad Header: 1\r\n\r\n".to_vec(),
    ];
    for bytes in bad {
        let shown = String::from_utf8_lossy(&bytes[..bytes.len().min(40)]).into_owned();
        let result = run(dial(move |_| bytes.clone(), &[]));
        assert!(matches!(result, Err(DialError::Http { .. })), "{shown}: {result:?}");
    }
}

#[test]
fn an_upstream_that_hangs_up_breaks_the_handshake() {
    run(async {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let hang_up = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            read_head(&mut stream).await;
            stream.write_all(b"HTTP/1.1 101 Switch").await.unwrap();
        });
        let result = plain(configured(vec![endpoint(address)])).dial("chat", request(&[]), soon()).await;
        assert!(matches!(result, Err(DialError::Http { .. })), "{result:?}");
        hang_up.await.unwrap();
    });
}

#[test]
fn an_upstream_that_says_nothing_is_late() {
    run(async {
        let (address, _served) = serve(|_| Vec::new()).await;
        let upstreams = plain(configured(vec![endpoint(address)]));
        let result = upstreams.dial("chat", request(&[]), Instant::now() + Duration::from_millis(50)).await;
        assert!(matches!(result, Err(DialError::Timeout { .. })), "{result:?}");
    });
}

#[test]
fn a_handshake_that_is_dropped_closes_its_connection() {
    run(async {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let upstreams = plain(configured(vec![endpoint(listener.local_addr().unwrap())]));
        let dialling = upstreams.dial("chat", request(&[]), soon());
        let accepted = tokio::time::timeout(Duration::from_millis(100), dialling);
        let (_, accepted) = futures_util::future::join(accepted, listener.accept()).await;
        let (mut stream, _) = accepted.unwrap();
        read_head(&mut stream).await;
        assert_eq!(stream.read(&mut [0]).await.unwrap(), 0);
    });
}
