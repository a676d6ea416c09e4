//! One direction of a session: reads from one leg, runs the chain, queues on the other.

use std::task::{Context, Poll};

use tokio::time::Instant;

use super::{Arrival, Session, SessionEnd, far::Far, leg::Received, wire::Stop};
use crate::{
    config::Overflow,
    filter::{Effect, Outcome, Run},
    limit::Passed,
    message::{Direction, Message},
};

/// What a pump takes in one turn, whichever comes first. More would hold up the worker's other sessions.
const MESSAGES_A_TURN: usize = 64;
const BYTES_A_TURN: usize = 64 << 10;

/// The state of one direction.
#[derive(Default)]
pub(super) struct Pump {
    /// The message that is in the chain.
    run: Option<(Run<Outcome>, Arrival)>,
    messages: usize,
    bytes: usize,
    /// The chain answered on the side that this pump reads from: that side's queue holds this pump back too.
    replied: bool,
}

/// Why a pump stopped for now.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Pumped {
    /// Its leg has nothing more.
    Waiting,
    /// A filter has not answered yet, or filters are being replaced.
    Held,
    /// A queue is full.
    Paused,
    /// It had its share of this turn.
    Spent,
}

impl Pumped {
    /// True where nobody reads from the leg.
    pub(super) fn is_held(self) -> bool {
        match self {
            Self::Held | Self::Paused => true,
            Self::Waiting | Self::Spent => false,
        }
    }
}

impl Pump {
    pub(super) fn start_turn(&mut self) {
        self.messages = 0;
        self.bytes = 0;
    }

    /// Did anything come in this turn?
    pub(super) fn moved(&self) -> bool {
        self.messages > 0
    }

    pub(super) fn is_running(&self) -> bool {
        self.run.is_some()
    }

    pub(super) fn take_run(&mut self) -> Option<Run<Outcome>> {
        self.run.take().map(|(run, _)| run)
    }

    pub(super) fn begin(&mut self, run: Run<Outcome>, arrival: Arrival) {
        self.run = Some((run, arrival));
    }
}

impl Session {
    /// Relays what there is, within the turn's budget and the queues' limits; to the client in turns with mail, which no
    /// full queue holds back.
    pub(super) fn pump(&mut self, direction: Direction, context: &mut Context<'_>) -> Pumped {
        let mut stopped = None;
        loop {
            if let Some((run, arrival)) = &mut self.pump_mut(direction).run {
                let (polled, arrival) = (run.as_mut().poll(context), *arrival);
                let Poll::Ready(outcome) = polled else { return Pumped::Held };
                self.pump_mut(direction).run = None;
                self.apply(direction, outcome, arrival);
            }
            if !self.is_relaying(direction) {
                return Pumped::Waiting;
            }
            if self.filters.hold() {
                return Pumped::Held;
            }
            let has_mail = self.has_mail(direction);
            if !(has_mail && self.inbox.is_next) && stopped.is_none() {
                stopped = self.relay(direction, context);
                self.inbox.is_next |= direction == Direction::ToClient;
                if stopped.is_none() {
                    continue;
                }
            }
            match stopped {
                Some(stopped) if !has_mail => return stopped,
                Some(_) | None => self.take_mail(),
            }
        }
    }

    /// Takes the next thing that the leg has. Answers why there is none.
    fn relay(&mut self, direction: Direction, context: &mut Context<'_>) -> Option<Pumped> {
        if self.is_paused(direction) {
            return Some(Pumped::Paused);
        }
        if self.is_spent(direction) {
            return Some(Pumped::Spent);
        }
        if direction == Direction::ToUpstream && self.retry_throttled() {
            return None;
        }
        let received = match direction {
            Direction::ToUpstream => self.client.poll_receive(context),
            Direction::ToClient => self.poll_upstreams(context),
        };
        match received {
            Poll::Pending => return Some(Pumped::Waiting),
            Poll::Ready(Received::Control) => self.pump_mut(direction).messages += 1,
            Poll::Ready(Received::Message(message)) => self.take(direction, message),
            Poll::Ready(Received::Stopped(stop)) => self.stopped(direction, stop),
        }
        None
    }

    /// Had this direction its share of the turn? What its messages set off in other sessions is part of it: a room of
    /// many that all speak would else fill their mailboxes faster than anybody gets to empty one.
    fn is_spent(&mut self, direction: Direction) -> bool {
        let put = self.inbox.put();
        let pump = self.pump_mut(direction);
        pump.messages + put >= MESSAGES_A_TURN || pump.bytes >= BYTES_A_TURN
    }

