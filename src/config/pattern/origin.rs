//! `allow.http` of a filter: which origins it may send requests to.

use std::{fmt, str::FromStr};

use thiserror::Error;

use super::{HostPattern, HostPatternError};
use crate::http_head::{bracketed, default_port, parse_port, split_port};

/// Scheme, host and port, each compared exactly; of the host, the labels below one may be left open.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct OriginPattern {
    /// `https://`?
    pub tls: bool,
    /// Which hosts.
    pub host: HostPattern,
    /// 80 or 443 where none was given.
    pub port: u16,
}

/// Why a text is not an origin.
#[derive(Clone, Copy, Debug, Eq, Error, PartialEq)]
pub enum OriginPatternError {
    /// Another scheme, or none.
    #[error("it begins neither with https:// nor with http://; write an origin such as \"https://authz.internal\"")]
    Scheme,
    /// `https://user:password@host`
    #[error(
        "an origin with \"@\" (a user name or a password) is not accepted; the filter sends credentials in headers"
    )]
    UserInfo,
    /// Something after host and port.
    #[error("it has more than scheme, host and port; write it without a path")]
    Path,
    /// Not a host.
    #[error("of its host: {0}")]
    Host(HostPatternError),
    /// Not a port.
    #[error("its port is not a number from 1 to 65535")]
    Port,
}

impl OriginPattern {
    /// Is this the origin of a request? `host` comes without a port; an IPv6 address with or without brackets.
    #[must_use]
    pub fn matches(&self, tls: bool, host: &str, port: u16) -> bool {
        self.tls == tls && self.port == port && self.host.matches(host)
    }
}

impl FromStr for OriginPattern {
    type Err = OriginPatternError;

    fn from_str(text: &str) -> Result<Self, OriginPatternError> {
        // First, because a password may look like any other part.
        if text.contains('@') {
            return Err(OriginPatternError::UserInfo);
        }
        let (scheme, authority) = text.split_once("://").ok_or(OriginPatternError::Scheme)?;
        let tls = match scheme.to_ascii_lowercase().as_str() {
            "https" => true,
            "http" => false,
            _ => return Err(OriginPatternError::Scheme),
        };
        let authority = authority.strip_suffix('/').unwrap_or(authority);
        if authority.contains(['/', '?', '#']) {
            return Err(OriginPatternError::Path);
        }
        let (host, port) = split_port(authority);
        let port = port.map_or(Some(default_port(tls)), parse_port).ok_or(OriginPatternError::Port)?;
        if host.contains(':') && !host.starts_with('[') {
            return Err(OriginPatternError::Host(HostPatternError::NotAHost));
        }
        Ok(Self { tls, host: host.parse().map_err(OriginPatternError::Host)?, port })
    }
}

impl fmt::Display for OriginPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.tls { "https" } else { "http" };
        write!(f, "{scheme}://{}:{}", bracketed(&self.host.to_string()), self.port)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn allowed(pattern: &str, tls: bool, host: &str, port: u16) -> bool {
        pattern.parse::<OriginPattern>().unwrap().matches(tls, host, port)
    }

    #[test]
    fn scheme_host_and_port_are_compared() {
        assert!(allowed("https://authz.internal", true, "authz.internal", 443));
        assert!(allowed("HTTPS://Authz.Internal/", true, "AUTHZ.internal.", 443));
        assert!(allowed("http://[::1]:8080", false, "[::1]", 8080));
        for (tls, host, port) in [
            (false, "authz.internal", 443),
            (true, "authz.internal", 8443),
            (true, "authz.internal.evil", 443),
            (true, "evil-authz.internal", 443),
            (true, "internal", 443),
        ] {
            assert!(!allowed("https://authz.internal", tls, host, port), "{tls} {host} {port}");
        }
    }

    #[test]
    fn a_star_stands_for_hosts_below() {
        assert!(allowed("https://*.example.com", true, "a.b.example.com", 443));
        assert!(!allowed("https://*.example.com", true, "example.com", 443));
        assert!(!allowed("https://*.example.com", true, "badexample.com", 443));
    }

    #[test]
    fn what_is_no_origin_is_refused() {
        for (text, error) in [
            ("authz.internal", OriginPatternError::Scheme),
            ("ws://authz.internal", OriginPatternError::Scheme),
            ("https://user:secret@host", OriginPatternError::UserInfo),
            ("https://host/v1", OriginPatternError::Path),
            ("https://host?x", OriginPatternError::Path),
            ("https://", OriginPatternError::Host(HostPatternError::Empty)),
            ("https://a*.com", OriginPatternError::Host(HostPatternError::MisplacedWildcard)),
            ("https://::1", OriginPatternError::Host(HostPatternError::NotAHost)),
            ("https://host:", OriginPatternError::Port),
            ("https://host:0", OriginPatternError::Port),
            ("https://host:+1", OriginPatternError::Port),
        ] {
            assert_eq!(text.parse::<OriginPattern>(), Err(error), "{text}");
        }
    }

    #[test]
    fn what_is_shown_reads_back() {
        for text in ["https://authz.internal:443", "http://[::1]:8080", "https://*.example.com:8443"] {
            assert_eq!(text.parse::<OriginPattern>().unwrap().to_string(), text);
        }
    }
}
