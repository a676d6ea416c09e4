use std::sync::Arc;

use proptest::prelude::*;

use super::*;
use crate::{config::TrustedProxies, handshake::headers::X_REQUEST_ID};

type Lines<'a> = &'a [(&'a str, &'a str)];

fn headers(lines: Lines<'_>) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in lines {
        headers.append(HeaderName::try_from(*name).unwrap(), HeaderValue::try_from(*value).unwrap());
    }
    headers
}

fn visitor(address: &str) -> Visitor {
    let trusted = ["10.0.0.0/8", "fd00::/8"].map(|network| network.parse().unwrap());
    Visitor {
        address: address.parse().unwrap(),
        secure: false,
        certificate: None,
        trusted_proxies: Arc::new(TrustedProxies::new(trusted.to_vec())),
    }
}

fn requested() -> Requested {
    Requested {
        host: "gateway.internal".to_owned(),
        port: Some(8080),
        authority: HeaderValue::from_static("gateway.internal:8080"),
        path: "/".to_owned(),
        query: None,
    }
}

/// The client of a request that a trusted proxy passes on.
fn client(lines: Lines<'_>) -> String {
    Source::of(&headers(lines), &visitor("10.0.0.1:1")).client.to_string()
}

fn told(lines: Lines<'_>, visitor: &Visitor) -> HeaderMap {
    let mut headers = headers(lines);
    Source::of(&headers.clone(), visitor).set(&mut headers, &requested());
    headers
}

fn lines(headers: &HeaderMap) -> Vec<(&str, &str)> {
    let mut lines: Vec<_> = headers.iter().map(|(name, value)| (name.as_str(), value.to_str().unwrap())).collect();
    lines.retain(|(name, _)| *name != "x-request-id");
    lines.sort_unstable();
    lines
}

const SPOOFED: Lines<'_> = &[
    ("x-forwarded-for", "10.0.0.1"),
    ("x-forwarded-for", "10.0.0.2"),
    ("x_forwarded_for", "10.0.0.3"),
    ("x-forwarded-proto", "https"),
    ("x-forwarded-host", "evil.example"),
    ("x-forwarded-port", "1"),
    ("forwarded", "for=10.0.0.1"),
    ("x-real-ip", "10.0.0.1"),
    ("x-request-id", "mine"),
    ("traceparent", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"),
    ("tracestate", "a=b"),
];

#[test]
fn what_a_client_claims_of_its_origin_is_replaced() {
    let direct = visitor("[::ffff:192.0.2.7]:5000");
    let source = Source::of(&headers(SPOOFED), &direct);
    assert_eq!((source.client, source.secure), ("192.0.2.7:5000".parse().unwrap(), false));
    let told = told(SPOOFED, &direct);
    assert_eq!(
        lines(&told),
        [
            ("x-forwarded-for", "192.0.2.7"),
            ("x-forwarded-host", "gateway.internal:8080"),
            ("x-forwarded-proto", "http")
        ]
    );
    assert_eq!(told.get_all(X_REQUEST_ID).iter().count(), 1);
    assert_ne!(told[X_REQUEST_ID], "mine");
}

