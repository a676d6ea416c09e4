//! The end of a session: Close frames in both directions, each behind what was queued before it, within a bounded time.

use std::task::{Context, Poll};

use tokio::time::Instant;

use super::{
    Phase, Session, SessionEnd,
    deadline::{CLOSE_TIMEOUT, LINGER_TIMEOUT},
    far::Far,
    pump::Pumped,
    wire::Stop,
};
use crate::message::{CloseFrame, Direction};

/// What remains to be done, and until when.
pub(super) struct Closing {
    end: SessionEnd,
    until: Instant,
    /// The client has closed: what the upstream still says before its own Close frame is relayed.
    relaying_to_client: bool,
}

impl Session {
    /// Starts the end. The first reason counts.
    pub(super) fn begin_end(&mut self, end: SessionEnd) {
        if !matches!(self.phase, Phase::Open) {
            return;
        }
        self.inbox.close();
        let relaying_to_client = matches!(end, SessionEnd::ClientClosed(_));
        match (end.client_frame(), &end) {
            (_, SessionEnd::ClientClosed(_)) => {}
            (_, SessionEnd::ClientSendTimeout) | (None, _) => self.client.kill(),
            (Some(frame), _) => self.client.start_close(frame),
        }
        if let Far::Upstream { leg, .. } = &mut self.far {
            match (end.upstream_frame(), &end) {
                (_, SessionEnd::UpstreamSendTimeout) | (None, _) => leg.kill(),
                (Some(frame), _) => leg.start_close(frame),
            }
        }
        self.end_branches(&end);
        let timeout = match end {
            SessionEnd::ClientPongTimeout | SessionEnd::UpstreamPongTimeout => LINGER_TIMEOUT,
            _ => CLOSE_TIMEOUT,
        };
        self.phase = Phase::Closing(Closing { end, until: self.now + timeout, relaying_to_client });
    }

    /// Waits for nobody any more: this turn is the last.
    pub(super) fn end_now(&mut self) {
        if let Phase::Closing(closing) = &mut self.phase {
            closing.until = self.now;
            closing.relaying_to_client = false;
        }
    }

    /// May messages of this direction still be relayed?
    pub(super) fn is_relaying(&self, direction: Direction) -> bool {
        match &self.phase {
            Phase::Open => true,
            Phase::Closing(closing) => direction == Direction::ToClient && closing.relaying_to_client,
        }
    }

    /// The upstream has said its last word.
    pub(super) fn upstream_stopped(&mut self, stop: Stop) {
        let Phase::Closing(closing) = &mut self.phase else {
            return self.begin_end(match stop {
                Stop::Close(frame) => SessionEnd::UpstreamClosed(frame),
                Stop::Violation(violation) => SessionEnd::UpstreamViolated(violation),
                Stop::Lost => SessionEnd::UpstreamVanished,
            });
        };
        closing.relaying_to_client = false;
        let answer = match stop {
            Stop::Close(frame) => SessionEnd::UpstreamClosed(frame).client_frame(),
            Stop::Violation(_) | Stop::Lost => closing.end.client_frame(),
        };
        self.answer_client(answer);
    }

    fn answer_client(&mut self, frame: Option<CloseFrame>) {
        self.client.start_close(frame.unwrap_or_default());
    }

    /// One turn of a session that ends.
    pub(super) fn poll_closing(&mut self, context: &mut Context<'_>) -> Poll<SessionEnd> {
        self.relay_last_messages(context);
        let Phase::Closing(closing) = &mut self.phase else { return Poll::Pending };
        let client_done = if closing.relaying_to_client {
            let _ = self.client.poll_flush(context);
            false
        } else {
            self.client.poll_finish(context).is_ready()
        };
        let far_done = match &mut self.far {
            Far::Echo(_) | Far::Filters => true,
            Far::Upstream { leg, .. } if closing.relaying_to_client => {
                let _ = leg.poll_flush(context);
                false
            }
            Far::Upstream { leg, .. } => leg.poll_finish(context).is_ready(),
        };
        if client_done && far_done {
            return Poll::Ready(closing.end.clone());
        }
        if closing.until <= self.now {
            if !closing.relaying_to_client {
                return Poll::Ready(closing.end.clone());
            }
            // The upstream does not answer the client's Close frame: the gateway does.
            closing.relaying_to_client = false;
            closing.until = self.now + LINGER_TIMEOUT;
            let answer = closing.end.client_frame();
            if let Far::Upstream { leg, .. } = &mut self.far {
                leg.kill();
            }
            self.answer_client(answer);
            context.waker().wake_by_ref();
        }
        if let Phase::Closing(closing) = &self.phase {
            self.timer.arm(Some(closing.until), self.now, context);
        }
        Poll::Pending
    }

    /// After the client's Close frame the upstream may still have something to say.
    fn relay_last_messages(&mut self, context: &mut Context<'_>) {
        while self.is_relaying(Direction::ToClient) {
            // Newer filters that were waited for hold the pump until they are in place.
            self.follow_filters(context);
            self.to_client.start_turn();
            self.inbox.start_turn();
            let pumped = self.pump(Direction::ToClient, context);
            let _ = self.client.poll_flush(context);
            match pumped {
                Pumped::Waiting => {
                    if matches!(self.far, Far::Echo(_) | Far::Filters) && self.is_relaying(Direction::ToClient) {
                        self.upstream_stopped(Stop::Lost);
                    }
                    return;
                }
                Pumped::Spent => return context.waker().wake_by_ref(),
                Pumped::Paused if !self.is_paused(Direction::ToClient) => {}
                Pumped::Held | Pumped::Paused => return,
            }
        }
    }
}
