//! What our own filters take for JSON is what others take for it, and their edits in place mean what they say.
//!
//! An input is a pointer, a new value or name, and a text: two lines and the rest.

use std::collections::BTreeSet;

use filter_parts::{
    Pointer,
    json::{Document, Edit, Found, Json, Kind, Names, Value},
};
use serde::de::IgnoredAny;

/// serde_json takes 127.
const DEPTH: u8 = 100;

/// See the module.
pub fn run(input: &[u8]) -> bool {
    let Ok(input) = std::str::from_utf8(input) else { return false };
    let mut lines = input.splitn(3, '\n');
    let (Some(pointer), Some(new), Some(text)) = (lines.next(), lines.next(), lines.next()) else { return false };

    let checked = Json::check(text, 128);
    let others = serde_json::from_str::<IgnoredAny>(text);
    if let (Ok(_), Err(error)) = (&checked, &others) {
        assert!(error.to_string().contains("recursion"), "{error}: {text:?}");
    }
    if others.is_ok() {
        assert!(checked.is_ok(), "{checked:?}: {text:?}");
    }
    let Ok(pointer) = pointer.parse::<Pointer>() else { return false };
    let Ok(json) = Json::check(text, DEPTH) else { return false };

    let model = model(json);
    if let Some(model) = &model {
        let found = json.find(&pointer, Names::Exact).value();
        let found = found.map(|value| serde_json::from_str::<serde_json::Value>(value.text()).expect("a part is JSON"));
        let places = pointer.tokens().iter().all(|token| token != "+" && !token.starts_with('+'));
        assert!(!places || found.as_ref() == model.pointer(pointer.as_str()), "{found:?} at {pointer:?}");
    }
    if Json::check(new, 20).is_ok() {
        set(text, &pointer, new, model.as_ref());
    }
    remove(text, &pointer, model.as_ref());
    rename(text, &pointer, new, model.as_ref());
    true
}

/// As another implementation has it, where that can say the same: no member twice, no number beyond a double.
fn model(json: Json<'_>) -> Option<serde_json::Value> {
    distinct(json.root()).then(|| serde_json::from_str(json.text()).ok())?
}

fn distinct(value: Value<'_>) -> bool {
    let mut names = BTreeSet::new();
    let members = value
        .members()
        .all(|(name, value)| name.as_str().is_some_and(|name| names.insert(name.into_owned())) && distinct(value));
    members && value.elements().all(distinct)
}

fn document(text: &str) -> Document {
    Document::check(text.to_owned(), DEPTH).expect("it was checked before")
}

/// The text after an edit, still JSON; unchanged where nothing was done.
fn edited(text: &str, document: Document, edit: Edit) -> String {
    let after = document.into_text();
    assert!(serde_json::from_str::<IgnoredAny>(&after).is_ok(), "{edit:?} made {after:?} of {text:?}");
    assert!(edit == Edit::Done || after == text, "{edit:?} made {after:?} of {text:?}");
    after
}

fn set(text: &str, pointer: &Pointer, new: &str, model: Option<&serde_json::Value>) {
    let mut document = document(text);
    let edit = document.set(pointer, new);
    let after = edited(text, document, edit);
    let (Some(_), Edit::Done) = (model, edit) else { return };
    if pointer.tokens().iter().any(|token| token == "-") {
        return;
    }
    let found = Json::check(&after, 128).expect("JSON").find(pointer, Names::Exact);
    assert_eq!(found.value().map(Value::text), Some(new.trim_matches([' ', '\t', '\r'])), "{after:?}");
}

fn remove(text: &str, pointer: &Pointer, model: Option<&serde_json::Value>) {
    let mut document = document(text);
    let edit = document.remove(pointer);
    let after = edited(text, document, edit);
    let (Some(model), Some((parents, last))) = (model, pointer.split_last()) else { return };
    let mut expected = model.clone();
    let done = match parent_of(&mut expected, parents) {
        Some(serde_json::Value::Object(members)) => members.remove(last).is_some(),
        Some(serde_json::Value::Array(elements)) => match index(last).filter(|index| *index < elements.len()) {
            Some(index) => {
                elements.remove(index);
                true
            }
            None => false,
        },
        _ => false,
    };
    assert_eq!(edit == Edit::Done, done, "{after:?}");
    assert_eq!(serde_json::from_str::<serde_json::Value>(&after).ok(), Some(expected));
}

fn rename(text: &str, pointer: &Pointer, name: &str, model: Option<&serde_json::Value>) {
    let mut document = document(text);
    let edit = document.rename(pointer, name);
    let after = edited(text, document, edit);
    let (Some(model), Some((parents, last))) = (model, pointer.split_last()) else { return };
    let mut expected = model.clone();
    if let Some(serde_json::Value::Object(members)) = parent_of(&mut expected, parents)
        && let Some(value) = members.remove(last)
    {
        members.insert(name.to_owned(), value);
    }
    assert_eq!(serde_json::from_str::<serde_json::Value>(&after).ok(), Some(expected));
}

fn parent_of<'a>(root: &'a mut serde_json::Value, tokens: &[String]) -> Option<&'a mut serde_json::Value> {
    tokens.iter().try_fold(root, |value, token| match value {
        serde_json::Value::Object(members) => members.get_mut(token),
        serde_json::Value::Array(elements) => elements.get_mut(index(token)?),
        _ => None,
    })
}

/// RFC 6901 section 4: digits, without a zero in front.
fn index(token: &str) -> Option<usize> {
    let plain = token == "0" || !token.starts_with('0') && token.bytes().all(|byte| byte.is_ascii_digit());
    plain.then(|| token.parse().ok())?
}

/// See [`crate::NAMED`].
pub fn seeds() -> Vec<Vec<u8>> {
    let seeds = [
        "/b\n2\n{\"b\": 1.0 ,\"a\":{\"x\":[1]} }",
        "/a/b/c\n[]\n{ }",
        "/-\n2\n[1]",
        "/0/a\n\"new\"\n[]",
        "/1/0\nx\n[1, [2,3], 4]",
        "/c\na\n{\"a\":1,\"b\":2,\"c\":3}",
        "/a\n0\n{\"a\":1,\"\\u0061\":2}",
        "/a~1b/~0\nnull\n{\"a/b\":{\"~\":\"\\ud83d\\ude00é\\n\"}}",
        "/u\n1\n{\"z\":1.0,\n \"a\":12345678901234567890123,\"m\":1e400,\"u\":\"\\u00e9é\"}",
        "\n8\n 7 ",
        "/0\n1\n[[[[[[[[[[[[1,2,{\"a\":[]}]]]]]]]]]]]]",
        "a\n1\n{}",
        "/a\n1\n{\"a\":01}",
        "/a\n1\n{\"a\":\"\\x\"}",
    ];
    seeds.map(|seed| seed.as_bytes().to_vec()).to_vec()
}
