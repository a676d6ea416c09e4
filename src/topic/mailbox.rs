//! Where the mail of one connection waits until its session takes it.

use std::{
    collections::VecDeque,
    fmt,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};

use super::{Dismissal, Doorbell, Hub, SUBSCRIPTIONS_A_CONNECTION, locked, table::Topic};
use crate::{
    config::{PushOverflow, SessionLimits},
    message::Message,
    telemetry::metrics::TopicMetrics,
};

/// Messages that wait for one session: what a thousand others say at once, and then some. They wait no longer than until
/// its next turn, unless its filters take their time or are being replaced.
const WAITING_MESSAGES: usize = 4096;
/// See [`Postbox::has_backlog`]: a quarter, so that what is under way when a room begins to listen finds room.
const BACKLOG_MESSAGES: usize = WAITING_MESSAGES / 4;

/// What a session finds in its mailbox.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Mail {
    /// A message of a topic.
    Delivery {
        /// Which topic.
        topic: Arc<str>,
        /// What was published.
        message: Message,
    },
    /// A message for this connection alone.
    Push(Message),
    /// A filter of another connection ends this one. Nothing follows.
    Close(Dismissal),
    /// Too much waited, and `push_overflow` says to close. Nothing follows.
    Overflow,
}

/// Of one connection.
pub struct Mailbox {
    connection: Arc<str>,
    bell: Arc<Doorbell>,
    max_message_bytes: usize,
    max_waiting_bytes: usize,
    overflow: PushOverflow,
    metrics: TopicMetrics,
    /// How much waits. Written under the lock, read by the session without.
    waiting: AtomicUsize,
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    state: State,
    waiting: VecDeque<Mail>,
    waiting_bytes: usize,
    subscriptions: Vec<Subscription>,
}

#[derive(Clone, Copy, Default, Eq, PartialEq)]
enum State {
    /// What comes waits.
    #[default]
    Opening,
    /// The session with this key in its worker's registry takes it.
    Open(usize),
    /// Something that ends the connection waits: nothing is taken behind it.
    Closing,
    /// Over.
    Gone,
}

/// A connection's place among the subscribers of a topic.
pub(super) struct Subscription {
    pub(super) topic: Arc<Topic>,
    pub(super) place: usize,
}

impl Mailbox {
    pub(super) fn new(connection: &str, limits: &SessionLimits, bell: &Arc<Doorbell>, metrics: &TopicMetrics) -> Self {
        Self {
            connection: connection.into(),
            bell: Arc::clone(bell),
            max_message_bytes: limits.upstream_max_payload_bytes,
            max_waiting_bytes: limits.queue_max_bytes,
            overflow: limits.push_overflow,
            metrics: metrics.clone(),
            waiting: AtomicUsize::new(0),
            inner: Mutex::default(),
        }
    }

    /// The connection's name.
    #[must_use]
    pub fn connection(&self) -> &Arc<str> {
        &self.connection
    }

    /// The largest message that its client may get.
    #[must_use]
    pub fn max_message_bytes(&self) -> usize {
        self.max_message_bytes
    }

    /// Is there no room for another message of this size?
    #[must_use]
    pub fn is_full(&self, bytes: usize) -> bool {
        !self.has_room(&locked(&self.inner), bytes)
    }

    /// Is it subscribed to as many topics as may be, this one not among them? `more` are about to come.
    #[must_use]
    pub fn has_all_subscriptions(&self, topic: &str, more: usize) -> bool {
        let inner = locked(&self.inner);
        inner.subscriptions.len() + more >= SUBSCRIPTIONS_A_CONNECTION && inner.find(topic).is_none()
    }

    pub(super) fn bell(&self) -> &Arc<Doorbell> {
        &self.bell
    }

    /// Puts a message of a topic in. Answers the key of a session that is to be woken.
    pub(super) fn deliver(&self, topic: &Arc<str>, message: &Message) -> Option<usize> {
        if message.len() > self.max_message_bytes {
            self.metrics.too_large.inc();
            return None;
        }
        let mut inner = locked(&self.inner);
        if !inner.takes_mail() {
            self.metrics.gone.inc();
            return None;
        }
        while !self.has_room(&inner, message.len()) {
            self.metrics.dropped.inc();
            match self.overflow {
                PushOverflow::Close => return self.put_last(&mut inner, Mail::Overflow),
                PushOverflow::DropOldest => inner.forget_oldest(),
            }
        }
        self.put(&mut inner, Mail::Delivery { topic: Arc::clone(topic), message: message.clone() })
    }

    /// Puts a message for this connection alone in, where there is room. Answers as [`Mailbox::deliver`] does.
    pub(super) fn push(&self, message: Message) -> Option<usize> {
        let mut inner = locked(&self.inner);
        if !inner.takes_mail() {
            self.metrics.gone.inc();
            return None;
        }
        if !self.has_room(&inner, message.len()) {
            self.metrics.dropped.inc();
            return None;
        }
        self.put(&mut inner, Mail::Push(message))
    }

    /// Ends the connection behind what waits. Answers as [`Mailbox::deliver`] does.
    pub(super) fn dismiss(&self, dismissal: Dismissal) -> Option<usize> {
        let mut inner = locked(&self.inner);
        if inner.takes_mail() { self.put_last(&mut inner, Mail::Close(dismissal)) } else { None }
    }

