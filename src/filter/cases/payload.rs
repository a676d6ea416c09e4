//! Messages as `cases.toml` writes them.

use std::fmt;

use serde::{
    Deserialize, Deserializer,
    de::{Error, MapAccess, Visitor, value::MapAccessDeserializer},
};
use serde_json::Value;

use crate::{config::to_json, filter::host::logging::printable, message::Message};

/// So much of a message is shown.
const SHOWN_BYTES: usize = 400;
/// So much of a binary one.
const SHOWN_BINARY_BYTES: usize = 48;
const FORMS: &str = "a message; write \"text\", { json = … }, { hex = \"00ff\" } or { base64 = \"AP8=\" }";

/// A message that is sent, or one that is expected.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Payload {
    Text(String),
    /// Text; compared as JSON.
    Json(Value),
    Binary(Vec<u8>),
}

impl Payload {
    pub(super) fn message(&self) -> Message {
        match self {
            Self::Text(text) => Message::text(text.clone()),
            Self::Json(value) => Message::text(value.to_string()),
            Self::Binary(bytes) => Message::binary(bytes.clone()),
        }
    }

    pub(super) fn bytes(&self) -> Vec<u8> {
        match self {
            Self::Text(text) => text.clone().into_bytes(),
            Self::Json(value) => value.to_string().into_bytes(),
            Self::Binary(bytes) => bytes.clone(),
        }
    }

    pub(super) fn matches(&self, message: &Message) -> bool {
        match (self, message) {
            (Self::Text(text), Message::Text(found)) => **found == **text,
            (Self::Json(_), Message::Text(found)) => self.matches_bytes(found.as_bytes()),
            (Self::Binary(bytes), Message::Binary(found)) => found == bytes,
            (Self::Text(_) | Self::Json(_), Message::Binary(_)) | (Self::Binary(_), Message::Text(_)) => false,
        }
    }

    /// Where nothing says whether it is text.
    pub(super) fn matches_bytes(&self, found: &[u8]) -> bool {
        match self {
            Self::Text(text) => found == text.as_bytes(),
            Self::Json(value) => serde_json::from_slice::<Value>(found).is_ok_and(|found| found == *value),
            Self::Binary(bytes) => found == bytes,
        }
    }
}

impl fmt::Display for Payload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text(_) | Self::Binary(_) => f.write_str(&shown(&self.message())),
            Self::Json(value) => write!(f, "json {}", printable(&value.to_string(), SHOWN_BYTES)),
        }
    }
}

/// For people.
pub(super) fn shown(message: &Message) -> String {
    match message {
        Message::Text(text) => format!("text {}", printable(text, SHOWN_BYTES)),
        Message::Binary(bytes) => {
            let cut = &bytes[..bytes.len().min(SHOWN_BINARY_BYTES)];
            let more = if cut.len() < bytes.len() { "…" } else { "" };
            format!("binary {}{more} ({} bytes)", data_encoding::HEXLOWER.encode(cut), bytes.len())
        }
    }
}

/// Bytes of which nobody says whether they are text.
pub(super) fn shown_bytes(bytes: &[u8]) -> String {
    match std::str::from_utf8(bytes) {
        Ok(text) => shown(&Message::text(text.to_owned())),
        Err(_) => shown(&Message::binary(bytes.to_vec())),
    }
}

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct RawPayload {
    text: Option<String>,
    json: Option<toml::Value>,
    hex: Option<String>,
    base64: Option<String>,
}

impl RawPayload {
    fn read(self) -> Result<Payload, String> {
        match self {
            Self { text: Some(text), json: None, hex: None, base64: None } => Ok(Payload::Text(text)),
            Self { text: None, json: Some(json), hex: None, base64: None } => {
                to_json(&json).map(Payload::Json).ok_or_else(|| "JSON has no such number (nan or inf)".to_owned())
            }
            Self { text: None, json: None, hex: Some(hex), base64: None } => {
                let bytes = data_encoding::HEXLOWER_PERMISSIVE.decode(hex.as_bytes());
                bytes.map(Payload::Binary).map_err(|error| format!("{hex:?} is not hexadecimal: {error}"))
            }
            Self { text: None, json: None, hex: None, base64: Some(text) } => {
                let bytes = data_encoding::BASE64.decode(text.as_bytes());
                bytes.map(Payload::Binary).map_err(|error| format!("{text:?} is not base64: {error}"))
            }
            Self { .. } => Err(format!("not {FORMS}: exactly one of text, json, hex and base64")),
        }
    }
}

impl<'de> Deserialize<'de> for Payload {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct PayloadVisitor;
        impl<'de> Visitor<'de> for PayloadVisitor {
            type Value = Payload;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(FORMS)
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Payload, E> {
                Ok(Payload::Text(text.to_owned()))
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Payload, A::Error> {
                RawPayload::deserialize(MapAccessDeserializer::new(map))?.read().map_err(Error::custom)
            }
        }
        deserializer.deserialize_any(PayloadVisitor)
    }
}

/// What is expected of a key of a store.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Stored {
    Absent,
    Value(Payload),
}

impl<'de> Deserialize<'de> for Stored {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct StoredVisitor;
        impl<'de> Visitor<'de> for StoredVisitor {
            type Value = Stored;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "false (there is no such key) or {FORMS}")
            }

            fn visit_bool<E: Error>(self, there: bool) -> Result<Stored, E> {
                if there {
                    Err(E::custom("write the value that is expected, or false for none"))
                } else {
                    Ok(Stored::Absent)
                }
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Stored, E> {
                Ok(Stored::Value(Payload::Text(text.to_owned())))
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Stored, A::Error> {
                Payload::deserialize(MapAccessDeserializer::new(map)).map(Stored::Value)
            }
        }
        deserializer.deserialize_any(StoredVisitor)
    }
}
