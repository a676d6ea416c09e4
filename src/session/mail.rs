//! What others send to this session: messages of topics and of filters of other connections, taken out of its mailbox
//! and sent through the to-client chain, in turns with what is relayed.

use super::{Arrival, Phase, Session, SessionEnd};
use crate::{
    message::{Direction, Message},
    topic::{self, Dismissal, Mail, Postbox},
};

/// Mail that a session takes in one turn, whichever comes first. Apart from what it relays, so that neither starves the
/// other, and more of it: each of many sessions may have published something in the meantime.
const MESSAGES_A_TURN: usize = 256;
const BYTES_A_TURN: usize = 256 << 10;

/// See the module.
pub(super) struct Inbox {
    /// `None` where the route has no filters, and once the session ends.
    postbox: Option<Postbox>,
    messages: usize,
    bytes: usize,
    /// Messages taken that were not counted yet.
    delivered: u64,
    /// Comes before what is relayed: what is relayed had its turn.
    pub(super) is_next: bool,
    /// What this worker had put into mailboxes when the turn began.
    put_before: usize,
}

impl Inbox {
    pub(super) fn new(postbox: Option<Postbox>, key: usize) -> Self {
        if let Some(postbox) = &postbox {
            postbox.open(key);
        }
        Self { postbox, messages: 0, bytes: 0, delivered: 0, is_next: true, put_before: 0 }
    }

    pub(super) fn start_turn(&mut self) {
        self.messages = 0;
        self.bytes = 0;
        self.put_before = topic::put_by_this_worker();
    }

    /// Did anything come in this turn?
    pub(super) fn moved(&self) -> bool {
        self.messages > 0
    }

    /// Messages that this session's filters put into mailboxes in this turn.
    pub(super) fn put(&self) -> usize {
        topic::put_by_this_worker().wrapping_sub(self.put_before)
    }

    fn is_spent(&self) -> bool {
        self.messages >= MESSAGES_A_TURN || self.bytes >= BYTES_A_TURN
    }

    /// Is there something to take in this turn?
    pub(super) fn waits(&self) -> bool {
        self.postbox.as_ref().is_some_and(Postbox::has_mail) && !self.is_spent()
    }

    /// Is something left for another turn?
    pub(super) fn is_left(&self) -> bool {
        self.is_spent() && self.postbox.as_ref().is_some_and(Postbox::has_mail)
    }

    /// Does so much wait that the client is not read from until less does? In a room where everybody speaks, each message
    /// is work for everybody; whoever does not get to listen must not add to it. This holds up nobody else.
    pub(super) fn has_backlog(&self) -> bool {
        self.postbox.as_ref().is_some_and(Postbox::has_backlog)
    }

    /// Nothing more comes: the connection can no longer be subscribed or sent to.
    pub(super) fn close(&mut self) {
        self.publish();
        self.postbox = None;
    }

    /// Adds what was counted in this turn to the shared counter.
    pub(super) fn publish(&mut self) {
        if self.delivered > 0
            && let Some(postbox) = &self.postbox
        {
            postbox.metrics().delivered.inc_by(std::mem::take(&mut self.delivered));
        }
    }

    /// Was a push dropped from the client's queue?
    pub(super) fn discarded(&self, discarded: bool) {
        if discarded && let Some(postbox) = &self.postbox {
            postbox.metrics().discarded.inc();
        }
    }

    fn take(&mut self) -> Option<Mail> {
        let mail = self.postbox.as_ref()?.take()?;
        self.is_next = false;
        self.messages += 1;
        if let Mail::Delivery { message, .. } | Mail::Push(message) = &mail {
            self.bytes += message.len();
            self.delivered += 1;
        }
        Some(mail)
    }
}

impl Session {
    /// Sends the oldest mail on its way.
    pub(super) fn take_mail(&mut self) {
        match self.inbox.take() {
            None => {}
            Some(Mail::Delivery { topic, message }) => match self.filters.deliver(&topic, message) {
                Ok(run) => self.to_client.begin(run, Arrival::Pushed),
                Err(message) => self.send(Direction::ToClient, message, Arrival::Pushed),
            },
            Some(Mail::Push(message)) => self.push(message),
            Some(Mail::Close(Dismissal { filter, fault: true, .. })) => {
                self.begin_end(SessionEnd::FilterFault { filter })
            }
            Some(Mail::Close(Dismissal { filter, frame, fault: false })) => {
                self.begin_end(SessionEnd::Dismissed { filter, frame });
            }
            Some(Mail::Overflow) => self.begin_end(SessionEnd::ClientOverflow),
        }
    }

    fn push(&mut self, message: Message) {
        match self.filters.run(Direction::ToClient, message) {
            Ok(run) => self.to_client.begin(run, Arrival::Pushed),
            Err(message) => self.send(Direction::ToClient, message, Arrival::Pushed),
        }
    }

    /// May mail be taken now?
    pub(super) fn has_mail(&self, direction: Direction) -> bool {
        direction == Direction::ToClient && self.inbox.waits() && matches!(self.phase, Phase::Open)
    }
}
