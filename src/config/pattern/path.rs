//! `path` of a route: which request paths it takes.

use std::{collections::BTreeSet, fmt, str::FromStr};

use thiserror::Error;

/// The parameter name under which a trailing `*` is kept.
pub const REST: &str = "*";

/// The longest pattern or template, in bytes.
pub(super) const MAX_PATTERN_BYTES: usize = 1024;

/// The `path` of a route, such as `/chat/{room}` or `/files/*`.
///
/// The path `/a/b/` has the segments `a`, `b` and an empty one; `/` has one empty segment. A pattern matches a path
/// with the same number of segments, each of which matches; with a trailing `*`, the pattern's segments match the first
/// ones and `*` takes what follows, slashes included. There must be a slash before it, but it may be empty: `/files/*`
/// matches `/files/` and `/files/a/b`, but not `/files`.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct PathPattern {
    /// In order, without the `*`.
    pub segments: Vec<Segment>,
    /// Does it end in `*`?
    pub wildcard: bool,
}

/// What stands between two slashes.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub enum Segment {
    /// Exactly this text; empty only as the last one (a trailing slash).
    Literal(String),
    /// `{name}`: any one segment that is not empty.
    Parameter(String),
}

/// Why a text is not a path pattern.
#[derive(Clone, Debug, Eq, Error, PartialEq)]
pub enum PathPatternError {
    /// It must begin with `/`.
    #[error("it must begin with \"/\"")]
    NoLeadingSlash,
    /// More than 1024 bytes.
    #[error("it is longer than {MAX_PATTERN_BYTES} bytes")]
    TooLong,
    /// `//`
    #[error("it has an empty segment (\"//\")")]
    EmptySegment,
    /// `.` or `..`
    #[error("the segment {0:?} can never match, since paths with \".\" or \"..\" are refused")]
    DotSegment(String),
    /// `*` is neither a literal nor, here, the rest.
    #[error("\"*\" may only be the whole last segment")]
    MisplacedWildcard,
    /// A brace without its partner, an empty name, or text beside the braces.
    #[error(
        "{0:?} is not a parameter; a parameter is a whole segment such as \"{{room}}\", named with A-Z a-z 0-9 _ -"
    )]
    BadParameter(String),
    /// Two parameters of one name.
    #[error("the parameter \"{{{0}}}\" occurs twice")]
    DuplicateParameter(String),
    /// A character that a URL path cannot have.
    #[error("{0:?} cannot occur in a path; percent-encode it")]
    BadCharacter(char),
}

impl PathPattern {
    /// What the parameters matched, in order, or `None` where the path does not match. What a trailing `*` matched is
    /// the last one, under the name [`REST`]. `path` is the request's path without its query.
    #[must_use]
    pub fn matches(&self, path: &str) -> Option<Vec<(String, String)>> {
        let mut rest = Some(path.strip_prefix('/')?);
        if has_dot_segments(path) {
            return None;
        }
        let mut parameters = Vec::new();
        for segment in &self.segments {
            let (head, tail) = rest?.split_once('/').map_or((rest?, None), |(head, tail)| (head, Some(tail)));
            match segment {
                Segment::Literal(text) if text == head => {}
                Segment::Parameter(name) if !head.is_empty() => parameters.push((name.as_str(), head)),
                Segment::Literal(_) | Segment::Parameter(_) => return None,
            }
            rest = tail;
        }
        match (self.wildcard, rest) {
            (true, Some(rest)) => parameters.push((REST, rest)),
            (false, None) => {}
            (true, None) | (false, Some(_)) => return None,
        }
        Some(parameters.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect())
    }

    /// Does this pattern match every path that `other` matches?
    #[must_use]
    pub fn covers(&self, other: &Self) -> bool {
        let (own, others) = (self.segments.len(), other.segments.len());
        let enough = match (self.wildcard, other.wildcard) {
            (true, true) => others >= own,
            (true, false) => others > own,
            (false, false) => others == own,
            (false, true) => false,
        };
        enough && self.segments.iter().zip(&other.segments).all(|(own, other)| own.covers(other))
    }

