//! What the headers of a request and of its answer say of their bodies. Everything else about headers is as for openings.

use http::{HeaderMap, HeaderName, HeaderValue, header, response};

use crate::{
    filter::Edits,
    handshake::{
        forwarded,
        headers::{edit, end_to_end},
        refusal::Refusal,
    },
    http_head::{is_of_the_connection, list, lists},
    route::Route,
};

/// Names that no trailer may have, beside those of the connection, of proxies, and those that the route itself sets: an
/// upstream that takes trailers for headers would believe them (RFC 9110 section 6.5.1).
const NOT_IN_TRAILERS: [HeaderName; 6] = [
    header::AUTHORIZATION,
    header::CONTENT_ENCODING,
    header::CONTENT_RANGE,
    header::CONTENT_TYPE,
    header::COOKIE,
    header::HOST,
];

/// What else than `chunked` is done to a body would be lost where hyper takes the chunks apart.
pub(super) fn check_coding(headers: &HeaderMap) -> Result<(), Refusal> {
    let is_chunked = |coding: &HeaderValue| coding.as_bytes().eq_ignore_ascii_case(b"chunked");
    let codings = headers.get_all(header::TRANSFER_ENCODING);
    if codings.iter().all(is_chunked) { Ok(()) } else { Err(Refusal::transfer_coding()) }
}

/// Adds to a request what its body needs.
pub(super) fn frame_request(client: &HeaderMap, route: &Route, filters: &Edits, headers: &mut HeaderMap) {
    if let Some(length) = client.get(header::CONTENT_LENGTH) {
        headers.insert(header::CONTENT_LENGTH, length.clone());
    }
    if lists(client, &header::TE, "trailers") {
        headers.insert(header::TE, HeaderValue::from_static("trailers"));
        headers.insert(header::CONNECTION, HeaderValue::from_static("TE"));
    }
    if client.contains_key(header::TRANSFER_ENCODING) {
        let is_set = |name: &HeaderName| {
            let edits = filters.set.iter().chain(&filters.append).chain(&route.request_headers.set);
            let claims = route.claims_to_headers.iter().map(|(name, _)| name);
            let copied = route.auth_request.iter().flat_map(|service| &service.copy_headers);
            let removed = filters.remove.iter().chain(&route.request_headers.remove);
            edits.map(|(name, _)| name).chain(claims).chain(copied).chain(removed).any(|other| other == name)
        };
        allow_trailers(client, |name| !is_set(name) && !forwarded::is_dubious(name.as_str()), headers);
    }
}

/// The headers of an answer for the client.
pub(super) fn to_client(head: &response::Parts, is_chunked: bool, filters: &Edits) -> Result<HeaderMap, Refusal> {
    // Nobody asked for it.
    if head.status.is_informational() {
        return Err(Refusal::bad_answer());
    }
    check_coding(&head.headers).map_err(|_| Refusal::bad_answer())?;
    let mut headers = end_to_end(&head.headers);
    edit(&mut headers, filters);
    if is_chunked {
        allow_trailers(&head.headers, |_| true, &mut headers);
    } else if let Some(length) = head.headers.get(header::CONTENT_LENGTH) {
        headers.insert(header::CONTENT_LENGTH, length.clone());
    }
    Ok(headers)
}

/// Announces trailers. hyper sends no others.
fn allow_trailers(from: &HeaderMap, allowed: impl Fn(&HeaderName) -> bool, headers: &mut HeaderMap) {
    let names = list(from, &header::TRAILER).unwrap_or_default();
    let names = names.into_iter().filter_map(|name| HeaderName::try_from(name).ok());
    let names = names.filter(|name| !is_of_the_connection(name) && !NOT_IN_TRAILERS.contains(name) && allowed(name));
    let names: Vec<String> = names.map(|name| name.as_str().to_owned()).collect();
    if let Ok(names) = HeaderValue::try_from(names.join(", "))
        && !names.is_empty()
    {
        headers.insert(header::TRAILER, names);
    }
}
