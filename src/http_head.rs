//! What the heads of HTTP messages mean, on both sides of the gateway: lists, tokens, hosts, hop-by-hop names, the key of
//! a WebSocket handshake, and the problem document of a refusal.

mod authority;

use bytes::Bytes;
use data_encoding::BASE64;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use serde_json::json;
use sha1::{Digest, Sha1};

pub use self::authority::{Authority, bracketed, default_port, page_port, parse_port, split_port, without_brackets};

/// Appended to the key before it is hashed (RFC 6455 section 1.3).
const KEY_SUFFIX: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/// Names that mean something between two neighbours only (RFC 9110 section 7.6.1), beside `Sec-WebSocket-*`. Each side
/// of the gateway has its own; neither edits of routes nor of filters touch them.
const OF_THE_CONNECTION: &[&str] = &[
    "connection",
    "content-length",
    "expect",
    "http2-settings",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authorization",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

/// `Sec-WebSocket-Accept` for a `Sec-WebSocket-Key` (RFC 6455 section 4.2.2).
#[must_use]
pub fn accept(key: &HeaderValue) -> HeaderValue {
    let digest = Sha1::new().chain_update(key.as_bytes()).chain_update(KEY_SUFFIX).finalize();
    let text = BASE64.encode(&digest);
    HeaderValue::try_from(text).unwrap_or_else(|_| HeaderValue::from_static(""))
}

/// The elements of a comma-separated header, over all its lines, without the spaces around them.
/// `None` where a value is not visible ASCII.
pub fn list<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<Vec<&'a str>> {
    let mut elements = Vec::new();
    for value in headers.get_all(name) {
        elements.extend(value.to_str().ok()?.split(',').map(|element| element.trim_matches([' ', '\t'])));
    }
    Some(elements)
}

/// Does a comma-separated header name this element, in whatever case?
#[must_use]
pub fn lists(headers: &HeaderMap, name: &HeaderName, element: &str) -> bool {
    list(headers, name).is_some_and(|elements| elements.iter().any(|found| found.eq_ignore_ascii_case(element)))
}

/// A `token` of RFC 9110 section 5.6.2.
#[must_use]
pub fn is_token(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte))
}

/// Is it a header of one connection, which never travels on?
#[must_use]
pub fn is_of_the_connection(name: &HeaderName) -> bool {
    OF_THE_CONNECTION.contains(&name.as_str()) || name.as_str().starts_with("sec-websocket-")
}

/// A problem document (RFC 9457) of type `about:blank`.
#[must_use]
pub fn problem_json(status: StatusCode, detail: Option<&str>) -> Bytes {
    let title = status.canonical_reason().unwrap_or("Error");
    let mut problem = json!({ "type": "about:blank", "title": title, "status": status.as_u16() });
    if let (Some(detail), Some(members)) = (detail, problem.as_object_mut()) {
        members.insert("detail".to_owned(), detail.into());
    }
    problem.to_string().into()
}
