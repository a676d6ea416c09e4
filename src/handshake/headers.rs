//! What travels on of a client's headers, and what the client's 101 carries of the upstream's.

use data_encoding::HEXLOWER;
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode, header};

use super::request::Opening;
use crate::{
    config::HeaderEdits,
    filter::Edits,
    http_head::{is_of_the_connection, list},
};

/// `X-Request-Id`, kept where it is well-formed, else made.
pub const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Longest `X-Request-Id` that is kept.
pub const MAX_REQUEST_ID_BYTES: usize = 128;

/// The client's headers without those of the connection, as filters see them and as the upstream's are made from.
#[must_use]
pub fn end_to_end(headers: &HeaderMap) -> HeaderMap {
    let named = list(headers, &header::CONNECTION).unwrap_or_default();
    let mut kept = HeaderMap::with_capacity(headers.len());
    for (name, value) in headers {
        let is_named = named.iter().any(|named| name.as_str().eq_ignore_ascii_case(named));
        if !is_named && !is_of_the_connection(name) {
            kept.append(name, value.clone());
        }
    }
    kept
}

/// Headers in the form that filters receive: names in lower case. Of a client that the gateway has identified they get
/// who it is, not what proves it.
#[must_use]
pub fn for_filters(end_to_end: &HeaderMap, identified: bool) -> Vec<(String, Vec<u8>)> {
    let passed = end_to_end.iter().filter(|(name, _)| !(identified && *name == header::AUTHORIZATION));
    passed.map(|(name, value)| (name.as_str().to_owned(), value.as_bytes().to_vec())).collect()
}

/// Keeps `X-Request-Id` if it is one well-formed value, else makes one.
pub(super) fn ensure_request_id(headers: &mut HeaderMap) {
    let mut ids = headers.get_all(X_REQUEST_ID).iter();
    let keep = matches!((ids.next(), ids.next()), (Some(id), None) if is_request_id(id));
    if !keep {
        headers.insert(X_REQUEST_ID, new_request_id());
    }
}

/// What a request that hyper has taken says of its body's length.
pub(super) fn content_length(headers: &HeaderMap) -> u64 {
    let length = headers.get(header::CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse().ok());
    length.unwrap_or_default()
}

/// The headers that the upstream receives, but for those of its connection, which dialling adds. `Host` is in it only
/// where an edit put it there. A route's edits come first, then the filters'.
#[must_use]
pub fn to_upstream(end_to_end: &HeaderMap, route: &HeaderEdits, filters: &Edits) -> HeaderMap {
    let mut headers = end_to_end.clone();
    headers.remove(header::HOST);
    for name in &route.remove {
        remove(&mut headers, name);
    }
    for (name, value) in &route.set {
        set(&mut headers, name, value);
    }
    edit(&mut headers, filters);
    headers
}

/// The 101 for the client. `upstream` is what the upstream's 101 carried (empty for other targets): its end-to-end
/// headers, such as `Set-Cookie`, pass.
#[must_use]
pub fn switching_protocols<B: Default>(
    opening: &Opening,
    subprotocol: Option<&str>,
    upstream: &HeaderMap,
    filters: &Edits,
) -> Response<B> {
    let mut headers = end_to_end(upstream);
    edit(&mut headers, filters);
    headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
    headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
    headers.insert(header::SEC_WEBSOCKET_ACCEPT, opening.accept.clone());
    // What was offered is a token, so the conversion cannot fail.
    if let Some(Ok(name)) = subprotocol.map(HeaderValue::try_from) {
        headers.insert(header::SEC_WEBSOCKET_PROTOCOL, name);
    }
    let mut response = Response::new(B::default());
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    *response.headers_mut() = headers;
    response
}

/// A filter's edits: removals, then replacements, then additions.
pub(super) fn edit(headers: &mut HeaderMap, edits: &Edits) {
    for name in &edits.remove {
        remove(headers, name);
    }
    for (name, value) in &edits.set {
        set(headers, name, value);
    }
    for (name, value) in &edits.append {
        if !is_of_the_connection(name) {
            headers.append(name, value.clone());
        }
    }
}

fn remove(headers: &mut HeaderMap, name: &HeaderName) {
    headers.remove(name);
}

fn set(headers: &mut HeaderMap, name: &HeaderName, value: &HeaderValue) {
    if !is_of_the_connection(name) {
        headers.insert(name, value.clone());
    }
}

fn is_request_id(id: &HeaderValue) -> bool {
    let allowed = |byte: &u8| byte.is_ascii_alphanumeric() || b"-._:/+=@".contains(byte);
    !id.is_empty() && id.len() <= MAX_REQUEST_ID_BYTES && id.as_bytes().iter().all(allowed)
}

fn new_request_id() -> HeaderValue {
    let text = HEXLOWER.encode(&rand::random::<[u8; 16]>());
    HeaderValue::try_from(text).unwrap_or_else(|_| HeaderValue::from_static("-"))
}

#[cfg(test)]
mod tests;
