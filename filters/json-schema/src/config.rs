//! The filter's table in `wsgate.toml`, with its schemas compiled.

use filter_parts::json::{Json, Names};
use filter_parts::{Answer, Verified, When};
use serde::Deserialize;
use serde_json::{Map, Value};
use wsgate_sdk::Directions;

use crate::schema::Schema;

/// Most schemas beside the one for all other messages.
const MAX_SCHEMAS: usize = 200;
/// What a configuration may ask for at most: the parser that builds values recurses, to 127.
const MOST_DEPTH: u8 = 120;

/// The filter's configuration.
#[derive(Debug, Deserialize)]
#[serde(try_from = "Table")]
pub struct Config {
    schemas: Vec<(When, Schema)>,
    other: Option<Schema>,
    unmatched: Otherwise,
    not_json: Otherwise,
    pub(crate) on_failure: Answer,
    pub(crate) direction: Directions,
    pub(crate) max_bytes: usize,
    pub(crate) max_depth: u8,
    pub(crate) max_errors: usize,
    pub(crate) dry_run: bool,
}

/// What becomes of messages that schemas say nothing about.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
enum Otherwise {
    /// `on_failure`.
    #[default]
    Refuse,
    /// They pass.
    Forward,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Table {
    schema: Option<Value>,
    #[serde(default)]
    schemas: Vec<Entry>,
    #[serde(default)]
    definitions: Map<String, Value>,
    #[serde(default)]
    unmatched: Otherwise,
    #[serde(default)]
    not_json: Otherwise,
    #[serde(default = "closing")]
    on_failure: Answer,
    #[serde(default = "to_upstream")]
    direction: Directions,
    #[serde(default = "default_max_bytes")]
    max_bytes: usize,
    #[serde(default = "default_max_depth")]
    max_depth: u8,
    #[serde(default = "default_max_errors")]
    max_errors: usize,
    #[serde(default)]
    formats: bool,
    #[serde(default)]
    dry_run: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    name: Option<String>,
    when: When,
    schema: Value,
}

fn closing() -> Answer {
    Answer::Close { code: None, reason: None }
}

fn to_upstream() -> Directions {
    Directions::ToUpstream
}

fn default_max_bytes() -> usize {
    64 * 1024
}

fn default_max_depth() -> u8 {
    32
}

fn default_max_errors() -> usize {
    8
}

impl TryFrom<Table> for Config {
    type Error = String;

    fn try_from(table: Table) -> Result<Self, String> {
        if table.schema.is_none() && table.schemas.is_empty() {
            return Err("schema or schemas: at least one is needed".to_owned());
        }
        if table.schemas.len() > MAX_SCHEMAS {
            return Err(format!("schemas: at most {MAX_SCHEMAS}, here are {}", table.schemas.len()));
        }
        if !(1..=MOST_DEPTH).contains(&table.max_depth) {
            return Err(format!("max_depth: 1 to {MOST_DEPTH}, not {}", table.max_depth));
        }
        if !(1..=100).contains(&table.max_errors) {
            return Err(format!("max_errors: 1 to 100, not {}", table.max_errors));
        }
        if table.max_bytes == 0 {
            return Err("max_bytes: must not be 0".to_owned());
        }
        table.on_failure.check(&["errors", "schema"]).map_err(|error| format!("on_failure: {error}"))?;
        let compile = |name: String, schema: Value, key: &str| {
            Schema::compile(name, schema, &table.definitions, table.formats).map_err(|error| format!("{key}: {error}"))
        };
        let mut schemas = Vec::new();
        for (at, entry) in table.schemas.into_iter().enumerate() {
            let name = entry.name.unwrap_or_else(|| at.to_string());
            schemas.push((entry.when, compile(name, entry.schema, &format!("schemas[{at}].schema"))?));
        }
        let other = table.schema.map(|schema| compile("default".to_owned(), schema, "schema")).transpose()?;
        Ok(Self {
            schemas,
            other,
            unmatched: table.unmatched,
            not_json: table.not_json,
            on_failure: table.on_failure,
            direction: table.direction,
            max_bytes: table.max_bytes,
            max_depth: table.max_depth,
            max_errors: table.max_errors,
            dry_run: table.dry_run,
        })
    }
}

impl Config {
    /// The schema for a message: the first whose conditions hold, else the one for all others.
    pub(crate) fn schema_for(&self, text: &str) -> Option<&Schema> {
        if !self.schemas.is_empty()
            && let Ok(json) = Json::check(text, self.max_depth)
        {
            for (when, schema) in &self.schemas {
                // Members that come twice were refused when the message was parsed.
                if when.verify(json, Names::Exact) == Verified::Yes {
                    return Some(schema);
                }
            }
        }
        self.other.as_ref()
    }

    pub(crate) fn forwards_unmatched(&self) -> bool {
        self.unmatched == Otherwise::Forward
    }

    /// Whether messages pass that are no JSON: binary ones, and text that does not parse.
    pub(crate) fn forwards_other(&self) -> bool {
        self.not_json == Otherwise::Forward
    }
}
