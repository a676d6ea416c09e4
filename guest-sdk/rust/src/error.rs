//! The error of a filter's functions.

use std::fmt::{self, Display, Write};

/// Why a function of a filter failed, as the gateway's log will show it.
///
/// Every standard error converts with `?`; its sources are kept in the text. For a text of one's own there is
/// [`Error::new`].
///
/// ```
/// use wsgate_sdk::Error;
///
/// fn count(text: &str) -> Result<u32, Error> {
///     Ok(text.parse()?)
/// }
///
/// assert_eq!(count("x").unwrap_err().to_string(), "invalid digit found in string");
/// assert_eq!(Error::new("no room").to_string(), "no room");
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct Error {
    text: String,
}

impl Error {
    /// An error with this text.
    pub fn new(text: impl Display) -> Self {
        Self { text: text.to_string() }
    }

    /// The same error with what was attempted before it: `context: error`.
    #[must_use]
    pub fn context(self, context: impl Display) -> Self {
        Self { text: format!("{context}: {}", self.text) }
    }
}

impl Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

// `Error` is no `std::error::Error` itself: it would convert into itself in two ways.
impl<E: std::error::Error> From<E> for Error {
    fn from(error: E) -> Self {
        let mut text = error.to_string();
        let mut source = error.source();
        while let Some(cause) = source {
            // Writing to a String cannot fail.
            let _ = write!(text, ": {cause}");
            source = cause.source();
        }
        Self { text }
    }
}

impl From<Error> for String {
    fn from(error: Error) -> Self {
        error.text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug)]
    struct Outer(std::num::ParseIntError);

    impl Display for Outer {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("bad counter")
        }
    }

    impl std::error::Error for Outer {
        fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
            Some(&self.0)
        }
    }

    #[test]
    fn the_sources_of_an_error_are_kept_in_its_text() {
        let cause = "x".parse::<u8>().unwrap_err();
        assert_eq!(Error::from(Outer(cause)).to_string(), "bad counter: invalid digit found in string");
    }

    #[test]
    fn context_comes_before_the_error() {
        assert_eq!(Error::new("no room").context("saving").to_string(), "saving: no room");
    }
}
