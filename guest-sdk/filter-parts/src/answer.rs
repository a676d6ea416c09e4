//! What is done with a message that a filter does not let pass.

use std::fmt;

use serde::Deserialize;
use serde::de::{self, Deserializer, MapAccess, Visitor};
use serde_json::Value;
use wsgate_sdk::{CloseInfo, Verdict};

use crate::Pointer;
use crate::json::{Json, Names, quoted};

/// Longest value that a reply repeats from a message: enough for an id, and no way to make the gateway repeat megabytes.
const MAX_REPEATED_BYTES: usize = 1_024;
/// Longest reason of a Close frame (RFC 6455, section 5.5).
const MAX_REASON_BYTES: usize = 123;

/// What to do: in a configuration `"forward"`, `"drop"`, `"close"`, `{ close = 4403, reason = "…" }` or `{ reply = … }`.
///
/// A reply is a text, sent as it is, or a table, sent as JSON. In a table a text that begins with `$/` stands for what
/// this JSON pointer names in the message, and another that begins with `$` for a fact that the filter knows; `$$` is a
/// dollar sign.
#[derive(Clone, Debug, PartialEq)]
pub enum Answer {
    /// Let it pass all the same.
    Forward,
    /// It goes no further.
    Drop,
    /// Close the connection. What is not given is the filter's choice.
    Close {
        /// The close code.
        code: Option<u16>,
        /// The reason.
        reason: Option<String>,
    },
    /// Send this back to where the message came from.
    Reply(Reply),
}

/// A reply, its gaps known.
#[derive(Clone, Debug, PartialEq)]
pub struct Reply(Vec<Piece>);

#[derive(Clone, Debug, PartialEq)]
enum Piece {
    Text(String),
    Place(Pointer),
    Fact(String),
}

/// What a reply can tell.
#[derive(Clone, Copy, Debug, Default)]
pub struct Facts<'a> {
    /// The message, where it is JSON.
    pub json: Option<Json<'a>>,
    /// Names and JSON values.
    pub known: &'a [(&'a str, String)],
}

impl Answer {
    /// What the gateway is to do. `close` is how to close where the configuration does not say.
    pub fn verdict(&self, facts: Facts<'_>, close: (u16, &str)) -> Verdict {
        match self {
            Self::Forward => Verdict::Forward,
            Self::Drop => Verdict::Drop,
            Self::Close { .. } => Verdict::Close(self.close_info(close)),
            Self::Reply(reply) => Verdict::reply(reply.text(facts)),
        }
    }

    /// How to close a connection: as configured, where closing is what is configured.
    pub fn close_info(&self, (default_code, default_reason): (u16, &str)) -> CloseInfo {
        match self {
            Self::Close { code, reason } => {
                CloseInfo::new(code.unwrap_or(default_code), reason.as_deref().unwrap_or(default_reason))
            }
            Self::Forward | Self::Drop | Self::Reply(_) => CloseInfo::new(default_code, default_reason),
        }
    }

    /// A short name, for labels of metrics.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Forward => "forward",
            Self::Drop => "drop",
            Self::Close { .. } => "close",
            Self::Reply(_) => "reply",
        }
    }

    /// Checks that a reply asks for no other facts than these.
    ///
    /// # Errors
    ///
    /// The fact that is not known, and those that are.
    pub fn check(&self, known: &[&str]) -> Result<(), String> {
        let Self::Reply(Reply(pieces)) = self else {
            return Ok(());
        };
        let unknown = pieces.iter().find_map(|piece| match piece {
            Piece::Fact(name) if !known.contains(&name.as_str()) => Some(name),
            Piece::Fact(_) | Piece::Text(_) | Piece::Place(_) => None,
        });
        match unknown {
            None => Ok(()),
            Some(name) => {
                let known: String = known.iter().map(|name| format!("`${name}`, ")).collect();
                Err(format!("reply: `${name}` is not known here; {known}`$/…` and `$$…` are"))
            }
        }
    }
}

