//! What happens in a case, and what is expected then.

use std::{collections::BTreeMap, fmt};

use serde::{
    Deserialize, Deserializer,
    de::{Error, MapAccess, Visitor, value::MapAccessDeserializer},
};
use toml::Spanned;

use super::{
    effects::{Closed, Effects, Expected, Published, Request, Sent, Subscription},
    expect::Expect,
    format::RawIdentity,
    payload::{Payload, Stored},
};
use crate::{
    filter::{Closer, Identity},
    message::Direction,
};

/// `[[case.step]]`
#[derive(Clone, Debug, Deserialize)]
#[serde(try_from = "RawStep")]
pub(super) struct Step {
    pub(super) name: Option<String>,
    pub(super) now_ms: Option<u64>,
    pub(super) input: Input,
    pub(super) expect: Option<Spanned<Expect>>,
    pub(super) effects: Effects,
}

#[derive(Clone, Debug)]
pub(super) enum Input {
    Message(Direction, Payload),
    Delivery {
        topic: String,
        message: Payload,
    },
    Tick,
    Identity(Identity),
    /// With this configuration, if another.
    Reload(Option<toml::Table>),
    Close {
        by: Closer,
        code: u16,
        reason: String,
    },
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawStep {
    name: Option<String>,
    now_ms: Option<u64>,
    message: Option<Payload>,
    direction: Option<Way>,
    delivery: Option<Delivery>,
    tick: Option<bool>,
    identity: Option<RawIdentity>,
    reload: Option<Reload>,
    close: Option<RawClose>,
    expect: Option<Spanned<Expect>>,
    published: Expected<Vec<Published>>,
    sent: Expected<Vec<Sent>>,
    closed: Expected<Vec<Closed>>,
    subscribed: Expected<Vec<Subscription>>,
    unsubscribed: Expected<Vec<Subscription>>,
    stores: Expected<BTreeMap<String, BTreeMap<String, Stored>>>,
    http: Expected<Vec<Request>>,
    log: Expected<Vec<String>>,
    reason: Expected<String>,
    metrics: Expected<BTreeMap<String, u64>>,
}

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Way {
    ToUpstream,
    ToClient,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Delivery {
    topic: String,
    message: Payload,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawClose {
    #[serde(default)]
    by: By,
    #[serde(default = "normal")]
    code: u16,
    #[serde(default)]
    reason: String,
}

fn normal() -> u16 {
    1000
}

#[derive(Clone, Copy, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
enum By {
    #[default]
    Client,
    Upstream,
    Gateway,
    Filter,
}

impl TryFrom<RawStep> for Step {
    type Error = String;

    fn try_from(raw: RawStep) -> Result<Self, String> {
        if raw.direction.is_some() && raw.message.is_none() {
            return Err("direction is of a message, which this step does not have".to_owned());
        }
        let direction = match raw.direction {
            None | Some(Way::ToUpstream) => Direction::ToUpstream,
            Some(Way::ToClient) => Direction::ToClient,
        };
        let inputs = [
            raw.message.map(|message| Input::Message(direction, message)),
            raw.delivery.map(|Delivery { topic, message }| Input::Delivery { topic, message }),
            raw.tick.filter(|tick| *tick).map(|_| Input::Tick),
            raw.identity.map(|identity| identity.read().map(Input::Identity)).transpose()?,
            raw.reload.and_then(|Reload(reload)| reload).map(Input::Reload),
            raw.close.map(|close| Input::Close { by: close.by.into(), code: close.code, reason: close.reason }),
        ];
        let mut inputs = inputs.into_iter().flatten();
        let (Some(input), None) = (inputs.next(), inputs.next()) else {
            return Err("exactly one thing happens in a step; write one of message, delivery, tick = true, identity, \
                        reload = true and close"
                .to_owned());
        };
        if let Some(expect) = &raw.expect {
            input.may_expect(expect.get_ref())?;
        }
        let effects = Effects {
            published: raw.published,
            sent: raw.sent,
            closed: raw.closed,
            subscribed: raw.subscribed,
            unsubscribed: raw.unsubscribed,
            stores: raw.stores,
            http: raw.http,
            log: raw.log,
            reason: raw.reason,
            metrics: raw.metrics,
        };
        Ok(Self { name: raw.name, now_ms: raw.now_ms, input, expect: raw.expect, effects })
    }
}

impl Input {
    /// For people.
    pub(super) fn label(&self) -> &'static str {
        match self {
            Self::Message(Direction::ToUpstream, _) => "message",
            Self::Message(Direction::ToClient, _) => "message to the client",
            Self::Delivery { .. } => "delivery",
            Self::Tick => "tick",
            Self::Identity(_) => "identity",
            Self::Reload(_) => "reload",
            Self::Close { .. } => "close",
        }
    }

    fn may_expect(&self, expect: &Expect) -> Result<(), String> {
        let accepted = match self {
            Self::Message(..) => &["forward", "drop", "replace", "reply", "route", "act", "close", "error"][..],
            Self::Delivery { .. } => &["forward", "drop", "replace", "act", "close", "error"],
            Self::Tick | Self::Identity(_) => &["nothing", "act", "close", "error"],
            Self::Reload(_) => &["moved", "kept", "close", "error"],
            Self::Close { .. } => &["error"],
        };
        if accepted.contains(&expect.label()) {
            return Ok(());
        }
        let (label, what) = (expect.label(), self.label());
        Err(format!("expect: {label:?} cannot come of a {what}; accepted here: {}", accepted.join(", ")))
    }
}

impl From<By> for Closer {
    fn from(by: By) -> Self {
        match by {
            By::Client => Self::Client,
            By::Upstream => Self::Upstream,
            By::Gateway => Self::Gateway,
            By::Filter => Self::Filter,
        }
    }
}

/// `None`: `reload = false`.
struct Reload(Option<Option<toml::Table>>);

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ReloadTable {
    config: Option<toml::Table>,
}

impl<'de> Deserialize<'de> for Reload {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct ReloadVisitor;
        impl<'de> Visitor<'de> for ReloadVisitor {
            type Value = Reload;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("true, or { config = { … } }")
            }

            fn visit_bool<E: Error>(self, reload: bool) -> Result<Reload, E> {
                Ok(Reload(reload.then_some(None)))
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Reload, A::Error> {
                let table = ReloadTable::deserialize(MapAccessDeserializer::new(map))?;
                Ok(Reload(Some(table.config)))
            }
        }
        deserializer.deserialize_any(ReloadVisitor)
    }
}
