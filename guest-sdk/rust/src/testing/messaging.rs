//! Topics and other connections: what a filter asked for.

use std::collections::{BTreeMap, BTreeSet};

use crate::messaging::Error;
use crate::{CloseInfo, Message};

const MAX_TOPIC_BYTES: usize = 256;
const SUBSCRIPTIONS_A_CONNECTION: usize = 128;

/// One thing that a filter had the gateway do by [`messaging`](crate::messaging).
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the fields are the parameters of the functions")]
pub enum Effect {
    /// [`send`](crate::messaging::send)
    Send { to: String, message: Message },
    /// [`close`](crate::messaging::close)
    Close { connection: String, info: CloseInfo },
    /// [`publish`](crate::messaging::publish)
    Publish { topic: String, message: Message, exclude: Option<String> },
    /// [`subscribe`](crate::messaging::subscribe)
    Subscribe { connection: String, topic: String },
    /// [`unsubscribe`](crate::messaging::unsubscribe)
    Unsubscribe { connection: String, topic: String },
}

#[derive(Clone, Default)]
pub(crate) struct Messaging {
    /// Patterns of `allow.topics`.
    pub(super) topics: Vec<String>,
    /// `allow.send`
    pub(super) may_send: bool,
    /// While the configuration is read, no connection is served.
    pub(super) in_init: bool,
    /// Connections that are over.
    pub(super) gone: BTreeSet<String>,
    /// What every call that is granted fails with.
    pub(super) failure: Option<Error>,
    pub(super) effects: Vec<Effect>,
    pub(super) subscriptions: BTreeMap<String, BTreeSet<String>>,
}

impl Messaging {
    pub(crate) fn order(&mut self, effect: Effect) -> Result<(), Error> {
        let (granted, connection) = match &effect {
            Effect::Send { to: connection, .. } | Effect::Close { connection, .. } => (self.may_send, Some(connection)),
            Effect::Publish { topic, .. } => (self.may_use(topic), None),
            Effect::Subscribe { connection, topic } | Effect::Unsubscribe { connection, topic } => {
                (self.may_use(topic), Some(connection))
            }
        };
        if self.in_init || !granted {
            return Err(Error::Denied);
        }
        if connection.is_some_and(|connection| self.gone.contains(connection)) {
            return Err(Error::NotFound);
        }
        if let Some(error) = self.failure {
            return Err(error);
        }
        self.carry_out(&effect)?;
        self.effects.push(effect);
        Ok(())
    }

    fn carry_out(&mut self, effect: &Effect) -> Result<(), Error> {
        match effect {
            Effect::Subscribe { connection, topic } => {
                let topics = self.subscriptions.entry(connection.clone()).or_default();
                if topics.len() >= SUBSCRIPTIONS_A_CONNECTION && !topics.contains(topic) {
                    return Err(Error::QueueFull);
                }
                topics.insert(topic.clone());
            }
            Effect::Unsubscribe { connection, topic } => {
                if let Some(topics) = self.subscriptions.get_mut(connection) {
                    topics.remove(topic);
                }
            }
            Effect::Close { connection, .. } => {
                self.gone.insert(connection.clone());
            }
            Effect::Send { .. } | Effect::Publish { .. } => {}
        }
        Ok(())
    }

    fn may_use(&self, topic: &str) -> bool {
        let is_topic = (1..=MAX_TOPIC_BYTES).contains(&topic.len())
            && !topic.contains(|c: char| c.is_control() || c.is_whitespace() || c == '*');
        is_topic && self.topics.iter().any(|pattern| matches(pattern, topic))
    }
}

/// Each `*` of a pattern stands for any characters, or for none.
fn matches(pattern: &str, topic: &str) -> bool {
    let mut parts = pattern.split('*');
    let first = parts.next().unwrap_or_default();
    let Some(mut rest) = topic.strip_prefix(first) else { return false };
    let Some(last) = parts.next_back() else { return rest.is_empty() };
    for part in parts {
        let Some(at) = rest.find(part) else { return false };
        rest = &rest[at + part.len()..];
    }
    rest.ends_with(last)
}
