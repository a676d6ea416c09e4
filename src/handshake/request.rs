//! The opening request (RFC 6455 section 4.2.1), checked before anything else looks at it.
//!
//! hyper has parsed the head; what it lets through and two servers could read differently is refused here: more than
//! one `Host`, a target that disagrees with it, any `Transfer-Encoding`, a body.

use http::{HeaderMap, HeaderName, HeaderValue, Method, Uri, Version, header, request::Parts};

use super::refusal::Refusal;
use crate::http_head::{Authority, accept, is_token, list, lists, page_port};

/// Subprotocols that one request may offer.
pub const MAX_SUBPROTOCOLS: usize = 64;

/// What a request is for, in words that two servers cannot read differently.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Requested {
    /// Lower case, without port and without a trailing dot; what routes match.
    pub host: String,
    /// The port in `Host`.
    pub port: Option<u16>,
    /// `Host` as the client sent it, port included.
    pub authority: HeaderValue,
    /// Path as the client sent it; begins with `/`.
    pub path: String,
    /// Without the `?`.
    pub query: Option<String>,
}

impl Requested {
    /// Checks a request's target and `Host`.
    ///
    /// # Errors
    /// 400 where it is not HTTP/1.1, has no `Host` or several, or a target that is no path or disagrees with `Host`.
    pub fn check(parts: &Parts) -> Result<Self, Refusal> {
        if parts.version != Version::HTTP_11 {
            return Err(Refusal::bad_request("HTTP/1.1 is required"));
        }
        let host = host(&parts.headers)?;
        let (path, query) = target(&parts.uri, &host)?;
        let authority = one(&parts.headers, &header::HOST, "exactly one Host is required")?.clone();
        Ok(Self { host: host.host, port: host.port, authority, path, query })
    }
}

/// An opening request that may be answered with 101.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Opening {
    /// Where it goes.
    pub requested: Requested,
    /// `Sec-WebSocket-Accept` of the answer.
    pub accept: HeaderValue,
    /// As offered, in order, distinct.
    pub subprotocols: Vec<String>,
    /// Did the client offer `bearer` with its token? Then it may be the answer.
    pub offers_bearer: bool,
}

impl Opening {
    /// Does this request ask for a WebSocket, well or not?
    #[must_use]
    pub fn is_asked_for(headers: &HeaderMap) -> bool {
        lists(headers, &header::UPGRADE, "websocket")
    }

    /// Checks a request's head.
    ///
    /// # Errors
    /// 400 for a request that is malformed or that two servers could read differently, 426 for one that is no WebSocket
    /// handshake of version 13.
    pub fn check(parts: &Parts) -> Result<Self, Refusal> {
        let headers = &parts.headers;
        if parts.method != Method::GET {
            return Err(Refusal::bad_request("the method must be GET"));
        }
        let requested = Requested::check(parts)?;
        no_body(headers)?;
        upgrade(headers)?;
        version(headers)?;
        let accept = accept(key(headers)?);
        Ok(Self { requested, accept, subprotocols: subprotocols(headers)?, offers_bearer: false })
    }
}

fn one<'a>(headers: &'a HeaderMap, name: &HeaderName, detail: &'static str) -> Result<&'a HeaderValue, Refusal> {
    let mut values = headers.get_all(name).iter();
    match (values.next(), values.next()) {
        (Some(value), None) => Ok(value),
        (None, _) | (Some(_), Some(_)) => Err(Refusal::bad_request(detail)),
    }
}

fn host(headers: &HeaderMap) -> Result<Authority, Refusal> {
    let value = one(headers, &header::HOST, "exactly one Host is required")?;
    let authority = value.to_str().ok().and_then(Authority::parse);
    authority.ok_or_else(|| Refusal::bad_request("Host is not valid"))
}

/// Path and query. An absolute-form target (RFC 9112 section 3.2.2) must name the same place as `Host`.
fn target(uri: &Uri, host: &Authority) -> Result<(String, Option<String>), Refusal> {
    if let Some(authority) = uri.authority() {
        let Some(default_port) = uri.scheme_str().and_then(page_port) else {
            return Err(Refusal::bad_request("the request target is not valid"));
        };
        let same = |target: &Authority| {
            target.host == host.host && target.port.unwrap_or(default_port) == host.port.unwrap_or(default_port)
        };
        if !Authority::parse(authority.as_str()).is_some_and(|target| same(&target)) {
            return Err(Refusal::bad_request("the request target and Host disagree"));
        }
    }
    let path = uri.path();
    if !path.starts_with('/') {
        return Err(Refusal::bad_request("the request target must be a path"));
    }
    Ok((path.to_owned(), uri.query().map(str::to_owned)))
}

fn no_body(headers: &HeaderMap) -> Result<(), Refusal> {
    let empty = headers.get_all(header::CONTENT_LENGTH).iter().all(|length| length.as_bytes() == b"0");
    if headers.contains_key(header::TRANSFER_ENCODING) || !empty {
        return Err(Refusal::bad_request("a WebSocket handshake has no body"));
    }
    Ok(())
}

fn upgrade(headers: &HeaderMap) -> Result<(), Refusal> {
    if !headers.contains_key(header::UPGRADE) {
        return Err(Refusal::upgrade_required());
    }
    if !lists(headers, &header::UPGRADE, "websocket") {
        return Err(Refusal::bad_request("Upgrade must be websocket"));
    }
    if !lists(headers, &header::CONNECTION, "upgrade") {
        return Err(Refusal::bad_request("Connection must contain upgrade"));
    }
    Ok(())
}

fn version(headers: &HeaderMap) -> Result<(), Refusal> {
    let mut values = headers.get_all(header::SEC_WEBSOCKET_VERSION).iter();
    match (values.next(), values.next()) {
        (Some(value), None) if value.as_bytes() == b"13" => Ok(()),
        (Some(_) | None, Some(_) | None) => Err(Refusal::version_required()),
    }
}

/// 16 bytes of base64 are 22 letters and two `=`. The unused bits of the last letter are not looked at: some clients
/// draw letters instead of bytes.
fn key(headers: &HeaderMap) -> Result<&HeaderValue, Refusal> {
    let value = one(headers, &header::SEC_WEBSOCKET_KEY, "exactly one Sec-WebSocket-Key is required")?;
    let letters = value.as_bytes().strip_suffix(b"==").unwrap_or_default();
    let base64 = |byte: &u8| byte.is_ascii_alphanumeric() || *byte == b'+' || *byte == b'/';
    if letters.len() != 22 || !letters.iter().all(base64) {
        return Err(Refusal::bad_request("Sec-WebSocket-Key is not valid"));
    }
    Ok(value)
}

fn subprotocols(headers: &HeaderMap) -> Result<Vec<String>, Refusal> {
    let invalid = || Refusal::bad_request("Sec-WebSocket-Protocol is not valid");
    let offered = list(headers, &header::SEC_WEBSOCKET_PROTOCOL).ok_or_else(invalid)?;
    let distinct = |(index, name): (usize, &&str)| !offered[..index].contains(name);
    if offered.len() > MAX_SUBPROTOCOLS
        || !offered.iter().all(|name| is_token(name))
        || !offered.iter().enumerate().all(distinct)
    {
        return Err(invalid());
    }
    Ok(offered.into_iter().map(str::to_owned).collect())
}

#[cfg(test)]
mod tests;
