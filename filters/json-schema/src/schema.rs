//! One schema, compiled, and what it finds wrong.

use std::fmt::Display;

use jsonschema::{PatternOptions, ValidationError, Validator};
use serde_json::{Map, Value, json};

/// Longest message about one problem.
const MAX_PROBLEM_BYTES: usize = 200;
/// Longest place of one problem.
const MAX_PLACE_BYTES: usize = 200;
/// Longest name of a schema, which becomes a label.
const MAX_NAME_BYTES: usize = 40;
/// What the regular expression of a `pattern` may take when it is compiled.
const MAX_PATTERN_BYTES: usize = 256 * 1024;

/// A schema, ready to be used.
#[derive(Debug)]
pub(crate) struct Schema {
    name: String,
    validator: Validator,
}

/// Something wrong with a message.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Problem {
    at: String,
    keyword: String,
    message: String,
}

impl Schema {
    /// `schema` is a table, or a text with JSON in it. It finds each of the definitions as `#/$defs/<name>`.
    pub(crate) fn compile(
        name: String,
        schema: Value,
        definitions: &Map<String, Value>,
        formats: bool,
    ) -> Result<Self, String> {
        if name.is_empty() || name.len() > MAX_NAME_BYTES {
            return Err(format!("its name has 1 to {MAX_NAME_BYTES} bytes, not {}", name.len()));
        }
        let mut schema = written(schema)?;
        if let Value::Object(members) = &mut schema
            && !definitions.is_empty()
        {
            let own = members.entry("$defs").or_insert_with(|| Value::Object(Map::new()));
            if let Value::Object(own) = own {
                for (name, definition) in definitions {
                    own.entry(name).or_insert(written(definition.clone())?);
                }
            }
        }
        let patterns = PatternOptions::regex().size_limit(MAX_PATTERN_BYTES).dfa_size_limit(MAX_PATTERN_BYTES);
        let options = jsonschema::options().with_pattern_options(patterns).should_validate_formats(formats).offline();
        match options.build(&schema) {
            Ok(validator) => Ok(Self { name, validator }),
            Err(error) => Err(in_schema(&error)),
        }
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    pub(crate) fn holds(&self, value: &Value) -> bool {
        self.validator.is_valid(value)
    }

    /// What is wrong with a value, at most so many things.
    pub(crate) fn problems(&self, value: &Value, most: usize) -> Vec<Problem> {
        if most == 1 {
            return self.validator.validate(value).err().iter().map(Problem::new).collect();
        }
        self.validator.iter_errors(value).take(most).map(|error| Problem::new(&error)).collect()
    }
}

/// The schema itself, or what a text has.
fn written(schema: Value) -> Result<Value, String> {
    match schema {
        Value::String(text) => serde_json::from_str(&text).map_err(|error| format!("not JSON: {error}")),
        Value::Object(_) | Value::Bool(_) => Ok(schema),
        Value::Null | Value::Number(_) | Value::Array(_) => Err("a table, or a text with JSON, is expected".to_owned()),
    }
}

fn in_schema(error: &ValidationError<'_>) -> String {
    let place = error.instance_path().to_string();
    let message = cut(&error.to_string(), 300);
    if place.is_empty() { message } else { format!("at {place}: {message}") }
}

impl Problem {
    fn new(error: &ValidationError<'_>) -> Self {
        Self {
            at: cut(&error.instance_path().to_string(), MAX_PLACE_BYTES),
            keyword: cut(error.kind().keyword(), MAX_NAME_BYTES),
            // The value itself stays out: the sender knows it, and it may be large.
            message: cut(&error.masked().to_string(), MAX_PROBLEM_BYTES),
        }
    }

    /// A problem of the whole message.
    pub(crate) fn whole(keyword: &str, message: impl Display) -> Self {
        Self { at: String::new(), keyword: keyword.to_owned(), message: message.to_string() }
    }
}

/// As a JSON array.
pub(crate) fn list(problems: &[Problem]) -> String {
    let list = problems
        .iter()
        .map(|problem| json!({ "at": problem.at, "keyword": problem.keyword, "message": problem.message }));
    Value::Array(list.collect()).to_string()
}

/// The beginning of a text, at most so many bytes.
fn cut(text: &str, most: usize) -> String {
    text.get(..text.floor_char_boundary(most)).unwrap_or_default().to_owned()
}
