//! Further upstreams of a session: those that filters `route` single messages to. Dialled on first use.

use std::{
    future::{Future, poll_fn},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use tokio::time::{Instant, timeout};

use super::{
    Session, SessionEnd,
    deadline::{CLOSE_TIMEOUT, Due, LegClock},
    far::Far,
    leg::{Leg, Received},
    queue::{AtMark, MessageQueue, Outgoing},
    wire::Stop,
};
use crate::{
    config::SessionLimits,
    message::{CloseFrame, Message},
    upstream::{DialError, Established, Lease, UpstreamRequest, Upstreams},
};

/// How further upstreams are dialled.
pub struct Dialling {
    /// Every upstream.
    pub upstreams: Arc<Upstreams>,
    /// The session's own upstream: what is routed there goes the usual way.
    pub own: Option<String>,
    /// What the session's own upstream was, or would have been, asked for.
    pub request: UpstreamRequest,
    /// From the first message to the 101.
    pub timeout: Duration,
}

/// The further upstreams of one session. Filters name at most four.
#[derive(Default)]
pub(super) struct Branches {
    dialling: Option<Box<Dialling>>,
    open: Vec<Branch>,
    /// Whose turn it is to be read.
    next: usize,
}

struct Branch {
    upstream: Arc<str>,
    state: State,
    clock: LegClock,
}

#[expect(clippy::large_enum_variant, reason = "the larger variant is the usual one")]
enum State {
    Dialling(Dial),
    Open { leg: Leg, lease: Lease },
}

struct Dial {
    answer: Pin<Box<dyn Future<Output = Result<Established, DialError>>>>,
    queue: MessageQueue,
}

impl Branches {
    pub(super) fn new(dialling: Option<Box<Dialling>>) -> Self {
        Self { dialling, open: Vec::new(), next: 0 }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.open.is_empty()
    }

    pub(super) fn queued_bytes(&self) -> usize {
        self.open.iter().map(Branch::queued_bytes).sum()
    }

    /// Is any queue at this mark?
    pub(super) fn is_full(&self, mark: usize) -> bool {
        self.open.iter().any(|branch| branch.queued_bytes() >= mark)
    }

    /// The earliest deadline.
    pub(super) fn next_deadline(&self, limits: &SessionLimits) -> Option<Instant> {
        self.open.iter().filter_map(|branch| branch.clock.next(limits)).min()
    }

    /// Nobody reads from them now.
    pub(super) fn unread(&mut self, now: Instant, limits: &SessionLimits) {
        self.open.iter_mut().for_each(|branch| branch.clock.unread(now, limits));
    }

    /// The legs that are open.
    pub(super) fn legs(&mut self) -> impl Iterator<Item = &mut Leg> {
        self.open.iter_mut().filter_map(|branch| match &mut branch.state {
            State::Open { leg, .. } => Some(leg),
            State::Dialling(_) => None,
        })
    }

    /// Writes what waits.
    pub(super) fn flush(&mut self, now: Instant, context: &mut Context<'_>) {
        for branch in &mut self.open {
            if let State::Open { leg, .. } = &mut branch.state {
                let blocked = leg.poll_flush(context).is_pending();
                branch.clock.flushed(now, leg, blocked);
            }
        }
    }

    /// Sends due pings; names an upstream that does not respond.
    pub(super) fn check_deadlines(&mut self, now: Instant, limits: &SessionLimits) -> Option<Arc<str>> {
        let mut silent = None;
        for branch in &mut self.open {
            let State::Open { leg, .. } = &mut branch.state else { continue };
            match branch.clock.due(now, leg, limits) {
                Due::Nothing => {}
                Due::Ping => leg.ping(),
                Due::PongTimeout | Due::SendTimeout => silent = Some(Arc::clone(&branch.upstream)),
            }
        }
        silent
    }

    /// Closes them all behind what is queued, also where an upstream is still being dialled. Tasks of their own see it
    /// through, so that the session need not wait.
    pub(super) fn end(&mut self, frame: &CloseFrame, limits: &SessionLimits) {
        for branch in self.open.drain(..) {
            branch.end(frame.clone(), limits.upstream_max_payload_bytes);
        }
    }

    fn branch(&mut self, upstream: &Arc<str>, now: Instant, limits: &SessionLimits) -> Option<&mut Branch> {
        let at = match self.open.iter().position(|branch| branch.upstream == *upstream) {
            Some(at) => at,
            None => {
                self.open.push(Branch::dial(self.dialling.as_deref()?, Arc::clone(upstream), now, limits));
                self.open.len() - 1
            }
        };
        self.open.get_mut(at)
    }
}

impl Branch {
    fn dial(dialling: &Dialling, upstream: Arc<str>, now: Instant, limits: &SessionLimits) -> Self {
        let (upstreams, request) = (Arc::clone(&dialling.upstreams), dialling.request.clone());
        let (name, deadline) = (Arc::clone(&upstream), now + dialling.timeout);
        let answer = Box::pin(async move { upstreams.dial(&name, request, deadline).await });
        let dial = Dial { answer, queue: MessageQueue::default() };
        Self { upstream, state: State::Dialling(dial), clock: LegClock::new(now, limits) }
    }

    fn send(&mut self, message: Message) {
        match &mut self.state {
            State::Dialling(dial) => dial.queue.push_relayed(message),
            State::Open { leg, .. } => leg.send(message),
        }
    }

    /// Drives the dialling: true once it has come to its end. An error where the upstream cannot be had.
    fn poll_open(&mut self, limits: &SessionLimits, context: &mut Context<'_>) -> Result<bool, DialError> {
        let State::Dialling(dial) = &mut self.state else { return Ok(false) };
        let Poll::Ready(answer) = dial.answer.as_mut().poll(context) else { return Ok(false) };
        let (leg, lease) = dial.opened(answer?, limits.upstream_max_payload_bytes);
        self.clock = LegClock::new(Instant::now(), limits);
        self.state = State::Open { leg, lease };
        Ok(true)
    }

    /// Closes in a task of its own, behind what is queued.
    fn end(self, frame: CloseFrame, max_payload_bytes: usize) {
        let upstream = self.upstream;
        tokio::task::spawn_local(async move {
            let (mut leg, lease) = match self.state {
                State::Open { leg, lease } => (leg, lease),
                State::Dialling(mut dial) => match dial.answer.as_mut().await {
                    Ok(established) => dial.opened(established, max_payload_bytes),
                    Err(error) => return not_dialled(&upstream, &error),
                },
            };
            leg.start_close(frame);
            // A peer that does not answer is left then.
            let _ = timeout(CLOSE_TIMEOUT, poll_fn(|context| leg.poll_finish(context))).await;
            drop(lease);
        });
    }
}

impl Outgoing for Branch {
    fn queued_bytes(&self) -> usize {
        match &self.state {
            State::Dialling(dial) => dial.queue.bytes(),
            State::Open { leg, .. } => leg.queued_bytes(),
        }
    }

    fn drop_oldest(&mut self) -> bool {
        match &mut self.state {
            State::Dialling(dial) => dial.queue.pop().is_some(),
            State::Open { leg, .. } => leg.drop_oldest(),
        }
    }
}

impl Dial {
    /// What waited for the upstream is the first that it gets.
    fn opened(&mut self, established: Established, max_payload_bytes: usize) -> (Leg, Lease) {
        let Established { transport, read_ahead, lease, .. } = established;
        let mut leg = Leg::to_upstream(transport, read_ahead, max_payload_bytes);
        std::iter::from_fn(|| self.queue.pop()).for_each(|message| leg.send(message));
        (leg, lease)
    }
}

fn not_dialled(upstream: &str, error: &DialError) {
    tracing::warn!(upstream, error = error as &dyn std::error::Error, "a routed message did not reach its upstream");
}

impl Session {
    /// A filter sends this message to the upstream of this name.
    pub(super) fn route(&mut self, upstream: &Arc<str>, message: Message) {
        let dialling = self.branches.dialling.as_deref();
        if dialling.is_some_and(|dialling| dialling.own.as_deref() == Some(&**upstream)) {
            return self.send(crate::message::Direction::ToUpstream, message, super::Arrival::Relayed);
        }
        let Some(branch) = self.branches.branch(upstream, self.now, &self.limits) else {
            // No filter had the right when the session opened, so nothing to dial with was kept.
            return self.begin_end(SessionEnd::RoutedLost { upstream: Arc::clone(upstream) });
        };
        match AtMark::from(self.limits.overflow).make_room(branch, self.limits.queue_max_bytes) {
            true => branch.send(message),
            false => self.begin_end(SessionEnd::UpstreamOverflow),
        }
    }

    /// Drives further upstreams that are being dialled, also those that the pumps have only just begun. Answers whether
    /// one has opened: then it has to be read from.
    pub(super) fn poll_branches(&mut self, context: &mut Context<'_>) -> bool {
        let (mut opened, mut lost) = (false, None);
        for branch in &mut self.branches.open {
            match branch.poll_open(&self.limits, context) {
                Ok(open) => opened |= open,
                Err(error) => {
                    not_dialled(&branch.upstream, &error);
                    lost = Some(Arc::clone(&branch.upstream));
                }
            }
        }
        if let Some(upstream) = lost {
            self.branches.open.retain(|branch| branch.upstream != upstream);
            self.begin_end(SessionEnd::RoutedLost { upstream });
        }
        opened
    }

    /// The next message of any upstream, in turn, so that none starves another.
    pub(super) fn poll_upstreams(&mut self, context: &mut Context<'_>) -> Poll<Received> {
        if self.branches.is_empty() {
            return self.far.poll_receive(context);
        }
        let sources = self.branches.open.len() + 1;
        for step in 0..sources {
            let at = (self.branches.next + step) % sources;
            let received = match at.checked_sub(1) {
                None => self.far.poll_receive(context),
                Some(at) => match self.branches.open.get_mut(at).map(|branch| &mut branch.state) {
                    Some(State::Open { leg, .. }) => leg.poll_receive(context),
                    Some(State::Dialling(_)) | None => Poll::Pending,
                },
            };
            let Poll::Ready(received) = received else { continue };
            self.branches.next = at + 1;
            return Poll::Ready(match (received, at.checked_sub(1)) {
                (Received::Stopped(stop), Some(at)) => {
                    self.branch_stopped(at, stop);
                    Received::Control
                }
                (received, _) => received,
            });
        }
        Poll::Pending
    }

    /// A routed upstream that closes normally is dialled anew when it is needed; any other end ends the session, because
    /// answers may be missing.
    fn branch_stopped(&mut self, at: usize, stop: Stop) {
        let branch = self.branches.open.remove(at);
        let upstream = Arc::clone(&branch.upstream);
        match stop {
            Stop::Close(frame) => {
                branch.end(frame.clone(), self.limits.upstream_max_payload_bytes);
                match frame.code {
                    None | Some(1000 | 1001) => {
                        tracing::debug!(upstream = &*upstream, code = frame.code, "a routed upstream closed");
                    }
                    Some(_) => self.begin_end(SessionEnd::RoutedClosed { upstream, frame }),
                }
            }
            Stop::Violation(_) | Stop::Lost => self.begin_end(SessionEnd::RoutedLost { upstream }),
        }
    }

    /// Ends what filters have routed to.
    pub(super) fn end_branches(&mut self, end: &SessionEnd) {
        let frame = end.upstream_frame().unwrap_or_else(|| CloseFrame::new(1001, "going away"));
        self.branches.end(&frame, &self.limits);
    }

    /// The legs to upstreams, the session's own first.
    pub(super) fn upstream_legs(&mut self) -> impl Iterator<Item = &mut Leg> {
        let own = match &mut self.far {
            Far::Upstream { leg, .. } => Some(leg),
            Far::Echo(_) | Far::Filters => None,
        };
        own.into_iter().chain(self.branches.legs())
    }
}
