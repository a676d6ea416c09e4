//! Messages that wait for a peer, what they count, and what happens when there are too many.

use std::collections::VecDeque;

use crate::{
    config::{Overflow, PushOverflow},
    message::Message,
};

/// A message that waits.
#[derive(Debug)]
pub(super) struct Queued {
    pub(super) message: Message,
    /// Nobody relayed it: it may be dropped for a newer one of its kind.
    pub(super) pushed: bool,
}

/// Messages in their order, counted as [`Message::queued_bytes`] says. The mark that bounds it is the session's.
#[derive(Debug, Default)]
pub(super) struct MessageQueue {
    messages: VecDeque<Queued>,
    bytes: usize,
}

impl MessageQueue {
    /// What all that wait count.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(super) fn is_empty(&self) -> bool {
        self.messages.is_empty()
    }

    pub(super) fn push(&mut self, queued: Queued) {
        self.bytes += queued.message.queued_bytes();
        self.messages.push_back(queued);
    }

    /// Puts a message in that somebody relayed.
    pub(super) fn push_relayed(&mut self, message: Message) {
        self.push(Queued { message, pushed: false });
    }

    /// The oldest.
    pub(super) fn pop(&mut self) -> Option<Message> {
        let queued = self.messages.pop_front();
        self.taken(queued)
    }

    /// The oldest of those that nobody relayed.
    pub(super) fn pop_pushed(&mut self) -> Option<Message> {
        let at = self.messages.iter().position(|queued| queued.pushed)?;
        let queued = self.messages.remove(at);
        self.taken(queued)
    }

    fn taken(&mut self, queued: Option<Queued>) -> Option<Message> {
        let Queued { message, .. } = queued?;
        self.bytes -= message.queued_bytes();
        Some(message)
    }

    /// Gives memory back that a burst left.
    pub(super) fn give_back(&mut self) {
        if self.messages.is_empty() && self.messages.capacity() > 256 {
            self.messages.shrink_to(16);
        }
    }

    /// Gives back all that is not in use.
    pub(super) fn shrink_to_fit(&mut self) {
        self.messages.shrink_to_fit();
    }
}

/// Where messages go that wait for a peer.
pub(super) trait Outgoing {
    /// What waits, also in the buffers below.
    fn queued_bytes(&self) -> usize;
    /// Forgets the oldest message that can still be had back.
    fn drop_oldest(&mut self) -> bool;
}

/// What a queue at its mark means for the next message.
#[derive(Clone, Copy)]
pub(super) enum AtMark {
    /// It is taken: whoever sends is not read from until there is room.
    Take,
    Close,
    DropOldest,
}

impl From<Overflow> for AtMark {
    fn from(overflow: Overflow) -> Self {
        match overflow {
            Overflow::Pause => Self::Take,
            Overflow::Close => Self::Close,
            Overflow::DropOldest => Self::DropOldest,
        }
    }
}

impl From<PushOverflow> for AtMark {
    fn from(overflow: PushOverflow) -> Self {
        match overflow {
            PushOverflow::Close => Self::Close,
            PushOverflow::DropOldest => Self::DropOldest,
        }
    }
}

impl AtMark {
    /// Makes room for a message. False where the session is to end instead.
    pub(super) fn make_room(self, outgoing: &mut impl Outgoing, mark_bytes: usize) -> bool {
        match self {
            Self::Take => true,
            Self::Close => outgoing.queued_bytes() < mark_bytes,
            Self::DropOldest => {
                while outgoing.queued_bytes() >= mark_bytes && outgoing.drop_oldest() {}
                true
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    impl Outgoing for MessageQueue {
        fn queued_bytes(&self) -> usize {
            self.bytes()
        }

        fn drop_oldest(&mut self) -> bool {
            self.pop().is_some()
        }
    }

    fn of(messages: usize) -> MessageQueue {
        let mut queue = MessageQueue::default();
        (0..messages).for_each(|n| queue.push_relayed(Message::text(n.to_string())));
        queue
    }

    #[test]
    fn empty_messages_count_too() {
        let mut queue = MessageQueue::default();
        queue.push_relayed(Message::text(""));
        assert_eq!(queue.bytes(), 64);
        assert_eq!(queue.pop(), Some(Message::text("")));
        assert_eq!(queue.bytes(), 0);
    }

    #[test]
    fn pushes_are_found_among_what_was_relayed() {
        let mut queue = of(2);
        queue.push(Queued { message: Message::text("pushed"), pushed: true });
        queue.push_relayed(Message::text("behind"));
        assert_eq!(queue.pop_pushed(), Some(Message::text("pushed")));
        assert_eq!(queue.pop_pushed(), None);
        assert_eq!(std::iter::from_fn(|| queue.pop()).count(), 3);
        assert_eq!(queue.bytes(), 0);
    }

    #[test]
    fn at_the_mark_each_policy_does_its_own() {
        let mark = 3 * 65;
        assert!(AtMark::Close.make_room(&mut of(2), mark));
        assert!(!AtMark::Close.make_room(&mut of(3), mark));

        let mut paused = of(5);
        assert!(AtMark::Take.make_room(&mut paused, mark));
        assert_eq!(paused.bytes(), 5 * 65);

        let mut dropped = of(5);
        assert!(AtMark::DropOldest.make_room(&mut dropped, mark));
        assert_eq!(std::iter::from_fn(|| dropped.pop()).collect::<Vec<_>>(), [Message::text("3"), Message::text("4")]);
    }
}
