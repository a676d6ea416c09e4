//! Effects as `cases.toml` expects them.

use std::{collections::BTreeMap, fmt};

use serde::{
    Deserialize, Deserializer,
    de::{Error, MapAccess, Visitor, value::MapAccessDeserializer},
};
use toml::Spanned;

use super::payload::{Payload, Stored};
use crate::http_client::{CallError, Response};

/// What is expected of one call. What is `None` is not looked at.
#[derive(Clone, Debug, Default)]
pub(super) struct Effects {
    pub(super) published: Expected<Vec<Published>>,
    pub(super) sent: Expected<Vec<Sent>>,
    pub(super) closed: Expected<Vec<Closed>>,
    pub(super) subscribed: Expected<Vec<Subscription>>,
    pub(super) unsubscribed: Expected<Vec<Subscription>>,
    pub(super) stores: Expected<BTreeMap<String, BTreeMap<String, Stored>>>,
    pub(super) http: Expected<Vec<Request>>,
    pub(super) log: Expected<Vec<String>>,
    pub(super) reason: Expected<String>,
    pub(super) metrics: Expected<BTreeMap<String, u64>>,
}

/// With its place in the file.
pub(super) type Expected<T> = Option<Spanned<T>>;

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Published {
    pub(super) topic: String,
    pub(super) message: Payload,
    pub(super) exclude: Option<String>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Sent {
    pub(super) to: String,
    pub(super) message: Payload,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Closed {
    pub(super) connection: String,
    pub(super) code: u16,
    pub(super) reason: Option<String>,
}

/// `"topic"` of the connection of the case, or `{ connection = …, topic = … }`.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq)]
#[serde(from = "SubscriptionForm")]
pub(super) struct Subscription {
    /// `None`: the one of the case.
    pub(super) connection: Option<String>,
    pub(super) topic: String,
}

/// A request that is expected, and its answer.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Request {
    pub(super) url: String,
    pub(super) method: Option<String>,
    #[serde(default)]
    pub(super) headers: BTreeMap<String, String>,
    pub(super) body: Option<Payload>,
    pub(super) answer: Answer,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(try_from = "RawAnswer")]
pub(super) struct Answer(pub(super) Result<Response, CallError>);

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct RawAnswer {
    status: Option<u16>,
    headers: BTreeMap<String, String>,
    body: Option<Payload>,
    error: Option<Failure>,
}

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Failure {
    Timeout,
    TooLarge,
    Unavailable,
}

impl TryFrom<RawAnswer> for Answer {
    type Error = &'static str;

    fn try_from(raw: RawAnswer) -> Result<Self, Self::Error> {
        match raw {
            RawAnswer { status: Some(status @ 100..=599), headers, body, error: None } => {
                let headers = headers.into_iter().map(|(name, value)| (name.to_ascii_lowercase(), value.into_bytes()));
                let body = body.map(|body| body.bytes()).unwrap_or_default();
                Ok(Self(Ok(Response { status, headers: headers.collect(), body })))
            }
            RawAnswer { status: None, body: None, error: Some(error), headers } if headers.is_empty() => {
                Ok(Self(Err(match error {
                    Failure::Timeout => CallError::Timeout,
                    Failure::TooLarge => CallError::TooLarge,
                    Failure::Unavailable => CallError::Unavailable("the case says so".to_owned()),
                })))
            }
            RawAnswer { .. } => {
                Err("not an answer; write { status = 200, headers = { … }, body = … } or { error = \"timeout\" }")
            }
        }
    }
}

enum SubscriptionForm {
    Own(String),
    Of(SubscriptionTable),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SubscriptionTable {
    connection: String,
    topic: String,
}

impl From<SubscriptionForm> for Subscription {
    fn from(form: SubscriptionForm) -> Self {
        match form {
            SubscriptionForm::Own(topic) => Self { connection: None, topic },
            SubscriptionForm::Of(SubscriptionTable { connection, topic }) => {
                Self { connection: Some(connection), topic }
            }
        }
    }
}

impl<'de> Deserialize<'de> for SubscriptionForm {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct FormVisitor;
        impl<'de> Visitor<'de> for FormVisitor {
            type Value = SubscriptionForm;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a topic, or { connection = \"c2\", topic = \"…\" }")
            }

            fn visit_str<E: Error>(self, topic: &str) -> Result<SubscriptionForm, E> {
                Ok(SubscriptionForm::Own(topic.to_owned()))
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<SubscriptionForm, A::Error> {
                SubscriptionTable::deserialize(MapAccessDeserializer::new(map)).map(SubscriptionForm::Of)
            }
        }
        deserializer.deserialize_any(FormVisitor)
    }
}
