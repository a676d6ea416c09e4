//! `${NAME}` in string values: replaced by the environment variable. `$$` stands for one `$`.

use thiserror::Error;

/// Why a text could not be completed. No value of a variable is ever part of it.
#[derive(Debug, Eq, Error, PartialEq)]
pub(super) enum EnvironmentError {
    #[error(
        "the environment variable {0} is not set (or is not UTF-8); set it, or write \"$${{\" for a literal \"${{\""
    )]
    Missing(String),
    #[error("\"${{\" has no closing \"}}\"; write \"$${{\" for a literal \"${{\"")]
    Unclosed,
    #[error("\"${{{0}}}\" does not name an environment variable (A-Z a-z 0-9 _); write \"$${{\" for a literal \"${{\"")]
    BadName(String),
}

/// The text with its variables replaced, or `None` where it has no `$` that means anything. What a variable holds is
/// not looked into again.
pub(super) fn expand(
    text: &str,
    variable: &dyn Fn(&str) -> Option<String>,
) -> Result<Option<String>, EnvironmentError> {
    if !text.contains("${") && !text.contains("$$") {
        return Ok(None);
    }
    let mut expanded = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('$') {
        expanded.push_str(before);
        if let Some(after) = after.strip_prefix('$') {
            expanded.push('$');
            rest = after;
        } else if let Some(after) = after.strip_prefix('{') {
            let (name, after) = after.split_once('}').ok_or(EnvironmentError::Unclosed)?;
            if name.is_empty() || !name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_') {
                return Err(EnvironmentError::BadName(name.to_owned()));
            }
            let value = variable(name).ok_or_else(|| EnvironmentError::Missing(name.to_owned()))?;
            expanded.push_str(&value);
            rest = after;
        } else {
            expanded.push('$');
            rest = after;
        }
    }
    expanded.push_str(rest);
    Ok(Some(expanded))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn expanded(text: &str) -> Result<Option<String>, EnvironmentError> {
        expand(text, &|name| match name {
            "HOST" => Some("chat.internal".to_owned()),
            "TRICK" => Some("${HOST}$$".to_owned()),
            _ => None,
        })
    }

    #[test]
    fn variables_are_replaced_wherever_they_stand() {
        assert_eq!(expanded("ws://${HOST}:1/${HOST}").unwrap().unwrap(), "ws://chat.internal:1/chat.internal");
        assert_eq!(expanded("no variable").unwrap(), None);
    }

    #[test]
    fn a_doubled_dollar_is_one_and_a_lone_one_stays() {
        assert_eq!(expanded("$${HOST}").unwrap().unwrap(), "${HOST}");
        assert_eq!(expanded("$$${HOST}").unwrap().unwrap(), "$chat.internal");
        assert_eq!(expanded("^a$").unwrap(), None);
        assert_eq!(expanded("$5 ${HOST} $").unwrap().unwrap(), "$5 chat.internal $");
    }

    #[test]
    fn a_value_is_not_looked_into_again() {
        assert_eq!(expanded("${TRICK}").unwrap().unwrap(), "${HOST}$$");
    }

    #[test]
    fn a_variable_that_is_not_there_is_an_error() {
        assert_eq!(expanded("${NOPE}"), Err(EnvironmentError::Missing("NOPE".to_owned())));
        assert_eq!(expanded("${HOST"), Err(EnvironmentError::Unclosed));
        assert_eq!(expanded("${}"), Err(EnvironmentError::BadName(String::new())));
        assert_eq!(expanded("${a b}"), Err(EnvironmentError::BadName("a b".to_owned())));
    }
}
