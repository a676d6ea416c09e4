//! What travels: whole messages, their direction, and how a connection is closed.

use bytes::Bytes;
use tokio_tungstenite::tungstenite::Utf8Bytes;

/// Which way a message travels.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Direction {
    /// From the client to the upstream.
    ToUpstream,
    /// From the upstream to the client.
    ToClient,
}

impl Direction {
    /// The way back.
    #[must_use]
    pub fn opposite(self) -> Self {
        match self {
            Self::ToUpstream => Self::ToClient,
            Self::ToClient => Self::ToUpstream,
        }
    }

    /// The label in metrics and logs.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::ToUpstream => "to_upstream",
            Self::ToClient => "to_client",
        }
    }
}

/// Text or binary.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Kind {
    /// UTF-8 text.
    Text,
    /// Bytes.
    Binary,
}

impl Kind {
    /// The label in metrics and logs.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::Text => "text",
            Self::Binary => "binary",
        }
    }
}

/// One whole message, its fragments joined. Cloning shares the bytes.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Message {
    /// UTF-8 text, checked.
    Text(Utf8Bytes),
    /// Bytes.
    Binary(Bytes),
}

impl Message {
    /// What a waiting message takes beyond its bytes, about.
    pub const OVERHEAD_BYTES: usize = 64;

    /// A text message.
    pub fn text(text: impl Into<Utf8Bytes>) -> Self {
        Self::Text(text.into())
    }

    /// A binary message.
    pub fn binary(bytes: impl Into<Bytes>) -> Self {
        Self::Binary(bytes.into())
    }

    /// Text or binary.
    #[must_use]
    pub fn kind(&self) -> Kind {
        match self {
            Self::Text(_) => Kind::Text,
            Self::Binary(_) => Kind::Binary,
        }
    }

    /// Payload length in bytes.
    #[must_use]
    pub fn len(&self) -> usize {
        match self {
            Self::Text(text) => text.len(),
            Self::Binary(bytes) => bytes.len(),
        }
    }

    /// What it counts where it waits: an empty message takes memory too, so that a queue of them has a bound.
    #[must_use]
    pub fn queued_bytes(&self) -> usize {
        self.len() + Self::OVERHEAD_BYTES
    }

    /// True for an empty payload.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// The content of a Close frame (RFC 6455 section 5.5.1). `code` is `None` where the frame was empty (shown as 1005).
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct CloseFrame {
    /// The status code, absent in an empty Close frame.
    pub code: Option<u16>,
    /// At most [`CloseFrame::MAX_REASON_BYTES`] bytes.
    pub reason: String,
}

impl CloseFrame {
    /// A control frame carries 125 bytes, two of which are the code.
    pub const MAX_REASON_BYTES: usize = 123;

    /// A Close frame with a code; the reason is cut to what fits, at a character.
    #[must_use]
    pub fn new(code: u16, reason: &str) -> Self {
        let end = reason.floor_char_boundary(Self::MAX_REASON_BYTES);
        Self { code: Some(code), reason: reason[..end].to_owned() }
    }

    /// May a peer send this code (RFC 6455 section 7.4 and the registry that it founded)?
    /// 1004, 1005, 1006 and 1015 are reserved and never appear on the wire.
    #[must_use]
    pub fn is_sendable(code: u16) -> bool {
        matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999)
    }

    /// The code as filters, logs and metrics see it: 1005 where there was none.
    #[must_use]
    pub fn code_or_1005(&self) -> u16 {
        self.code.unwrap_or(1005)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_is_cut_at_a_character() {
        let frame = CloseFrame::new(4000, &"é".repeat(100));
        assert_eq!(frame.reason.len(), 122);
    }

    #[test]
    fn reserved_codes_are_not_sendable() {
        for code in [0, 999, 1004, 1005, 1006, 1015, 1016, 2500, 2999, 5000] {
            assert!(!CloseFrame::is_sendable(code), "{code}");
        }
        for code in [1000, 1001, 1011, 1014, 3000, 4999] {
            assert!(CloseFrame::is_sendable(code), "{code}");
        }
    }
}
