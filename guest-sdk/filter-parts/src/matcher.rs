//! Conditions on one value of a message.

use std::fmt;

use serde::Deserialize;
use serde::de::{self, Deserializer, MapAccess, SeqAccess, Visitor};

use crate::json::{Found, Kind, Value, same_number};

/// Most alternatives of one condition.
const MAX_ALTERNATIVES: usize = 1_000;

/// A condition on a value: in a configuration a text, in which `*` stands for any characters or none; a number; a
/// boolean; `{ exact = … }`, `{ prefix = … }`, `{ suffix = … }`, `{ present = … }`; or a list of these, of which one has
/// to hold.
#[derive(Clone, Debug, PartialEq)]
pub enum Matcher {
    /// This very text.
    Exact(String),
    /// A text that begins like this.
    Prefix(String),
    /// A text that ends like this.
    Suffix(String),
    /// A text with these parts in this order, the first at its begin, the last at its end.
    Glob(Vec<String>),
    /// This number, however it is written.
    Number(String),
    /// This boolean.
    Bool(bool),
    /// Whether there is a value at all; null is one.
    Present(bool),
    /// One of these.
    Any(Vec<Matcher>),
}

impl Matcher {
    /// From a text in which `*` stands for any characters or none.
    pub fn pattern(text: &str) -> Self {
        match text.contains('*') {
            false => Self::Exact(text.to_owned()),
            true => Self::Glob(text.split('*').map(str::to_owned).collect()),
        }
    }

    /// Whether it holds for a text. What asks for a number or a boolean does not.
    pub fn takes_text(&self, text: &str) -> bool {
        match self {
            Self::Exact(exact) => exact == text,
            Self::Prefix(prefix) => text.starts_with(prefix),
            Self::Suffix(suffix) => text.ends_with(suffix),
            Self::Glob(parts) => glob(parts, text),
            Self::Present(present) => *present,
            Self::Number(_) | Self::Bool(_) => false,
            Self::Any(alternatives) => alternatives.iter().any(|matcher| matcher.takes_text(text)),
        }
    }

    /// Whether it holds where there is nothing.
    pub fn takes_absence(&self) -> bool {
        match self {
            Self::Present(present) => !present,
            Self::Any(alternatives) => alternatives.iter().any(Self::takes_absence),
            Self::Exact(_) | Self::Prefix(_) | Self::Suffix(_) | Self::Glob(_) | Self::Number(_) | Self::Bool(_) => {
                false
            }
        }
    }

    /// Whether it holds for what a pointer found. Nothing holds for what is ambiguous.
    pub fn takes(&self, found: Found<'_>) -> bool {
        match (self, found) {
            (_, Found::Ambiguous) => false,
            (matcher, Found::Absent) => matcher.takes_absence(),
            (Self::Any(alternatives), found) => alternatives.iter().any(|matcher| matcher.takes(found)),
            (Self::Present(present), Found::Value(_)) => *present,
            (_, Found::Value(value)) => self.takes_value(value),
        }
    }

    fn takes_value(&self, value: Value<'_>) -> bool {
        match (self, value.kind()) {
            (Self::Number(number), Kind::Number) => same_number(number, value.text()),
            (Self::Bool(expected), Kind::Bool) => value.text() == if *expected { "true" } else { "false" },
            (_, Kind::String) => value.as_str().is_some_and(|text| self.takes_text(&text)),
            (_, Kind::Object | Kind::Array | Kind::Number | Kind::Bool | Kind::Null) => false,
        }
    }
}

/// Linear in the text: each part is searched for once, from where the one before it ended.
fn glob(parts: &[String], text: &str) -> bool {
    let [first, middle @ .., last] = parts else {
        return false;
    };
    let Some(mut rest) = text.strip_prefix(first.as_str()).and_then(|rest| rest.strip_suffix(last.as_str())) else {
        return false;
    };
    for part in middle {
        match rest.find(part.as_str()) {
            Some(at) => rest = rest.get(at + part.len()..).unwrap_or_default(),
            None => return false,
        }
    }
    true
}

impl<'de> Deserialize<'de> for Matcher {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_any(MatcherVisitor { in_list: false })
    }
}

/// One of a list, which is no list itself.
struct Alternative(Matcher);

impl<'de> Deserialize<'de> for Alternative {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_any(MatcherVisitor { in_list: true }).map(Self)
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
enum Key {
    Exact,
    Prefix,
    Suffix,
    Present,
}

struct MatcherVisitor {
    in_list: bool,
}

impl<'de> Visitor<'de> for MatcherVisitor {
    type Value = Matcher;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a text, a number, a boolean, a table with one of `exact`, `prefix`, `suffix` and `present`")?;
        if self.in_list { Ok(()) } else { f.write_str(", or a list of these") }
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Matcher, E> {
        Ok(Matcher::pattern(text))
    }

    fn visit_bool<E: de::Error>(self, value: bool) -> Result<Matcher, E> {
        Ok(Matcher::Bool(value))
    }

    fn visit_i64<E: de::Error>(self, value: i64) -> Result<Matcher, E> {
        Ok(Matcher::Number(value.to_string()))
    }

    fn visit_u64<E: de::Error>(self, value: u64) -> Result<Matcher, E> {
        Ok(Matcher::Number(value.to_string()))
    }

