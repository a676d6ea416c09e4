//! Which pages of the web may connect.

use std::{fmt, str::FromStr};

use thiserror::Error;

use super::{HostPattern, HostPatternError};

/// What may stand in `allowed_origins`.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum OriginRule {
    /// `same-origin`: the page comes from the host that it connects to.
    SameOrigin,
    /// `absent`: no `Origin`, so not a browser.
    Absent,
    /// `null`: a page without an origin, such as a file or a sandboxed frame.
    Null,
    /// `any`
    Any,
    /// `https://app.example.com` or `https://*.example.com`
    Pattern(OriginPattern),
}

impl OriginRule {
    /// Where a route has no `allowed_origins`.
    pub const DEFAULT: [Self; 2] = [Self::SameOrigin, Self::Absent];
}

/// Scheme, host and port of an origin.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct OriginPattern {
    scheme: String,
    host: HostPattern,
    /// Given, or that of the scheme; `None` where the scheme has none.
    port: Option<u16>,
}

/// Why a text is no origin rule.
#[derive(Debug, Error)]
pub enum OriginRuleError {
    /// Neither a word nor a URL.
    #[error("write \"same-origin\", \"absent\", \"null\", \"any\", or an origin such as \"https://app.example.com\"")]
    Shape,
    /// More than an origin.
    #[error("an origin ends after host and port; remove what follows")]
    Path,
    /// The host.
    #[error(transparent)]
    Host(#[from] HostPatternError),
    /// The port.
    #[error("the port is not a number from 1 to 65535")]
    Port,
}

impl OriginPattern {
    /// Does it take this origin, whose host is in lower case?
    #[must_use]
    pub fn matches(&self, scheme: &str, host: &str, port: Option<u16>) -> bool {
        self.scheme == scheme && self.host.matches(host) && self.port == port.or_else(|| default_port(scheme))
    }
}

/// The port of a URL that names none.
#[must_use]
pub fn default_port(scheme: &str) -> Option<u16> {
    match scheme {
        "http" | "ws" => Some(80),
        "https" | "wss" => Some(443),
        _ => None,
    }
}

impl FromStr for OriginRule {
    type Err = OriginRuleError;

    fn from_str(text: &str) -> Result<Self, OriginRuleError> {
        match text {
            "same-origin" => return Ok(Self::SameOrigin),
            "absent" => return Ok(Self::Absent),
            "null" => return Ok(Self::Null),
            "any" => return Ok(Self::Any),
            _ => {}
        }
        let (scheme, rest) = text.split_once("://").ok_or(OriginRuleError::Shape)?;
        let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"+-.".contains(&byte);
        if !scheme.starts_with(|first: char| first.is_ascii_lowercase()) || !scheme.bytes().all(plain) {
            return Err(OriginRuleError::Shape);
        }
        if rest.contains(['/', '?', '#', '@']) {
            return Err(OriginRuleError::Path);
        }
        let (host, port) = match rest.rsplit_once(':') {
            Some((host, port)) if !port.ends_with(']') => {
                let port = port.parse().ok().filter(|port| *port != 0).ok_or(OriginRuleError::Port)?;
                (host, Some(port))
            }
            Some(_) | None => (rest, default_port(scheme)),
        };
        Ok(Self::Pattern(OriginPattern { scheme: scheme.to_owned(), host: host.parse()?, port }))
    }
}

impl fmt::Display for OriginRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::SameOrigin => f.write_str("same-origin"),
            Self::Absent => f.write_str("absent"),
            Self::Null => f.write_str("null"),
            Self::Any => f.write_str("any"),
            Self::Pattern(OriginPattern { scheme, host, port }) => match port {
                Some(port) if default_port(scheme) != Some(*port) => write!(f, "{scheme}://{host}:{port}"),
                Some(_) | None => write!(f, "{scheme}://{host}"),
            },
        }
    }
}
