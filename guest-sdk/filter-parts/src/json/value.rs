//! One value of a checked text, and what is in it.

use std::borrow::Cow;

/// A value, as it is written in a text that was checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Value<'a>(&'a str);

/// What a value is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the kinds of RFC 8259")]
pub enum Kind {
    Object,
    Array,
    String,
    Number,
    Bool,
    Null,
}

/// White space, as JSON has it.
const SPACE: [char; 4] = [' ', '\n', '\r', '\t'];

impl<'a> Value<'a> {
    /// The value that is all of `text`, which was checked.
    pub(super) fn new(text: &'a str) -> Self {
        Self(text.trim_matches(SPACE))
    }

    /// How it is written, without white space around it.
    pub fn text(self) -> &'a str {
        self.0
    }

    /// What it is.
    pub fn kind(self) -> Kind {
        match self.0.bytes().next() {
            Some(b'{') => Kind::Object,
            Some(b'[') => Kind::Array,
            Some(b'"') => Kind::String,
            Some(b't' | b'f') => Kind::Bool,
            Some(b'n') | None => Kind::Null,
            Some(_) => Kind::Number,
        }
    }

    /// The string that it is, its escapes resolved. None where it is something else, and where it has half of a
    /// surrogate pair, which is no text.
    pub fn as_str(self) -> Option<Cow<'a, str>> {
        let inside = self.0.strip_prefix('"')?.strip_suffix('"')?;
        match inside.contains('\\') {
            false => Some(Cow::Borrowed(inside)),
            true => serde_json::from_str(self.0).ok().map(Cow::Owned),
        }
    }

    /// Whether both are the same string, number, boolean or null, however they are written. Of arrays and objects it is
    /// not said.
    pub fn is_same_scalar(self, other: Self) -> bool {
        match (self.kind(), other.kind()) {
            (Kind::String, Kind::String) => self.as_str().is_some_and(|text| other.as_str() == Some(text)),
            (Kind::Number, Kind::Number) => same_number(self.0, other.0),
            (Kind::Bool, Kind::Bool) | (Kind::Null, Kind::Null) => self.0 == other.0,
            _ => false,
        }
    }

    /// The members of the object that it is, as they are written, also those whose name comes twice. Of anything else none.
    pub fn members(self) -> Members<'a> {
        Members { text: if self.kind() == Kind::Object { self.0 } else { "" }, at: 1 }
    }

    /// The elements of the array that it is. Of anything else none.
    pub fn elements(self) -> Elements<'a> {
        Elements { text: if self.kind() == Kind::Array { self.0 } else { "" }, at: 1 }
    }
}

/// Whether two numbers are the same: as integers where both are, else as the nearest doubles.
pub(crate) fn same_number(one: &str, other: &str) -> bool {
    match (one.parse::<i128>(), other.parse::<i128>()) {
        (Ok(one), Ok(other)) => one == other,
        _ => one.parse::<f64>().is_ok_and(|one| one.is_finite() && other.parse() == Ok(one)),
    }
}

/// See [`Value::members`].
#[derive(Clone, Debug)]
pub struct Members<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Iterator for Members<'a> {
    /// Its name, a string, and its value.
    type Item = (Value<'a>, Value<'a>);

    fn next(&mut self) -> Option<Self::Item> {
        let name = next(self.text, &mut self.at)?;
        let value = next(self.text, &mut self.at)?;
        Some((name, value))
    }
}

/// See [`Value::elements`].
#[derive(Clone, Debug)]
pub struct Elements<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Iterator for Elements<'a> {
    type Item = Value<'a>;

    fn next(&mut self) -> Option<Value<'a>> {
        next(self.text, &mut self.at)
    }
}

/// The next value in a container, and `at` moved behind it. None at the end of the container.
fn next<'a>(text: &'a str, at: &mut usize) -> Option<Value<'a>> {
    let bytes = text.as_bytes();
    while let Some(b' ' | b'\n' | b'\r' | b'\t' | b',' | b':') = bytes.get(*at) {
        *at += 1;
    }
    let begin = *at;
    match bytes.get(begin)? {
        b'}' | b']' => return None,
        _ => *at = end_of_value(bytes, begin),
    }
    text.get(begin..*at).map(Value)
}

