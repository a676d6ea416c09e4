//! Where two messages begin to differ: of long ones, the eye does not find it.

use serde_json::Value;

/// Of texts that the eye compares at once nothing has to be said.
const SHORT_CHARACTERS: usize = 40;

/// As a JSON pointer, with what is there.
pub(super) fn of_json(expected: &Value, found: &Value) -> Option<String> {
    let mut pointer = String::new();
    let (expected, found) = descend(expected, found, &mut pointer)?;
    let words = |value: Option<&Value>| value.map_or_else(|| "nothing".to_owned(), short);
    let place = if pointer.is_empty() { "the whole".to_owned() } else { format!("at {pointer}") };
    Some(format!("{place}: expected {}, got {}", words(expected), words(found)))
}

type Pair<'a> = (Option<&'a Value>, Option<&'a Value>);

fn descend<'a>(expected: &'a Value, found: &'a Value, pointer: &mut String) -> Option<Pair<'a>> {
    if expected == found {
        return None;
    }
    match (expected, found) {
        (Value::Object(expected), Value::Object(found)) => {
            let keys = expected.keys().chain(found.keys().filter(|key| !expected.contains_key(*key)));
            let mut keys = keys.filter(|key| expected.get(*key) != found.get(*key));
            let key = keys.next()?;
            pointer.push('/');
            pointer.push_str(&key.replace('~', "~0").replace('/', "~1"));
            below(expected.get(key), found.get(key), pointer)
        }
        (Value::Array(expected), Value::Array(found)) => {
            let longer = expected.len().max(found.len());
            let index = (0..longer).find(|index| expected.get(*index) != found.get(*index))?;
            pointer.push_str(&format!("/{index}"));
            below(expected.get(index), found.get(index), pointer)
        }
        (expected, found) => Some((Some(expected), Some(found))),
    }
}

fn below<'a>(expected: Option<&'a Value>, found: Option<&'a Value>, pointer: &mut String) -> Option<Pair<'a>> {
    match (expected, found) {
        (Some(expected), Some(found)) => descend(expected, found, pointer),
        pair => Some(pair),
    }
}

fn short(value: &Value) -> String {
    let text = value.to_string();
    let end = text.floor_char_boundary(120);
    if end == text.len() { text } else { format!("{}…", &text[..end]) }
}

/// As the number of a character, from 1, with some that follow.
pub(super) fn of_text(expected: &str, found: &str) -> Option<String> {
    let same = expected.chars().zip(found.chars()).take_while(|(a, b)| a == b).count();
    if expected.chars().count().max(found.chars().count()) < SHORT_CHARACTERS {
        return None;
    }
    let rest = |text: &str| text.chars().skip(same).take(20).collect::<String>();
    let (expected, found) = (rest(expected), rest(found));
    Some(format!("from character {} on: expected {expected:?}, got {found:?}", same + 1))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn json_differs_at_a_pointer() {
        let differ = |expected: Value, found: Value| of_json(&expected, &found);
        assert_eq!(differ(json!({"a": [1, {"b/c": 2}]}), json!({"a": [1, {"b/c": 2}]})), None);
        let nested = differ(json!({"a": [1, {"b/c": 2}]}), json!({"a": [1, {"b/c": 3}]})).unwrap();
        assert_eq!(nested, "at /a/1/b~1c: expected 2, got 3");
        assert_eq!(differ(json!({"a": 1}), json!({"a": 1, "b": 2})).unwrap(), "at /b: expected nothing, got 2");
        assert_eq!(differ(json!([1, 2]), json!([1])).unwrap(), "at /1: expected 2, got nothing");
        assert_eq!(differ(json!(1), json!("1")).unwrap(), "the whole: expected 1, got \"1\"");
    }

    #[test]
    fn long_texts_differ_at_a_character() {
        assert_eq!(of_text("short", "shirt"), None);
        let (a, b) = (format!("{}ä1", "x".repeat(50)), format!("{}ö1", "x".repeat(50)));
        assert_eq!(of_text(&a, &b).unwrap(), "from character 51 on: expected \"ä1\", got \"ö1\"");
    }
}
