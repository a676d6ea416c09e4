//! `allowed_origins` of a route: which pages of the web may connect.

use std::{fmt, str::FromStr};

use thiserror::Error;

use super::{OriginPattern, OriginPatternError};

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
    Page(OriginPattern),
    /// The origin of an installed application, such as `tauri://localhost`, compared as a whole.
    App(String),
}

/// Why a text is no origin rule.
#[derive(Clone, Copy, Debug, Eq, Error, PartialEq)]
pub enum OriginRuleError {
    /// Neither a word nor a URL.
    #[error("write \"same-origin\", \"absent\", \"null\", \"any\", or an origin such as \"https://app.example.com\"")]
    Shape,
    /// A URL that is no origin.
    #[error(transparent)]
    Page(#[from] OriginPatternError),
}

impl OriginRule {
    /// Where a route has no `allowed_origins`.
    pub const DEFAULT: [Self; 2] = [Self::SameOrigin, Self::Absent];
}

impl FromStr for OriginRule {
    type Err = OriginRuleError;

    fn from_str(text: &str) -> Result<Self, OriginRuleError> {
        let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"+-.".contains(&byte);
        match text {
            "same-origin" => Ok(Self::SameOrigin),
            "absent" => Ok(Self::Absent),
            "null" => Ok(Self::Null),
            "any" => Ok(Self::Any),
            _ => match text.split_once("://") {
                Some(("http" | "https", _)) => Ok(Self::Page(text.parse()?)),
                Some((scheme, host)) if scheme.bytes().all(plain) && !scheme.is_empty() => {
                    let host_is_plain = host.bytes().all(|byte| plain(byte) || byte == b'_' || byte == b':');
                    if host.is_empty() || !host_is_plain {
                        Err(OriginRuleError::Shape)
                    } else {
                        Ok(Self::App(text.to_owned()))
                    }
                }
                Some(_) | None => Err(OriginRuleError::Shape),
            },
        }
    }
}

impl fmt::Display for OriginRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::SameOrigin => f.write_str("same-origin"),
            Self::Absent => f.write_str("absent"),
            Self::Null => f.write_str("null"),
            Self::Any => f.write_str("any"),
            Self::Page(pattern) => pattern.fmt(f),
            Self::App(origin) => f.write_str(origin),
        }
    }
}
