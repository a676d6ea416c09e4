//! What two answers do, whatever verdicts say it.

use crate::{
    filter::{
        bindings::{
            exports::wsgate::filter::handler::Admission,
            wsgate::filter::types::{Action, CloseInfoResult, MessageResult, Refusal, Verdict},
        },
        member::{NoAnswer, Opened},
        tally::{Ending, verdict_ending},
    },
    message::{CloseFrame, Direction, Kind, Message},
};

use super::record::{ShadowDifference, ShadowVerdict, now_unix_ms};

/// An answer, and how it was given.
pub(super) struct Answer {
    verdict: &'static str,
    effect: Effect,
}

#[derive(PartialEq)]
enum Effect {
    /// The message goes on, as this.
    Pass(Message),
    /// It goes on to another upstream.
    Route(String, Message),
    /// It goes no further; these are sent instead, and the connection may be closed.
    Instead(Vec<(Direction, Message)>, Option<CloseFrame>),
    /// An opening request was answered so.
    Opened(String),
    /// The filter returned an error.
    Error,
    /// The call failed.
    Fault,
}

impl Answer {
    pub(super) fn of_open(opened: &Opened) -> Self {
        let (ending, effect) = match opened {
            Opened::Admitted(_, admission) => (Ending::Admit, Effect::Opened(admitted(admission))),
            Opened::Refused(refusal) => (Ending::Refuse, Effect::Opened(refused(refusal))),
            Opened::Failed(..) | Opened::NoRoom(_) | Opened::Broken(..) | Opened::ClientRefused(_) => {
                (Ending::Fault, Effect::Fault)
            }
        };
        Self { verdict: ending.label(), effect }
    }

    /// `None` where nothing can be said because the connection was over. A filter that was not asked forwards.
    pub(super) fn of_message(
        direction: Direction,
        message: &Message,
        answer: Option<&Result<Result<Verdict, String>, NoAnswer>>,
    ) -> Option<Self> {
        let (ending, effect) = match answer {
            None => (Ending::Forward, Effect::Pass(message.clone())),
            Some(Ok(answer)) => {
                let effect = answer.as_ref().map_or(Effect::Error, |verdict| effect_of(direction, message, verdict));
                (verdict_ending(answer), effect)
            }
            Some(Err(NoAnswer::Close(info))) => (Ending::Close, Effect::Instead(Vec::new(), Some(frame(info)))),
            Some(Err(NoAnswer::Fault(_))) => (Ending::Fault, Effect::Fault),
            Some(Err(NoAnswer::Left)) => return None,
        };
        Some(Self { verdict: ending.label(), effect })
    }

    pub(super) fn is_fault(&self) -> bool {
        self.effect == Effect::Fault
    }

    pub(super) fn does_the_same(&self, other: &Self) -> bool {
        self.effect == other.effect
    }

    /// Bytes that are kept for it.
    pub(super) fn len(&self) -> usize {
        self.effect.slices().iter().map(|slice| slice.len()).sum()
    }

    pub(super) fn difference(&self, shadow: &Self) -> ShadowDifference {
        let bytes = |answer: &Self| answer.effect.slices().concat();
        let (served, shadowed) = (bytes(self), bytes(shadow));
        let differing = served.iter().zip(&shadowed).position(|(a, b)| a != b);
        let shorter = served.len().min(shadowed.len());
        ShadowDifference {
            at_unix_ms: now_unix_ms(),
            connection: String::new(),
            hook: "",
            direction: None,
            serving: self.shown(),
            shadow: shadow.shown(),
            first_differing_byte: differing.or((served.len() != shadowed.len()).then_some(shorter)),
            missed: 0,
        }
    }

    fn shown(&self) -> ShadowVerdict {
        let kind = match &self.effect {
            Effect::Pass(message) | Effect::Route(_, message) => Some(message.kind()),
            Effect::Instead(sent, _) => sent.first().map(|(_, message)| message.kind()),
            Effect::Opened(_) | Effect::Error | Effect::Fault => None,
        };
        ShadowVerdict { verdict: self.verdict, kind: kind.map(Kind::label), bytes: self.len() }
    }
}

impl Effect {
    fn slices(&self) -> Vec<&[u8]> {
        match self {
            Self::Pass(message) | Self::Route(_, message) => vec![bytes_of(message)],
            Self::Instead(sent, _) => sent.iter().map(|(_, message)| bytes_of(message)).collect(),
            Self::Opened(text) => vec![text.as_bytes()],
            Self::Error | Self::Fault => Vec::new(),
        }
    }
}

fn bytes_of(message: &Message) -> &[u8] {
    match message {
        Message::Text(text) => text.as_bytes(),
        Message::Binary(bytes) => bytes,
    }
}

