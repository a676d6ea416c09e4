//! What a message goes through: each filter's verdict, and what the filters send by themselves.
//!
//! What filter i sends to the upstream passes the filters after it, what it sends to the client those before it, never
//! itself. Everything happens in the order in which the filters asked for it.

use std::sync::Arc;

use super::{Inner, ROUTED_UPSTREAMS};
use crate::{
    config::FailurePolicy,
    filter::{
        Effect, Identity, Outcome,
        bindings::wsgate::filter::types::{Action, CloseInfoResult, MessageResult, Verdict},
        fault::{Fault, FaultKind},
        member::{Member, NoAnswer},
        tally::{Hook, actions_ending, verdict_ending},
    },
    message::{CloseFrame, Direction, Message},
};
use bytes::Bytes;
use tokio::time::Instant;

/// Actions of one call.
const ACTIONS: usize = 1_000;
/// Messages that the filters of a chain send by themselves in one run.
const SENT_IN_A_RUN: usize = 4 * ACTIONS;

/// A message under way.
pub(super) struct Travel {
    direction: Direction,
    message: Message,
    /// To the upstream: the next filter's index. To the client: how many filters are left, counted from the first.
    at: usize,
    /// Where a filter wants it to go instead of the session's upstream.
    route: Option<Arc<str>>,
}

/// What is still to do, the next thing last.
enum Step {
    Travel(Travel),
    Close(Effect),
}

/// What a filter's answer means for the message that it was asked about.
enum Then {
    /// It goes on as it came.
    Forward,
    /// It goes on like this.
    Replace(Message),
    /// It goes on to this upstream.
    Route(Arc<str>),
    /// It ends here.
    Stop,
}

/// One run through a chain.
pub(super) struct Pass<'a> {
    chain: &'a Inner,
    steps: Vec<Step>,
    effects: Vec<Effect>,
    sent: usize,
}

impl Travel {
    /// From one end to the other.
    pub(super) fn whole(chain: &Inner, direction: Direction, message: Message) -> Self {
        let at = match direction {
            Direction::ToUpstream => 0,
            Direction::ToClient => chain.members.len(),
        };
        Self { direction, message, at, route: None }
    }

    /// From behind filter `i`.
    fn from(i: usize, direction: Direction, message: Message) -> Self {
        let at = match direction {
            Direction::ToUpstream => i + 1,
            Direction::ToClient => i,
        };
        Self { direction, message, at, route: None }
    }

    /// Where it has arrived.
    fn effect(&mut self, message: Message) -> Effect {
        match self.route.take() {
            Some(upstream) => Effect::Route { upstream, message },
            None => Effect::Send(self.direction, message),
        }
    }

    /// The index of the next filter.
    fn next(&mut self, filters: usize) -> Option<usize> {
        match self.direction {
            Direction::ToUpstream => {
                let i = self.at;
                self.at += 1;
                (i < filters).then_some(i)
            }
            Direction::ToClient => {
                self.at = self.at.checked_sub(1)?;
                Some(self.at)
            }
        }
    }
}

impl<'a> Pass<'a> {
    pub(super) fn new(chain: &'a Inner) -> Self {
        Self { chain, steps: Vec::new(), effects: Vec::new(), sent: 0 }
    }

    /// A relayed message. Arguments by reference: a future keeps what it is given twice.
    pub(super) async fn message(&mut self, travel: &mut Travel) -> Outcome {
        let arrived = self.travel(travel).await;
        let message = std::mem::replace(&mut travel.message, Message::Binary(Bytes::new()));
        if arrived {
            if self.steps.is_empty() && travel.route.is_none() {
                return Outcome::Pass(message);
            }
            self.effects.push(travel.effect(message));
        }
        if !self.steps.is_empty() {
            // Boxed, so that the run of a message that only passes is small.
            Box::pin(self.work()).await;
        }
        self.outcome()
    }

    /// A message of a topic.
    pub(super) async fn delivery(&mut self, topic: &str, mut message: Message) -> Outcome {
        for i in (0..self.chain.members.len()).rev() {
            let member = &self.chain.members[i];
            if !member.interest().delivery(message.kind()) {
                continue;
            }
            let param = &message;
            let answer = member.call(Hook::OnDelivery, verdict_ending, async |store, guest, session| {
                guest.session().call_on_delivery(store, session, topic, param.into()).await
            });
            let then = match answer.await {
                Ok(Ok(Verdict::Reply(_))) => self.fault(
                    member,
                    Hook::OnDelivery,
                    Fault::new(FaultKind::Verdict, "a delivery has nobody to reply to"),
                ),
                answer => self.judge(i, Direction::ToClient, Hook::OnDelivery, answer),
            };
            match then {
                // `judge` lets no filter route a delivery.
                Then::Forward | Then::Route(_) => {}
                Then::Replace(new) => message = new,
                Then::Stop => {
                    self.work().await;
                    return self.outcome();
                }
            }
        }
        self.message(&mut Travel::whole(self.chain, Direction::ToClient, message)).await
    }

