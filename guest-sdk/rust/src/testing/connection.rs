//! A connection in a test: calls a filter as the gateway would.

use std::rc::Rc;

use crate::{
    Action, Admission, CloseInfo, Closer, Direction, Error, Filter, Handshake, Hooks, Identity, Interest, Kinds,
    Message, Refusal, Rejection, ResumeCause, Verdict,
};

#[cfg(test)]
mod tests;

/// Most things that an answer may have the gateway do.
const MAX_ACTIONS: usize = 1_000;

/// One connection of a filter, which is only called for what it asked for, and whose answers have to keep the contract's
/// rules.
///
/// ```
/// use wsgate_sdk::prelude::*;
/// use wsgate_sdk::testing;
///
/// # struct Shout;
/// # impl Filter for Shout {
/// #     type Config = ();
/// #     fn interest(_: &()) -> Result<Interest, Error> { Ok(Interest::messages(Directions::ToUpstream).text_only()) }
/// #     fn open(_: &Rc<()>, _: &Handshake) -> Result<Admission<Self>, Refusal> {
/// #         Ok(Admission::new(Shout).with_tag("volume", "11"))
/// #     }
/// #     fn on_message(&mut self, _: Direction, message: Message) -> Result<Verdict, Error> {
/// #         Ok(Verdict::replace(message.as_text().unwrap_or_default().to_uppercase()))
/// #     }
/// # }
/// let mut ann = testing::connect::<Shout>("{}", &testing::handshake("/chat"))?;
/// assert_eq!(ann.admission().tags, [("volume".to_owned(), "11".to_owned())]);
/// assert_eq!(ann.to_upstream("hello"), Ok(Verdict::replace("HELLO")));
/// assert_eq!(ann.to_client("hello"), Ok(Verdict::Forward));
/// # Ok::<(), Refusal>(())
/// ```
#[derive(Debug)]
pub struct Connection<F: Filter> {
    pub(super) filter: F,
    handshake: Handshake,
    /// The instance's interest.
    default_interest: Interest,
    admission: Admission<()>,
}

/// Loads a filter and opens a connection.
///
/// # Errors
///
/// The filter's refusal. What it asked [`messaging`](crate::messaging) for is then discarded, as the gateway does.
///
/// # Panics
///
/// Where the configuration is refused.
pub fn connect<F: Filter>(config_json: &str, handshake: &Handshake) -> Result<Connection<F>, Refusal> {
    let (config, default_interest) = super::loaded::<F>(config_json);
    let opened = super::discard_if_refused(|| F::open(&config, handshake))?;
    let Admission { session, interest, upstream_headers, client_headers, subprotocol, upstream, tags } = opened;
    let admission = Admission { session: (), interest, upstream_headers, client_headers, subprotocol, upstream, tags };
    Ok(Connection { filter: session, handshake: handshake.clone(), default_interest, admission })
}

impl<F: Filter> Connection<F> {
    /// The filter's side of the connection.
    pub fn filter(&mut self) -> &mut F {
        &mut self.filter
    }

    /// How the connection was let in.
    pub fn admission(&self) -> &Admission<()> {
        &self.admission
    }

    /// What the filter is called for.
    pub fn interest(&self) -> Interest {
        self.admission.interest.unwrap_or(self.default_interest)
    }

    /// The client sends a message.
    ///
    /// # Errors
    ///
    /// The filter's, and a verdict that breaks a rule.
    pub fn to_upstream(&mut self, message: impl Into<Message>) -> Result<Verdict, Error> {
        self.message(Direction::ToUpstream, message.into())
    }

    /// A message is on its way to the client.
    ///
    /// # Errors
    ///
    /// The filter's, and a verdict that breaks a rule.
    pub fn to_client(&mut self, message: impl Into<Message>) -> Result<Verdict, Error> {
        self.message(Direction::ToClient, message.into())
    }

    fn message(&mut self, direction: Direction, message: Message) -> Result<Verdict, Error> {
        let hook = match direction {
            Direction::ToUpstream => Hooks::TO_UPSTREAM,
            Direction::ToClient => Hooks::TO_CLIENT,
        };
        if !self.asked_for(hook, &message) {
            return Ok(Verdict::Forward);
        }
        let verdict = self.filter.on_message(direction, message)?;
        match (&verdict, direction) {
            (Verdict::Route(_), Direction::ToClient) => Err(Error::new("route: the message is not for an upstream")),
            _ => checked(verdict),
        }
    }

