//! From the JSON that `init` is given to a filter's own configuration type.

use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::Error;

/// Reads a filter's configuration. Errors name the key: `patterns[1]: invalid type: …`.
///
/// No configuration at all (`""`, `null` or `{}`) is an empty table, and `()` takes it too.
pub(crate) fn parse<C: DeserializeOwned>(json: &str) -> Result<C, Error> {
    let table = match json.trim() {
        "" | "null" => Value::Object(serde_json::Map::new()),
        json => serde_json::from_str(json).map_err(|error| Error::from(error).context("not JSON"))?,
    };
    let no_keys = table.as_object().is_some_and(serde_json::Map::is_empty);
    let error = match serde_path_to_error::deserialize(table) {
        Ok(config) => return Ok(config),
        Err(error) => error,
    };
    // Unit-like types read `null`, not `{}`.
    match (serde_json::from_value(Value::Null), no_keys) {
        (Ok(config), true) => Ok(config),
        (Ok(_), false) => Err(Error::new("this filter takes no configuration")),
        (Err(_), _) => Err(named(&error)),
    }
}

fn named(error: &serde_path_to_error::Error<serde_json::Error>) -> Error {
    let at_the_top = error.path().iter().next().is_none();
    match at_the_top {
        true => Error::new(error.inner()),
        false => Error::new(error.inner()).context(error.path()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, serde::Deserialize, PartialEq)]
    #[serde(deny_unknown_fields)]
    struct Config {
        patterns: Vec<String>,
        #[serde(default)]
        nested: Option<Nested>,
    }

    #[derive(Debug, serde::Deserialize, PartialEq)]
    struct Nested {
        count: u8,
    }

    fn refused(json: &str) -> String {
        parse::<Config>(json).unwrap_err().to_string()
    }

    #[test]
    fn a_table_becomes_the_filters_own_type() {
        let config = parse::<Config>(r#"{ "patterns": ["a"], "nested": { "count": 3 } }"#).unwrap();
        assert_eq!(config, Config { patterns: vec!["a".into()], nested: Some(Nested { count: 3 }) });
    }

    #[test]
    fn an_absent_configuration_is_an_empty_table() {
        for nothing in ["", "  ", "null", "{}"] {
            parse::<()>(nothing).unwrap();
            parse::<std::collections::BTreeMap<String, String>>(nothing).unwrap();
            assert_eq!(refused(nothing), "missing field `patterns`");
        }
    }

    #[test]
    fn errors_name_the_key() {
        assert_eq!(refused(r#"{ "patterns": ["a", 2] }"#), "patterns[1]: invalid type: integer `2`, expected a string");
        assert_eq!(
            refused(r#"{ "patterns": [], "nested": { "count": 256 } }"#),
            "nested.count: invalid value: integer `256`, expected u8"
        );
        assert_eq!(
            refused(r#"{ "patterns": [], "patern": 1 }"#),
            "patern: unknown field `patern`, expected `patterns` or `nested`"
        );
    }

    #[test]
    fn keys_for_a_filter_without_configuration_are_refused() {
        let error = parse::<()>(r#"{ "volume": 11 }"#).unwrap_err();
        assert_eq!(error.to_string(), "this filter takes no configuration");
    }

    #[test]
    fn what_is_no_json_is_refused() {
        assert!(refused("{").starts_with("not JSON: "));
    }
}
