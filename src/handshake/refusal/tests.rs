use std::{sync::Arc, time::Duration};

use http_body_util::BodyExt;

use super::*;
use crate::upstream::{BadUpgrade, ConnectError};

fn body(response: Response<Full<Bytes>>) -> Bytes {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(response.into_body().collect()).unwrap().to_bytes()
}

fn answered(status: StatusCode, headers: &[(HeaderName, &'static str)], body: Option<&'static str>) -> Refusal {
    let mut map = HeaderMap::new();
    for (name, value) in headers {
        map.append(name, HeaderValue::from_static(value));
    }
    DialError::Answered(Box::new(Answer { status, headers: map, body: body.map(Bytes::from) })).into()
}

fn refused_by_filter(status: StatusCode, headers: Vec<(HeaderName, HeaderValue)>, body: &str) -> Refusal {
    NotAdmitted::Refused { filter: Arc::from("authorize"), status, headers, body: body.as_bytes().to_vec() }.into()
}

#[test]
fn each_failure_of_the_upstream_has_its_status() {
    let endpoint = || "10.1.2.3:80".to_owned();
    let failures = [
        (DialError::Timeout { endpoint: endpoint() }, 504, "upstream_timeout"),
        (DialError::NoneHealthy { upstream: endpoint() }, 503, "upstream_unhealthy"),
        (DialError::Connect { endpoint: endpoint(), source: ConnectError::NoAddress }, 502, "upstream_refused"),
        (DialError::BadUpgrade { endpoint: endpoint(), source: BadUpgrade::Accept }, 502, "upstream_bad_upgrade"),
        (DialError::Unknown { name: endpoint() }, 500, "internal"),
    ];
    for (error, status, label) in failures {
        let refusal = Refusal::from(error);
        assert_eq!((refusal.status.as_u16(), refusal.result.label()), (status, label));
        assert!(!String::from_utf8_lossy(&body(refusal.into_response())).contains("10.1.2.3"));
    }
}

#[test]
fn retry_after_is_on_503_and_429_and_differs() {
    for refusal in [Refusal::unavailable(), Refusal::limited()] {
        let seconds = |_| {
            let response = refusal.clone().into_response();
            response.headers()[header::RETRY_AFTER].to_str().unwrap().parse::<u32>().unwrap()
        };
        let drawn: Vec<u32> = (0..64).map(seconds).collect();
        assert!(drawn.iter().all(|seconds| RETRY_AFTER_SECONDS.contains(seconds)));
        assert!(drawn.iter().any(|seconds| *seconds != drawn[0]));
    }
    assert!(!Refusal::not_found().into_response().headers().contains_key(header::RETRY_AFTER));
}

#[test]
fn an_upstreams_answer_is_passed_on() {
    let headers =
        [(header::CONTENT_TYPE, "text/plain"), (header::RETRY_AFTER, "77"), (header::WWW_AUTHENTICATE, "Bearer")];
    let response = answered(StatusCode::SERVICE_UNAVAILABLE, &headers, Some("later")).into_response();
    assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(response.headers()[header::RETRY_AFTER], "77");
    assert_eq!(response.headers()[header::CONTENT_TYPE], "text/plain");
    assert_eq!(response.headers()[header::WWW_AUTHENTICATE], "Bearer");
    assert_eq!(body(response), "later");
}

#[test]
fn an_upstreams_body_that_did_not_arrive_is_replaced_and_not_described() {
    let headers = [(header::CONTENT_TYPE, "text/html"), (header::CONTENT_ENCODING, "gzip")];
    let response = answered(StatusCode::FORBIDDEN, &headers, None).into_response();
    assert_eq!(response.headers()[header::CONTENT_TYPE], "application/problem+json");
    assert!(!response.headers().contains_key(header::CONTENT_ENCODING));
    assert_eq!(body(response), r#"{"status":403,"title":"Forbidden","type":"about:blank"}"#);
}

#[test]
fn a_filters_answer_is_passed_on_without_headers_of_the_connection() {
    let headers = vec![
        (header::TRANSFER_ENCODING, HeaderValue::from_static("chunked")),
        (header::CONTENT_LENGTH, HeaderValue::from_static("99")),
        (header::SEC_WEBSOCKET_ACCEPT, HeaderValue::from_static("x")),
        (header::CONTENT_TYPE, HeaderValue::from_static("text/plain")),
    ];
    let response = refused_by_filter(StatusCode::PAYMENT_REQUIRED, headers, "pay").into_response();
    assert_eq!(response.headers().len(), 2, "{:?}", response.headers());
    assert_eq!(response.headers()[header::CONNECTION], "close");
    assert_eq!(body(response), "pay");
}

#[test]
fn a_filter_without_a_body_gets_a_problem_document() {
    let response = refused_by_filter(StatusCode::FORBIDDEN, Vec::new(), "").into_response();
    assert_eq!(body(response), r#"{"status":403,"title":"Forbidden","type":"about:blank"}"#);
}

#[test]
fn a_client_that_is_refused_for_a_while_is_told_for_how_long() {
    for _ in 0..50 {
        let refused = NotAdmitted::Client { filter: "f".into(), retry_after: Duration::from_millis(7_300) };
        let refusal = Refusal::from(refused);
        assert_eq!((refusal.status.as_u16(), refusal.result.label()), (429, "limited"));
        let response = refusal.into_response();
        let after: u64 = response.headers()["retry-after"].to_str().unwrap().parse().unwrap();
        assert!((8..=11).contains(&after), "{after}");
    }
}

#[test]
fn faults_and_full_filters_do_not_say_which() {
    let filter: Arc<str> = Arc::from("secret-name");
    for (refused, status, label) in [
        (NotAdmitted::Fault { filter: Arc::clone(&filter) }, 500, "filter_fault"),
        (NotAdmitted::Capacity { filter: Arc::clone(&filter) }, 503, "unavailable"),
    ] {
        let refusal = Refusal::from(refused);
        assert_eq!((refusal.status.as_u16(), refusal.result.label()), (status, label));
        assert!(!String::from_utf8_lossy(&body(refusal.into_response())).contains("secret"));
    }
}