    fn visit_f64<E: de::Error>(self, value: f64) -> Result<Matcher, E> {
        Ok(Matcher::Number(serde_json::Value::from(value).to_string()))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Matcher, A::Error> {
        let Some(key) = map.next_key()? else {
            return Err(de::Error::invalid_length(0, &self));
        };
        let matcher = match key {
            Key::Exact => Matcher::Exact(map.next_value()?),
            Key::Prefix => Matcher::Prefix(map.next_value()?),
            Key::Suffix => Matcher::Suffix(map.next_value()?),
            Key::Present => Matcher::Present(map.next_value()?),
        };
        match map.next_key::<Key>()? {
            Some(_) => Err(de::Error::custom("one of `exact`, `prefix`, `suffix` and `present`, not two")),
            None => Ok(matcher),
        }
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut sequence: A) -> Result<Matcher, A::Error> {
        if self.in_list {
            return Err(de::Error::invalid_type(de::Unexpected::Seq, &self));
        }
        let mut alternatives = Vec::new();
        while let Some(Alternative(alternative)) = sequence.next_element()? {
            if alternatives.len() == MAX_ALTERNATIVES {
                return Err(de::Error::custom(format_args!("at most {MAX_ALTERNATIVES} alternatives")));
            }
            alternatives.push(alternative);
        }
        match alternatives.is_empty() {
            true => Err(de::Error::custom("at least one alternative is needed: an empty list never matches")),
            false => Ok(Matcher::Any(alternatives)),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::json::{Json, Names};

    fn matcher(json: &str) -> Matcher {
        serde_json::from_str(json).unwrap()
    }

    fn takes(condition: &str, value: &str) -> bool {
        let text = format!("{{\"v\":{value}}}");
        let found = Json::check(&text, 5).unwrap().find(&"/v".parse().unwrap(), Names::Exact);
        matcher(condition).takes(found)
    }

    #[test]
    fn a_star_stands_for_any_characters() {
        for (pattern, text) in [
            ("chat.*", "chat."),
            ("chat.*", "chat.a.b"),
            ("*", ""),
            ("*.end", ".end"),
            ("a*b*c", "a--b--c"),
            ("a*a", "aa"),
        ] {
            assert!(Matcher::pattern(pattern).takes_text(text), "{pattern} {text}");
        }
        for (pattern, text) in
            [("chat.*", "chat"), ("a*a", "a"), ("a*b*c", "acb"), ("a", "ab"), ("", "a"), ("*b*b", "b")]
        {
            assert!(!Matcher::pattern(pattern).takes_text(text), "{pattern} {text}");
        }
    }

    #[test]
    fn values_match_by_kind() {
        assert!(takes("\"a\"", "\"\\u0061\"") && !takes("\"1\"", "1") && !takes("\"a\"", "[\"a\"]"));
        assert!(
            takes("1", "1") && takes("1", "1.0") && takes("1", "10e-1") && !takes("1", "\"1\"") && !takes("1", "2")
        );
        assert!(takes("9007199254740993", "9007199254740993") && !takes("9007199254740993", "9007199254740992"));
        assert!(takes("true", "true") && !takes("true", "false") && !takes("true", "\"true\""));
        assert!(takes("[\"b\", 2]", "2") && takes("[\"a*\", 2]", "\"ab\"") && !takes("[\"b\", 2]", "3"));
        assert!(takes("{\"exact\":\"a*\"}", "\"a*\"") && !takes("{\"exact\":\"a*\"}", "\"ab\""));
        assert!(takes("{\"prefix\":\"a\"}", "\"ab\"") && takes("{\"suffix\":\"b\"}", "\"ab\""));
    }

    #[test]
    fn presence_can_be_asked_for() {
        assert!(takes("{\"present\":true}", "null") && !takes("{\"present\":false}", "null"));
        assert!(
            matcher("{\"present\":false}").takes(Found::Absent) && !matcher("{\"present\":true}").takes(Found::Absent)
        );
        assert!(
            !matcher("{\"present\":true}").takes(Found::Ambiguous)
                && !matcher("{\"present\":false}").takes(Found::Ambiguous)
        );
        assert!(!matcher("\"*\"").takes(Found::Absent));
    }

    #[test]
    fn mistakes_say_what_would_be_right() {
        let refused = |json: &str| serde_json::from_str::<Matcher>(json).unwrap_err().to_string();
        assert!(refused("null").contains("expected a text, a number, a boolean, a table with one of `exact`"));
        assert!(refused("{\"exakt\":\"a\"}").contains("unknown variant `exakt`"));
        assert!(refused("{}").contains("expected a text"));
        assert!(refused("{\"exact\":\"a\",\"prefix\":\"b\"}").contains("not two"));
        assert!(refused("[]").contains("at least one alternative"));
        assert!(refused("[[\"a\"]]").contains("invalid type: sequence, expected a text"));
    }

    /// By the definition, at any cost.
    fn slow(pattern: &[char], text: &[char]) -> bool {
        match (pattern, text) {
            ([], []) => true,
            (['*', rest @ ..], text) => (0..=text.len()).any(|skipped| slow(rest, &text[skipped..])),
            ([one, rest @ ..], [other, others @ ..]) => one == other && slow(rest, others),
            _ => false,
        }
    }

    proptest! {
        #[test]
        fn stars_match_as_defined(pattern in "[ab*]{0,6}", text in "[ab]{0,8}") {
            let characters = |text: &str| text.chars().collect::<Vec<_>>();
            let expected = slow(&characters(&pattern), &characters(&text));
            prop_assert_eq!(Matcher::pattern(&pattern).takes_text(&text), expected, "{} {}", pattern, text);
        }
    }
}