    /// Adds a subscription unless it is there, there are too many, or the connection is over. `place` makes the place
    /// among the topic's subscribers.
    pub(super) fn subscribe(&self, topic: &Arc<Topic>, place: impl FnOnce() -> usize) -> bool {
        let mut inner = locked(&self.inner);
        let room = inner.takes_mail() && inner.subscriptions.len() < SUBSCRIPTIONS_A_CONNECTION;
        if !room || inner.find(topic.name()).is_some() {
            return false;
        }
        inner.subscriptions.push(Subscription { topic: Arc::clone(topic), place: place() });
        true
    }

    /// Removes a subscription. Answers its place.
    pub(super) fn unsubscribe(&self, topic: &str) -> Option<usize> {
        let mut inner = locked(&self.inner);
        let at = inner.find(topic)?;
        Some(inner.subscriptions.swap_remove(at).place)
    }

    /// The connection is over: nothing is taken any more. Answers what it was subscribed to.
    pub(super) fn end(&self) -> Vec<Subscription> {
        let mut inner = locked(&self.inner);
        inner.state = State::Gone;
        let messages = inner.waiting.iter().filter(|mail| matches!(mail, Mail::Delivery { .. } | Mail::Push(_)));
        self.metrics.gone.inc_by(messages.count() as u64);
        inner.waiting = VecDeque::new();
        inner.waiting_bytes = 0;
        self.waiting.store(0, Ordering::Release);
        std::mem::take(&mut inner.subscriptions)
    }

    /// One message is taken however large it is.
    fn has_room(&self, inner: &Inner, bytes: usize) -> bool {
        let wanted = inner.waiting_bytes + bytes + Message::OVERHEAD_BYTES;
        inner.waiting.is_empty() || (inner.waiting.len() < WAITING_MESSAGES && wanted <= self.max_waiting_bytes)
    }

    fn put(&self, inner: &mut Inner, mail: Mail) -> Option<usize> {
        inner.waiting_bytes += mail.bytes();
        inner.waiting.push_back(mail);
        self.waiting.store(inner.waiting.len(), Ordering::Release);
        match inner.state {
            State::Open(key) if inner.waiting.len() == 1 => Some(key),
            State::Open(_) | State::Opening | State::Closing | State::Gone => None,
        }
    }

    fn put_last(&self, inner: &mut Inner, mail: Mail) -> Option<usize> {
        let key = self.put(inner, mail);
        inner.state = State::Closing;
        key
    }
}

impl Inner {
    fn takes_mail(&self) -> bool {
        match self.state {
            State::Opening | State::Open(_) => true,
            State::Closing | State::Gone => false,
        }
    }

    fn find(&self, topic: &str) -> Option<usize> {
        self.subscriptions.iter().position(|subscription| &**subscription.topic.name() == topic)
    }

    fn forget_oldest(&mut self) {
        if let Some(mail) = self.waiting.pop_front() {
            self.waiting_bytes -= mail.bytes();
        }
    }
}

impl Mail {
    /// As it counts in a mailbox.
    fn bytes(&self) -> usize {
        match self {
            Self::Delivery { message, .. } | Self::Push(message) => message.queued_bytes(),
            Self::Close(_) | Self::Overflow => 0,
        }
    }
}

impl fmt::Debug for Mailbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Mailbox({})", self.connection)
    }
}

/// A session's side of its mailbox. The connection is known for as long as it lives.
pub struct Postbox {
    mailbox: Arc<Mailbox>,
    hub: Arc<Hub>,
}

impl Postbox {
    pub(super) fn new(mailbox: Arc<Mailbox>, hub: Arc<Hub>) -> Self {
        Self { mailbox, hub }
    }

    /// The session with this key in its worker's registry takes its first turn after this: what came before waits for it.
    pub fn open(&self, key: usize) {
        let mut inner = locked(&self.mailbox.inner);
        match inner.state {
            State::Opening => inner.state = State::Open(key),
            State::Open(_) | State::Closing | State::Gone => {}
        }
    }

    /// Where deliveries are counted.
    #[must_use]
    pub fn metrics(&self) -> &TopicMetrics {
        &self.mailbox.metrics
    }

    /// Does something wait? Cheap enough to ask before each message. Who leaves something behind has to come back by
    /// itself: the bell rings for the first message alone.
    #[must_use]
    pub fn has_mail(&self) -> bool {
        self.mailbox.waiting.load(Ordering::Acquire) > 0
    }

    /// Does so much wait that whoever speaks as much as it hears should rather listen?
    #[must_use]
    pub fn has_backlog(&self) -> bool {
        self.mailbox.waiting.load(Ordering::Acquire) >= BACKLOG_MESSAGES
    }

    /// The oldest that waits.
    #[must_use]
    pub fn take(&self) -> Option<Mail> {
        let mut inner = locked(&self.mailbox.inner);
        let mail = inner.waiting.pop_front();
        inner.waiting_bytes -= mail.as_ref().map_or(0, Mail::bytes);
        self.mailbox.waiting.store(inner.waiting.len(), Ordering::Release);
        if inner.waiting.is_empty() && inner.waiting.capacity() > 64 {
            inner.waiting.shrink_to(8);
        }
        mail
    }
}

impl Drop for Postbox {
    fn drop(&mut self) {
        self.hub.leave(&self.mailbox);
    }
}