    /// Names that a [`PathTemplate`](super::PathTemplate) may use: the parameters in order, then [`REST`] with a `*`.
    pub fn parameters(&self) -> impl Iterator<Item = &str> {
        let named = self.segments.iter().filter_map(|segment| match segment {
            Segment::Literal(_) => None,
            Segment::Parameter(name) => Some(name.as_str()),
        });
        named.chain(self.wildcard.then_some(REST))
    }
}

impl Segment {
    fn covers(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Literal(own), Self::Literal(other)) => own == other,
            (Self::Literal(_), Self::Parameter(_)) => false,
            (Self::Parameter(_), Self::Literal(other)) => !other.is_empty(),
            (Self::Parameter(_), Self::Parameter(_)) => true,
        }
    }
}

impl FromStr for PathPattern {
    type Err = PathPatternError;

    fn from_str(text: &str) -> Result<Self, PathPatternError> {
        let path = text.strip_prefix('/').ok_or(PathPatternError::NoLeadingSlash)?;
        if text.len() > MAX_PATTERN_BYTES {
            return Err(PathPatternError::TooLong);
        }
        let (path, wildcard) = match path.strip_suffix('*') {
            Some("") => return Ok(Self { segments: Vec::new(), wildcard: true }),
            Some(before) => (before.strip_suffix('/').ok_or(PathPatternError::MisplacedWildcard)?, true),
            None => (path, false),
        };
        let segments = path.split('/').map(Segment::from_str).collect::<Result<Vec<_>, _>>()?;
        let inner = if wildcard { &segments[..] } else { &segments[..segments.len() - 1] };
        if inner.contains(&Segment::Literal(String::new())) {
            return Err(PathPatternError::EmptySegment);
        }
        let pattern = Self { segments, wildcard };
        let mut seen = BTreeSet::new();
        let twice = pattern.parameters().find(|name| !seen.insert(*name)).map(str::to_owned);
        twice.map_or(Ok(pattern), |name| Err(PathPatternError::DuplicateParameter(name)))
    }
}

impl FromStr for Segment {
    type Err = PathPatternError;

    fn from_str(text: &str) -> Result<Self, PathPatternError> {
        if text.contains(['{', '}']) {
            let name = text.strip_prefix('{').and_then(|text| text.strip_suffix('}'));
            return match name.filter(|name| is_parameter_name(name)) {
                Some(name) => Ok(Self::Parameter(name.to_owned())),
                None => Err(PathPatternError::BadParameter(text.to_owned())),
            };
        }
        if text.contains('*') {
            return Err(PathPatternError::MisplacedWildcard);
        }
        if let Some(bad) = text.chars().find(|&character| !is_path_character(character)) {
            return Err(PathPatternError::BadCharacter(bad));
        }
        if has_dot_segments(text) {
            return Err(PathPatternError::DotSegment(text.to_owned()));
        }
        Ok(Self::Literal(text.to_owned()))
    }
}

impl fmt::Display for PathPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for segment in &self.segments {
            match segment {
                Segment::Literal(text) => write!(f, "/{text}")?,
                Segment::Parameter(name) => write!(f, "/{{{name}}}")?,
            }
        }
        f.write_str(if self.wildcard { "/*" } else { "" })
    }
}

pub(super) fn is_parameter_name(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-'))
}

/// `pchar` of RFC 3986 section 3.3 without `*`, which patterns keep for themselves; `%` begins an encoded byte.
pub(super) fn is_path_character(character: char) -> bool {
    character.is_ascii_alphanumeric() || "-._~%!$&'()+,;=:@".contains(character)
}

/// Is this a path that can be sent as it is, without parameters?
pub(in super::super) fn is_plain_path(path: &str) -> bool {
    path.starts_with('/')
        && path.chars().all(|character| character == '/' || is_path_character(character))
        && !has_dot_segments(path)
}

/// Is one of its segments `.` or `..` to a server that decodes `%2e`, `%2f` and `%5c`, or takes `\` for `/`?
pub(super) fn has_dot_segments(path: &str) -> bool {
    if !path.contains('.') && !path.contains("%2") {
        return false;
    }
    let path = path.to_ascii_lowercase().replace("%2e", ".").replace("%2f", "/").replace("%5c", "/");
    path.split(['/', '\\']).any(|segment| segment == "." || segment == "..")
}
