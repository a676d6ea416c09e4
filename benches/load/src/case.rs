//! The columns of the table.

use clap::ValueEnum;

use crate::message::Content;

/// What is sent, and how much of it at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Case {
    /// 64 bytes of text, 1 message in flight on each connection.
    #[value(name = "64b-1")]
    Small1,
    /// The same, 32 in flight.
    #[value(name = "64b-32")]
    Small32,
    /// 16 KiB of binary, 1 in flight.
    #[value(name = "16kib-1")]
    Large1,
    /// The same, 4 in flight.
    #[value(name = "16kib-4")]
    Large4,
    /// A JSON text of 140 bytes, 1 in flight.
    #[value(name = "json-1")]
    Json1,
    /// The same, 32 in flight.
    #[value(name = "json-32")]
    Json32,
}

impl Case {
    /// What is sent.
    pub fn content(self) -> Content {
        match self {
            Self::Small1 | Self::Small32 => Content::Text(64),
            Self::Large1 | Self::Large4 => Content::Binary(16 * 1024),
            Self::Json1 | Self::Json32 => Content::Json,
        }
    }

    /// Messages in flight on each connection.
    pub fn in_flight(self) -> usize {
        match self {
            Self::Small1 | Self::Large1 | Self::Json1 => 1,
            Self::Large4 => 4,
            Self::Small32 | Self::Json32 => 32,
        }
    }

    /// As the table shows it.
    pub fn label(self) -> String {
        let content = match self.content() {
            Content::Text(bytes) => format!("{bytes} B text"),
            Content::Binary(bytes) => format!("{} KiB binary", bytes / 1024),
            Content::Json => "JSON 140 B".to_owned(),
        };
        format!("{content}, {} in flight", self.in_flight())
    }
}
