//! What can be expected of a step.

use std::fmt;

use serde::{
    Deserialize, Deserializer,
    de::{Error, MapAccess, Visitor, value::MapAccessDeserializer},
};

use super::payload::Payload;

#[derive(Clone, Debug)]
pub(super) enum Expect {
    Forward,
    Drop,
    Nothing,
    Moved,
    Kept,
    Replace(Payload),
    Reply(Payload),
    Route { upstream: String, message: Option<Payload> },
    Act(Vec<Action>),
    Close(Closing),
    Error(String),
}

#[derive(Clone, Debug)]
pub(super) enum Action {
    ToClient(Payload),
    ToUpstream(Payload),
    Close(Closing),
}

/// A close that is expected.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Closing {
    pub(super) code: u16,
    pub(super) reason: Option<String>,
}

impl Expect {
    /// As it is written.
    pub(super) fn label(&self) -> &'static str {
        match self {
            Self::Forward => "forward",
            Self::Drop => "drop",
            Self::Nothing => "nothing",
            Self::Moved => "moved",
            Self::Kept => "kept",
            Self::Replace(_) => "replace",
            Self::Reply(_) => "reply",
            Self::Route { .. } => "route",
            Self::Act(_) => "act",
            Self::Close(_) => "close",
            Self::Error(_) => "error",
        }
    }
}

const EXPECTATIONS: &str = "\"forward\", \"drop\", \"nothing\", \"moved\", \"kept\", or a table with one of replace, \
                            reply, route, act, close and error";

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct RawExpect {
    replace: Option<Payload>,
    reply: Option<Payload>,
    route: Option<String>,
    message: Option<Payload>,
    act: Option<Vec<Action>>,
    close: Option<Closing>,
    error: Option<String>,
}

impl RawExpect {
    fn read(self) -> Option<Expect> {
        let message = self.message;
        let has_message = message.is_some();
        let forms = [
            self.replace.map(Expect::Replace),
            self.reply.map(Expect::Reply),
            self.route.map(|upstream| Expect::Route { upstream, message }),
            self.act.map(Expect::Act),
            self.close.map(Expect::Close),
            self.error.map(Expect::Error),
        ];
        let mut forms = forms.into_iter().flatten();
        match (forms.next(), forms.next()) {
            (Some(form @ Expect::Route { .. }), None) => Some(form),
            (Some(form), None) if !has_message => Some(form),
            (Some(_) | None, _) => None,
        }
    }
}

impl<'de> Deserialize<'de> for Expect {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct ExpectVisitor;
        impl<'de> Visitor<'de> for ExpectVisitor {
            type Value = Expect;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "what can be expected; write {EXPECTATIONS}")
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Expect, E> {
                Ok(match text {
                    "forward" => Expect::Forward,
                    "drop" => Expect::Drop,
                    "nothing" => Expect::Nothing,
                    "moved" => Expect::Moved,
                    "kept" => Expect::Kept,
                    other => return Err(E::custom(format!("{other:?} cannot be expected; write {EXPECTATIONS}"))),
                })
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Expect, A::Error> {
                let raw = RawExpect::deserialize(MapAccessDeserializer::new(map))?;
                raw.read().ok_or_else(|| Error::custom(format!("not one expectation; write {EXPECTATIONS}")))
            }
        }
        deserializer.deserialize_any(ExpectVisitor)
    }
}

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct RawAction {
    to_client: Option<Payload>,
    to_upstream: Option<Payload>,
    close: Option<Closing>,
}

impl<'de> Deserialize<'de> for Action {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match RawAction::deserialize(deserializer)? {
            RawAction { to_client: Some(message), to_upstream: None, close: None } => Ok(Self::ToClient(message)),
            RawAction { to_client: None, to_upstream: Some(message), close: None } => Ok(Self::ToUpstream(message)),
            RawAction { to_client: None, to_upstream: None, close: Some(close) } => Ok(Self::Close(close)),
            RawAction { .. } => Err(Error::custom("not an action; write one of to_client, to_upstream and close")),
        }
    }
}
