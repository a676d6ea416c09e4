//! Hosts and ports, as URLs and `Host` name them (RFC 3986 section 3.2).

use std::{borrow::Cow, net::Ipv6Addr};

/// A host in the one spelling that routes are compared with, and a port.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Authority {
    /// Lower case, without a trailing dot; an IPv6 address in brackets.
    pub host: String,
    /// As given.
    pub port: Option<u16>,
}

impl Authority {
    /// Reads `host`, `host:port`, `[address]` or `[address]:port`; `None` for anything else, user information included.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (host, port) = split_port(text);
        let port = match port {
            Some(digits) => Some(parse_port(digits)?),
            None => None,
        };
        let host = match host.strip_prefix('[').map(|rest| rest.strip_suffix(']')) {
            Some(address) => format!("[{}]", address?.parse::<Ipv6Addr>().ok()?),
            None => registered_name(host)?,
        };
        Some(Self { host, port })
    }

    /// The host as it is resolved: an IPv6 address without brackets.
    #[must_use]
    pub fn bare_host(&self) -> &str {
        without_brackets(&self.host)
    }
}

/// `host:port` or `[address]:port` at the colon, neither part checked. A colon inside brackets belongs to the address.
#[must_use]
pub fn split_port(authority: &str) -> (&str, Option<&str>) {
    match authority.rsplit_once(':') {
        Some((host, port)) if !port.contains(']') => (host, Some(port)),
        Some(_) | None => (authority, None),
    }
}

/// A number from 1 to 65535, without a sign.
#[must_use]
pub fn parse_port(digits: &str) -> Option<u16> {
    // `parse` alone would take a sign.
    digits.bytes().all(|byte| byte.is_ascii_digit()).then(|| digits.parse().ok())?.filter(|&port| port != 0)
}

/// The port of a URL that names none: of `https` and `wss`, or of `http` and `ws`.
#[must_use]
pub const fn default_port(tls: bool) -> u16 {
    if tls { 443 } else { 80 }
}

/// The same for a page's URL, by its scheme.
#[must_use]
pub fn page_port(scheme: &str) -> Option<u16> {
    match scheme {
        "http" => Some(default_port(false)),
        "https" => Some(default_port(true)),
        _ => None,
    }
}

/// A host as it is written before a port: an IPv6 address in brackets.
#[must_use]
pub fn bracketed(host: &str) -> Cow<'_, str> {
    if host.contains(':') { Cow::Owned(format!("[{host}]")) } else { Cow::Borrowed(host) }
}

/// The opposite of [`bracketed`].
#[must_use]
pub fn without_brackets(host: &str) -> &str {
    host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host)
}

fn registered_name(host: &str) -> Option<String> {
    let name = host.strip_suffix('.').unwrap_or(host);
    let valid = name.split('.').all(|label| !label.is_empty())
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b".-_".contains(&byte));
    valid.then(|| name.to_ascii_lowercase())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_have_one_spelling() {
        for (text, host, port) in [
            ("Chat.Example.com", "chat.example.com", None),
            ("chat.example.com.:8080", "chat.example.com", Some(8080)),
            ("127.0.0.1:1", "127.0.0.1", Some(1)),
            ("[0:0::1]", "[::1]", None),
            ("[::1]:65535", "[::1]", Some(65535)),
        ] {
            assert_eq!(Authority::parse(text), Some(Authority { host: host.to_owned(), port }), "{text}");
        }
    }

    #[test]
    fn what_is_neither_is_refused() {
        for text in [
            "", ":80", "a:", "a:0", "a:+1", "a:65536", "a:b", "a..b", "user@a", "a b", "::1", "[::1", "::1]", "[a]",
            "[::1]80", "a/", "a:1:2",
        ] {
            assert_eq!(Authority::parse(text), None, "{text}");
        }
    }
}