fn effect_of(direction: Direction, message: &Message, verdict: &Verdict) -> Effect {
    match verdict {
        Verdict::Forward => Effect::Pass(message.clone()),
        Verdict::Replace(new) => Effect::Pass(copied(new)),
        Verdict::Drop => Effect::Instead(Vec::new(), None),
        Verdict::Reply(reply) => Effect::Instead(vec![(direction.opposite(), copied(reply))], None),
        Verdict::Close(info) => Effect::Instead(Vec::new(), Some(frame(info))),
        Verdict::Act(actions) => acted(actions),
        Verdict::Route(upstream) => Effect::Route(upstream.clone(), message.clone()),
    }
}

/// Nothing follows a close.
fn acted(actions: &[Action]) -> Effect {
    let mut sent = Vec::new();
    for action in actions {
        match action {
            Action::ToClient(message) => sent.push((Direction::ToClient, copied(message))),
            Action::ToUpstream(message) => sent.push((Direction::ToUpstream, copied(message))),
            Action::Close(info) => return Effect::Instead(sent, Some(frame(info))),
        }
    }
    Effect::Instead(sent, None)
}

fn copied(message: &MessageResult) -> Message {
    match message {
        MessageResult::Text(text) => Message::text(text.clone()),
        MessageResult::Binary(bytes) => Message::binary(bytes.clone()),
    }
}

fn frame(info: &CloseInfoResult) -> CloseFrame {
    CloseFrame::new(info.code, &info.reason)
}

/// Everything but the session.
fn admitted(admission: &Admission) -> String {
    let Admission { session: _, interest, upstream_headers, client_headers, subprotocol, upstream, tags } = admission;
    format!("{interest:?} {upstream_headers:?} {client_headers:?} {subprotocol:?} {upstream:?} {tags:?}")
}

fn refused(refusal: &Refusal) -> String {
    format!("{refusal:?}")
}

#[cfg(test)]
mod tests {
    use super::*;

    const UP: Direction = Direction::ToUpstream;

    fn text(text: &str) -> MessageResult {
        MessageResult::Text(text.to_owned())
    }

    fn answer(verdict: Verdict) -> Answer {
        Answer::of_message(UP, &Message::text("hello"), Some(&Ok(Ok(verdict)))).unwrap()
    }

    fn close(code: u16) -> CloseInfoResult {
        CloseInfoResult { code, reason: String::new() }
    }

    #[test]
    fn what_does_the_same_is_the_same_however_it_is_said() {
        let error =
            |text: &str| Answer::of_message(UP, &Message::text("hello"), Some(&Ok(Err(text.to_owned())))).unwrap();
        for (a, b) in [
            (answer(Verdict::Forward), answer(Verdict::Replace(text("hello")))),
            (answer(Verdict::Replace(text("x"))), answer(Verdict::Replace(text("x")))),
            (answer(Verdict::Drop), answer(Verdict::Act(Vec::new()))),
            (answer(Verdict::Reply(text("x"))), answer(Verdict::Act(vec![Action::ToClient(text("x"))]))),
            (
                answer(Verdict::Close(close(4000))),
                answer(Verdict::Act(vec![Action::Close(close(4000)), Action::ToClient(text("never"))])),
            ),
            (answer(Verdict::Forward), Answer::of_message(UP, &Message::text("hello"), None).unwrap()),
            (error("one"), error("other")),
        ] {
            assert!(a.does_the_same(&b) && b.does_the_same(&a), "{} {}", a.verdict, b.verdict);
        }
    }

    #[test]
    fn what_does_another_thing_differs() {
        let answers = [
            answer(Verdict::Forward),
            answer(Verdict::Replace(text("hallo"))),
            answer(Verdict::Replace(MessageResult::Binary(b"hello".to_vec()))),
            answer(Verdict::Drop),
            answer(Verdict::Reply(text("hello"))),
            answer(Verdict::Act(vec![Action::ToUpstream(text("hello"))])),
            answer(Verdict::Close(close(4000))),
            answer(Verdict::Close(close(4001))),
            answer(Verdict::Route("a".to_owned())),
            answer(Verdict::Route("b".to_owned())),
        ];
        for (i, a) in answers.iter().enumerate() {
            for (j, b) in answers.iter().enumerate() {
                assert_eq!(a.does_the_same(b), i == j, "{i} {j}");
            }
        }
    }

    #[test]
    fn a_difference_says_where_it_begins_and_not_what_it_is() {
        let difference = |verdict| answer(Verdict::Forward).difference(&answer(verdict));
        let changed = difference(Verdict::Replace(text("hallo!")));
        assert_eq!((changed.serving.verdict, changed.serving.bytes), ("forward", 5));
        assert_eq!((changed.shadow.verdict, changed.shadow.bytes), ("replace", 6));
        assert_eq!((changed.shadow.kind, changed.first_differing_byte), (Some("text"), Some(1)));
        assert_eq!(difference(Verdict::Replace(text("hello!"))).first_differing_byte, Some(5));
        assert_eq!(difference(Verdict::Drop).first_differing_byte, Some(0));
        let other_kind = difference(Verdict::Replace(MessageResult::Binary(b"hello".to_vec())));
        assert_eq!((other_kind.shadow.kind, other_kind.first_differing_byte), (Some("binary"), None));
    }
}
