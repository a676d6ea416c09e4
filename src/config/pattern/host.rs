//! `host` of a route: which hosts it answers for.

use std::{fmt, net::Ipv6Addr, str::FromStr};

use thiserror::Error;

use crate::http_head::without_brackets;

/// The `host` of a route. Case does not count, nor does a trailing dot.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub enum HostPattern {
    /// This host name or address; in lower case, IPv6 without brackets.
    Exact(String),
    /// `*.example.com`: every host below `example.com`, at any depth, but not itself. Kept as `.example.com`.
    Suffix(String),
}

/// Why a text is not a host pattern.
#[derive(Clone, Copy, Debug, Eq, Error, PartialEq)]
pub enum HostPatternError {
    /// Nothing there.
    #[error("it is empty")]
    Empty,
    /// `example.com:80`
    #[error("it has a port; routes match the host alone")]
    Port,
    /// `*` elsewhere than in front.
    #[error("\"*\" may only be the whole first label, as in \"*.example.com\"")]
    MisplacedWildcard,
    /// Labels are 1-63 of a-z 0-9 _ -, together at most 253.
    #[error("it is neither a host name nor an address; write names of other scripts in their xn-- form")]
    NotAHost,
}

impl HostPattern {
    /// Is this the request's host? `host` comes without a port; an IPv6 address with or without brackets.
    #[must_use]
    pub fn matches(&self, host: &str) -> bool {
        let host = without_brackets(host);
        let host = host.strip_suffix('.').unwrap_or(host);
        match self {
            Self::Exact(own) => own.eq_ignore_ascii_case(host),
            Self::Suffix(suffix) => host
                .len()
                .checked_sub(suffix.len())
                .and_then(|start| host.get(start..).filter(|_| start > 0))
                .is_some_and(|end| end.eq_ignore_ascii_case(suffix)),
        }
    }

    /// Does this pattern match every host that `other` matches?
    #[must_use]
    pub fn covers(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Exact(own), Self::Exact(other)) => own == other,
            (Self::Exact(_), Self::Suffix(_)) => false,
            (Self::Suffix(_), Self::Exact(other)) => self.matches(other),
            (Self::Suffix(own), Self::Suffix(other)) => other.ends_with(own.as_str()),
        }
    }
}

impl FromStr for HostPattern {
    type Err = HostPatternError;

    fn from_str(text: &str) -> Result<Self, HostPatternError> {
        if text.is_empty() {
            return Err(HostPatternError::Empty);
        }
        if let Some(address) = text.strip_prefix('[') {
            let (address, port) = address.split_once(']').ok_or(HostPatternError::NotAHost)?;
            let address = address.parse::<Ipv6Addr>().map_err(|_| HostPatternError::NotAHost)?;
            return if port.is_empty() { Ok(Self::Exact(address.to_string())) } else { Err(HostPatternError::Port) };
        }
        if let Ok(address) = text.parse::<Ipv6Addr>() {
            return Ok(Self::Exact(address.to_string()));
        }
        if text.rsplit_once(':').is_some_and(|(_, port)| port.bytes().all(|byte| byte.is_ascii_digit())) {
            return Err(HostPatternError::Port);
        }
        let name = text.strip_prefix("*.").unwrap_or(text);
        if name.contains('*') {
            return Err(HostPatternError::MisplacedWildcard);
        }
        let plain = name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase();
        if plain.len() > 253 || !plain.split('.').all(is_label) {
            return Err(HostPatternError::NotAHost);
        }
        Ok(if name.len() == text.len() { Self::Exact(plain) } else { Self::Suffix(format!(".{plain}")) })
    }
}

impl fmt::Display for HostPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exact(host) => f.write_str(host),
            Self::Suffix(suffix) => write!(f, "*{suffix}"),
        }
    }
}

/// RFC 952 with the underscore that service names in containers have.
fn is_label(label: &str) -> bool {
    (1..=63).contains(&label.len())
        && !label.starts_with('-')
        && !label.ends_with('-')
        && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-'))
}
