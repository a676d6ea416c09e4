//! The side of a session that faces away from the client: an upstream, the echo of a route without one, or nothing at all
//! where the filters answer.

use std::task::{Context, Poll};

use super::{
    leg::{Leg, Received},
    queue::{MessageQueue, Outgoing},
};
use crate::{
    config::{SessionLimits, Target},
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
    /// Messages on their way back.
    Echo(MessageQueue),
    /// Nothing is sent from here, and what is sent here ends.
    Filters,
}

impl Far {
    pub(super) fn new(upstream: Option<Established>, target: &Target, limits: &SessionLimits) -> Self {
        match (upstream, target) {
            (None, Target::Filters | Target::Static(_)) => Self::Filters,
            (None, Target::Echo | Target::Upstream(_)) => Self::Echo(MessageQueue::default()),
            (Some(upstream), _) => Self::Upstream {
                leg: Leg::to_upstream(upstream.transport, upstream.read_ahead, limits.upstream_max_payload_bytes),
                _lease: upstream.lease,
            },
        }
    }

    pub(super) fn send(&mut self, message: Message) {
        match self {
            Self::Upstream { leg, .. } => leg.send(message),
            Self::Echo(echo) => echo.push_relayed(message),
            Self::Filters => {}
        }
    }

    pub(super) fn poll_receive(&mut self, context: &mut Context<'_>) -> Poll<Received> {
        match self {
            Self::Upstream { leg, .. } => leg.poll_receive(context),
            // Filled by the other pump of the same task: nothing needs to be woken.
            Self::Echo(echo) => echo.pop().map_or(Poll::Pending, |message| Poll::Ready(Received::Message(message))),
            Self::Filters => Poll::Pending,
        }
    }
}

impl Outgoing for Far {
    fn queued_bytes(&self) -> usize {
        match self {
            Self::Upstream { leg, .. } => leg.queued_bytes(),
            Self::Echo(echo) => echo.bytes(),
            Self::Filters => 0,
        }
    }

    fn drop_oldest(&mut self) -> bool {
        match self {
            Self::Upstream { leg, .. } => leg.drop_oldest(),
            Self::Echo(echo) => echo.pop().is_some(),
            Self::Filters => false,
        }
    }
}
