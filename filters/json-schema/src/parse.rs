//! From a client's text to a value: within limits, and only where every parser reads the same.

use std::fmt::{self, Display};

use serde::de::{self, DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

/// Why a message is not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NotTaken {
    Binary,
    NotJson,
    TooLarge {
        max_bytes: usize,
    },
    TooDeep {
        max_depth: u8,
    },
    /// A member comes twice: which one counts depends on who reads.
    Duplicate,
}

impl NotTaken {
    pub(crate) fn label(self) -> &'static str {
        match self {
            Self::Binary => "binary",
            Self::NotJson => "not_json",
            Self::TooLarge { .. } => "too_large",
            Self::TooDeep { .. } => "too_deep",
            Self::Duplicate => "duplicate_member",
        }
    }
}

impl Display for NotTaken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Binary => f.write_str("a text message with JSON is expected"),
            Self::NotJson => f.write_str("this is no JSON"),
            Self::TooLarge { max_bytes } => write!(f, "more than {max_bytes} bytes"),
            Self::TooDeep { max_depth } => write!(f, "nested more than {max_depth} deep"),
            Self::Duplicate => f.write_str("a member comes twice"),
        }
    }
}

/// Reads the text. Nothing is built from one that is too large; one that is too deep, or has a member twice, is given up
/// where that shows.
pub(crate) fn parse(text: &str, max_bytes: usize, max_depth: u8) -> Result<Value, NotTaken> {
    if text.len() > max_bytes {
        return Err(NotTaken::TooLarge { max_bytes });
    }
    let mut trouble = None;
    let mut reader = serde_json::Deserializer::from_str(text);
    let value = Bounded { depth: max_depth, trouble: &mut trouble }.deserialize(&mut reader);
    match value.and_then(|value| reader.end().map(|()| value)) {
        Ok(value) => Ok(value),
        Err(_) => Err(match trouble {
            Some(Trouble::Depth) => NotTaken::TooDeep { max_depth },
            Some(Trouble::Duplicate) => NotTaken::Duplicate,
            None => NotTaken::NotJson,
        }),
    }
}

enum Trouble {
    Depth,
    Duplicate,
}

/// A value whose arrays and objects are at most `depth` deep.
struct Bounded<'t> {
    depth: u8,
    trouble: &'t mut Option<Trouble>,
}

impl Bounded<'_> {
    /// What is one level further in.
    fn inner<E: de::Error>(&mut self) -> Result<Bounded<'_>, E> {
        match self.depth.checked_sub(1) {
            Some(depth) => Ok(Bounded { depth, trouble: self.trouble }),
            None => {
                *self.trouble = Some(Trouble::Depth);
                Err(E::custom("too deep"))
            }
        }
    }
}

impl<'de> DeserializeSeed<'de> for Bounded<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<Value, D::Error> {
        from.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Bounded<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(Number::from_f64(value).map_or(Value::Null, Value::Number))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_string<E>(self, value: String) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_seq<A: SeqAccess<'de>>(mut self, mut sequence: A) -> Result<Value, A::Error> {
        let mut elements = Vec::new();
        loop {
            let inner = self.inner()?;
            match sequence.next_element_seed(inner)? {
                Some(element) => elements.push(element),
                None => return Ok(Value::Array(elements)),
            }
        }
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut map: A) -> Result<Value, A::Error> {
        let mut members = Map::new();
        // An empty object is a level, too.
        self.inner::<A::Error>()?;
        while let Some(name) = map.next_key::<String>()? {
            let value = map.next_value_seed(self.inner()?)?;
            if members.insert(name, value).is_some() {
                *self.trouble = Some(Trouble::Duplicate);
                return Err(de::Error::custom("a member comes twice"));
            }
        }
        Ok(Value::Object(members))
    }
}

#[cfg(test)]
mod tests {
    use filter_parts::json::Json;
    use proptest::prelude::*;

    use super::*;

    fn taken(text: &str) -> Result<Value, NotTaken> {
        parse(text, 1_000, 3)
    }

    #[test]
    fn what_every_parser_reads_alike_is_taken() {
        let text = r#"{"a":[1,-2,1.5,"x\u00e9",true,null],"b":{"c":{}}}"#;
        assert_eq!(taken(text).unwrap(), serde_json::from_str::<Value>(text).unwrap());
    }

    #[test]
    fn what_is_not_taken_has_a_cause() {
        assert_eq!(taken("{\"a\":1,\"a\":1}"), Err(NotTaken::Duplicate));
        assert_eq!(taken("{\"a\":1,\"\\u0061\":1}"), Err(NotTaken::Duplicate));
        assert_eq!(taken("{} x"), Err(NotTaken::NotJson));
        assert_eq!(taken("[[[[]]]]"), Err(NotTaken::TooDeep { max_depth: 3 }));
        assert_eq!(taken(&format!("\"{}\"", "x".repeat(999))), Err(NotTaken::TooLarge { max_bytes: 1_000 }));
        assert_eq!(taken("1e400"), Err(NotTaken::NotJson));
    }

    #[test]
    fn nesting_is_given_up_before_it_costs_stack() {
        let deep = "[{\"a\":".repeat(1 << 16);
        assert_eq!(parse(&deep, usize::MAX, 120), Err(NotTaken::TooDeep { max_depth: 120 }));
        let most = "[".repeat(120) + &"]".repeat(120);
        assert!(parse(&most, usize::MAX, 120).is_ok());
    }

    proptest! {
        #[test]
        fn depth_means_the_same_as_to_the_other_reader(depth in 1_u8..8, opened in prop::collection::vec(any::<bool>(), 0..9)) {
            let open: String = opened.iter().map(|object| if *object { "{\"a\":" } else { "[" }).collect();
            let close: String = opened.iter().rev().map(|object| if *object { "}" } else { "]" }).collect();
            let text = format!("{open}1{close}");
            prop_assert_eq!(parse(&text, 1_000, depth).is_ok(), Json::check(&text, depth).is_ok());
        }
    }
}
