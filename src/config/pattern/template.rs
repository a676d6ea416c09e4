//! `path_rewrite` of a route: the path that the upstream sees.

use std::fmt;

use thiserror::Error;

use super::path::{MAX_PATTERN_BYTES, PathPattern, REST, has_dot_segments, is_parameter_name, is_path_character};

/// A path with `{parameter}` parts, such as `/v2/rooms-{room}`, and at its end possibly `/*` for what the trailing `*`
/// of the route's `path` matched.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct PathTemplate {
    parts: Vec<Part>,
}

#[derive(Clone, Debug, Eq, Hash, PartialEq)]
enum Part {
    Text(String),
    Parameter(String),
}

/// Why a text is not a template for a pattern.
#[derive(Clone, Debug, Eq, Error, PartialEq)]
pub enum PathTemplateError {
    /// It must begin with `/`.
    #[error("it must begin with \"/\"")]
    NoLeadingSlash,
    /// More than 1024 bytes.
    #[error("it is longer than {MAX_PATTERN_BYTES} bytes")]
    TooLong,
    /// `.` or `..`
    #[error("it has a \".\" or \"..\" segment")]
    DotSegment,
    /// `*` elsewhere than in `/*` at the end.
    #[error("\"*\" may only be the whole last segment")]
    MisplacedWildcard,
    /// A brace without its partner or a bad name.
    #[error("it has a brace that does not belong to a parameter such as \"{{room}}\"")]
    BadParameter,
    /// A parameter (or [`REST`]) that the route's path has not.
    #[error("the route's path has no {}", shown(.0))]
    UnknownParameter(String),
    /// A character that a URL path cannot have.
    #[error("{0:?} cannot occur in a path; percent-encode it")]
    BadCharacter(char),
}

impl PathTemplate {
    /// Parses a template for the paths that `pattern` matches.
    ///
    /// # Errors
    /// When it is no path, or uses a parameter that `pattern` has not.
    pub fn parse(text: &str, pattern: &PathPattern) -> Result<Self, PathTemplateError> {
        if !text.starts_with('/') {
            return Err(PathTemplateError::NoLeadingSlash);
        }
        if text.len() > MAX_PATTERN_BYTES {
            return Err(PathTemplateError::TooLong);
        }
        let (body, rest) = match text.strip_suffix("/*") {
            Some(_) => (&text[..text.len() - 1], true),
            None => (text, false),
        };
        let mut parts = split(body)?;
        if rest {
            parts.push(Part::Parameter(REST.to_owned()));
        }
        // With a value in place of each parameter, since no value is itself a dot segment.
        if has_dot_segments(&render(&parts, |_| "x")) {
            return Err(PathTemplateError::DotSegment);
        }
        for part in &parts {
            if let Part::Parameter(name) = part
                && !pattern.parameters().any(|known| known == name)
            {
                return Err(PathTemplateError::UnknownParameter(name.clone()));
            }
        }
        Ok(Self { parts })
    }

    /// The path for what [`PathPattern::matches`] returned, as it came: nothing is encoded or decoded.
    #[must_use]
    pub fn render(&self, parameters: &[(String, String)]) -> String {
        render(&self.parts, |name| {
            parameters.iter().find(|(known, _)| known == name).map_or("", |(_, value)| value.as_str())
        })
    }
}

impl fmt::Display for PathTemplate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for part in &self.parts {
            match part {
                Part::Text(text) => f.write_str(text)?,
                Part::Parameter(name) if name == REST => f.write_str(REST)?,
                Part::Parameter(name) => write!(f, "{{{name}}}")?,
            }
        }
        Ok(())
    }
}

fn split(mut text: &str) -> Result<Vec<Part>, PathTemplateError> {
    let mut parts = Vec::new();
    while !text.is_empty() {
        let (before, after) = text.split_once('{').map_or((text, None), |(before, after)| (before, Some(after)));
        check_text(before)?;
        if !before.is_empty() {
            parts.push(Part::Text(before.to_owned()));
        }
        let Some(after) = after else { break };
        let (name, tail) = after.split_once('}').ok_or(PathTemplateError::BadParameter)?;
        if !is_parameter_name(name) {
            return Err(PathTemplateError::BadParameter);
        }
        parts.push(Part::Parameter(name.to_owned()));
        text = tail;
    }
    Ok(parts)
}

fn check_text(text: &str) -> Result<(), PathTemplateError> {
    match text.chars().find(|&character| character != '/' && !is_path_character(character)) {
        Some('}') => Err(PathTemplateError::BadParameter),
        Some('*') => Err(PathTemplateError::MisplacedWildcard),
        Some(bad) => Err(PathTemplateError::BadCharacter(bad)),
        None => Ok(()),
    }
}

fn render<'a>(parts: &'a [Part], value: impl Fn(&'a str) -> &'a str) -> String {
    parts
        .iter()
        .map(|part| match part {
            Part::Text(text) => text.as_str(),
            Part::Parameter(name) => value(name),
        })
        .collect()
}

fn shown(name: &str) -> String {
    if name == REST { "trailing \"*\"".to_owned() } else { format!("parameter \"{{{name}}}\"") }
}
