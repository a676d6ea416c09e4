//! Messages: what is in them, and making them.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{Direction, Error, Message};

impl Message {
    /// A text message of this value as JSON. A [`Value`] converts by itself.
    ///
    /// ```
    /// use serde::Serialize;
    /// use wsgate_sdk::prelude::*;
    ///
    /// #[derive(Serialize)]
    /// struct Ack { seen: u64 }
    ///
    /// assert_eq!(Message::json_of(&Ack { seen: 7 })?, r#"{"seen":7}"#.into());
    /// assert_eq!(Message::from(json!({ "seen": 7 })), r#"{"seen":7}"#.into());
    /// # Ok::<(), Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// Where the value cannot be written as JSON: a map whose keys are no text.
    pub fn json_of(value: &impl Serialize) -> Result<Self, Error> {
        Ok(Self::Text(serde_json::to_string(value)?))
    }

    /// Reads the payload, of either kind, as JSON. What the type borrows is not copied. Nesting is limited to 128.
    ///
    /// ```
    /// use serde::Deserialize;
    /// use wsgate_sdk::Message;
    ///
    /// #[derive(Deserialize)]
    /// struct Op<'a> { op: &'a str }
    ///
    /// let message = Message::from(r#"{ "op": "join", "room": 7 }"#);
    /// assert_eq!(message.json::<Op>()?.op, "join");
    ///
    /// let error = Message::from(r#"{ "op": 7 }"#).json::<Op>().map(|_| ()).unwrap_err();
    /// assert_eq!(error.to_string(), "expected a borrowed string at line 1 column 9");
    /// # Ok::<(), wsgate_sdk::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// Where it is no JSON, or does not fit the type. The error does not repeat what was found, which may be secret.
    pub fn json<'a, T: Deserialize<'a>>(&'a self) -> Result<T, Error> {
        crate::json::read(self.as_bytes())
    }

    /// The text, where this is a text message.
    pub fn as_text(&self) -> Option<&str> {
        match self {
            Self::Text(text) => Some(text),
            Self::Binary(_) => None,
        }
    }

    /// The same, without a copy.
    pub fn into_text(self) -> Option<String> {
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

    /// The same, without a copy.
    pub fn into_bytes(self) -> Vec<u8> {
        match self {
            Self::Text(text) => text.into_bytes(),
            Self::Binary(bytes) => bytes,
        }
    }

    /// How many bytes the payload has.
    pub fn len(&self) -> usize {
        self.as_bytes().len()
    }

    /// Whether there is no payload.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
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

impl From<&[u8]> for Message {
    fn from(bytes: &[u8]) -> Self {
        Self::Binary(bytes.to_vec())
    }
}

/// A text message.
impl From<Value> for Message {
    fn from(value: Value) -> Self {
        Self::Text(value.to_string())
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_is_read_from_messages_of_either_kind() {
        let numbers = vec![1, 2];
        assert_eq!(Message::json_of(&numbers).unwrap(), Message::Text("[1,2]".into()));
        assert_eq!(Message::from("[1,2]").json::<Vec<u8>>().unwrap(), numbers);
        assert_eq!(Message::from(b"[1,2]".to_vec()).json::<Vec<u8>>().unwrap(), numbers);
        assert!(Message::from(vec![0xff]).json::<Vec<u8>>().is_err());
    }

    #[test]
    fn a_map_without_text_for_keys_is_no_json() {
        let map = std::collections::BTreeMap::from([(vec![1], 1)]);
        assert_eq!(Message::json_of(&map).unwrap_err().to_string(), "key must be a string");
    }

    #[test]
    fn a_payload_is_taken_out_of_its_message() {
        assert_eq!(Message::from("é").into_text().as_deref(), Some("é"));
        assert_eq!(Message::from(vec![1]).into_text(), None);
        assert_eq!(Message::from("é").into_bytes(), "é".as_bytes());
        assert_eq!((Message::from("é").len(), Message::from("").is_empty()), (2, true));
    }
}
