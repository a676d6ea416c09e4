//! The side of a session that faces away from the client: an upstream, or the echo of a route without one.

use std::collections::VecDeque;

use std::task::{Context, Poll};

use super::leg::{Leg, Received};
use crate::{
    config::SessionLimits,
    message::Message,
    upstream::{Established, Lease},
};

/// Where messages to the upstream go, and where those to the client come from.
#[expect(clippy::large_enum_variant, reason = "the larger variant is the usual one")]
pub(super) enum Far {
    Upstream {
        leg: Leg,
        /// Counts the connection for as long as it is held.
        _lease: Lease,
    },
    Echo(Echo),
}

/// Messages on their way back.
#[derive(Default)]
pub(super) struct Echo {
    queue: VecDeque<Message>,
    queued_bytes: usize,
}

impl Echo {
    fn pop(&mut self) -> Option<Message> {
        let message = self.queue.pop_front()?;
        self.queued_bytes -= message.len();
        Some(message)
    }
}

impl Far {
    pub(super) fn new(upstream: Option<Established>, limits: &SessionLimits) -> Self {
        match upstream {
            None => Self::Echo(Echo::default()),
            Some(upstream) => Self::Upstream {
                leg: Leg::to_upstream(upstream.transport, upstream.read_ahead, limits.upstream_max_payload_bytes),
                _lease: upstream.lease,
            },
        }
    }

    pub(super) fn send(&mut self, message: Message) {
        match self {
            Self::Upstream { leg, .. } => leg.send(message),
            Self::Echo(echo) => {
                echo.queued_bytes += message.len();
                echo.queue.push_back(message);
            }
        }
    }

    pub(super) fn queued_bytes(&self) -> usize {
        match self {
            Self::Upstream { leg, .. } => leg.queued_bytes(),
            Self::Echo(echo) => echo.queued_bytes,
        }
    }

    pub(super) fn drop_oldest(&mut self) -> bool {
        match self {
            Self::Upstream { leg, .. } => leg.drop_oldest(),
            Self::Echo(echo) => echo.pop().is_some(),
        }
    }

    pub(super) fn poll_receive(&mut self, context: &mut Context<'_>) -> Poll<Received> {
        match self {
            Self::Upstream { leg, .. } => leg.poll_receive(context),
            // Filled by the other pump of the same task: nothing needs to be woken.
            Self::Echo(echo) => echo.pop().map_or(Poll::Pending, |message| Poll::Ready(Received::Message(message))),
        }
    }
}