impl Reply {
    fn text(&self, facts: Facts<'_>) -> String {
        let mut text = String::new();
        for piece in &self.0 {
            match piece {
                Piece::Text(piece) => text.push_str(piece),
                Piece::Fact(name) => {
                    let fact = facts.known.iter().find(|(known, _)| known == name);
                    text.push_str(fact.map_or("null", |(_, value)| value));
                }
                Piece::Place(pointer) => {
                    let value = facts.json.and_then(|json| json.find(pointer, Names::Exact).value());
                    let value = value.map(|value| value.text()).filter(|value| value.len() <= MAX_REPEATED_BYTES);
                    text.push_str(value.unwrap_or("null"));
                }
            }
        }
        text
    }

    fn new(document: &Value) -> Result<Self, String> {
        let mut pieces = Pieces::default();
        match document {
            Value::String(text) => pieces.now.push_str(text),
            other => pieces.write(other)?,
        }
        pieces.end();
        Ok(Self(pieces.done))
    }
}

#[derive(Default)]
struct Pieces {
    done: Vec<Piece>,
    now: String,
}

impl Pieces {
    fn end(&mut self) {
        if !self.now.is_empty() {
            self.done.push(Piece::Text(std::mem::take(&mut self.now)));
        }
    }

    /// The document is the operator's and no deeper than the reader of the configuration allows.
    fn write(&mut self, value: &Value) -> Result<(), String> {
        match value {
            Value::Object(members) => {
                self.now.push('{');
                for (at, (name, value)) in members.iter().enumerate() {
                    self.now.push_str(if at > 0 { "," } else { "" });
                    self.now.push_str(&quoted(name));
                    self.now.push(':');
                    self.write(value)?;
                }
                self.now.push('}');
            }
            Value::Array(elements) => {
                self.now.push('[');
                for (at, element) in elements.iter().enumerate() {
                    self.now.push_str(if at > 0 { "," } else { "" });
                    self.write(element)?;
                }
                self.now.push(']');
            }
            Value::String(text) => self.gap(text)?,
            Value::Null | Value::Bool(_) | Value::Number(_) => self.now.push_str(&value.to_string()),
        }
        Ok(())
    }

    fn gap(&mut self, text: &str) -> Result<(), String> {
        let piece = match text.strip_prefix('$') {
            None => {
                self.now.push_str(&quoted(text));
                return Ok(());
            }
            Some(literal) if literal.starts_with('$') => {
                self.now.push_str(&quoted(literal));
                return Ok(());
            }
            Some(pointer) if pointer.starts_with('/') => {
                Piece::Place(pointer.parse().map_err(|error| format!("{error}"))?)
            }
            Some(fact) => Piece::Fact(fact.to_owned()),
        };
        self.end();
        self.done.push(piece);
        Ok(())
    }
}

impl<'de> Deserialize<'de> for Answer {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_any(AnswerVisitor)
    }
}

struct AnswerVisitor;

#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
enum Key {
    Close,
    Reason,
    Reply,
}

