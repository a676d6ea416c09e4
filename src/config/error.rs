//! What is wrong with a configuration, and what looks wrong.

use std::fmt;

use thiserror::Error;

/// Everything that is wrong with a configuration, in the order of the file. Displayed as one line each and a last line
/// with their number.
#[derive(Clone, Debug, Error, Eq, PartialEq)]
pub struct ConfigErrors {
    file: String,
    errors: Vec<ConfigError>,
}

impl ConfigErrors {
    /// More than this many are not listed.
    pub const MAX_LISTED: usize = 100;

    pub(super) fn new(file: &str, mut errors: Vec<ConfigError>) -> Self {
        errors.sort_by_key(|error| error.position);
        Self { file: file.to_owned(), errors }
    }

    /// Each of them.
    #[must_use]
    pub fn errors(&self) -> &[ConfigError] {
        &self.errors
    }
}

impl fmt::Display for ConfigErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for error in self.errors.iter().take(Self::MAX_LISTED) {
            writeln!(f, "{error}")?;
        }
        match self.errors.len() {
            1 => write!(f, "{}: 1 error", self.file),
            count if count > Self::MAX_LISTED => {
                write!(f, "{}: more than {} errors", self.file, Self::MAX_LISTED)
            }
            count => write!(f, "{}: {count} errors", self.file),
        }
    }
}

/// One thing that is wrong, displayed as `file:line:column: key: message`.
#[derive(Clone, Debug, Error, Eq, PartialEq)]
pub struct ConfigError {
    /// As it was named to the gateway.
    pub file: String,
    /// Where in the file, unless the file as a whole is meant.
    pub position: Option<Position>,
    /// The dotted key, such as `routes[1].client_max_payload`.
    pub key: Option<String>,
    /// What was found and what is accepted.
    pub message: String,
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        place(f, &self.file, self.position, self.key.as_deref())?;
        f.write_str(&self.message)
    }
}

/// Something that is accepted and most likely not meant, displayed as `file:line:column: key: warning: message`.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Warning {
    /// As it was named to the gateway.
    pub file: String,
    /// Where in the file.
    pub position: Option<Position>,
    /// The dotted key.
    pub key: Option<String>,
    /// What looks wrong, and why.
    pub message: String,
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        place(f, &self.file, self.position, self.key.as_deref())?;
        write!(f, "warning: {}", self.message)
    }
}

/// A place in a file, from 1.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct Position {
    /// Line.
    pub line: usize,
    /// Column, in characters.
    pub column: usize,
}

fn place(f: &mut fmt::Formatter<'_>, file: &str, position: Option<Position>, key: Option<&str>) -> fmt::Result {
    write!(f, "{file}:")?;
    if let Some(Position { line, column }) = position {
        write!(f, "{line}:{column}:")?;
    }
    match key {
        Some(key) => write!(f, " {key}: "),
        None => f.write_str(" "),
    }
}
