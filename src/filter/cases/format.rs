//! The file `cases.toml`, as `docs/filter-tools.md` describes it.

use std::{cell::RefCell, collections::BTreeMap, fmt, net::SocketAddr, rc::Rc, str::FromStr, sync::Arc};

use serde::{Deserialize, Deserializer, de::Error};
use serde_json::{Map, Value, json};
use toml::Spanned;

use super::{
    effects::{Closed, Effects, Expected, Published, Request, Sent, Subscription},
    payload::{Payload, Stored},
    step::Step,
};
use crate::{
    config::{self, FailurePolicy, to_json},
    filter::{Identity, OpeningRequest},
};

/// The connection of a case that names no other.
pub(super) const CONNECTION: &str = "c1";
/// The route of one that names no other.
const ROUTE: &str = "test";

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Cases {
    pub(super) config: Option<toml::Table>,
    pub(super) allow: Option<Allow>,
    pub(super) failure_policy: Option<FailurePolicy>,
    #[serde(default)]
    pub(super) case: Vec<Spanned<Case>>,
}

/// `[[case]]`
#[derive(Clone, Debug, Deserialize)]
#[serde(try_from = "RawCase")]
pub(super) struct Case {
    pub(super) name: String,
    pub(super) config: Option<toml::Table>,
    pub(super) allow: Option<Allow>,
    pub(super) given: Given,
    pub(super) handshake: Handshake,
    pub(super) opening: Opening,
    pub(super) effects: Effects,
    pub(super) steps: Vec<Spanned<Step>>,
}

/// What is expected of `open`.
#[derive(Clone, Debug)]
pub(super) enum Opening {
    Admitted(Option<Spanned<Admission>>),
    Refused(Spanned<Refused>),
    Error(Spanned<String>),
}

