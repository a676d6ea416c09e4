//! What becomes of a message, however many packets were in it.

use wsgate_sdk::prelude::*;

/// Why a connection cannot go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct End {
    pub(crate) code: u16,
    pub(crate) text: &'static str,
    /// Empty where it was named already.
    pub(crate) reason: &'static str,
}

impl End {
    /// Something that the protocol does not allow: 1002.
    pub(crate) const fn malformed(text: &'static str) -> Self {
        Self { code: 1002, text, reason: "malformed" }
    }

    /// Text that is no UTF-8: 1007.
    pub(crate) const fn not_utf8(text: &'static str) -> Self {
        Self { code: 1007, text, reason: "malformed" }
    }

    /// A kind of message that the protocol does not use: 1003.
    pub(crate) const fn wrong_kind(text: &'static str) -> Self {
        Self { code: 1003, text, reason: "malformed" }
    }

    /// Something that the configured rules do not allow, which [`refused`] told: 1008.
    pub(crate) const fn refused(text: &'static str) -> Self {
        Self { code: 1008, text, reason: "" }
    }

    /// Too many things at once: 1008.
    pub(crate) const fn too_many(text: &'static str) -> Self {
        Self { code: 1008, text, reason: "too_many" }
    }

    pub(crate) const fn too_large() -> Self {
        Self { code: 1009, text: "a packet is too large", reason: "too_large" }
    }

    /// Others hold too much: 1013, try again later.
    pub(crate) const fn no_room() -> Self {
        Self { code: 1013, text: "too much is held for other clients", reason: "no_room" }
    }
}

impl From<crate::held::Full> for End {
    fn from(full: crate::held::Full) -> Self {
        match full {
            crate::held::Full::Packet => Self::too_large(),
            crate::held::Full::Instance => Self::no_room(),
        }
    }
}

/// What goes on, what is answered to the sender, and whether the connection goes on.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Outcome {
    pub(crate) onward: Vec<u8>,
    pub(crate) answer: Vec<u8>,
    pub(crate) end: Option<End>,
}

impl Outcome {
    pub(crate) fn end(end: End) -> Self {
        Self { end: Some(end), ..Self::default() }
    }

    /// As a verdict on a message from the client, whose packets `make` turns into messages.
    pub(crate) fn verdict(self, make: impl Fn(Vec<u8>) -> Message) -> Verdict {
        match (self.onward.is_empty(), self.answer.is_empty(), self.end) {
            (true, true, None) => Verdict::Drop,
            (false, true, None) => Verdict::Replace(make(self.onward)),
            (true, false, None) => Verdict::Reply(make(self.answer)),
            (onward_empty, answer_empty, end) => {
                let mut actions = Vec::new();
                if !onward_empty {
                    actions.push(Action::ToUpstream(make(self.onward)));
                }
                if !answer_empty {
                    actions.push(Action::ToClient(make(self.answer)));
                }
                if let Some(end) = end {
                    if !end.reason.is_empty() {
                        log::reason(end.reason);
                    }
                    actions.push(Action::close(end.code, end.text));
                }
                Verdict::Act(actions)
            }
        }
    }
}

/// Says that something was refused: in the reason of the call and in the counter `refusals`.
pub(crate) fn refused(protocol: &'static str, action: &'static str, reason: &'static str) {
    log::reason(reason);
    metrics::add("refusals", &[("protocol", protocol), ("action", action)], 1);
}
