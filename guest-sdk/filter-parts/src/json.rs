//! JSON text (RFC 8259), checked once and then read in place.

mod check;
mod edit;
mod find;
mod value;

use std::fmt::{self, Display};

pub(crate) use edit::quoted;
pub use edit::{Document, Edit};
pub use find::{Found, Names};
pub(crate) use value::same_number;
pub use value::{Elements, Kind, Members, Value};

/// The deepest nesting that [`Json::check`] can be asked to take.
pub const MAX_DEPTH: u8 = 128;

/// A text that is one JSON value, nested no deeper than was allowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Json<'a>(&'a str);

/// Why a text is not taken as JSON.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Invalid {
    /// It is no JSON; the byte at which that shows.
    Syntax {
        /// Offset from the start of the text, in bytes.
        at: usize,
    },
    /// Its arrays and objects are nested deeper than was allowed.
    TooDeep,
}

impl Display for Invalid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Syntax { at } => write!(f, "no JSON from byte {at} on"),
            Self::TooDeep => f.write_str("nested too deeply"),
        }
    }
}

impl<'a> Json<'a> {
    /// Checks the whole text in one pass that does not recurse. Arrays and objects may be `max_depth` deep, at most
    /// [`MAX_DEPTH`].
    ///
    /// # Errors
    ///
    /// Where the text is no JSON, also because something follows the value, or is nested too deeply.
    pub fn check(text: &'a str, max_depth: u8) -> Result<Self, Invalid> {
        check::check(text.as_bytes(), max_depth.min(MAX_DEPTH)).map(|()| Self(text))
    }

    /// The value, without the white space around it.
    pub fn root(self) -> Value<'a> {
        Value::new(self.0)
    }

    /// The text as it was checked.
    pub fn text(self) -> &'a str {
        self.0
    }
}