    /// Every tick that is due.
    pub(super) async fn tick(&mut self, now: Instant) -> Outcome {
        for i in 0..self.chain.members.len() {
            let member = &self.chain.members[i];
            if member.next_tick().is_none_or(|due| due > now) {
                continue;
            }
            member.ticked(now);
            let answer = member.call(Hook::OnTick, actions_ending, async |store, guest, session| {
                guest.session().call_on_tick(store, session).await
            });
            let answer = answer.await;
            if self.unasked(i, Hook::OnTick, answer).await {
                break;
            }
        }
        self.outcome()
    }

    /// The client's identity was refreshed.
    pub(super) async fn identity(&mut self, identity: &Identity) -> Outcome {
        let scopes: Vec<_> = identity.scopes.iter().map(String::as_str).collect();
        for i in 0..self.chain.members.len() {
            let member = &self.chain.members[i];
            if !member.interest().identity() {
                continue;
            }
            let answer = member.call(Hook::OnIdentity, actions_ending, async |store, guest, session| {
                guest.session().call_on_identity(store, session, identity.declared(&scopes)).await
            });
            let answer = answer.await;
            if self.unasked(i, Hook::OnIdentity, answer).await {
                break;
            }
        }
        self.outcome()
    }

    /// Does what a filter wants done without a message. Answers whether that closes the connection.
    async fn unasked(&mut self, i: usize, hook: Hook, answer: Result<Result<Vec<Action>, String>, NoAnswer>) -> bool {
        self.judge(i, Direction::ToClient, hook, answer.map(|answer| answer.map(Verdict::Act)));
        self.work().await;
        matches!(self.effects.last(), Some(Effect::Close { .. }))
    }

    fn outcome(&mut self) -> Outcome {
        Outcome::Effects(std::mem::take(&mut self.effects))
    }

    /// Takes every step that is left. Nothing follows a close.
    async fn work(&mut self) {
        while let Some(step) = self.steps.pop() {
            match step {
                Step::Travel(mut travel) => {
                    if self.travel(&mut travel).await {
                        let message = std::mem::replace(&mut travel.message, Message::Binary(Bytes::new()));
                        self.effects.push(travel.effect(message));
                    }
                }
                Step::Close(close) => {
                    self.effects.push(close);
                    self.steps.clear();
                }
            }
        }
    }

    /// Does the message, or what it was replaced by, arrive at the end?
    async fn travel(&mut self, travel: &mut Travel) -> bool {
        while let Some(i) = travel.next(self.chain.members.len()) {
            let member = &self.chain.members[i];
            let (direction, kind) = (travel.direction, travel.message.kind());
            if member.is_late() && member.hears(direction, kind) {
                // Boxed: it is rare, and large.
                if let Err(none) = Box::pin(member.arrive()).await
                    && let Then::Stop = self.judge(i, direction, Hook::Resume, Err(none))
                {
                    return false;
                }
            }
            if member.is_late() || !member.hears(direction, kind) {
                member.show(direction, &travel.message, None);
                continue;
            }
            let answer = member.on_message(direction, &travel.message).await;
            member.show(direction, &travel.message, Some(&answer));
            match self.judge(i, travel.direction, Hook::OnMessage, answer) {
                Then::Forward => {}
                Then::Replace(message) => travel.message = message,
                Then::Route(upstream) => travel.route = Some(upstream),
                Then::Stop => return false,
            }
        }
        true
    }

    /// Turns an answer of filter `i` into steps.
    fn judge(
        &mut self,
        i: usize,
        direction: Direction,
        hook: Hook,
        answer: Result<Result<Verdict, String>, NoAnswer>,
    ) -> Then {
        let member = &self.chain.members[i];
        if self.chain.over.get() {
            return Then::Stop;
        }
        let verdict = match answer {
            Ok(Ok(verdict)) => verdict,
            Ok(Err(text)) => return self.fault(member, hook, Fault::new(FaultKind::Error, text)),
            Err(NoAnswer::Fault(fault)) => return self.fault(member, hook, fault),
            Err(NoAnswer::Close(info)) => {
                self.close(member, hook, info);
                return Then::Stop;
            }
            Err(NoAnswer::Left) => return Then::Stop,
        };
        match verdict {
            Verdict::Forward => Then::Forward,
            Verdict::Replace(message) => match self.checked(direction, message) {
                Ok(message) => Then::Replace(message),
                Err(fault) => self.fault(member, hook, fault),
            },
            Verdict::Drop => Then::Stop,
            // Two filters can reply to each other's replies for ever: a reply counts like an action.
            Verdict::Reply(message) => self.act(
                i,
                hook,
                vec![match direction {
                    Direction::ToUpstream => Action::ToClient(message),
                    Direction::ToClient => Action::ToUpstream(message),
                }],
            ),
            Verdict::Close(info) => {
                self.close(member, hook, info);
                Then::Stop
            }
            Verdict::Act(actions) => self.act(i, hook, actions),
            Verdict::Route(upstream) => self.route(member, direction, hook, &upstream),
        }
    }

