use http::header::{COOKIE, HOST, SET_COOKIE};

use super::*;
use crate::handshake::request::Requested;

fn headers(lines: &[(&str, &str)]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in lines {
        headers.append(HeaderName::try_from(*name).unwrap(), HeaderValue::try_from(*value).unwrap());
    }
    headers
}

fn pairs(lines: &[(&str, &str)]) -> Vec<(HeaderName, HeaderValue)> {
    headers(lines).iter().map(|(name, value)| (name.clone(), value.clone())).collect()
}

fn opening() -> Opening {
    Opening {
        requested: Requested {
            host: "example.com".to_owned(),
            port: None,
            authority: HeaderValue::from_static("Example.com:8080"),
            path: "/".to_owned(),
            query: None,
        },
        accept: HeaderValue::from_static("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="),
        subprotocols: vec!["chat".to_owned()],
        offers_bearer: false,
    }
}

fn with_request_id(lines: &[(&str, &str)]) -> HeaderMap {
    let mut headers = end_to_end(&headers(lines));
    ensure_request_id(&mut headers);
    headers
}

#[test]
fn headers_of_the_connection_do_not_travel_on() {
    let client = headers(&[
        ("connection", "Upgrade, X-Private ,keep-alive"),
        ("x-private", "1"),
        ("keep-alive", "timeout=5"),
        ("upgrade", "websocket"),
        ("te", "trailers"),
        ("trailer", "x"),
        ("content-length", "0"),
        ("expect", "100-continue"),
        ("http2-settings", "AAMAAABkAAQAAP__"),
        ("proxy-authorization", "Basic eDp5"),
        ("proxy-connection", "keep-alive"),
        ("sec-websocket-key", "x"),
        ("sec-websocket-extensions", "permessage-deflate"),
        ("sec-websocket-protocol", "chat"),
        ("sec-websocket-version", "13"),
        ("cookie", "a=1"),
        ("authorization", "Bearer t"),
    ]);
    let kept = end_to_end(&client);
    assert_eq!(
        for_filters(&kept, false),
        [("cookie".to_owned(), b"a=1".to_vec()), ("authorization".to_owned(), b"Bearer t".to_vec()),]
    );
    assert_eq!(for_filters(&kept, true), [("cookie".to_owned(), b"a=1".to_vec())]);
}

#[test]
fn a_well_formed_request_id_stays() {
    assert_eq!(with_request_id(&[("x-request-id", "trace/1:a.b_c-d=")])[X_REQUEST_ID], "trace/1:a.b_c-d=");
}

#[test]
fn any_other_request_id_is_replaced() {
    let long = "a".repeat(MAX_REQUEST_ID_BYTES + 1);
    let bad: [&[(&str, &str)]; 5] = [
        &[],
        &[("x-request-id", "")],
        &[("x-request-id", "a b")],
        &[("x-request-id", &long)],
        &[("x-request-id", "a"), ("x-request-id", "b")],
    ];
    for lines in bad {
        let headers = with_request_id(lines);
        let ids: Vec<_> = headers.get_all(X_REQUEST_ID).iter().collect();
        assert!(ids.len() == 1 && ids[0].len() == 32, "{ids:?}");
    }
}

#[test]
fn a_route_edits_first_and_a_filter_has_the_last_word() {
    let client = headers(&[("host", "client"), ("cookie", "a"), ("x-debug", "1"), ("x-gateway", "forged")]);
    let route = HeaderEdits {
        set: pairs(&[("x-gateway", "wsgate"), ("x-team", "a")]),
        remove: vec![HeaderName::from_static("x-debug")],
    };
    let filters =
        Edits { set: pairs(&[("x-team", "b")]), append: pairs(&[("x-gateway", "more")]), remove: vec![COOKIE] };
    let sent = to_upstream(&client, &route, &filters);
    assert!(sent.get_all("x-gateway").iter().eq(["wsgate", "more"]));
    assert_eq!(sent["x-team"], "b");
    assert_eq!(sent.keys_len(), 2, "{sent:?}");
}

#[test]
fn an_edit_may_set_host_but_nothing_of_the_connection() {
    let set = pairs(&[
        ("host", "inner"),
        ("sec-websocket-key", "x"),
        ("transfer-encoding", "chunked"),
        ("connection", "close"),
    ]);
    let route = HeaderEdits { set: set.clone(), remove: Vec::new() };
    let filters = Edits { append: set, ..Edits::default() };
    let sent = to_upstream(&HeaderMap::new(), &route, &filters);
    assert!(sent.get_all(HOST).iter().eq(["inner", "inner"]) && sent.keys_len() == 1, "{sent:?}");
}

#[test]
fn the_clients_101_carries_cookies_and_edits_but_no_other_handshake() {
    let upstream = headers(&[
        ("set-cookie", "a=1"),
        ("set-cookie", "b=2"),
        ("connection", "upgrade, x-hop"),
        ("x-hop", "1"),
        ("upgrade", "websocket"),
        ("sec-websocket-accept", "theirs"),
        ("sec-websocket-protocol", "theirs"),
        ("sec-websocket-extensions", "theirs"),
        ("server", "upstream"),
    ]);
    let filters =
        Edits { set: pairs(&[("x-served-by", "wsgate")]), remove: vec![http::header::SERVER], ..Edits::default() };
    let response: Response<()> = switching_protocols(&opening(), Some("chat"), &upstream, &filters);
    let headers = response.headers();
    assert_eq!(response.status(), StatusCode::SWITCHING_PROTOCOLS);
    assert!(headers.get_all(SET_COOKIE).iter().eq(["a=1", "b=2"]));
    assert!(headers.get_all(header::SEC_WEBSOCKET_ACCEPT).iter().eq(["s3pPLMBiTxaQ9kYGzzhZRbK+xOo="]));
    assert!(headers.get_all(header::SEC_WEBSOCKET_PROTOCOL).iter().eq(["chat"]));
    assert_eq!(headers["x-served-by"], "wsgate");
    assert_eq!(headers.keys_len(), 6, "{headers:?}");
}
