//! The filter's table in `wsgate.toml`.

use filter_parts::json::MAX_DEPTH;
use filter_parts::{Answer, Pointer, When};
use serde::Deserialize;
use serde_json::Value;
use wsgate_sdk::Directions;

use crate::source::{Source, WrittenSource};

/// Most rules: each goes over the message.
const MAX_RULES: usize = 64;

/// The filter's configuration.
#[derive(Debug, Deserialize)]
#[serde(try_from = "Table")]
pub struct Config {
    pub(crate) rules: Vec<Rule>,
    pub(crate) not_json: Answer,
    pub(crate) max_bytes: usize,
    pub(crate) max_depth: u8,
}

/// One change.
#[derive(Debug)]
pub(crate) struct Rule {
    pub(crate) direction: Directions,
    pub(crate) when: When,
    pub(crate) operation: Operation,
}

#[derive(Debug)]
pub(crate) enum Operation {
    /// Whatever is there.
    Set {
        at: Pointer,
        value: Source,
    },
    /// Only where there is nothing.
    Add {
        at: Pointer,
        value: Source,
    },
    Remove {
        at: Pointer,
    },
    Rename {
        at: Pointer,
        to: String,
    },
    Copy {
        from: Pointer,
        to: Pointer,
    },
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Table {
    rules: Vec<Written>,
    #[serde(default = "forward")]
    not_json: Answer,
    #[serde(default = "default_max_bytes")]
    max_bytes: usize,
    #[serde(default = "default_max_depth")]
    max_depth: u8,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    #[serde(default = "to_upstream")]
    direction: Directions,
    #[serde(default)]
    when: When,
    set: Option<Pointer>,
    add: Option<Pointer>,
    remove: Option<Pointer>,
    rename: Option<Pointer>,
    copy: Option<Pointer>,
    value: Option<Value>,
    from: Option<WrittenSource>,
    to: Option<String>,
}

fn forward() -> Answer {
    Answer::Forward
}

fn to_upstream() -> Directions {
    Directions::ToUpstream
}

fn default_max_bytes() -> usize {
    256 * 1024
}

fn default_max_depth() -> u8 {
    64
}

impl TryFrom<Table> for Config {
    type Error = String;

    fn try_from(table: Table) -> Result<Self, String> {
        let Table { rules: written, not_json, max_bytes, max_depth } = table;
        if !(1..=MAX_RULES).contains(&written.len()) {
            return Err(format!("rules: 1 to {MAX_RULES} are needed, not {}", written.len()));
        }
        if !(1..=MAX_DEPTH).contains(&max_depth) {
            return Err(format!("max_depth: 1 to {MAX_DEPTH}, not {max_depth}"));
        }
        if max_bytes == 0 {
            return Err("max_bytes: must not be 0".to_owned());
        }
        not_json.check(&[]).map_err(|error| format!("not_json: {error}"))?;
        let mut rules = Vec::with_capacity(written.len());
        for (at, rule) in written.into_iter().enumerate() {
            rules.push(Rule::new(rule).map_err(|error| format!("rules[{at}]: {error}"))?);
        }
        Ok(Self { rules, not_json, max_bytes, max_depth })
    }
}

impl Rule {
    fn new(rule: Written) -> Result<Self, String> {
        let Written { direction, when, set, add, remove, rename, copy, value, from, to } = rule;
        let source = match (value, from) {
            (Some(value), None) => Some(Source::Constant(value.to_string())),
            (None, Some(from)) => Some(from.source()?),
            (None, None) => None,
            (Some(_), Some(_)) => return Err("`value` or `from`, not both".to_owned()),
        };
        let operation = match (set, add, remove, rename, copy) {
            (Some(at), None, None, None, None) => Operation::Set { at, value: needed(source.clone(), "set")? },
            (None, Some(at), None, None, None) => Operation::Add { at, value: needed(source.clone(), "add")? },
            (None, None, Some(at), None, None) => Operation::Remove { at: inner(at, "remove")? },
            (None, None, None, Some(at), None) => {
                let to = to.clone().ok_or("`rename` needs `to`, the new name")?;
                Operation::Rename { at: inner(at, "rename")?, to }
            }
            (None, None, None, None, Some(from)) => {
                let to = to.clone().ok_or("`copy` needs `to`, a JSON pointer")?;
                Operation::Copy { from, to: to.parse().map_err(|error| format!("to: {error}"))? }
            }
            _ => return Err("one of `set`, `add`, `remove`, `rename` and `copy` is needed, and only one".to_owned()),
        };
        let (puts, names) = match &operation {
            Operation::Set { .. } | Operation::Add { .. } => (true, false),
            Operation::Rename { .. } | Operation::Copy { .. } => (false, true),
            Operation::Remove { .. } => (false, false),
        };
        match (source.is_some() && !puts, to.is_some() && !names) {
            (true, _) => Err("`value` and `from` belong to `set` and `add`".to_owned()),
            (_, true) => Err("`to` belongs to `rename` and `copy`".to_owned()),
            (false, false) => Ok(Self { direction, when, operation }),
        }
    }
}

fn needed(source: Option<Source>, operation: &str) -> Result<Source, String> {
    source.ok_or_else(|| format!("`{operation}` needs `value` or `from`"))
}

/// A place in the message that is not all of it.
fn inner(at: Pointer, operation: &str) -> Result<Pointer, String> {
    match at.as_str().is_empty() {
        true => Err(format!("{operation}: the whole message cannot be meant")),
        false => Ok(at),
    }
}

impl Config {
    /// The values that rules put into messages.
    pub(crate) fn sources(&self) -> impl Iterator<Item = &Source> + Clone {
        self.rules.iter().filter_map(|rule| match &rule.operation {
            Operation::Set { value, .. } | Operation::Add { value, .. } => Some(value),
            Operation::Remove { .. } | Operation::Rename { .. } | Operation::Copy { .. } => None,
        })
    }

    /// The directions that some rule is for.
    pub(crate) fn directions(&self) -> Directions {
        let is = |direction| self.rules.iter().any(|rule| rule.direction.contain(direction));
        match (is(wsgate_sdk::Direction::ToUpstream), is(wsgate_sdk::Direction::ToClient)) {
            (true, false) => Directions::ToUpstream,
            (false, true) => Directions::ToClient,
            (true, true) | (false, false) => Directions::Both,
        }
    }
}
