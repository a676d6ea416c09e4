//! Does what happened fit what was expected?

use super::{
    compare::closing_words,
    expect::{Action, Closing, Expect},
    payload::Payload,
    step::Input,
};
use crate::{
    filter::Effect,
    message::{CloseFrame, Direction, Message},
};

impl Closing {
    pub(super) fn fits(&self, frame: &CloseFrame) -> bool {
        self.code == frame.code_or_1005() && self.reason.as_ref().is_none_or(|reason| *reason == frame.reason)
    }
}

impl Action {
    pub(super) fn fits(&self, effect: &Effect) -> bool {
        match (self, effect) {
            (Self::ToClient(payload), Effect::Send(Direction::ToClient, message))
            | (Self::ToUpstream(payload), Effect::Send(Direction::ToUpstream, message)) => payload.matches(message),
            (Self::Close(closing), Effect::Close { frame, .. }) => closing.fits(frame),
            (Self::ToClient(_) | Self::ToUpstream(_) | Self::Close(_), _) => false,
        }
    }

    pub(super) fn words(&self) -> String {
        match self {
            Self::ToClient(payload) => format!("to_client: {payload}"),
            Self::ToUpstream(payload) => format!("to_upstream: {payload}"),
            Self::Close(Closing { code, reason }) => closing_words(*code, reason.as_deref()),
        }
    }
}

impl Expect {
    pub(super) fn fits(&self, input: &Input, effects: &[Effect]) -> bool {
        let (direction, message) = match input {
            Input::Message(direction, payload) => (*direction, Some(payload.message())),
            Input::Delivery { message, .. } => (Direction::ToClient, Some(message.message())),
            Input::Tick | Input::Identity(_) | Input::Reload(_) | Input::Close { .. } => (Direction::ToClient, None),
        };
        let sent = |to: Direction| match effects {
            [Effect::Send(found, message)] if *found == to => Some(message),
            _ => None,
        };
        match self {
            Self::Forward => message.is_some() && sent(direction) == message.as_ref(),
            Self::Replace(payload) => sent(direction).is_some_and(|found| payload.matches(found)),
            Self::Reply(payload) => sent(direction.opposite()).is_some_and(|found| payload.matches(found)),
            Self::Drop | Self::Nothing => effects.is_empty(),
            Self::Route { upstream, message: expected } => match effects {
                [Effect::Route { upstream: to, message: found }] if **to == **upstream => {
                    expected.as_ref().map_or(message.as_ref() == Some(found), |expected| expected.matches(found))
                }
                _ => false,
            },
            Self::Act(actions) => {
                actions.len() == effects.len()
                    && actions.iter().zip(effects).all(|(action, effect)| action.fits(effect))
            }
            Self::Close(closing) => match effects {
                [Effect::Close { frame, .. }] => closing.fits(frame),
                _ => false,
            },
            Self::Moved | Self::Kept | Self::Error(_) => false,
        }
    }

    pub(super) fn words(&self) -> String {
        match self {
            Self::Replace(payload) => format!("replace: {payload}"),
            Self::Reply(payload) => format!("reply: {payload}"),
            Self::Route { upstream, message: None } => format!("route to {upstream}"),
            Self::Route { upstream, message: Some(message) } => format!("route to {upstream}: {message}"),
            Self::Act(actions) if actions.is_empty() => "nothing".to_owned(),
            Self::Act(actions) => actions.iter().map(Action::words).collect::<Vec<_>>().join("; "),
            Self::Close(Closing { code, reason }) => closing_words(*code, reason.as_deref()),
            Self::Forward | Self::Drop | Self::Nothing | Self::Moved | Self::Kept | Self::Error(_) => {
                self.label().to_owned()
            }
        }
    }

    /// Where one message stands against another.
    pub(super) fn hint(&self, effects: &[Effect]) -> Option<String> {
        let (Self::Replace(expected) | Self::Reply(expected) | Self::Route { message: Some(expected), .. }) = self
        else {
            return None;
        };
        match effects {
            [Effect::Send(_, found) | Effect::Route { message: found, .. }] => difference(expected, found),
            _ => None,
        }
    }
}

/// Where the two begin to differ.
fn difference(expected: &Payload, found: &Message) -> Option<String> {
    let Message::Text(found) = found else { return None };
    match expected {
        Payload::Json(expected) => match serde_json::from_str(found) {
            Ok(found) => super::difference::of_json(expected, &found),
            Err(error) => Some(format!("what came is not JSON: {error}")),
        },
        Payload::Text(expected) => super::difference::of_text(expected, found),
        Payload::Binary(_) => None,
    }
}
