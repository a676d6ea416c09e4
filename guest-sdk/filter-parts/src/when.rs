//! Conditions on a message: pointers, and what they have to find.

use std::fmt;

use serde::Deserialize;
use serde::de::{self, Deserializer, MapAccess, Visitor};

use crate::json::{Found, Json, Kind, Names};
use crate::{Matcher, Pointer};

/// Most conditions of one rule.
const MAX_CONDITIONS: usize = 16;

/// Conditions that have to hold together: `{ "/type" = "chat.*", "/version" = 2 }`. None at all always hold.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct When(Vec<(Pointer, Matcher)>);

/// Whether conditions hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verified {
    /// They do.
    Yes,
    /// They do not.
    No,
    /// A value that decides is there twice.
    Ambiguous,
}

impl When {
    /// Whether they hold for this text.
    pub fn verify(&self, json: Json<'_>, names: Names) -> Verified {
        self.verify_by(json, names, Matcher::takes)
    }

    /// The same, but where a value is an array, one element that is taken is enough.
    pub fn verify_in_lists(&self, json: Json<'_>, names: Names) -> Verified {
        self.verify_by(json, names, |matcher, found| match found {
            Found::Value(list) if list.kind() == Kind::Array => {
                matcher.takes(found) || list.elements().any(|element| matcher.takes(Found::Value(element)))
            }
            found => matcher.takes(found),
        })
    }

    fn verify_by(&self, json: Json<'_>, names: Names, takes: impl Fn(&Matcher, Found<'_>) -> bool) -> Verified {
        for (pointer, matcher) in &self.0 {
            match json.find(pointer, names) {
                Found::Ambiguous => return Verified::Ambiguous,
                found if takes(matcher, found) => {}
                Found::Value(_) | Found::Absent => return Verified::No,
            }
        }
        Verified::Yes
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl<'de> Deserialize<'de> for When {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_map(WhenVisitor)
    }
}

struct WhenVisitor;

impl<'de> Visitor<'de> for WhenVisitor {
    type Value = When;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a table of JSON pointers and conditions, such as { \"/type\" = \"chat.*\" }")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<When, A::Error> {
        let mut conditions = Vec::new();
        while let Some(condition) = map.next_entry()? {
            if conditions.len() == MAX_CONDITIONS {
                return Err(de::Error::custom(format_args!("at most {MAX_CONDITIONS} conditions")));
            }
            conditions.push(condition);
        }
        Ok(When(conditions))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verify(when: &str, text: &str) -> Verified {
        let when: When = serde_json::from_str(when).unwrap();
        when.verify(Json::check(text, 9).unwrap(), Names::Exact)
    }

    #[test]
    fn all_conditions_have_to_hold() {
        let when = r#"{ "/type": "chat.*", "/version": 2 }"#;
        assert_eq!(verify(when, r#"{"type":"chat.send","version":2}"#), Verified::Yes);
        assert_eq!(verify(when, r#"{"type":"chat.send","version":3}"#), Verified::No);
        assert_eq!(verify(when, r#"{"type":"chat.send"}"#), Verified::No);
        assert_eq!(verify("{}", "1"), Verified::Yes);
    }

    #[test]
    fn one_element_of_a_list_is_enough_where_asked_for() {
        let when: When = serde_json::from_str(r#"{ "/roles": ["admin", 7] }"#).unwrap();
        let verify = |text: &str| when.verify_in_lists(Json::check(text, 9).unwrap(), Names::Exact);
        assert_eq!(verify(r#"{"roles":["x","admin"]}"#), Verified::Yes);
        assert_eq!(verify(r#"{"roles":"admin"}"#), Verified::Yes);
        assert_eq!(verify(r#"{"roles":[["admin"],"x"]}"#), Verified::No);
        assert_eq!(verify("{}"), Verified::No);
    }

    #[test]
    fn what_is_there_twice_is_ambiguous() {
        assert_eq!(verify(r#"{ "/type": "a" }"#, r#"{"type":"a","type":"b"}"#), Verified::Ambiguous);
    }

    #[test]
    fn a_key_that_is_no_pointer_is_refused() {
        let error = serde_json::from_str::<When>(r#"{ "type": "a" }"#).unwrap_err().to_string();
        assert!(error.starts_with("`type` is no JSON pointer"), "{error}");
    }
}
