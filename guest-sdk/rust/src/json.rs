//! JSON that came from outside.

use serde::Deserialize;
use serde_json::error::Category;

use crate::Error;

/// Reads one document.
///
/// Errors say where, and what was expected, but not what was found: that may be secret, and errors are logged.
pub(crate) fn read<'a, T: Deserialize<'a>>(json: &'a [u8]) -> Result<T, Error> {
    serde_json::from_slice(json).map_err(|error| without_values(&error))
}

fn without_values(error: &serde_json::Error) -> Error {
    let text = error.to_string();
    match error.classify() {
        // Those of the syntax quote nothing.
        Category::Syntax | Category::Eof | Category::Io => Error::new(format_args!("not JSON: {text}")),
        Category::Data => {
            // What is quoted comes first, so that the last `expected` is serde's own.
            let what = match text.rfind(", expected ") {
                Some(at) => &text[at + 2..],
                None if text.starts_with("missing field") => &text,
                None => "the value does not fit",
            };
            let place = format!(" at line {} column {}", error.line(), error.column());
            Error::new(format_args!("{}{place}", what.strip_suffix(&*place).unwrap_or(what)))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, Deserialize, PartialEq)]
    #[serde(deny_unknown_fields)]
    struct Order<'a> {
        item: &'a str,
        kind: Option<Kind>,
    }

    #[derive(Debug, Deserialize, PartialEq)]
    #[serde(rename_all = "lowercase")]
    enum Kind {
        Buy,
        Sell,
    }

    fn refused(json: &str) -> String {
        read::<Order<'_>>(json.as_bytes()).unwrap_err().to_string()
    }

    #[test]
    fn a_document_is_read_without_copying_its_text() {
        let order = read::<Order<'_>>(br#"{ "item": "tea", "kind": "buy" }"#).unwrap();
        assert_eq!(order, Order { item: "tea", kind: Some(Kind::Buy) });
    }

    #[test]
    fn errors_say_where_and_what_was_expected() {
        assert_eq!(refused(r#"{"item":7}"#), "expected a borrowed string at line 1 column 9");
        assert_eq!(refused("{}"), "missing field `item` at line 1 column 2");
        assert_eq!(refused(r#"{"item":"a","kind":"steal"}"#), "expected `buy` or `sell` at line 1 column 26");
        assert_eq!(refused(r#"{"item":"#), "not JSON: EOF while parsing a value at line 1 column 8");
        assert_eq!(refused("{} {}"), "missing field `item` at line 1 column 2");
    }

    #[test]
    fn errors_do_not_repeat_what_was_found() {
        for json in [
            r#"{"item":"a","kind":"s3cret"}"#,
            r#"{"item":"a","kind":", expected s3cret"}"#,
            r#"{"item":"a","s3cret":1}"#,
            r#"{"item":"a","kind":{"s3cret":1}}"#,
            r#""s3cret""#,
            "s3cret",
        ] {
            assert!(!refused(json).contains("s3cret"), "{json}: {}", refused(json));
        }
        let deep = "[".repeat(100_000);
        assert!(read::<serde_json::Value>(deep.as_bytes()).unwrap_err().to_string().contains("recursion limit"));
    }
}
