//! Edits of a JSON text in place: every byte that an edit does not concern stays as it was.

use std::ops::Range;

use super::find::{find, index, member};
use super::{Found, Invalid, Json, Kind, Names, Value};
use crate::Pointer;

/// A JSON text that is edited.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Document {
    text: String,
}

/// What an edit did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Edit {
    /// It changed the text.
    Done,
    /// There is nothing that it could change, or no place for what it adds.
    Nothing,
    /// A member on the way comes twice, so that it is not clear which one is meant. Nothing was changed.
    Ambiguous,
}

impl From<Found<'_>> for Edit {
    fn from(found: Found<'_>) -> Self {
        match found {
            Found::Value(_) | Found::Absent => Self::Nothing,
            Found::Ambiguous => Self::Ambiguous,
        }
    }
}

impl Document {
    /// See [`Json::check`].
    ///
    /// # Errors
    ///
    /// As there.
    pub fn check(text: String, max_depth: u8) -> Result<Self, Invalid> {
        Json::check(&text, max_depth)?;
        Ok(Self { text })
    }

    /// `{}`.
    pub fn empty_object() -> Self {
        Self { text: "{}".to_owned() }
    }

    /// The text as it is now.
    pub fn json(&self) -> Json<'_> {
        Json(&self.text)
    }

    /// The text as it is now.
    pub fn into_text(self) -> String {
        self.text
    }

    /// Puts `new`, which must be JSON, where the pointer says: in the place of what is there, or behind the last member
    /// of an object that has no such member, or behind the last element where the index is `-` or that of the next one.
    /// Objects on the way that are missing are made.
    pub fn set(&mut self, pointer: &Pointer, new: &str) -> Edit {
        let mut value = self.json().root();
        for (at, token) in pointer.tokens().iter().enumerate() {
            match find(value, std::slice::from_ref(token), Names::Exact) {
                Found::Value(child) => value = child,
                Found::Ambiguous => return Edit::Ambiguous,
                Found::Absent => {
                    let missing = pointer.tokens().get(at + 1..).unwrap_or_default();
                    return match addition(value, token, &nested(missing, new)) {
                        Some(added) => {
                            let end = self.range_of(value).end - 1;
                            self.splice(end..end, &added)
                        }
                        None => Edit::Nothing,
                    };
                }
            }
        }
        let range = self.range_of(value);
        self.splice(range, new)
    }

    /// Takes the member or element away, and a comma with it.
    pub fn remove(&mut self, pointer: &Pointer) -> Edit {
        let Some((parents, last)) = pointer.split_last() else {
            return Edit::Nothing;
        };
        let parent = match find(self.json().root(), parents, Names::Exact) {
            Found::Value(parent) => parent,
            other => return other.into(),
        };
        let parts: Vec<Range<usize>> = match parent.kind() {
            Kind::Object => {
                parent.members().map(|(name, value)| self.range_of(name).start..self.range_of(value).end).collect()
            }
            Kind::Array => parent.elements().map(|element| self.range_of(element)).collect(),
            Kind::String | Kind::Number | Kind::Bool | Kind::Null => return Edit::Nothing,
        };
        let start = match parent.kind() {
            Kind::Object => match member(parent, last, Names::Exact) {
                Ok((name, _)) => self.range_of(name).start,
                Err(nothing) => return nothing.into(),
            },
            _ => match index(last).and_then(|index| parts.get(index)) {
                Some(element) => element.start,
                None => return Edit::Nothing,
            },
        };
        let Some(at) = parts.iter().position(|part| part.start == start) else {
            return Edit::Nothing;
        };
        let previous = at.checked_sub(1).and_then(|previous| parts.get(previous));
        let range = match (previous, parts.get(at), parts.get(at + 1)) {
            (Some(previous), Some(part), _) => previous.end..part.end,
            (None, Some(part), Some(next)) => part.start..next.start,
            (None, Some(part), None) => part.clone(),
            (_, None, _) => return Edit::Nothing,
        };
        self.splice(range, "")
    }

    /// Gives the member another name, in its place. A member that has this name already is removed.
    pub fn rename(&mut self, pointer: &Pointer, new_name: &str) -> Edit {
        let Some((parents, last)) = pointer.split_last() else {
            return Edit::Nothing;
        };
        if last == new_name {
            return Edit::Nothing;
        }
        let parent = match find(self.json().root(), parents, Names::Exact) {
            Found::Value(parent) => parent,
            other => return other.into(),
        };
        if let Err(nothing) = member(parent, last, Names::Exact) {
            return nothing.into();
        }
        if let Edit::Ambiguous = self.remove(&pointer.sibling(new_name)) {
            return Edit::Ambiguous;
        }
        // The text may be another one now.
        let Found::Value(parent) = find(self.json().root(), parents, Names::Exact) else {
            return Edit::Nothing;
        };
        match member(parent, last, Names::Exact) {
            Ok((name, _)) => {
                let range = self.range_of(name);
                self.splice(range, &quoted(new_name))
            }
            Err(nothing) => nothing.into(),
        }
    }

    /// Where a value of this text lies in it.
    fn range_of(&self, part: Value<'_>) -> Range<usize> {
        let start = part.text().as_ptr().addr().saturating_sub(self.text.as_ptr().addr());
        start..start + part.text().len()
    }

    fn splice(&mut self, range: Range<usize>, new: &str) -> Edit {
        // The range begins and ends beside ASCII characters of the grammar, so it is one of whole characters.
        self.text.replace_range(range, new);
        Edit::Done
    }
}