impl<'de> Visitor<'de> for AnswerVisitor {
    type Value = Answer;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("\"forward\", \"drop\", \"close\", { close = CODE, reason = TEXT } or { reply = DOCUMENT }")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Answer, E> {
        match text {
            "forward" => Ok(Answer::Forward),
            "drop" => Ok(Answer::Drop),
            "close" => Ok(Answer::Close { code: None, reason: None }),
            other => Err(E::invalid_value(de::Unexpected::Str(other), &self)),
        }
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Answer, A::Error> {
        let (mut code, mut reason, mut reply) = (None, None, None);
        while let Some(key) = map.next_key()? {
            match key {
                Key::Close => code = Some(checked_code(map.next_value()?).map_err(de::Error::custom)?),
                Key::Reason => reason = Some(checked_reason(map.next_value()?).map_err(de::Error::custom)?),
                Key::Reply => reply = Some(Reply::new(&map.next_value()?).map_err(de::Error::custom)?),
            }
        }
        match (code, reason, reply) {
            (None, None, Some(reply)) => Ok(Answer::Reply(reply)),
            (Some(code), reason, None) => Ok(Answer::Close { code: Some(code), reason }),
            (None, Some(_), _) => Err(de::Error::custom("`reason` belongs to `close`")),
            (Some(_), _, Some(_)) => Err(de::Error::custom("`close` or `reply`, not both")),
            (None, None, None) => Err(de::Error::invalid_length(0, &self)),
        }
    }
}

fn checked_code(code: u16) -> Result<u16, String> {
    match code {
        1000..=1003 | 1007..=1014 | 3000..=4999 => Ok(code),
        other => Err(format!("{other} is no close code that may be sent; 1000-1003, 1007-1014 and 3000-4999 are")),
    }
}

fn checked_reason(reason: String) -> Result<String, String> {
    match reason.len() <= MAX_REASON_BYTES {
        true => Ok(reason),
        false => Err(format!("a reason has at most {MAX_REASON_BYTES} bytes, this one {}", reason.len())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(json: &str) -> Answer {
        serde_json::from_str(json).unwrap()
    }

    fn reply(json: &str, message: &str, known: &[(&str, String)]) -> String {
        let json = answer(&format!("{{\"reply\":{json}}}"));
        let facts = Facts { json: Json::check(message, 9).ok(), known };
        match json.verdict(facts, (1008, "")) {
            Verdict::Reply(message) => message.as_text().unwrap().to_owned(),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn each_form_is_carried_out() {
        let verdict = |json: &str| answer(json).verdict(Facts::default(), (1008, "no"));
        assert_eq!(verdict("\"forward\""), Verdict::Forward);
        assert_eq!(verdict("\"drop\""), Verdict::Drop);
        assert_eq!(verdict("\"close\""), Verdict::close(1008, "no"));
        assert_eq!(verdict("{\"close\":4403}"), Verdict::close(4403, "no"));
        assert_eq!(verdict("{\"close\":4403,\"reason\":\"never\"}"), Verdict::close(4403, "never"));
        assert_eq!(verdict("{\"reply\":\"$denied\"}"), Verdict::reply("$denied"));
    }

    #[test]
    fn a_reply_repeats_parts_of_the_message_and_tells_facts() {
        let document = r#"{"error":{"why":"$why","list":["$/params/0",1,null,"$$5"]},"id":"$/id"}"#;
        let message = r#"{"id": 1.0 ,"params":["a\"b"]}"#;
        assert_eq!(
            reply(document, message, &[("why", "\"x\"".to_owned())]),
            r#"{"error":{"list":["a\"b",1,null,"$5"],"why":"x"},"id":1.0}"#
        );
        assert_eq!(reply("{\"id\":\"$/id\"}", "no json", &[]), "{\"id\":null}");
        assert_eq!(reply("{\"id\":\"$/id\"}", r#"{"id":1,"id":2}"#, &[]), "{\"id\":null}");
        let long = format!("{{\"id\":\"{}\"}}", "x".repeat(1_023));
        assert_eq!(reply("{\"id\":\"$/id\"}", &long, &[]), "{\"id\":null}");
    }

    #[test]
    fn only_facts_that_there_are_can_be_told() {
        let unknown = answer(r#"{ "reply": { "why": "$reasn" } }"#).check(&["reason"]).unwrap_err();
        assert_eq!(unknown, "reply: `$reasn` is not known here; `$reason`, `$/…` and `$$…` are");
        answer(r#"{ "reply": { "why": "$reason", "id": "$/id", "five": "$$5" } }"#).check(&["reason"]).unwrap();
    }

    #[test]
    fn mistakes_say_what_would_be_right() {
        let refused = |json: &str| serde_json::from_str::<Answer>(json).unwrap_err().to_string();
        assert!(refused("\"deny\"").contains("expected \"forward\", \"drop\""));
        assert!(refused("{\"close\":1005}").contains("1005 is no close code that may be sent"));
        assert!(refused("{\"reason\":\"x\"}").contains("`reason` belongs to `close`"));
        assert!(refused("{\"close\":1008,\"reply\":{}}").contains("not both"));
        assert!(refused("{}").contains("expected \"forward\""));
        assert!(
            refused(&format!("{{\"close\":1008,\"reason\":\"{}\"}}", "x".repeat(124))).contains("at most 123 bytes")
        );
        assert!(refused("{\"reply\":{\"id\":\"$/~\"}}").contains("is no JSON pointer"));
        assert!(refused("{\"close\":1008,\"code\":1}").contains("unknown variant `code`"));
    }
}