    fn take(&mut self, direction: Direction, message: Message) {
        let pump = self.pump_mut(direction);
        pump.messages += 1;
        pump.bytes += message.len();
        match &mut self.rates {
            Some(rates) if direction == Direction::ToUpstream => {
                let passed = rates.pass(message);
                self.passed(passed);
            }
            Some(_) | None => self.take_measured(direction, message),
        }
    }

    /// What became of a message of the client that was held against its limits.
    fn passed(&mut self, passed: Passed) {
        match passed {
            Passed::Now(message) => self.take_measured(Direction::ToUpstream, message),
            Passed::Delayed | Passed::Dropped => {}
            Passed::Close { limit, code } => self.begin_end(SessionEnd::RateLimited { limit, code }),
        }
    }

    /// Asks again for a message that a limit holds back. True where there was one.
    fn retry_throttled(&mut self) -> bool {
        let passed = self.rates.as_mut().and_then(|rates| rates.retry());
        let waited = passed.is_some();
        passed.into_iter().for_each(|passed| self.passed(passed));
        waited
    }

    /// When the client is read from again, if a limit holds it back.
    pub(super) fn throttled_until(&self) -> Option<Instant> {
        self.rates.as_ref()?.waits_until().map(Instant::from_std)
    }

    fn take_measured(&mut self, direction: Direction, message: Message) {
        if direction == Direction::ToUpstream && self.takes_refresh(&message) {
            return;
        }
        self.tally.received(direction, &message);
        match self.filters.run(direction, message) {
            Ok(run) => self.pump_mut(direction).begin(run, Arrival::Relayed),
            Err(message) => self.send(direction, message, Arrival::Relayed),
        }
    }

    /// Does what a run through the chain asks for.
    pub(super) fn apply(&mut self, direction: Direction, outcome: Outcome, arrival: Arrival) {
        match outcome {
            Outcome::Pass(message) => self.send(direction, message, arrival),
            Outcome::Effects(effects) => {
                for effect in effects {
                    match effect {
                        Effect::Send(to, message) => {
                            if to != direction {
                                self.pump_mut(direction).replied = true;
                            }
                            self.send(to, message, arrival);
                        }
                        Effect::Route { upstream, message } => self.route(&upstream, message),
                        Effect::Close { filter, fault: true, .. } => self.begin_end(SessionEnd::FilterFault { filter }),
                        Effect::Close { filter, frame, fault: false } => {
                            self.begin_end(SessionEnd::FilterClosed { filter, frame });
                        }
                    }
                }
            }
        }
    }

    /// The leg that this pump reads from has come to its end.
    fn stopped(&mut self, direction: Direction, stop: Stop) {
        match (direction, stop) {
            (Direction::ToUpstream, Stop::Close(frame)) => self.begin_end(SessionEnd::ClientClosed(frame)),
            (Direction::ToUpstream, Stop::Violation(violation)) => {
                self.begin_end(SessionEnd::ClientViolated(violation))
            }
            (Direction::ToUpstream, Stop::Lost) => self.begin_end(SessionEnd::ClientVanished),
            (Direction::ToClient, stop) => self.upstream_stopped(stop),
        }
    }

    /// True while the queue that this direction fills is full, or the one that its replies fill, or the mailbox of a client
    /// that would have more to say.
    pub(super) fn is_paused(&mut self, direction: Direction) -> bool {
        let throttled = || self.throttled_until().is_some_and(|until| until > self.now);
        if direction == Direction::ToUpstream && (self.inbox.has_backlog() || throttled()) {
            return true;
        }
        let mark = self.limits.queue_max_bytes;
        let full =
            self.queued_bytes(direction) >= mark || direction == Direction::ToUpstream && self.branches.is_full(mark);
        if self.limits.overflow == Overflow::Pause && full {
            return true;
        }
        let replies_wait = self.queued_bytes(direction.opposite()) >= mark;
        let pump = self.pump_mut(direction);
        pump.replied &= replies_wait;
        // An echo's own queue is the other direction's source: waiting for it would be waiting for oneself.
        pump.replied && !(direction == Direction::ToClient && matches!(self.far, Far::Echo(_)))
    }

    pub(super) fn pump_mut(&mut self, direction: Direction) -> &mut Pump {
        match direction {
            Direction::ToUpstream => &mut self.to_upstream,
            Direction::ToClient => &mut self.to_client,
        }
    }
}
