//! The file as a tree that knows where each value stands, and the way from it to the raw types.
//!
//! serde stops at the first error. To list them all, each error is recorded, the value that it is about is taken out of
//! the tree, and the rest is read again. The checks that follow name a value only by its span; the untouched tree gives
//! the line and the dotted key.

use std::{borrow::Cow, fmt::Write, ops::Range};

use serde::de::DeserializeOwned;
use toml::{
    Spanned,
    de::{DeArray, DeTable, DeValue, Deserializer},
};

use super::{
    environment,
    error::{ConfigError, ConfigErrors, Position},
    explain::{A_TABLE, AN_ARRAY, explain},
};

/// A larger configuration is refused unread.
pub(super) const MAX_FILE_BYTES: usize = 4 << 20;

pub(super) struct Document<'t> {
    file: &'t str,
    text: &'t str,
    root: DeTable<'t>,
}

/// One step of a dotted key.
enum Step<'a> {
    Key(&'a str),
    Index(usize),
}

/// Several nodes can have one span: `[[routes]]` is that of the array and of its first table.
#[derive(Clone, Copy)]
enum Prefer {
    Outer,
    Inner,
}

impl<'t> Document<'t> {
    /// # Errors
    /// Everything that is not TOML.
    pub(super) fn parse(file: &'t str, text: &'t str) -> Result<Self, Vec<ConfigError>> {
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        if text.len() > MAX_FILE_BYTES {
            let message = format!("is longer than {} MiB", MAX_FILE_BYTES >> 20);
            return Err(vec![ConfigError { file: file.to_owned(), position: None, key: None, message }]);
        }
        let (root, faults) = DeTable::parse_recoverable(text);
        let document = Self { file, text, root: root.into_inner() };
        if faults.is_empty() {
            return Ok(document);
        }
        let errors = faults.into_iter().map(|fault| {
            let span = fault.span().unwrap_or(0..0);
            let message = match fault.message() {
                "duplicate key" => format!("the key {:?} is there twice", document.slice(&span)),
                message => format!("not valid TOML: {message}"),
            };
            ConfigError { file: file.to_owned(), position: Some(document.position(&span)), key: None, message }
        });
        Err(errors.collect())
    }

    /// Replaces variables and reads the raw types. What is wrong goes to `errors` and is left out of the result; `None`
    /// when nothing can be left out.
    pub(super) fn read<T: DeserializeOwned>(
        &self,
        variable: &dyn Fn(&str) -> Option<String>,
        errors: &mut Vec<ConfigError>,
    ) -> Option<T> {
        let mut tree = self.root.clone();
        let mut faults = Vec::new();
        expand_table(&mut tree, variable, &mut faults);
        for (span, message) in faults {
            errors.push(self.error(&span, self.outer_key(&span), message));
            prune_table(&mut tree, &span);
        }
        self.read_tree(tree, errors)
    }

    /// The same where `${…}` stands for nothing but itself.
    pub(super) fn read_verbatim<T: DeserializeOwned>(&self, errors: &mut Vec<ConfigError>) -> Option<T> {
        self.read_tree(self.root.clone(), errors)
    }

    fn read_tree<T: DeserializeOwned>(&self, mut tree: DeTable<'t>, errors: &mut Vec<ConfigError>) -> Option<T> {
        for _ in 0..=ConfigErrors::MAX_LISTED {
            let fault = match T::deserialize(Deserializer::from(Spanned::new(0..0, tree.clone()))) {
                Ok(raw) => return Some(raw),
                Err(fault) => fault,
            };
            let span = fault.span().unwrap_or(0..0);
            errors.push(self.error(&span, self.outer_key(&span), explain(fault.message(), &self.found(&span))));
            if !prune_table(&mut tree, &span) {
                return None;
            }
        }
        None
    }

    /// An error about the value at `span`.
    pub(super) fn error(&self, span: &Range<usize>, key: Option<String>, message: String) -> ConfigError {
        ConfigError { file: self.file.to_owned(), position: Some(self.position(span)), key, message }
    }

    /// The dotted key of the value at `span`; of a table, where it shares the span with its array.
    pub(super) fn key(&self, span: &Range<usize>) -> Option<String> {
        self.find(span, Prefer::Inner).map(|(key, _)| key)
    }

    /// Is there such a table, valid or not?
    pub(super) fn has(&self, table: &str, name: &str) -> bool {
        self.root.get(table).and_then(|value| value.get_ref().get(name)).is_some()
    }

    /// The keys of a table at the top.
    pub(super) fn names(&self, table: &str) -> impl Iterator<Item = &str> {
        let table = self.root.get(table).and_then(|value| value.get_ref().as_table());
        table.into_iter().flat_map(DeTable::keys).map(|key| key.get_ref().as_ref())
    }

    /// Does the value come from the environment, at least in part?
    pub(super) fn has_variable(&self, span: &Range<usize>) -> bool {
        self.slice(span).contains("${")
    }

