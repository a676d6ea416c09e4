//! Where a request comes from, as the proxies in front of the gateway tell it, and what the upstream is told of it.
//!
//! Only what `trusted_proxies` say counts. `X-Forwarded-For` is what nearly all of them write; `Forwarded` (RFC 7239) is
//! looked at where that is absent. Both are read from the right, because everybody adds to the right: what a client
//! claims is to the left of what a proxy that is trusted saw.

use std::net::{IpAddr, SocketAddr};

use http::{HeaderMap, HeaderName, HeaderValue, header};

use super::{headers::ensure_request_id, request::Requested};
use crate::{
    door::Visitor,
    http_head::{Authority, is_token, list, without_brackets},
};

const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");

/// What traces and log lines hang together by. Whoever is not trusted would put its requests under others' names.
const OF_TRACES: [&str; 3] = ["x-request-id", "traceparent", "tracestate"];

/// Where one request comes from.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Source {
    /// Whose request it is. Port 0 where a proxy named none.
    pub(super) client: SocketAddr,
    /// Did the client come over TLS?
    pub(super) secure: bool,
    /// Whose the other end of the connection is, where that is another.
    hop: SocketAddr,
    /// Does `hop` speak for others?
    trusted: bool,
    /// Over TLS on this side?
    hop_is_secure: bool,
    /// The host that the client asked for, where a trusted proxy says so.
    host: Option<(Authority, HeaderValue)>,
    /// `X-Forwarded-For` for the upstream.
    chain: String,
    /// `Forwarded` as it came from a trusted proxy.
    forwarded: Option<String>,
}

impl Source {
    pub(super) fn of(headers: &HeaderMap, visitor: &Visitor) -> Self {
        let hop = canonical(visitor.address);
        let mut source = Self {
            client: hop,
            secure: visitor.secure,
            hop,
            trusted: visitor.trusted_proxies.contains(hop.ip()),
            hop_is_secure: visitor.secure,
            host: None,
            chain: hop.ip().to_string(),
            forwarded: None,
        };
        if source.trusted {
            source.believe(headers, visitor);
        }
        source
    }

    fn believe(&mut self, headers: &HeaderMap, visitor: &Visitor) {
        self.forwarded = joined(headers, &header::FORWARDED);
        let elements: Vec<Element<'_>> = self.forwarded.as_deref().map(elements).unwrap_or_default();
        let (mut proto, mut host) = (last(headers, &X_FORWARDED_PROTO), last(headers, &X_FORWARDED_HOST));
        if headers.contains_key(X_FORWARDED_FOR) {
            let claimed = list(headers, &X_FORWARDED_FOR).unwrap_or_default();
            let hops = walk(self.hop, claimed.into_iter().rev().map(node), visitor);
            self.client = hops.last().copied().unwrap_or(self.hop);
            if let Some(before) = joined(headers, &X_FORWARDED_FOR).filter(|before| !before.is_empty()) {
                self.chain = format!("{before}, {}", self.hop.ip());
            }
        } else if !elements.is_empty() {
            let named = elements.iter().map(|element| element.client.as_deref().and_then(node));
            let hops = walk(self.hop, named, visitor);
            let seen_by_proxies = hops.iter().rev().map(|hop| format!("{}, ", hop.ip())).collect::<String>();
            self.chain = format!("{seen_by_proxies}{}", self.hop.ip());
            if let Some(client) = hops.last() {
                self.client = *client;
                let element = &elements[hops.len() - 1];
                proto = proto.or_else(|| element.proto.clone());
                host = host.or_else(|| element.host.clone());
            }
        }
        match proto.as_deref() {
            Some("https" | "wss") => self.secure = true,
            Some("http" | "ws") => self.secure = false,
            Some(_) | None => {}
        }
        self.host = host.and_then(|host| Some((Authority::parse(&host)?, HeaderValue::try_from(host).ok()?)));
    }

    /// The host and port that the client asked for.
    pub(super) fn asked<'a>(&'a self, requested: &'a Requested) -> (&'a str, Option<u16>) {
        match &self.host {
            Some((asked, _)) => (&asked.host, asked.port),
            None => (&requested.host, requested.port),
        }
    }

    /// Removes what nobody vouches for.
    pub(super) fn strip(&self, headers: &mut HeaderMap) {
        let dubious = |name: &&HeaderName| {
            let is_known = headers_of_proxies(name.as_str());
            let is_misspelt = name.as_str().contains('_') || name.as_str() == "x-real-ip";
            match self.trusted {
                true => is_known && is_misspelt,
                false => is_known || OF_TRACES.contains(&name.as_str()),
            }
        };
        let claimed: Vec<HeaderName> = headers.keys().filter(dubious).cloned().collect();
        for name in claimed {
            headers.remove(name);
        }
    }

    /// Sets what the upstream is told, in place of what the client claimed.
    pub(super) fn set(&self, headers: &mut HeaderMap, requested: &Requested) {
        self.strip(headers);
        // All that is in it was in a header, or is an address, so the conversion cannot fail.
        if let Ok(chain) = HeaderValue::try_from(&self.chain) {
            headers.insert(X_FORWARDED_FOR, chain);
        }
        headers.insert(X_FORWARDED_PROTO, HeaderValue::from_static(scheme(self.secure)));
        let host = self.host.as_ref().map_or(&requested.authority, |(_, value)| value);
        headers.insert(X_FORWARDED_HOST, host.clone());
        headers.remove(header::FORWARDED);
        if let Some(before) = &self.forwarded {
            let (hop, scheme) = (self.hop.ip(), scheme(self.hop_is_secure));
            let hop = if hop.is_ipv6() { format!("\"[{hop}]\"") } else { hop.to_string() };
            let host = requested.authority.to_str().unwrap_or_default();
            let chain = format!("{before}, for={hop};host=\"{host}\";proto={scheme}");
            if let Ok(chain) = HeaderValue::try_from(chain) {
                headers.insert(header::FORWARDED, chain);
            }
        }
        ensure_request_id(headers);
    }
}

