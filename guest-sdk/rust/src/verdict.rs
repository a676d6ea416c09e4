//! What is done with messages.

use serde::Serialize;

use crate::{Action, CloseInfo, Error, Message, Verdict};

impl Verdict {
    /// Sends this message on instead of the one that came.
    ///
    /// ```
    /// use wsgate_sdk::prelude::*;
    ///
    /// let verdict = Verdict::replace("hello");
    /// let verdict = Verdict::replace(json!({ "op": "hello" }));
    /// # assert_eq!(verdict, Verdict::Replace(Message::Text(r#"{"op":"hello"}"#.into())));
    /// ```
    pub fn replace(message: impl Into<Message>) -> Self {
        Self::Replace(message.into())
    }

    /// Sends this value on, as JSON in a text message, instead of the message that came.
    ///
    /// # Errors
    ///
    /// As [`Message::json_of`].
    pub fn replace_json(value: &impl Serialize) -> Result<Self, Error> {
        Ok(Self::Replace(Message::json_of(value)?))
    }

    /// Sends this message back to where the one that came is from.
    pub fn reply(message: impl Into<Message>) -> Self {
        Self::Reply(message.into())
    }

    /// Sends this value back, as JSON in a text message.
    ///
    /// # Errors
    ///
    /// As [`Message::json_of`].
    pub fn reply_json(value: &impl Serialize) -> Result<Self, Error> {
        Ok(Self::Reply(Message::json_of(value)?))
    }

    /// Closes the connection with this code and reason.
    ///
    /// ```
    /// use wsgate_sdk::prelude::*;
    ///
    /// let verdict = Verdict::close(CloseInfo::POLICY_VIOLATION, "too fast");
    /// # assert_eq!(verdict, Verdict::Close(CloseInfo::new(1008, "too fast")));
    /// ```
    pub fn close(code: u16, reason: impl Into<String>) -> Self {
        Self::Close(CloseInfo::new(code, reason))
    }

    /// Does these things, in this order, instead of passing the message on. At most 1,000.
    ///
    /// ```
    /// use wsgate_sdk::prelude::*;
    ///
    /// fn on_message(message: Message) -> Verdict {
    ///     Verdict::act([Action::to_client("seen"), Action::to_upstream(message)])
    /// }
    /// # assert!(matches!(on_message("x".into()), Verdict::Act(actions) if actions.len() == 2));
    /// ```
    pub fn act(actions: impl IntoIterator<Item = Action>) -> Self {
        Self::Act(actions.into_iter().collect())
    }

    /// Sends the message to another configured upstream, one that the filter's `allow.upstreams` names.
    pub fn route(upstream: impl Into<String>) -> Self {
        Self::Route(upstream.into())
    }
}

impl Action {
    /// Sends this message to the client.
    pub fn to_client(message: impl Into<Message>) -> Self {
        Self::ToClient(message.into())
    }

    /// Sends this message to the upstream.
    pub fn to_upstream(message: impl Into<Message>) -> Self {
        Self::ToUpstream(message.into())
    }

    /// Closes the connection with this code and reason. Actions after it are not done.
    pub fn close(code: u16, reason: impl Into<String>) -> Self {
        Self::Close(CloseInfo::new(code, reason))
    }
}

/// Close codes (RFC 6455, section 7.4.1, and the registry that it opened). Those of an application are 3000-4999.
impl CloseInfo {
    /// The purpose is fulfilled.
    pub const NORMAL: u16 = 1000;
    /// One side goes away.
    pub const GOING_AWAY: u16 = 1001;
    /// The peer broke the protocol.
    pub const PROTOCOL_ERROR: u16 = 1002;
    /// A kind of message that is not accepted.
    pub const UNSUPPORTED_DATA: u16 = 1003;
    /// A payload that is not what its kind promises.
    pub const INVALID_PAYLOAD: u16 = 1007;
    /// A rule was broken, of no kind that has a code.
    pub const POLICY_VIOLATION: u16 = 1008;
    /// A message is too large.
    pub const MESSAGE_TOO_BIG: u16 = 1009;
    /// Something unexpected happened here.
    pub const INTERNAL_ERROR: u16 = 1011;
    /// The service restarts; come again.
    pub const SERVICE_RESTART: u16 = 1012;
    /// Too busy; come again later.
    pub const TRY_AGAIN_LATER: u16 = 1013;

    /// A close with this code and reason.
    pub fn new(code: u16, reason: impl Into<String>) -> Self {
        Self { code, reason: reason.into() }
    }

    /// Whether a filter may give this code: 1000-1003, 1007-1014 or 3000-4999.
    pub const fn is_sendable(&self) -> bool {
        matches!(self.code, 1000..=1003 | 1007..=1014 | 3000..=4999)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_is_replied_and_sent_on_as_text() {
        let text = Message::Text("[1]".into());
        assert_eq!(Verdict::reply_json(&[1]), Ok(Verdict::Reply(text.clone())));
        assert_eq!(Verdict::replace_json(&[1]), Ok(Verdict::Replace(text)));
    }

    #[test]
    fn codes_that_mean_that_none_was_sent_are_not_sendable() {
        for code in [1000, 1003, 1007, 1014, 3000, 4999] {
            assert!(CloseInfo::new(code, "").is_sendable(), "{code}");
        }
        for code in [0, 999, 1004, 1005, 1006, 1015, 2999, 5000] {
            assert!(!CloseInfo::new(code, "").is_sendable(), "{code}");
        }
    }
}
