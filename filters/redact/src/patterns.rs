//! Regular expressions that are searched for together, in one pass over the text.

use std::fmt::{self, Display};

use regex_automata::meta::{BuildError, Regex};
use regex_automata::util::syntax;
use regex_syntax::hir::Hir;
use serde::Deserialize;

/// Payment card numbers: 13 to 16 digits, with a space or a dash between any two of them.
const PAYMENT_CARD: &str = r"(?-u:\b)[0-9](?:[ -]?[0-9]){12,15}(?-u:\b)";

/// At least one pattern.
#[derive(Debug)]
pub(crate) struct Patterns(Regex);

impl Patterns {
    pub(crate) fn new(patterns: Vec<Pattern>) -> Result<Self, PatternError> {
        if patterns.is_empty() {
            return Err(PatternError::NoPatterns);
        }
        let expressions: Vec<_> = patterns.into_iter().map(|pattern| pattern.0).collect();
        Regex::builder()
            .build_many_from_hir(&expressions)
            .map(Self)
            .map_err(|cause| PatternError::TooBig(Box::new(cause)))
    }

    pub(crate) fn payment_cards() -> Result<Self, PatternError> {
        Self::new(vec![PAYMENT_CARD.to_owned().try_into()?])
    }

    /// The text with every match replaced, and how many there were. None where nothing matches.
    ///
    /// Of matches that overlap the leftmost counts, and of those the one of the pattern that comes first.
    pub(crate) fn replace_all(&self, text: &str, replacement: &str) -> Option<(String, u64)> {
        let mut matches = self.0.find_iter(text).peekable();
        matches.peek()?;
        let mut replaced = String::with_capacity(text.len());
        let (mut count, mut end) = (0, 0);
        for found in matches {
            replaced.push_str(&text[end..found.start()]);
            replaced.push_str(replacement);
            end = found.end();
            count += 1;
        }
        replaced.push_str(&text[end..]);
        Some((replaced, count))
    }
}

/// One pattern, which never matches the empty text.
#[derive(Deserialize)]
#[serde(try_from = "String")]
pub(crate) struct Pattern(Hir);

impl TryFrom<String> for Pattern {
    type Error = PatternError;

    fn try_from(pattern: String) -> Result<Self, PatternError> {
        let expression = match syntax::parse(&pattern) {
            Ok(expression) => expression,
            Err(cause) => {
                return Err(PatternError::Syntax { pattern, cause: Box::new(cause) });
            }
        };
        match expression.properties().minimum_len() {
            Some(0) => Err(PatternError::Empty { pattern }),
            Some(_) | None => Ok(Self(expression)),
        }
    }
}

/// Why patterns are refused.
#[derive(Debug)]
pub(crate) enum PatternError {
    Syntax { pattern: String, cause: Box<regex_syntax::Error> },
    Empty { pattern: String },
    NoPatterns,
    TooBig(Box<BuildError>),
}

impl Display for PatternError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Syntax { pattern, cause } => {
                write!(f, "`{pattern}` is not a regular expression: {}", syntax_cause(cause))
            }
            Self::Empty { pattern } => write!(f, "`{pattern}` can match the empty text"),
            Self::NoPatterns => f.write_str("patterns: at least one is needed; leave the key out for the default"),
            Self::TooBig(cause) => match cause.size_limit() {
                Some(bytes) => write!(f, "patterns: together they need more than {bytes} bytes"),
                None => write!(f, "patterns: {cause}"),
            },
        }
    }
}

/// The cause in one line: the parser's own display draws the pattern and points into it.
fn syntax_cause(cause: &regex_syntax::Error) -> String {
    match cause {
        regex_syntax::Error::Parse(error) => error.kind().to_string(),
        regex_syntax::Error::Translate(error) => error.kind().to_string(),
        other => other.to_string(),
    }
}