/// What makes `token` a part of the container: what is to stand before its closing bracket.
fn addition(container: Value<'_>, token: &str, new: &str) -> Option<String> {
    match container.kind() {
        Kind::Object => {
            let comma = if container.members().next().is_some() { "," } else { "" };
            Some(format!("{comma}{}:{new}", quoted(token)))
        }
        Kind::Array => {
            let count = container.elements().count();
            let comma = if count > 0 { "," } else { "" };
            (token == "-" || index(token) == Some(count)).then(|| format!("{comma}{new}"))
        }
        Kind::String | Kind::Number | Kind::Bool | Kind::Null => None,
    }
}

/// The value in as many objects as there are names.
fn nested(names: &[String], value: &str) -> String {
    let mut text = String::new();
    for name in names {
        text.push('{');
        text.push_str(&quoted(name));
        text.push(':');
    }
    text.push_str(value);
    text.extend(names.iter().map(|_| '}'));
    text
}

/// As a JSON string.
pub(crate) fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn pointer(text: &str) -> Pointer {
        text.parse().unwrap()
    }

    fn edited(text: &str, edit: impl FnOnce(&mut Document) -> Edit) -> String {
        let mut document = Document::check(text.to_owned(), 20).unwrap();
        let outcome = edit(&mut document);
        assert_eq!(outcome == Edit::Done, document.text != text, "{outcome:?} {}", document.text);
        assert!(Json::check(&document.text, 60).is_ok(), "{}", document.text);
        match outcome {
            Edit::Done => document.text,
            other => format!("{other:?}"),
        }
    }

    fn set(text: &str, at: &str, new: &str) -> String {
        edited(text, |document| document.set(&pointer(at), new))
    }

    fn remove(text: &str, at: &str) -> String {
        edited(text, |document| document.remove(&pointer(at)))
    }

    fn rename(text: &str, at: &str, new: &str) -> String {
        edited(text, |document| document.rename(&pointer(at), new))
    }

    #[test]
    fn a_value_is_set_in_its_place_or_behind_the_others() {
        assert_eq!(set(r#"{"b": 1.0 ,"a":{"x":[1]} }"#, "/b", "2"), r#"{"b": 2 ,"a":{"x":[1]} }"#);
        assert_eq!(set(r#"{"b":1 } "#, "/a\"", "2"), "{\"b\":1 ,\"a\\\"\":2} ");
        assert_eq!(set("{ }", "/a/b/c", "[]"), r#"{ "a":{"b":{"c":[]}}}"#);
        assert_eq!(set("[1]", "/-", "2"), "[1,2]");
        assert_eq!(set("[]", "/0/a", "2"), r#"[{"a":2}]"#);
        assert_eq!(set("[1,2]", "/1", "3"), "[1,3]");
        assert_eq!(set(" 7 ", "", "8"), " 8 ");
    }

    #[test]
    fn where_there_is_no_place_nothing_is_set() {
        assert_eq!(set("[1]", "/2", "0"), "Nothing");
        assert_eq!(set(r#"{"a":1}"#, "/a/b", "0"), "Nothing");
        assert_eq!(set(r#"{"a":1,"a":2}"#, "/a", "0"), "Ambiguous");
        assert_eq!(set(r#"{"a":{},"a":2}"#, "/a/b", "0"), "Ambiguous");
    }

    #[test]
    fn what_is_removed_takes_one_comma_along() {
        assert_eq!(remove(r#"{"a":1}"#, "/a"), "{}");
        assert_eq!(remove(r#"{ "a":1 , "b":2 ,"c":3}"#, "/a"), r#"{ "b":2 ,"c":3}"#);
        assert_eq!(remove(r#"{ "a":1 , "b":2 ,"c":3}"#, "/b"), r#"{ "a":1 ,"c":3}"#);
        assert_eq!(remove(r#"{ "a":1 , "b":2 ,"c":3 }"#, "/c"), r#"{ "a":1 , "b":2 }"#);
        assert_eq!(remove("[1, [2,3], 4]", "/1/0"), "[1, [3], 4]");
        assert_eq!(remove("[1]", "/0"), "[]");
        for nothing in ["/x", "/a/0", "", "/a/b"] {
            assert_eq!(remove(r#"{"a":{"c":1}}"#, nothing), "Nothing");
        }
        assert_eq!(remove(r#"{"a":1,"a":2}"#, "/a"), "Ambiguous");
    }

    #[test]
    fn a_member_is_renamed_in_its_place() {
        assert_eq!(rename(r#"{"a" : 1,"b":2}"#, "/a", "c"), r#"{"c" : 1,"b":2}"#);
        assert_eq!(rename(r#"{"a":1,"b":2,"c":3}"#, "/c", "a"), r#"{"b":2,"a":3}"#);
        assert_eq!(rename(r#"{"x":{"a":1}}"#, "/x/a", "\""), r#"{"x":{"\"":1}}"#);
        assert_eq!(rename("[1]", "/0", "a"), "Nothing");
        assert_eq!(rename(r#"{"a":1}"#, "/b", "c"), "Nothing");
        assert_eq!(rename(r#"{"a":1}"#, "/a", "a"), "Nothing");
        assert_eq!(rename(r#"{"a":1,"b":2,"b":3}"#, "/a", "b"), "Ambiguous");
    }

    #[test]
    fn numbers_order_and_space_of_the_rest_are_kept() {
        let text = "{\"z\":1.0,\n \"a\":12345678901234567890123,\"m\":1e400,\"u\":\"\\u00e9é\",\"y\":0}";
        let kept = "{\"z\":1.0,\n \"a\":12345678901234567890123,\"m\":1e400,\"u\":\"\\u00e9é\"}";
        assert_eq!(remove(text, "/y"), kept);
    }

    fn small() -> impl Strategy<Value = serde_json::Value> {
        let leaf = prop_oneof![any::<u8>().prop_map(serde_json::Value::from), "[a-c\"]{0,2}".prop_map(Into::into)];
        leaf.prop_recursive(3, 16, 3, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..3).prop_map(Into::into),
                prop::collection::btree_map("[a-c]", inner, 0..3)
                    .prop_map(|members| serde_json::Value::Object(members.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn edits_mean_what_they_mean_to_another_implementation(
            json in small(), path in prop::collection::vec("[a-c]|[0-2]", 1..3), pretty: bool,
        ) {
            let text = if pretty { serde_json::to_string_pretty(&json).unwrap() } else { json.to_string() };
            let at = format!("/{}", path.join("/"));
            let parse = |document: Document| serde_json::from_str::<serde_json::Value>(&document.text).unwrap();

            let mut document = Document::check(text.clone(), 20).unwrap();
            let outcome = document.set(&pointer(&at), "\"new\"");
            let result = parse(document);
            match outcome {
                Edit::Done => prop_assert_eq!(result.pointer(&at).unwrap(), "new"),
                _ => prop_assert_eq!(&result, &json),
            }

            let mut document = Document::check(text, 20).unwrap();
            let (parent, last) = at.rsplit_once('/').unwrap();
            let mut expected = json.clone();
            let was = match expected.pointer_mut(parent) {
                Some(serde_json::Value::Object(members)) => members.remove(last).is_some(),
                Some(serde_json::Value::Array(elements)) => {
                    let index = last.parse::<usize>().ok().filter(|index| *index < elements.len());
                    index.map(|index| elements.remove(index)).is_some()
                }
                _ => false,
            };
            let outcome = document.remove(&pointer(&at));
            prop_assert_eq!(outcome == Edit::Done, was);
            prop_assert_eq!(parse(document), expected);
        }
    }
}