    fn route(&mut self, member: &Member, direction: Direction, hook: Hook, upstream: &str) -> Then {
        let cause = if hook != Hook::OnMessage || direction != Direction::ToUpstream {
            "route is for messages to the upstream".to_owned()
        } else if let Err(cause) = member.generation().rights().check_upstream(upstream) {
            cause
        } else if let Some(name) = self.chain.routed.name(upstream) {
            return Then::Route(name);
        } else {
            format!("route to {upstream:?}: a connection may be routed to {ROUTED_UPSTREAMS} upstreams")
        };
        self.fault(member, hook, Fault::new(FaultKind::Verdict, cause))
    }

    fn act(&mut self, i: usize, hook: Hook, actions: Vec<Action>) -> Then {
        let member = &self.chain.members[i];
        self.sent += actions.len();
        if actions.len() > ACTIONS || self.sent > SENT_IN_A_RUN {
            let cause = format!("{} actions in one call, {ACTIONS} allowed; {} in one run", actions.len(), self.sent);
            member.log(&Fault::new(FaultKind::Verdict, cause), hook);
            self.close_for_fault(member);
            return Then::Stop;
        }
        let first = self.steps.len();
        for action in actions {
            let (direction, message) = match action {
                Action::ToClient(message) => (Direction::ToClient, message),
                Action::ToUpstream(message) => (Direction::ToUpstream, message),
                Action::Close(info) => {
                    self.close(member, hook, info);
                    break;
                }
            };
            match self.checked(direction, message) {
                Ok(message) => self.steps.push(Step::Travel(Travel::from(i, direction, message))),
                Err(fault) => {
                    self.steps.truncate(first);
                    return self.fault(member, hook, fault);
                }
            }
        }
        // The first action is to be taken first, so it has to be the last.
        self.steps[first..].reverse();
        Then::Stop
    }

    /// A filter may send what the peer on the other side may: to the upstream at most `client_max_payload`, to the client
    /// at most `upstream_max_payload`.
    fn checked(&self, direction: Direction, message: MessageResult) -> Result<Message, Fault> {
        let message = match message {
            MessageResult::Text(text) => Message::text(text),
            MessageResult::Binary(bytes) => Message::binary(bytes),
        };
        let max = self.chain.spec.max_bytes(direction);
        if message.len() <= max {
            return Ok(message);
        }
        let cause = format!("a message of {} bytes {}, {max} allowed", message.len(), direction.label());
        Err(Fault::new(FaultKind::Verdict, cause))
    }

    /// Closes as a filter asked. A code that must not travel is a fault.
    fn close(&mut self, member: &Member, hook: Hook, info: CloseInfoResult) {
        if !CloseFrame::is_sendable(info.code) {
            let cause = format!("close code {} may not be sent", info.code);
            member.log(&Fault::new(FaultKind::Verdict, cause), hook);
            return self.close_for_fault(member);
        }
        let frame = CloseFrame::new(info.code, &info.reason);
        let filter = member.generation().filter().clone();
        self.steps.push(Step::Close(Effect::Close { frame, filter, fault: false }));
    }

    fn close_for_fault(&mut self, member: &Member) {
        let frame = CloseFrame::new(1011, "filter failed");
        let filter = member.generation().filter().clone();
        self.steps.push(Step::Close(Effect::Close { frame, filter, fault: true }));
    }

    /// A fault of this filter on this message: its `failure_policy` decides. Lost state closes in any case, and so does
    /// one fault too many of a client.
    fn fault(&mut self, member: &Member, hook: Hook, fault: Fault) -> Then {
        member.log(&fault, hook);
        let open = member.generation().settings().failure_policy == FailurePolicy::FailOpen;
        if open && member.is_refused() {
            let (frame, filter) = (CloseFrame::new(1008, "too many faults"), member.generation().filter().clone());
            self.steps.push(Step::Close(Effect::Close { frame, filter, fault: false }));
            return Then::Stop;
        }
        if open && fault.kind != FaultKind::StateLoss {
            return Then::Forward;
        }
        self.close_for_fault(member);
        Then::Stop
    }
}