/// What is there before.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Given {
    pub(super) stores: BTreeMap<String, BTreeMap<String, Payload>>,
    pub(super) connections: Vec<String>,
    pub(super) now_ms: Option<u64>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Admission {
    pub(super) upstream_headers: Option<HeaderEdits>,
    pub(super) client_headers: Option<HeaderEdits>,
    pub(super) subprotocol: Option<String>,
    pub(super) upstream: Option<String>,
    pub(super) tags: Option<BTreeMap<String, String>>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct HeaderEdits {
    pub(super) set: BTreeMap<String, String>,
    pub(super) append: BTreeMap<String, String>,
    pub(super) remove: Vec<String>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Refused {
    pub(super) status: u16,
    pub(super) body: Option<Payload>,
    #[serde(default)]
    pub(super) headers: BTreeMap<String, String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawCase {
    name: String,
    config: Option<toml::Table>,
    allow: Option<Allow>,
    #[serde(default)]
    given: Given,
    #[serde(default)]
    handshake: Handshake,
    admission: Option<Spanned<Admission>>,
    refused: Option<Spanned<Refused>>,
    error: Option<Spanned<String>>,
    #[serde(default)]
    step: Vec<Spanned<Step>>,
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

impl TryFrom<RawCase> for Case {
    type Error = &'static str;

    fn try_from(raw: RawCase) -> Result<Self, Self::Error> {
        let opening = match (raw.admission, raw.refused, raw.error) {
            (admission, None, None) => Opening::Admitted(admission),
            (None, Some(refused), None) => Opening::Refused(refused),
            (None, None, Some(error)) => Opening::Error(error),
            (Some(_) | None, Some(_) | None, Some(_) | None) => {
                return Err("a connection is admitted, refused, or there is an error; write one of the three");
            }
        };
        if !matches!(opening, Opening::Admitted(_)) && !raw.step.is_empty() {
            return Err("a connection that is not admitted has no steps");
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
        let RawCase { name, config, allow, given, handshake, step: steps, .. } = raw;
        Ok(Self { name, config, allow, given, handshake, opening, effects, steps })
    }
}

#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Handshake {
    pub(super) connection: String,
    route: String,
    host: String,
    path: String,
    parameters: toml::map::Map<String, toml::Value>,
    query: Option<String>,
    headers: BTreeMap<String, Values>,
    subprotocols: Vec<String>,
    client: Parsed<SocketAddr>,
    secure: bool,
    identity: Option<IdentityTable>,
}

impl Default for Handshake {
    fn default() -> Self {
        Self {
            connection: CONNECTION.to_owned(),
            route: ROUTE.to_owned(),
            host: "localhost".to_owned(),
            path: "/".to_owned(),
            parameters: toml::map::Map::new(),
            query: None,
            headers: BTreeMap::new(),
            subprotocols: Vec::new(),
            client: Parsed(([192, 0, 2, 1], 1234).into()),
            secure: false,
            identity: None,
        }
    }
}

impl Handshake {
    pub(super) fn request(&self) -> OpeningRequest {
        let text = |value: &toml::Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        let headers = self.headers.iter().flat_map(|(name, Values(values))| {
            values.iter().map(|value| (name.to_ascii_lowercase(), value.clone().into_bytes()))
        });
        OpeningRequest {
            connection: self.connection.clone(),
            route: self.route.clone(),
            host: self.host.clone(),
            path: self.path.clone(),
            parameters: self.parameters.iter().map(|(name, value)| (name.clone(), text(value))).collect(),
            query: self.query.clone(),
            headers: headers.collect(),
            subprotocols: self.subprotocols.clone(),
            client: self.client.0,
            secure: self.secure,
            client_certificate: None,
            identity: RefCell::new(self.identity.as_ref().map(|IdentityTable(identity)| Rc::new(identity.clone()))),
            last_reason: Arc::default(),
        }
    }
}

/// One value or several.
#[derive(Clone, Debug)]
struct Values(Vec<String>);

impl<'de> Deserialize<'de> for Values {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let refuse = || Error::custom("not the value of a header; write \"value\" or [\"one\", \"another\"]");
        match toml::Value::deserialize(deserializer)? {
            toml::Value::String(value) => Ok(Self(vec![value])),
            toml::Value::Array(values) => {
                let values = values.into_iter().map(|value| value.as_str().map(str::to_owned));
                values.collect::<Option<_>>().map(Self).ok_or_else(refuse)
            }
            toml::Value::Integer(_)
            | toml::Value::Float(_)
            | toml::Value::Boolean(_)
            | toml::Value::Datetime(_)
            | toml::Value::Table(_) => Err(refuse()),
        }
    }
}

#[derive(Clone, Debug, Deserialize)]
#[serde(try_from = "RawIdentity")]
struct IdentityTable(Identity);

impl TryFrom<RawIdentity> for IdentityTable {
    type Error = String;

    fn try_from(raw: RawIdentity) -> Result<Self, String> {
        raw.read().map(Self)
    }
}

#[derive(Deserialize)]
#[serde(default, deny_unknown_fields)]
#[derive(Default)]
pub(super) struct RawIdentity {
    subject: Option<String>,
    issuer: Option<String>,
    scopes: Option<Vec<String>>,
    expires_at: Option<u64>,
    claims: toml::Table,
}

impl RawIdentity {
    /// As the gateway makes it of a token with these claims.
    pub(super) fn read(self) -> Result<Identity, String> {
        let claims = to_json(&toml::Value::Table(self.claims)).ok_or("a claim is a number that JSON cannot hold")?;
        let mut claims = match claims {
            Value::Object(claims) => claims,
            _ => Map::new(),
        };
        let text = |claims: &Map<String, Value>, name: &str| Some(claims.get(name)?.as_str()?.to_owned());
        let subject = self.subject.or_else(|| text(&claims, "sub"));
        let issuer = self.issuer.or_else(|| text(&claims, "iss"));
        let expires_at = self.expires_at.or_else(|| claims.get("exp")?.as_u64());
        let scopes = self.scopes.unwrap_or_else(|| {
            let listed = text(&claims, "scope").unwrap_or_default();
            listed.split_ascii_whitespace().map(str::to_owned).collect()
        });
        let mut add = |name: &str, value: Option<Value>| {
            if let Some(value) = value {
                claims.insert(name.to_owned(), value);
            }
        };
        add("sub", subject.as_ref().map(|subject| json!(subject)));
        add("iss", issuer.as_ref().map(|issuer| json!(issuer)));
        add("exp", expires_at.map(|at| json!(at)));
        add("scope", (!scopes.is_empty()).then(|| json!(scopes.join(" "))));
        let claims = Value::Object(claims).to_string();
        Ok(Identity { subject, issuer, scopes, expires_at, token_id: None, session_id: None, claims, signed_by: None })
    }
}

/// `allow`, as in the gateway's configuration.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(in crate::filter) struct Allow {
    upstreams: Vec<String>,
    key_value: Vec<String>,
    http: Vec<Parsed<config::pattern::OriginPattern>>,
    topics: Vec<Parsed<config::pattern::TopicPattern>>,
    send: bool,
}

impl From<Allow> for config::Allow {
    fn from(allow: Allow) -> Self {
        Self {
            upstreams: allow.upstreams,
            key_value: allow.key_value,
            http: allow.http.into_iter().map(|Parsed(origin)| origin).collect(),
            topics: allow.topics.into_iter().map(|Parsed(topic)| topic).collect(),
            send: allow.send,
        }
    }
}

#[derive(Clone, Debug)]
struct Parsed<T>(T);

impl<'de, T: FromStr<Err: fmt::Display>> Deserialize<'de> for Parsed<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map(Self).map_err(|why| Error::custom(format!("{text:?} is not accepted: {why}")))
    }
}
