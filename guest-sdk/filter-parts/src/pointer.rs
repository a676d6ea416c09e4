//! JSON pointers (RFC 6901).

use std::fmt::{self, Display};
use std::str::FromStr;

use serde::Deserialize;

/// Most names and indexes in a pointer: no message needs more, and a deeper one would only cost time.
const MAX_TOKENS: usize = 32;

/// A place in a JSON text: `/user/name`, `/items/0`; the empty one is the whole text.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(try_from = "String")]
pub struct Pointer {
    written: String,
    tokens: Vec<String>,
}

impl Pointer {
    /// The names and indexes on the way, without their escapes.
    pub fn tokens(&self) -> &[String] {
        &self.tokens
    }

    /// As it was written.
    pub fn as_str(&self) -> &str {
        &self.written
    }

    /// The place beside this one that has this name.
    #[must_use]
    pub fn sibling(&self, name: &str) -> Self {
        let parents = self.written.rsplit_once('/').map_or("", |(parents, _)| parents);
        let mut sibling = self.clone();
        sibling.written = format!("{parents}/{}", name.replace('~', "~0").replace('/', "~1"));
        sibling.tokens.pop();
        sibling.tokens.push(name.to_owned());
        sibling
    }

    /// The way to what holds the place, and the name or index of the place in it. None of the whole text.
    pub fn split_last(&self) -> Option<(&[String], &str)> {
        let (last, parents) = self.tokens.split_last()?;
        Some((parents, last))
    }
}

/// Why a text is no pointer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PointerError {
    /// It does not begin with a slash.
    NoSlash(String),
    /// It has a `~` that neither `0` nor `1` follows.
    Escape(String),
    /// It has too many parts.
    TooLong,
}

impl Display for PointerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoSlash(text) => write!(f, "`{text}` is no JSON pointer: it begins with `/`, as in `/{text}`"),
            Self::Escape(text) => write!(f, "`{text}` is no JSON pointer: `~` is written `~0`, and `/` in a name `~1`"),
            Self::TooLong => write!(f, "a JSON pointer has at most {MAX_TOKENS} parts here"),
        }
    }
}

impl std::error::Error for PointerError {}

impl FromStr for Pointer {
    type Err = PointerError;

    fn from_str(written: &str) -> Result<Self, PointerError> {
        written.to_owned().try_into()
    }
}

impl TryFrom<String> for Pointer {
    type Error = PointerError;

    fn try_from(written: String) -> Result<Self, PointerError> {
        if written.is_empty() {
            return Ok(Self { written, tokens: Vec::new() });
        }
        let Some(parts) = written.strip_prefix('/') else {
            return Err(PointerError::NoSlash(written));
        };
        let Some(tokens) = parts.split('/').map(unescaped).collect::<Option<Vec<_>>>() else {
            return Err(PointerError::Escape(written));
        };
        if tokens.len() > MAX_TOKENS {
            return Err(PointerError::TooLong);
        }
        Ok(Self { written, tokens })
    }
}

fn unescaped(token: &str) -> Option<String> {
    let mut parts = token.split('~');
    let mut plain = parts.next()?.to_owned();
    for part in parts {
        let (character, rest) = match part.as_bytes().first()? {
            b'0' => ('~', part.get(1..)?),
            b'1' => ('/', part.get(1..)?),
            _ => return None,
        };
        plain.push(character);
        plain.push_str(rest);
    }
    Some(plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tokens(text: &str) -> Vec<String> {
        text.parse::<Pointer>().unwrap().tokens
    }

    #[test]
    fn parts_are_unescaped() {
        assert_eq!(tokens("/a/0/b~1c~0d~01"), ["a", "0", "b/c~d~1"]);
        assert_eq!(tokens("/"), [""]);
        assert!(tokens("").is_empty());
    }

    #[test]
    fn what_is_no_pointer_is_refused() {
        let refused = |text: &str| text.parse::<Pointer>().unwrap_err().to_string();
        assert_eq!(refused("type"), "`type` is no JSON pointer: it begins with `/`, as in `/type`");
        assert!(refused("/a~").contains("`~` is written `~0`"));
        assert!(refused("/~2").contains("`~` is written `~0`"));
        assert!(refused(&"/a".repeat(33)).contains("at most 32 parts"));
    }
}
