//! The error of a filter's functions.

use std::any::Any;
use std::fmt::{self, Display, Write};

use crate::{http, key_value, messaging};

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
impl<E: std::error::Error + 'static> From<E> for Error {
    fn from(error: E) -> Self {
        let mut text = of_the_gateway(&error).unwrap_or_else(|| error.to_string());
        let mut source = error.source();
        while let Some(cause) = source {
            // Writing to a String cannot fail.
            let _ = write!(text, ": {cause}");
            source = cause.source();
        }
        Self { text }
    }
}

/// The errors of the gateway's calls say no more of themselves than their name.
#[inline]
fn of_the_gateway<E: 'static>(error: &E) -> Option<String> {
    let error: &dyn Any = error;
    if let Some(error) = error.downcast_ref::<key_value::Error>() {
        return Some(match error {
            key_value::Error::Denied => "key-value: denied: `allow.key_value` does not name the store".to_owned(),
            key_value::Error::Invalid(why) => format!("key-value: {why}"),
            key_value::Error::TooLarge => "key-value: the key or the value is too large".to_owned(),
            key_value::Error::Unavailable(why) => format!("key-value: unavailable: {why}"),
        });
    }
    if let Some(error) = error.downcast_ref::<messaging::Error>() {
        let text = match error {
            messaging::Error::Denied => "denied: `allow.topics` or `allow.send` does not grant it, or it is no topic",
            messaging::Error::NotFound => "there is no such connection",
            messaging::Error::QueueFull => "too much is waiting already",
            messaging::Error::TooLarge => "the message is too large",
        };
        return Some(format!("messaging: {text}"));
    }
    Some(match error.downcast_ref::<http::Error>()? {
        http::Error::Denied => "http: denied: `allow.http` does not name the origin".to_owned(),
        http::Error::Invalid(why) => format!("http: {why}"),
        http::Error::Timeout => "http: timeout".to_owned(),
        http::Error::TooLarge => "http: the request or its response is too large".to_owned(),
        http::Error::Unavailable(why) => format!("http: unavailable: {why}"),
    })
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
    fn errors_of_the_gateway_say_what_is_missing() {
        let error = Error::from(key_value::Error::Denied).to_string();
        assert_eq!(error, "key-value: denied: `allow.key_value` does not name the store");
        assert_eq!(Error::from(messaging::Error::NotFound).to_string(), "messaging: there is no such connection");
        assert_eq!(Error::from(http::Error::Invalid("no host".into())).to_string(), "http: no host");
    }

    #[test]
    fn context_comes_before_the_error() {
        assert_eq!(Error::new("no room").context("saving").to_string(), "saving: no room");
    }
}