    /// The value as it stands in the file, so with its variables' names and not their values.
    pub(super) fn found(&self, span: &Range<usize>) -> Cow<'t, str> {
        const MAX_SHOWN_BYTES: usize = 80;
        match self.find(span, Prefer::Outer) {
            Some((_, DeValue::Table(_))) => Cow::Borrowed(A_TABLE),
            Some((_, DeValue::Array(_))) => Cow::Borrowed(AN_ARRAY),
            _ => {
                let slice = self.slice(span);
                let line = slice.lines().next().unwrap_or_default();
                let shown = &line[..line.floor_char_boundary(MAX_SHOWN_BYTES)];
                if shown.len() == slice.len() { Cow::Borrowed(slice) } else { Cow::Owned(format!("{shown}…")) }
            }
        }
    }

    /// Line and column of the start of `span`.
    pub(super) fn position(&self, span: &Range<usize>) -> Position {
        let before = self.text.get(..span.start).unwrap_or(self.text);
        let line = before.rsplit('\n').next().unwrap_or_default();
        Position { line: before.matches('\n').count() + 1, column: line.chars().count() + 1 }
    }

    fn slice(&self, span: &Range<usize>) -> &'t str {
        self.text.get(span.clone()).unwrap_or_default()
    }

    fn outer_key(&self, span: &Range<usize>) -> Option<String> {
        self.find(span, Prefer::Outer).map(|(key, _)| key)
    }

    fn find(&self, span: &Range<usize>, prefer: Prefer) -> Option<(String, &DeValue<'t>)> {
        let mut steps = Vec::new();
        let node = find_in_table(&self.root, span, prefer, &mut steps)?;
        steps.reverse();
        Some((dotted(&steps), node))
    }
}

/// Fills `steps` from the found node outwards.
fn find_in_table<'a, 't>(
    table: &'a DeTable<'t>,
    span: &Range<usize>,
    prefer: Prefer,
    steps: &mut Vec<Step<'a>>,
) -> Option<&'a DeValue<'t>> {
    table.iter().find_map(|(key, value)| {
        let found = find_in_value(value, key.span() == *span, span, prefer, steps)?;
        steps.push(Step::Key(key.get_ref()));
        Some(found)
    })
}

fn find_in_value<'a, 't>(
    value: &'a Spanned<DeValue<'t>>,
    is_key: bool,
    span: &Range<usize>,
    prefer: Prefer,
    steps: &mut Vec<Step<'a>>,
) -> Option<&'a DeValue<'t>> {
    let here = (is_key || value.span() == *span).then_some(value.get_ref());
    if matches!(prefer, Prefer::Outer) && here.is_some() {
        return here;
    }
    let below = match value.get_ref() {
        DeValue::Table(table) => find_in_table(table, span, prefer, steps),
        DeValue::Array(items) => items.iter().enumerate().find_map(|(index, item)| {
            let found = find_in_value(item, false, span, prefer, steps)?;
            steps.push(Step::Index(index));
            Some(found)
        }),
        DeValue::String(_) | DeValue::Integer(_) | DeValue::Float(_) | DeValue::Boolean(_) | DeValue::Datetime(_) => {
            None
        }
    };
    below.or(here)
}

/// Takes the value at `span`, or with its key at `span`, out of the tree.
fn prune_table(table: &mut DeTable<'_>, span: &Range<usize>) -> bool {
    let here = table.iter().find(|(key, value)| key.span() == *span || value.span() == *span);
    match here.map(|(key, _)| key.get_ref().clone()) {
        Some(key) => table.remove(key.as_ref()).is_some(),
        None => table.iter_mut().any(|(_, value)| prune_value(value.get_mut(), span)),
    }
}

fn prune_value(value: &mut DeValue<'_>, span: &Range<usize>) -> bool {
    match value {
        DeValue::Table(table) => prune_table(table, span),
        DeValue::Array(items) if items.iter().any(|item| item.span() == *span) => {
            *items = std::mem::replace(items, DeArray::new()).into_iter().filter(|item| item.span() != *span).collect();
            true
        }
        DeValue::Array(items) => items.iter_mut().any(|item| prune_value(item.get_mut(), span)),
        DeValue::String(_) | DeValue::Integer(_) | DeValue::Float(_) | DeValue::Boolean(_) | DeValue::Datetime(_) => {
            false
        }
    }
}

type Faults = Vec<(Range<usize>, String)>;

fn expand_table(table: &mut DeTable<'_>, variable: &dyn Fn(&str) -> Option<String>, faults: &mut Faults) {
    for (_, value) in table.iter_mut() {
        expand_value(value, variable, faults);
    }
}

fn expand_value(value: &mut Spanned<DeValue<'_>>, variable: &dyn Fn(&str) -> Option<String>, faults: &mut Faults) {
    let span = value.span();
    match value.get_mut() {
        DeValue::String(text) => match environment::expand(text, variable) {
            Ok(None) => {}
            Ok(Some(expanded)) => *text = Cow::Owned(expanded),
            Err(error) => faults.push((span, error.to_string())),
        },
        DeValue::Table(table) => expand_table(table, variable, faults),
        DeValue::Array(items) => items.iter_mut().for_each(|item| expand_value(item, variable, faults)),
        DeValue::Integer(_) | DeValue::Float(_) | DeValue::Boolean(_) | DeValue::Datetime(_) => {}
    }
}

fn dotted(steps: &[Step<'_>]) -> String {
    let mut key = String::new();
    for step in steps {
        // Writing to a String cannot fail.
        let _ = match step {
            Step::Index(index) => write!(key, "[{index}]"),
            Step::Key(name) => {
                let dot = if key.is_empty() { "" } else { "." };
                let bare = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-'));
                if bare && !name.is_empty() { write!(key, "{dot}{name}") } else { write!(key, "{dot}{name:?}") }
            }
        };
    }
    key
}