#[test]
fn a_trusted_proxy_is_believed_and_the_chain_grows() {
    let behind = visitor("10.0.0.1:1");
    let request: Lines<'_> = &[
        ("x-forwarded-for", "203.0.113.9, 192.0.2.7"),
        ("x-forwarded-for", "10.9.9.9"),
        ("x-forwarded-proto", "https"),
        ("x-forwarded-host", "Chat.Example.com"),
        ("x-forwarded-port", "443"),
        ("x_forwarded_for", "203.0.113.1"),
        ("x-real-ip", "203.0.113.1"),
        ("x-request-id", "theirs"),
        ("traceparent", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"),
    ];
    let source = Source::of(&headers(request), &behind);
    assert_eq!((source.client, source.secure), ("192.0.2.7:0".parse().unwrap(), true));
    assert_eq!(source.asked(&requested()), ("chat.example.com", None));
    let told = told(request, &behind);
    assert_eq!(
        lines(&told),
        [
            ("traceparent", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"),
            ("x-forwarded-for", "203.0.113.9, 192.0.2.7, 10.9.9.9, 10.0.0.1"),
            ("x-forwarded-host", "chat.example.com"),
            ("x-forwarded-port", "443"),
            ("x-forwarded-proto", "https")
        ]
    );
    assert_eq!(told[X_REQUEST_ID], "theirs");
}

#[test]
fn the_client_is_the_rightmost_address_that_is_no_trusted_proxy() {
    for (chain, expected) in [
        ("192.0.2.7", "192.0.2.7:0"),
        ("198.51.100.1, 192.0.2.7", "192.0.2.7:0"),
        ("198.51.100.1, 192.0.2.7, 10.1.1.1, 10.2.2.2", "192.0.2.7:0"),
        ("192.0.2.7:4711, 10.1.1.1", "192.0.2.7:4711"),
        ("[2001:db8::1]:4711", "[2001:db8::1]:4711"),
        ("2001:db8::1,fd00::1", "[2001:db8::1]:0"),
        ("::ffff:192.0.2.7", "192.0.2.7:0"),
        ("10.3.3.3, 10.2.2.2", "10.3.3.3:0"),
        // What cannot be read is where the walk ends.
        ("192.0.2.7, unknown, 10.2.2.2", "10.2.2.2:0"),
        ("192.0.2.7, , 10.2.2.2", "10.2.2.2:0"),
        ("192.0.2.7, 10.2.2.2 10.2.2.3", "10.0.0.1:1"),
        ("192.0.2.7, 010.2.2.2", "10.0.0.1:1"),
        ("", "10.0.0.1:1"),
    ] {
        assert_eq!(client(&[("x-forwarded-for", chain)]), expected, "{chain}");
    }
    assert_eq!(client(&[]), "10.0.0.1:1");
}

#[test]
fn forwarded_is_read_where_there_is_no_x_forwarded_for() {
    for (chain, expected) in [
        ("for=192.0.2.7", "192.0.2.7:0"),
        ("for=198.51.100.1, For=\"192.0.2.7:4711\";proto=https", "192.0.2.7:4711"),
        ("for=\"[2001:db8::1]\", for=10.2.2.2;by=10.0.0.1", "[2001:db8::1]:0"),
        ("for=192.0.2.7, for=_hidden, for=10.2.2.2", "10.2.2.2:0"),
        ("for=192.0.2.7, for=10.2.2.2;for=10.2.2.3", "10.0.0.1:1"),
        // A client that opens a quote cannot swallow what the proxy added.
        ("for=\"198.51.100.1, for=192.0.2.7", "192.0.2.7:0"),
        ("for=\"198.51.100.1, for=\"192.0.2.7:80\"", "192.0.2.7:80"),
        ("for", "10.0.0.1:1"),
    ] {
        assert_eq!(client(&[("forwarded", chain)]), expected, "{chain}");
    }
    assert_eq!(client(&[("forwarded", "for=198.51.100.1"), ("x-forwarded-for", "192.0.2.7")]), "192.0.2.7:0");
}

#[test]
fn forwarded_goes_on_with_what_this_gateway_saw() {
    let request: Lines<'_> =
        &[("forwarded", "for=192.0.2.7;proto=https;host=chat.example.com, for=10.2.2.2;proto=http")];
    let behind = visitor("[fd00::5]:1");
    let source = Source::of(&headers(request), &behind);
    assert!(source.secure, "as the client came, not as the proxies talk");
    assert_eq!(
        lines(&told(request, &behind)),
        [
            (
                "forwarded",
                "for=192.0.2.7;proto=https;host=chat.example.com, for=10.2.2.2;proto=http, \
                 for=\"[fd00::5]\";host=\"gateway.internal:8080\";proto=http"
            ),
            ("x-forwarded-for", "192.0.2.7, 10.2.2.2, fd00::5"),
            ("x-forwarded-host", "chat.example.com"),
            ("x-forwarded-proto", "https")
        ]
    );
}

#[test]
fn the_nearest_proxy_says_how_the_client_came() {
    let secure = |tls: bool, lines: Lines<'_>| {
        Source::of(&headers(lines), &Visitor { secure: tls, ..visitor("10.0.0.1:1") }).secure
    };
    assert!(secure(true, &[]));
    assert!(!secure(true, &[("x-forwarded-proto", "http")]));
    assert!(secure(false, &[("x-forwarded-proto", "http, HTTPS")]));
    assert!(!secure(false, &[("x-forwarded-proto", "https, http")]));
    assert!(!secure(false, &[("x-forwarded-proto", "gopher")]));
}

proptest! {
    #[test]
    fn whatever_the_headers_say_an_untrusted_peer_is_itself(value in "[ -~]{0,80}") {
        let spoofed = headers(&[("x-forwarded-for", &value), ("forwarded", &value), ("x-forwarded-proto", &value)]);
        let source = Source::of(&spoofed, &visitor("192.0.2.7:9"));
        prop_assert_eq!((source.client, source.secure), ("192.0.2.7:9".parse().unwrap(), false));
    }

    #[test]
    fn what_a_client_writes_before_its_address_changes_nothing(value in "[ -~]{0,80}") {
        let chain = format!("{value}, 192.0.2.7");
        prop_assert_eq!(client(&[("x-forwarded-for", &chain)]), "192.0.2.7:0");
        let chain = format!("{value}, for=192.0.2.7");
        prop_assert_eq!(client(&[("forwarded", &chain)]), "192.0.2.7:0");
    }
}

#[test]
fn a_connection_header_cannot_strip_what_the_gateway_sets() {
    let request = headers(&[("connection", "x-forwarded-for, x-request-id"), ("x-forwarded-for", "192.0.2.7")]);
    let source = Source::of(&request, &visitor("10.0.0.1:1"));
    let mut kept = crate::handshake::headers::end_to_end(&request);
    source.set(&mut kept, &requested());
    assert_eq!(kept[X_FORWARDED_FOR], "192.0.2.7, 10.0.0.1");
    assert!(kept.contains_key(X_REQUEST_ID));
}
