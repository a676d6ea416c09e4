//! Topics, and mail for single connections: what filters send past the connection that they serve. Everything here is on
//! one node and in memory.
//!
//! A filter's calls become [`Order`]s, which [`Hub::carry_out`] carries out after the call, on the worker that made it. A
//! message for a connection is put into its [`Mailbox`], on whichever worker that connection lives, and its session takes
//! it out in its own turn: nothing waits for a subscriber. Bytes are shared between all subscribers.
//!
//! The seam to further nodes is this module. What a cluster adds: the first subscriber of a topic here subscribes this
//! node to it and the last one unsubscribes it ([`Table`]), a publication also goes out to the other nodes, and a
//! connection that [`Hub::find`] does not know is asked for at the node that its name tells.

mod doorbell;
mod mailbox;
mod table;
#[cfg(test)]
mod tests;

use std::{
    cell::Cell,
    collections::HashMap,
    hash::{BuildHasher, RandomState},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
};

use crate::{
    config::SessionLimits,
    message::{CloseFrame, Message},
    telemetry::metrics::TopicMetrics,
};
pub use doorbell::Doorbell;
pub use mailbox::{Mail, Mailbox, Postbox};
use table::Table;

/// Topics that one connection may be subscribed to. Each costs some 50 bytes, and a place in the topic.
pub const SUBSCRIPTIONS_A_CONNECTION: usize = 128;

/// Parts of the directory and of the table, each behind a lock of its own, so that workers seldom meet.
const SHARDS: usize = 64;

/// What a filter wants done after its call.
#[derive(Clone, Debug)]
pub enum Order {
    /// A message to one connection.
    Send {
        /// To which.
        to: Arc<Mailbox>,
        /// What.
        message: Message,
    },
    /// The end of a connection.
    Close {
        /// Which.
        connection: Arc<Mailbox>,
        /// How.
        dismissal: Dismissal,
    },
    /// A message to every subscriber of a topic.
    Publish {
        /// Which topic.
        topic: Arc<str>,
        /// What.
        message: Message,
        /// Who does not get it.
        exclude: Option<Arc<Mailbox>>,
    },
    /// A subscription.
    Subscribe {
        /// Whose.
        connection: Arc<Mailbox>,
        /// To which topic.
        topic: Arc<str>,
    },
    /// The end of a subscription.
    Unsubscribe {
        /// Whose.
        connection: Arc<Mailbox>,
        /// To which topic.
        topic: Arc<str>,
    },
}

/// How a filter of another connection ends this one.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Dismissal {
    /// Which filter.
    pub filter: Arc<str>,
    /// Checked to be sendable.
    pub frame: CloseFrame,
    /// The filter gave a code that is not.
    pub fault: bool,
}

/// Every topic and every connection that can get mail, of all workers. One a process.
pub struct Hub {
    directory: Sharded<HashMap<Arc<str>, Arc<Mailbox>>>,
    table: Table,
    max_message_bytes: AtomicUsize,
    metrics: TopicMetrics,
}

impl Hub {
    /// Nobody is there yet. `max_message_bytes` is the largest message that some route's clients may get.
    #[must_use]
    pub fn new(max_message_bytes: usize, metrics: TopicMetrics) -> Arc<Self> {
        let table = Table::new(metrics.clone());
        Arc::new(Self {
            directory: Sharded::new(),
            table,
            max_message_bytes: AtomicUsize::new(max_message_bytes),
            metrics,
        })
    }

    /// No subscriber could get a larger message.
    #[must_use]
    pub fn max_message_bytes(&self) -> usize {
        self.max_message_bytes.load(Ordering::Relaxed)
    }

    /// Some route's clients may get messages of this size from now on. Those who may get larger ones stay.
    pub fn accept_messages_of(&self, bytes: usize) {
        self.max_message_bytes.fetch_max(bytes, Ordering::Relaxed);
    }

    /// A connection is about to open on the worker that listens to this bell. It can be subscribed and sent to from now
    /// on; what comes waits until it is open. It is forgotten when the postbox is dropped.
    #[must_use]
    pub fn enter(self: &Arc<Self>, connection: &str, limits: &SessionLimits, bell: &Arc<Doorbell>) -> Postbox {
        let mailbox = Arc::new(Mailbox::new(connection, limits, bell, &self.metrics));
        self.directory.shard(connection).insert(Arc::clone(mailbox.connection()), Arc::clone(&mailbox));
        Postbox::new(mailbox, Arc::clone(self))
    }

    /// The mailbox of a connection that is open here, or about to be.
    #[must_use]
    pub fn find(&self, connection: &str) -> Option<Arc<Mailbox>> {
        self.directory.shard(connection).get(connection).cloned()
    }

    /// Does what a filter wants, in this order. What was possible when it was asked for may have become impossible: then
    /// it is left out, and counted where it was a message.
    pub fn carry_out(&self, orders: impl IntoIterator<Item = Order>) {
        for order in orders {
            match order {
                Order::Send { to, message } => {
                    if let Some(key) = to.push(message) {
                        to.bell().ring([key]);
                    }
                    charge(1);
                }
                Order::Close { connection, dismissal } => {
                    if let Some(key) = connection.dismiss(dismissal) {
                        connection.bell().ring([key]);
                    }
                }
                Order::Publish { topic, message, exclude } => {
                    charge(self.table.publish(&topic, &message, exclude.as_ref()));
                }
                Order::Subscribe { connection, topic } => self.table.subscribe(&connection, &topic),
                Order::Unsubscribe { connection, topic } => self.table.unsubscribe(&connection, &topic),
            }
        }
    }

    /// A connection is over.
    fn leave(&self, mailbox: &Mailbox) {
        self.directory.shard(mailbox.connection()).remove(mailbox.connection());
        self.table.unsubscribe_all(mailbox.end());
    }
}

thread_local! {
    /// Messages that orders of this thread put into mailboxes.
    static PUT: Cell<usize> = const { Cell::new(0) };
}

fn charge(messages: usize) {
    PUT.set(PUT.get().wrapping_add(messages));
}

/// How many messages this worker has put into mailboxes; it only grows, and wraps around. A session compares it before
/// and after, because one message that is published to many is as much work as many.
#[must_use]
pub fn put_by_this_worker() -> usize {
    PUT.get()
}

/// A map in parts.
struct Sharded<T> {
    hasher: RandomState,
    shards: [Mutex<T>; SHARDS],
}

impl<T: Default> Sharded<T> {
    fn new() -> Self {
        Self { hasher: RandomState::new(), shards: std::array::from_fn(|_| Mutex::default()) }
    }

    fn shard(&self, key: &str) -> MutexGuard<'_, T> {
        let index = self.hasher.hash_one(key) % SHARDS as u64;
        // The remainder is below SHARDS.
        #[expect(clippy::cast_possible_truncation, reason = "an index below 64")]
        locked(&self.shards[index as usize])
    }
}

/// What panics while it holds one of these locks leaves nothing half done that would matter.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