    /// A topic brings a message: what [`Filter::on_delivery`] says of it. What is forwarded or replaced passes
    /// [`to_client`](Connection::to_client) afterwards, which is left to the test.
    ///
    /// # Errors
    ///
    /// The filter's, and a verdict that breaks a rule.
    pub fn deliver(&mut self, topic: &str, message: impl Into<Message>) -> Result<Verdict, Error> {
        let message = message.into();
        if !self.asked_for(Hooks::DELIVERY, &message) {
            return Ok(Verdict::Forward);
        }
        match self.filter.on_delivery(topic, message)? {
            Verdict::Reply(_) => Err(Error::new("reply: nobody waits for the answer to a delivery")),
            Verdict::Route(_) => Err(Error::new("route: a delivery is not for an upstream")),
            verdict => checked(verdict),
        }
    }

    /// A period of the tick is over. Nothing where the filter asked for no ticks.
    ///
    /// # Errors
    ///
    /// The filter's, and actions that break a rule.
    pub fn tick(&mut self) -> Result<Vec<Action>, Error> {
        match self.interest().tick_ms {
            Some(_) => checked_actions(self.filter.on_tick()?),
            None => Ok(Vec::new()),
        }
    }

    /// The client's token was refreshed.
    ///
    /// # Errors
    ///
    /// The filter's, and actions that break a rule.
    pub fn refresh(&mut self, identity: Identity) -> Result<Vec<Action>, Error> {
        self.handshake.identity = Some(identity.clone());
        match self.interest().hooks.contains(Hooks::IDENTITY) {
            true => checked_actions(self.filter.on_identity(identity)?),
            false => Ok(Vec::new()),
        }
    }

    /// Another generation of the filter, with this configuration, takes the connection over.
    ///
    /// # Errors
    ///
    /// The filter's rejection: then the old generation goes on.
    ///
    /// # Panics
    ///
    /// Where the configuration is refused.
    pub fn reload(&mut self, config_json: &str) -> Result<(), Rejection> {
        let state = self.filter.save();
        self.resume(config_json, state, ResumeCause::Reload)
    }

    /// The instance is lost, and its state with it: another one takes the connection over.
    ///
    /// # Errors
    ///
    /// The filter's rejection.
    ///
    /// # Panics
    ///
    /// Where the configuration is refused.
    pub fn lose(&mut self, config_json: &str) -> Result<(), Rejection> {
        self.resume(config_json, None, ResumeCause::Fault)
    }

    fn resume(&mut self, config_json: &str, state: Option<Vec<u8>>, cause: ResumeCause) -> Result<(), Rejection> {
        let (config, default_interest): (Rc<F::Config>, _) = super::loaded::<F>(config_json);
        let resumed = F::resume(&config, &self.handshake, state, cause)?;
        self.filter = resumed.session;
        self.admission.interest = resumed.interest;
        self.default_interest = default_interest;
        Ok(())
    }

    /// The connection is over.
    pub fn close(mut self, by: Closer, info: CloseInfo) {
        if self.interest().hooks.contains(Hooks::CLOSE) {
            self.filter.on_close(by, info);
        }
    }

    fn asked_for(&self, hook: Hooks, message: &Message) -> bool {
        let kind = match message {
            Message::Text(_) => Kinds::TEXT,
            Message::Binary(_) => Kinds::BINARY,
        };
        self.interest().hooks.contains(hook) && self.interest().kinds.contains(kind)
    }
}

fn checked(verdict: Verdict) -> Result<Verdict, Error> {
    match verdict {
        Verdict::Close(info) => checked_close(&info).map(|()| Verdict::Close(info)),
        Verdict::Act(actions) => checked_actions(actions).map(Verdict::Act),
        Verdict::Forward | Verdict::Replace(_) | Verdict::Drop | Verdict::Reply(_) | Verdict::Route(_) => Ok(verdict),
    }
}

fn checked_actions(actions: Vec<Action>) -> Result<Vec<Action>, Error> {
    if actions.len() > MAX_ACTIONS {
        return Err(Error::new(format_args!("{} actions, {MAX_ACTIONS} allowed", actions.len())));
    }
    for action in &actions {
        match action {
            Action::Close(info) => checked_close(info)?,
            Action::ToClient(_) | Action::ToUpstream(_) => {}
        }
    }
    Ok(actions)
}

fn checked_close(info: &CloseInfo) -> Result<(), Error> {
    match info.is_sendable() {
        true => Ok(()),
        false => Err(Error::new(format_args!("close code {} may not be sent", info.code))),
    }
}