/// The hops behind `hop`, nearest first, up to the first that is not a trusted proxy: the client. What cannot be read
/// ends the walk before it. The head of a request, which is bounded, bounds it.
fn walk(hop: SocketAddr, claimed: impl Iterator<Item = Option<SocketAddr>>, visitor: &Visitor) -> Vec<SocketAddr> {
    let (mut hops, mut latest) = (Vec::new(), hop);
    for claimed in claimed {
        let Some(next) = claimed.filter(|_| visitor.trusted_proxies.contains(latest.ip())) else { break };
        hops.push(next);
        latest = next;
    }
    hops
}

fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

/// `192.0.2.1`, `192.0.2.1:80`, `2001:db8::1`, `[2001:db8::1]` or `[2001:db8::1]:80`.
fn node(text: &str) -> Option<SocketAddr> {
    let address = without_brackets(text).parse::<IpAddr>().map(|address| SocketAddr::new(address, 0));
    address.or_else(|_| text.parse()).ok().map(canonical)
}

fn scheme(secure: bool) -> &'static str {
    if secure { "https" } else { "http" }
}

/// Does it tell where a request comes from, or what its log lines hang together by?
pub(super) fn is_dubious(name: &str) -> bool {
    headers_of_proxies(name) || OF_TRACES.contains(&name)
}

/// Headers by which proxies tell where a request comes from. `_` counts as `-`: many servers do not tell them apart.
fn headers_of_proxies(name: &str) -> bool {
    let name = name.replace('_', "-");
    name.starts_with("x-forwarded-") || name == "forwarded" || name == "x-real-ip"
}

/// What the nearest proxy wrote: the last element.
fn last(headers: &HeaderMap, name: &HeaderName) -> Option<String> {
    list(headers, name)?.last().map(|text| text.to_ascii_lowercase())
}

/// All lines as one; `None` where there is none, or one is not visible ASCII.
fn joined(headers: &HeaderMap, name: &HeaderName) -> Option<String> {
    let lines: Option<Vec<&str>> = headers.get_all(name).iter().map(|line| line.to_str().ok()).collect();
    lines.filter(|lines| !lines.is_empty()).map(|lines| lines.join(", "))
}

/// One element of `Forwarded`, as far as it is of use.
#[derive(Debug, Default, Eq, PartialEq)]
struct Element<'a> {
    client: Option<std::borrow::Cow<'a, str>>,
    proto: Option<String>,
    host: Option<String>,
}

/// The elements, the last first. A quote that a client left open spoils only what is to the left of it.
fn elements(text: &str) -> Vec<Element<'_>> {
    unquoted_parts(text, b',').into_iter().map(|part| element(part).unwrap_or_default()).collect()
}

fn element(text: &str) -> Option<Element<'_>> {
    let mut element = Element::default();
    for pair in unquoted_parts(text, b';') {
        let (name, value) = pair.split_once('=')?;
        let quoted = value.strip_prefix('"').and_then(|value| value.strip_suffix('"'));
        let value = quoted.filter(|value| !value.contains(['"', '\\'])).or(Some(value).filter(|text| is_token(text)))?;
        let is_second = match name.trim().to_ascii_lowercase().as_str() {
            "for" => element.client.replace(value.into()).is_some(),
            "proto" => element.proto.replace(value.to_ascii_lowercase()).is_some(),
            "host" => element.host.replace(value.to_ascii_lowercase()).is_some(),
            _ => false,
        };
        if is_second {
            return None;
        }
    }
    Some(element)
}

/// What is between separators that are not in quotes, the last part first, without the spaces around it.
fn unquoted_parts(text: &str, separator: u8) -> Vec<&str> {
    let (mut parts, mut end, mut is_quoted) = (Vec::new(), text.len(), false);
    for (at, byte) in text.bytes().enumerate().rev() {
        is_quoted ^= byte == b'"';
        if byte == separator && !is_quoted {
            parts.push(text[at + 1..end].trim_matches([' ', '\t']));
            end = at;
        }
    }
    parts.push(text[..end].trim_matches([' ', '\t']));
    parts
}

#[cfg(test)]
mod tests;
