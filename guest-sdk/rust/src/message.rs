//! Messages, and what is done with them.

use crate::{Action, CloseInfo, Direction, Message, Verdict};

impl Message {
    /// The text, where this is a text message.
    pub fn as_text(&self) -> Option<&str> {
        match self {
            Self::Text(text) => Some(text),
            Self::Binary(_) => None,
        }
    }

    /// The payload of either kind.
    pub fn as_bytes(&self) -> &[u8] {
        match self {
            Self::Text(text) => text.as_bytes(),
            Self::Binary(bytes) => bytes,
        }
    }
}

impl From<String> for Message {
    fn from(text: String) -> Self {
        Self::Text(text)
    }
}

impl From<&str> for Message {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

impl From<Vec<u8>> for Message {
    fn from(bytes: Vec<u8>) -> Self {
        Self::Binary(bytes)
    }
}

impl Direction {
    /// `"to_upstream"` or `"to_client"`: the names that configurations and metrics use.
    pub const fn name(self) -> &'static str {
        match self {
            Self::ToUpstream => "to_upstream",
            Self::ToClient => "to_client",
        }
    }
}

impl CloseInfo {
    /// A close with this code and reason.
    pub fn new(code: u16, reason: impl Into<String>) -> Self {
        Self { code, reason: reason.into() }
    }
}

impl Verdict {
    /// Sends this message on instead of the one that came.
    pub fn replace(message: impl Into<Message>) -> Self {
        Self::Replace(message.into())
    }

    /// Sends this message back to where the one that came is from.
    pub fn reply(message: impl Into<Message>) -> Self {
        Self::Reply(message.into())
    }

    /// Closes the connection with this code and reason.
    pub fn close(code: u16, reason: impl Into<String>) -> Self {
        Self::Close(CloseInfo::new(code, reason))
    }
}

impl Action {
    /// Sends this message to the client.
    pub fn to_client(message: impl Into<Message>) -> Self {
        Self::ToClient(message.into())
    }

    /// Sends this message to the upstream.
    pub fn to_upstream(message: impl Into<Message>) -> Self {
        Self::ToUpstream(message.into())
    }

    /// Closes the connection with this code and reason.
    pub fn close(code: u16, reason: impl Into<String>) -> Self {
        Self::Close(CloseInfo::new(code, reason))
    }
}
