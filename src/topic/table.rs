//! Who is subscribed to what. A topic is there while it has a subscriber, and costs nothing else.
//!
//! Locks are taken in this order, never against it: a part of the table, a topic, a mailbox.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
};

use slab::Slab;

use super::{Doorbell, Mailbox, Sharded, locked, mailbox::Subscription};
use crate::{message::Message, telemetry::metrics::TopicMetrics};

/// Every topic that has subscribers on this node.
pub(super) struct Table {
    topics: Sharded<HashMap<Arc<str>, Arc<Topic>>>,
    metrics: TopicMetrics,
}

/// One topic.
pub(super) struct Topic {
    name: Arc<str>,
    /// Held while a message is put into their mailboxes: all of them get the messages of a topic in one order.
    subscribers: Mutex<Slab<Arc<Mailbox>>>,
}

impl Topic {
    pub(super) fn name(&self) -> &Arc<str> {
        &self.name
    }
}

impl Table {
    pub(super) fn new(metrics: TopicMetrics) -> Self {
        Self { topics: Sharded::new(), metrics }
    }

    /// Puts a message into the mailbox of every subscriber but one, and rings once for each worker. Answers how many
    /// subscribers there were.
    pub(super) fn publish(&self, topic: &str, message: &Message, exclude: Option<&Arc<Mailbox>>) -> usize {
        let Some(topic) = self.topics.shard(topic).get(topic).cloned() else { return 0 };
        let mut rings: Vec<(&Arc<Doorbell>, Vec<usize>)> = Vec::new();
        let subscribers = locked(&topic.subscribers);
        for (_, mailbox) in subscribers.iter() {
            if exclude.is_some_and(|exclude| Arc::ptr_eq(exclude, mailbox)) {
                continue;
            }
            let Some(key) = mailbox.deliver(&topic.name, message) else { continue };
            match rings.iter_mut().find(|(bell, _)| Arc::ptr_eq(bell, mailbox.bell())) {
                Some((_, keys)) => keys.push(key),
                None => rings.push((mailbox.bell(), vec![key])),
            }
        }
        for (bell, keys) in rings {
            bell.ring(keys);
        }
        subscribers.len()
    }

    pub(super) fn subscribe(&self, connection: &Arc<Mailbox>, name: &Arc<str>) {
        let mut topics = self.topics.shard(name);
        let topic = match topics.get(name) {
            Some(topic) => Arc::clone(topic),
            None => Arc::new(Topic { name: Arc::clone(name), subscribers: Mutex::default() }),
        };
        let mut subscribers = locked(&topic.subscribers);
        if !connection.subscribe(&topic, || subscribers.insert(Arc::clone(connection))) {
            return;
        }
        self.metrics.subscriptions.inc();
        if subscribers.len() == 1 {
            self.metrics.topics.inc();
            topics.insert(Arc::clone(name), Arc::clone(&topic));
        }
    }

    pub(super) fn unsubscribe(&self, connection: &Mailbox, name: &str) {
        let mut topics = self.topics.shard(name);
        let Some(topic) = topics.get(name).cloned() else { return };
        let mut subscribers = locked(&topic.subscribers);
        if let Some(place) = connection.unsubscribe(name) {
            self.remove(&mut topics, name, &mut subscribers, place);
        }
    }

    /// What a connection was subscribed to that is over.
    pub(super) fn unsubscribe_all(&self, subscriptions: Vec<Subscription>) {
        for Subscription { topic, place } in subscriptions {
            let mut topics = self.topics.shard(&topic.name);
            self.remove(&mut topics, &topic.name, &mut locked(&topic.subscribers), place);
        }
    }

    fn remove(
        &self,
        topics: &mut HashMap<Arc<str>, Arc<Topic>>,
        name: &str,
        subscribers: &mut Slab<Arc<Mailbox>>,
        place: usize,
    ) {
        subscribers.remove(place);
        self.metrics.subscriptions.dec();
        if subscribers.is_empty() {
            topics.remove(name);
            self.metrics.topics.dec();
        }
    }
}