/// Where the value that begins here ends. The text was checked, so only strings and brackets matter.
fn end_of_value(bytes: &[u8], begin: usize) -> usize {
    let mut at = begin;
    let mut depth = 0_usize;
    while let Some(&byte) = bytes.get(at) {
        match byte {
            b'"' => {
                at = end_of_string(bytes, at);
                if depth == 0 {
                    return at;
                }
                continue;
            }
            b'{' | b'[' => depth += 1,
            b'}' | b']' if depth <= 1 => return if depth == 1 { at + 1 } else { at },
            b'}' | b']' => depth -= 1,
            b',' | b' ' | b'\n' | b'\r' | b'\t' if depth == 0 => return at,
            _ => {}
        }
        at += 1;
    }
    at
}

fn end_of_string(bytes: &[u8], begin: usize) -> usize {
    let mut at = begin + 1;
    loop {
        let rest = bytes.get(at..).unwrap_or_default();
        let Some(plain) = rest.iter().position(|&byte| byte == b'"' || byte == b'\\') else {
            return bytes.len();
        };
        at += plain;
        if bytes.get(at) == Some(&b'"') {
            return at + 1;
        }
        at += 2;
    }
}

#[cfg(test)]
mod tests {
    use super::super::Json;
    use super::*;

    fn root(text: &str) -> Value<'_> {
        Json::check(text, 10).unwrap().root()
    }

    #[test]
    fn members_come_as_they_are_written() {
        let text = "{ \"b\\u0031\" : [1, {\"x\":\"}\\\"\"}] ,\"a\":{} , \"a\":-1.50e2,\"c\":null}";
        let members: Vec<_> =
            root(text).members().map(|(name, value)| (name.as_str().unwrap(), value.text())).collect();
        let expected = [("b1", "[1, {\"x\":\"}\\\"\"}]"), ("a", "{}"), ("a", "-1.50e2"), ("c", "null")];
        assert_eq!(members.iter().map(|(name, value)| (name.as_ref(), *value)).collect::<Vec<_>>(), expected);
    }

    #[test]
    fn elements_come_as_they_are_written() {
        let elements: Vec<_> = root(" [ 1 ,\"a,]\", [ [] ],true ] ").elements().map(Value::text).collect();
        assert_eq!(elements, ["1", "\"a,]\"", "[ [] ]", "true"]);
        assert_eq!(root("[]").elements().count() + root("{ }").members().count(), 0);
        assert_eq!(root("{\"a\":1}").elements().count() + root("[\"a\",1]").members().count(), 0);
        assert_eq!(root("\"a\"").members().count() + root("7").elements().count(), 0);
    }

    #[test]
    fn strings_are_resolved() {
        assert_eq!(root(r#""a\u00e9\n""#).as_str().unwrap(), "aé\n");
        assert_eq!(root(r#""\ud83d\ude00""#).as_str().unwrap(), "😀");
        assert_eq!(root(r#""\ud83d""#).as_str(), None, "half of a pair");
        assert_eq!(root("1").as_str(), None);
    }

    #[test]
    fn scalars_are_compared_by_what_they_mean() {
        let same = |one, other| root(one).is_same_scalar(root(other));
        assert!(same("\"a\"", "\"\\u0061\"") && same("1", "1.0") && same("true", "true") && same("null", "null"));
        assert!(
            !same("\"1\"", "1")
                && !same("1", "2")
                && !same("true", "false")
                && !same("[]", "[]")
                && !same("1e400", "1e401")
        );
        assert!(!same("\"\\ud800\"", "\"\\ud800\""), "half of a pair is no text");
        assert!(!same("9007199254740993", "9007199254740992"));
    }

    #[test]
    fn each_kind_is_known_by_its_first_byte() {
        let texts = ["{}", "[]", "\"\"", "-0", "false", "null"];
        let kinds = [Kind::Object, Kind::Array, Kind::String, Kind::Number, Kind::Bool, Kind::Null];
        assert_eq!(texts.map(|text| root(text).kind()), kinds);
    }
}
