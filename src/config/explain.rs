//! serde's errors in the words of the configuration.

use std::{borrow::Cow, fmt::Write};

/// A table as it is shown in messages.
pub(super) const A_TABLE: &str = "a table";

/// An array as it is shown in messages.
pub(super) const AN_ARRAY: &str = "an array";

/// `message` is serde's; `found` is the value as it stands in the file.
pub(super) fn explain(message: &str, found: &str) -> String {
    if let Some(expected) = message.strip_prefix("unknown field ") {
        return unknown_key(found_key(expected), &accepted(expected));
    }
    if let Some(expected) = message.strip_prefix("unknown variant ") {
        return format!("{found} is not accepted; use {}", listed(&accepted(expected), "or"));
    }
    if (message.starts_with("invalid type: ") || message.starts_with("invalid value: "))
        && let Some((_, expected)) = message.rsplit_once(", expected ")
    {
        return format!("{found} is not {}", wanted(expected, found));
    }
    message.to_owned()
}

/// A refused name among known ones: the nearest, and all of them.
pub(super) fn nearest<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let distance = |known: &&str| strsim::osa_distance(&name.to_ascii_lowercase(), known);
    let nearest = known.into_iter().min_by_key(distance)?;
    (distance(&nearest) <= 1.max(name.chars().count().min(nearest.len()) / 3)).then_some(nearest)
}

/// `"a", "b" or "c"`
pub(super) fn listed(words: &[&str], conjunction: &str) -> String {
    let mut list = String::new();
    for (index, word) in words.iter().enumerate() {
        let between = match index {
            0 => Cow::Borrowed(""),
            _ if index + 1 == words.len() => Cow::Owned(format!(" {conjunction} ")),
            _ => Cow::Borrowed(", "),
        };
        // Writing to a String cannot fail.
        let _ = write!(list, "{between}{word:?}");
    }
    list
}

fn unknown_key(name: &str, known: &[&str]) -> String {
    let hint = nearest(name, known.iter().copied()).map(|known| format!("; did you mean {known:?}?"));
    format!("unknown key{} Accepted here: {}", hint.as_deref().unwrap_or("."), known.join(", "))
}

/// The name in `` `name`, expected … ``; it may itself contain anything.
fn found_key(message: &str) -> &str {
    let name = message.rsplit_once(", expected ").map_or(message, |(name, _)| name);
    name.trim_matches('`')
}

/// The names in `` `name`, expected one of `a`, `b` ``.
fn accepted(message: &str) -> Vec<&str> {
    let list = message.rsplit_once(", expected ").map_or("", |(_, list)| list);
    list.split('`').skip(1).step_by(2).collect()
}

fn wanted<'a>(expected: &'a str, found: &str) -> &'a str {
    match (expected, found) {
        ("a sequence", A_TABLE) => {
            "an array; the header of one of several tables has double brackets, as in [[routes]]"
        }
        ("a sequence", _) => "an array",
        ("a map", _) => "a table",
        ("a table", AN_ARRAY) => "a table; the header of a single table has single brackets, as in [server]",
        _ => expected,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_near_miss_is_suggested_and_a_far_one_is_not() {
        assert_eq!(nearest("adress", ["address", "name"]), Some("address"));
        assert_eq!(nearest("Path", ["host", "path"]), Some("path"));
        assert_eq!(
            nearest("client_max_paylod", ["client_max_payload", "upstream_max_payload"]),
            Some("client_max_payload")
        );
        assert_eq!(nearest("tls", ["address"]), None);
        assert_eq!(nearest("x", []), None);
    }

    #[test]
    fn lists_read_as_sentences() {
        assert_eq!(listed(&["a"], "or"), r#""a""#);
        assert_eq!(listed(&["a", "b", "c"], "or"), r#""a", "b" or "c""#);
    }
}
