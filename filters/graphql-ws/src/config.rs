//! The filter's table in `wsgate.toml`.

use std::collections::{HashMap, HashSet};

use serde::Deserialize;
use wsgate_sdk::prelude::Error;

/// What may be run, and how much of it.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    pub(crate) allow_sha256: Vec<Sha256>,
    pub(crate) allow_names: HashSet<String>,
    pub(crate) operations: HashSet<Kind>,
    pub(crate) introspection: bool,
    pub(crate) max_depth: u32,
    pub(crate) max_cost: Option<u64>,
    pub(crate) cost: Cost,
    pub(crate) max_subscriptions: usize,
    pub(crate) max_query_bytes: usize,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            allow_sha256: Vec::new(),
            allow_names: HashSet::new(),
            operations: HashSet::from([Kind::Query, Kind::Mutation, Kind::Subscription]),
            introspection: false,
            max_depth: 16,
            max_cost: None,
            cost: Cost::default(),
            max_subscriptions: 100,
            max_query_bytes: 64 << 10,
        }
    }
}

impl Config {
    /// What serde does not look at.
    pub(crate) fn check(&self) -> Result<(), Error> {
        let within = |key: &str, value: usize, most: usize| match (1..=most).contains(&value) {
            true => Ok(()),
            false => Err(Error::new(format_args!("{key}: 1 to {most}, not {value}"))),
        };
        within("max_subscriptions", self.max_subscriptions, 10_000)?;
        within("max_query_bytes", self.max_query_bytes, 1 << 20)?;
        within("max_depth", self.max_depth as usize, crate::operation::MAX_NESTING)?;
        match self.operations.is_empty() {
            true => {
                Err(Error::new("operations: at least one of \"query\", \"mutation\" and \"subscription\" is needed"))
            }
            false => Ok(()),
        }
    }

    /// Whether only listed operations may run.
    pub(crate) fn has_list(&self) -> bool {
        !self.allow_sha256.is_empty() || !self.allow_names.is_empty()
    }
}

/// What an operation is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Kind {
    Query,
    Mutation,
    Subscription,
}

/// What fields cost.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Cost {
    default: u64,
    fields: HashMap<String, u64>,
    pub(crate) multipliers: Vec<String>,
    lists: HashMap<String, u64>,
}

impl Default for Cost {
    fn default() -> Self {
        let multipliers = ["first", "last", "limit"].map(str::to_owned).to_vec();
        Self { default: 1, fields: HashMap::new(), multipliers, lists: HashMap::new() }
    }
}

impl Cost {
    pub(crate) fn weight(&self, field: &str) -> u64 {
        self.fields.get(field).copied().unwrap_or(self.default)
    }

    /// How many items a field has where no argument says it.
    pub(crate) fn items(&self, field: &str) -> u64 {
        self.lists.get(field).copied().unwrap_or(1)
    }
}

/// A SHA-256, written as 64 hexadecimal digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub(crate) struct Sha256(pub(crate) [u8; 32]);

impl TryFrom<String> for Sha256 {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let expected = || format!("`{text}` is no SHA-256, expected 64 hexadecimal digits");
        if text.len() != 64 || !text.is_ascii() {
            return Err(expected());
        }
        let mut bytes = [0; 32];
        for (at, byte) in bytes.iter_mut().enumerate() {
            let digits = text.get(2 * at..2 * at + 2).filter(|digits| digits.bytes().all(|b| b.is_ascii_hexdigit()));
            *byte = digits.and_then(|digits| u8::from_str_radix(digits, 16).ok()).ok_or_else(expected)?;
        }
        Ok(Self(bytes))
    }
}
