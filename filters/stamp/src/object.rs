//! Setting members of a JSON object in its text, so that every other byte stays as it was.

use std::fmt;
use std::ops::Range;

use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::Value;
use serde_json::value::RawValue;

/// The text with these members set: in place where the object has them, else after all others. None where the text is no
/// JSON object.
pub(crate) fn set_members(text: &str, members: &[(String, Value)]) -> Option<String> {
    let object: Object<'_> = serde_json::from_str(text).ok()?;
    let mut edits: Vec<(Range<usize>, String)> = Vec::new();
    let end = text.trim_end().len() - 1;
    let mut is_empty = object.0.is_empty();
    for (key, value) in members {
        let before = edits.len();
        for (_, old) in object.0.iter().filter(|(name, _)| name == key) {
            edits.push((range_in(text, old.get()), value.to_string()));
        }
        if edits.len() == before {
            let comma = if is_empty { "" } else { "," };
            let key = Value::from(key.as_str());
            edits.push((end..end, format!("{comma}{key}:{value}")));
            is_empty = false;
        }
    }
    edits.sort_by_key(|(range, _)| range.start);
    Some(apply(text, &edits))
}

/// Where `part`, a slice of `text`, lies in it.
fn range_in(text: &str, part: &str) -> Range<usize> {
    let start = part.as_ptr().addr() - text.as_ptr().addr();
    start..start + part.len()
}

fn apply(text: &str, edits: &[(Range<usize>, String)]) -> String {
    let added: usize = edits.iter().map(|(_, new)| new.len()).sum();
    let mut edited = String::with_capacity(text.len() + added);
    let mut end = 0;
    for (range, new) in edits {
        edited.push_str(&text[end..range.start]);
        edited.push_str(new);
        end = range.end;
    }
    edited.push_str(&text[end..]);
    edited
}

/// The members of an object as they are written, also those that come twice.
struct Object<'a>(Vec<(String, &'a RawValue)>);

impl<'de> Deserialize<'de> for Object<'de> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_map(Members)
    }
}

struct Members;

impl<'de> Visitor<'de> for Members {
    type Value = Object<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Object<'de>, A::Error> {
        let mut members = Vec::new();
        while let Some(member) = map.next_entry()? {
            members.push(member);
        }
        Ok(Object(members))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(text: &str, members: &[(&str, Value)]) -> Option<String> {
        let members: Vec<_> = members.iter().map(|(key, value)| ((*key).to_owned(), value.clone())).collect();
        set_members(text, &members)
    }

    fn seq(text: &str) -> Option<String> {
        set(text, &[("seq", 7.into())])
    }

    #[test]
    fn a_new_member_comes_last() {
        assert_eq!(seq("{}").unwrap(), r#"{"seq":7}"#);
        assert_eq!(seq(" { \"b\" : 1 } ").unwrap(), " { \"b\" : 1 ,\"seq\":7} ");
    }

    #[test]
    fn a_member_that_exists_is_set_in_its_place() {
        assert_eq!(seq(r#"{"a":1,"seq": {"x":[1]},"b":2}"#).unwrap(), r#"{"a":1,"seq": 7,"b":2}"#);
        assert_eq!(seq(r#"{"seq":1,"seq":2}"#).unwrap(), r#"{"seq":7,"seq":7}"#);
        assert_eq!(seq(r#"{"s\u0065q":1}"#).unwrap(), r#"{"s\u0065q":7}"#);
    }

    #[test]
    fn all_other_bytes_stay_as_they_were() {
        let text = r#"{"z":1.0,"a":12345678901234567890123,"m":1e400,"u":"\u00e9é"}"#;
        let expected = r#"{"z":1.0,"a":12345678901234567890123,"m":1e400,"u":"\u00e9é","seq":7}"#;
        assert_eq!(seq(text).unwrap(), expected);
    }

    #[test]
    fn several_members_are_set_together() {
        let members = [("n", 1.into()), ("v", "x\"y".into())];
        assert_eq!(set("{}", &members).unwrap(), r#"{"n":1,"v":"x\"y"}"#);
        assert_eq!(set(r#"{"v":0}"#, &members).unwrap(), r#"{"v":"x\"y","n":1}"#);
    }

    #[test]
    fn only_one_whole_object_is_edited() {
        for text in ["", "7", "[{}]", "\"{}\"", "{", "{} {}", "{\"a\":}", "{a:1}", "null"] {
            assert_eq!(seq(text), None, "{text}");
        }
    }

    #[test]
    fn only_members_of_the_object_itself_count() {
        assert_eq!(seq(r#"{"a":{"seq":1}}"#).unwrap(), r#"{"a":{"seq":1},"seq":7}"#);
    }
}
