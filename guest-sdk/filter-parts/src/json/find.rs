//! From a JSON pointer to the value that it names.

use super::{Json, Kind, Value};
use crate::Pointer;

/// What a pointer names in a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Found<'a> {
    /// This value.
    Value(Value<'a>),
    /// Nothing.
    Absent,
    /// More than one thing: a member on the way comes twice. Programs read such a text in different ways, so that a
    /// decision about the one value would not hold for the other.
    Ambiguous,
}

impl<'a> Found<'a> {
    /// The value, where there is exactly one.
    pub fn value(self) -> Option<Value<'a>> {
        match self {
            Self::Value(value) => Some(value),
            Self::Absent | Self::Ambiguous => None,
        }
    }
}

/// When two names of members are the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Names {
    /// Where they have the same characters.
    Exact,
    /// Names that differ only in case make a text ambiguous, because there are programs that take either: those which
    /// use Go's `encoding/json`.
    AnyCase,
}

impl<'a> Json<'a> {
    /// Follows a pointer.
    pub fn find(self, pointer: &Pointer, names: Names) -> Found<'a> {
        find(self.root(), pointer.tokens(), names)
    }
}

pub(super) fn find<'a>(root: Value<'a>, tokens: &[String], names: Names) -> Found<'a> {
    let mut value = root;
    for token in tokens {
        match child(value, token, names) {
            Found::Value(child) => value = child,
            nothing @ (Found::Absent | Found::Ambiguous) => return nothing,
        }
    }
    Found::Value(value)
}

fn child<'a>(value: Value<'a>, token: &str, names: Names) -> Found<'a> {
    match value.kind() {
        Kind::Object => member(value, token, names).map_or_else(|nothing| nothing, |(_, value)| Found::Value(value)),
        Kind::Array => match index(token).and_then(|index| value.elements().nth(index)) {
            Some(element) => Found::Value(element),
            None => Found::Absent,
        },
        Kind::String | Kind::Number | Kind::Bool | Kind::Null => Found::Absent,
    }
}

/// The one member of this name, with its name as it is written; else that there is none, or several.
pub(super) fn member<'a>(object: Value<'a>, name: &str, names: Names) -> Result<(Value<'a>, Value<'a>), Found<'a>> {
    let mut found = Err(Found::Absent);
    for (written, value) in object.members() {
        let same = match written.as_str() {
            Some(written) if written == name => true,
            Some(written) if names == Names::AnyCase && fold(&written).eq(fold(name)) => return Err(Found::Ambiguous),
            Some(_) | None => false,
        };
        match (same, found) {
            (true, Ok(_)) => return Err(Found::Ambiguous),
            (true, Err(_)) => found = Ok((written, value)),
            (false, _) => {}
        }
    }
    found
}

/// The characters in one case, those two among them that are no ASCII but count as `s` and `k` for Go.
fn fold(text: &str) -> impl Iterator<Item = char> {
    text.chars().map(|character| match character {
        'ſ' => 's',
        '\u{212a}' => 'k',
        other => other.to_ascii_lowercase(),
    })
}

/// An index as RFC 6901 writes it: without a sign or leading zeros.
pub(super) fn index(token: &str) -> Option<usize> {
    let plain = token.bytes().all(|byte| byte.is_ascii_digit()) && (token == "0" || !token.starts_with('0'));
    if plain { token.parse().ok() } else { None }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn find_in<'a>(text: &'a str, pointer: &str, names: Names) -> Found<'a> {
        Json::check(text, 20).unwrap().find(&pointer.parse().unwrap(), names)
    }

    fn text_of<'a>(text: &'a str, pointer: &str) -> Option<&'a str> {
        find_in(text, pointer, Names::Exact).value().map(Value::text)
    }

    #[test]
    fn a_pointer_names_one_value() {
        let text = r#"{"a":{"b":[10,{"c/d":"x","~":1.0}]},"":2}"#;
        assert_eq!(text_of(text, "/a/b/0"), Some("10"));
        assert_eq!(text_of(text, "/a/b/1/c~1d"), Some("\"x\""));
        assert_eq!(text_of(text, "/a/b/1/~0"), Some("1.0"));
        assert_eq!(text_of(text, "/"), Some("2"));
        assert_eq!(text_of(text, ""), Some(text));
        for absent in ["/x", "/a/b/2", "/a/b/01", "/a/b/-", "/a/b/+1", "/a/b/0/x", "/a/b/99999999999999999999"] {
            assert_eq!(find_in(text, absent, Names::Exact), Found::Absent, "{absent}");
        }
    }

    #[test]
    fn escaped_names_are_the_same_names() {
        assert_eq!(text_of(r#"{"ty\u0070e":"x"}"#, "/type"), Some("\"x\""));
    }

    #[test]
    fn a_name_that_comes_twice_is_ambiguous() {
        for text in [r#"{"a":1,"a":1}"#, r#"{"a":1,"b":0,"\u0061":2}"#] {
            assert_eq!(find_in(text, "/a", Names::Exact), Found::Ambiguous, "{text}");
            assert_eq!(find_in(text, "/a/b", Names::Exact), Found::Ambiguous, "{text}");
        }
        assert_eq!(text_of(r#"{"b":1,"a":2,"b":1}"#, "/a"), Some("2"), "only names on the way matter");
    }

    #[test]
    fn names_in_another_case_are_ambiguous_where_asked_for() {
        for text in [r#"{"A":1}"#, r#"{"a":1,"A":2}"#, r#"{"A":1,"a":2}"#] {
            assert_eq!(find_in(text, "/a", Names::AnyCase), Found::Ambiguous, "{text}");
        }
        assert_eq!(find_in(r#"{"uſer":1}"#, "/user", Names::AnyCase), Found::Ambiguous);
        assert_eq!(find_in(r#"{"a":1,"A":2}"#, "/a", Names::Exact).value().unwrap().text(), "1");
        assert_eq!(find_in(r#"{"a":1,"b":2}"#, "/a", Names::AnyCase).value().unwrap().text(), "1");
    }

    fn any_json() -> impl Strategy<Value = serde_json::Value> {
        let leaf = prop_oneof![
            Just(serde_json::Value::Null),
            any::<bool>().prop_map(Into::into),
            any::<i64>().prop_map(Into::into),
            "[a-c\"\\\\/~é \n]{0,4}".prop_map(Into::into),
        ];
        leaf.prop_recursive(4, 24, 4, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Into::into),
                prop::collection::btree_map("[a-c~/]{0,2}", inner, 0..4)
                    .prop_map(|members| serde_json::Value::Object(members.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn another_implementation_finds_the_same(json in any_json(), path in prop::collection::vec("[a-c~/]{0,2}|[0-3]", 0..4), pretty: bool) {
            let text = if pretty { serde_json::to_string_pretty(&json).unwrap() } else { json.to_string() };
            let pointer: String = path.iter().map(|token| format!("/{}", token.replace('~', "~0").replace('/', "~1"))).collect();
            let ours = find_in(&text, &pointer, Names::Exact);
            let theirs = json.pointer(&pointer);
            let parsed = ours.value().map(|value| serde_json::from_str::<serde_json::Value>(value.text()).unwrap());
            prop_assert_eq!(parsed.as_ref(), theirs);
        }
    }
}
