//! Messages of `graphql-transport-ws`, as <https://github.com/enisdenjo/graphql-ws/blob/master/PROTOCOL.md> has them.

use std::borrow::Cow;

use serde::{Deserialize, de::IgnoredAny};
use serde_json::{Map, Value, json, value::RawValue};
use wsgate_sdk::prelude::Verdict;

/// The subprotocol. `graphql-ws` is the name of an older, other one.
pub(crate) const SUBPROTOCOL: &str = "graphql-transport-ws";

/// Longest identifier of an operation that is kept.
pub(crate) const MAX_ID_BYTES: usize = 256;

/// A message from the client. Servers that compare keys without case would read another one than this filter, so keys
/// that the protocol does not know are refused, as are keys that come twice.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct FromClient<'a> {
    #[serde(borrow, rename = "type")]
    pub(crate) kind: Cow<'a, str>,
    #[serde(borrow)]
    pub(crate) id: Option<Cow<'a, str>>,
    #[serde(borrow)]
    pub(crate) payload: Option<&'a RawValue>,
}

/// The payload of `subscribe`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(crate) struct Request<'a> {
    #[serde(borrow)]
    pub(crate) query: Option<Cow<'a, str>>,
    #[serde(borrow)]
    pub(crate) operation_name: Option<Cow<'a, str>>,
    #[serde(default)]
    pub(crate) variables: Option<Map<String, Value>>,
    #[serde(default)]
    pub(crate) extensions: Option<Map<String, Value>>,
}

/// What matters of a message from the upstream.
#[derive(Debug, Deserialize)]
pub(crate) struct FromUpstream<'a> {
    #[serde(borrow, rename = "type")]
    pub(crate) kind: Cow<'a, str>,
    #[serde(borrow)]
    pub(crate) id: Option<Cow<'a, str>>,
    #[serde(rename = "payload")]
    _payload: Option<IgnoredAny>,
}

/// A broken rule of the protocol, and the close code that it has for it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Violation {
    Invalid(&'static str),
    NotAcknowledged,
    Duplicate(String),
    SecondInit,
}

impl Violation {
    pub(crate) fn close(self) -> Verdict {
        match self {
            Self::Invalid(what) => Verdict::close(4400, format!("Invalid message: {what}")),
            Self::NotAcknowledged => Verdict::close(4401, "Unauthorized"),
            Self::Duplicate(id) => Verdict::close(4409, format!("Subscriber for {id} already exists")),
            Self::SecondInit => Verdict::close(4429, "Too many initialisation requests"),
        }
    }
}

/// The protocol's `error`: this operation ends, the connection goes on.
pub(crate) fn error(id: &str, code: &str, message: &str) -> String {
    let payload = json!([{ "message": message, "extensions": { "code": code } }]);
    json!({ "id": id, "type": "error", "payload": payload }).to_string()
}
