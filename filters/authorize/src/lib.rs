//! `authorize`: who may open a connection, and who may send which message. Its README has the configuration.

mod config;
mod identity;
mod messages;
mod path;
mod request;

use wsgate_sdk::prelude::*;

pub use config::Config;
use config::{Action as RuleAction, Connections, Order, Seen};
use identity::Client;
use messages::Outcome;

wsgate_sdk::export!(Authorize);

/// Closes a connection whose client is no longer allowed to have it.
const NO_LONGER: (u16, &str) = (4403, "no longer allowed");
/// Closes a connection for a message, where the configuration does not say how.
const NOT_ALLOWED: (u16, &str) = (4403, "not allowed");

/// One connection.
#[derive(Debug)]
pub struct Authorize {
    config: Rc<Config>,
    /// What each rule for connections says of the request.
    seen: Vec<Seen>,
    client: Client,
    /// What each rule for messages says of the client.
    granted: Vec<bool>,
}

/// A connection is refused.
struct Refused<'c> {
    rule: &'c str,
    status: u16,
}

impl Connections {
    /// Whether a connection is allowed, by what the rules say of its request and of its client.
    fn judge(&self, seen: &[Seen], client: &Client) -> Result<(), Refused<'_>> {
        let holding =
            || self.rules.iter().zip(seen).filter(|(rule, seen)| rule.holds(**seen, client)).map(|(rule, _)| rule);
        let decisive = match self.order {
            Order::FirstMatch => holding().next(),
            Order::DenyFirst => holding().find(|rule| rule.action == RuleAction::Deny).or_else(|| holding().next()),
        };
        match decisive {
            Some(rule) if rule.action == RuleAction::Deny => {
                Err(Refused { rule: &rule.name, status: rule.status.unwrap_or(self.status) })
            }
            Some(_) => Ok(()),
            None if self.default == RuleAction::Allow => Ok(()),
            None => Err(Refused { rule: "default", status: self.status }),
        }
    }
}

impl Authorize {
    fn new(config: &Rc<Config>, handshake: &Handshake) -> Self {
        let rules = config.connections.iter().flat_map(|connections| &connections.rules);
        let mut session = Self {
            config: Rc::clone(config),
            seen: rules.map(|rule| rule.look(handshake)).collect(),
            client: Client::new(None),
            granted: Vec::new(),
        };
        session.identify(handshake.identity.clone());
        session
    }

    fn identify(&mut self, identity: Option<Identity>) {
        self.client = Client::new(identity);
        let rules = self.config.messages.iter().flat_map(|messages| &messages.rules);
        self.granted = rules.map(|rule| rule.grants(&self.client)).collect();
    }

    /// The status to refuse the connection with, where it is to be refused.
    fn refused(&self) -> Option<u16> {
        let connections = self.config.connections.as_ref()?;
        let refused = connections.judge(&self.seen, &self.client).err()?;
        log::reason(refused.rule);
        metrics::add(self.config.counter("refused_connections"), &[("rule", refused.rule)], 1);
        (!self.config.dry_run).then_some(refused.status)
    }

    /// Whether the connection has to end now.
    fn lost(&self) -> bool {
        let lives = self.config.connections.as_ref().is_some_and(|connections| connections.live);
        lives && self.refused().is_some()
    }
}

/// The status, and a problem document (RFC 9457) that says no more.
fn refusal(status: u16) -> Refusal {
    let title = match status {
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "Not Found",
        _ => "Refused",
    };
    let body = format!(r#"{{"type":"about:blank","title":"{title}","status":{status}}}"#);
    let refusal = Refusal::new(status).with_header("content-type", "application/problem+json").with_body(body);
    // RFC 9110, section 15.5.2: a 401 says how to do better.
    if status == 401 { refusal.with_header("www-authenticate", "Bearer") } else { refusal }
}

impl Filter for Authorize {
    type Config = Config;

    fn interest(config: &Config) -> Result<Interest, Error> {
        let messages = match &config.messages {
            None => Interest::none(),
            Some(messages) if messages.allows_other() => Interest::messages(messages.direction).text_only(),
            Some(messages) => Interest::messages(messages.direction),
        };
        Ok(messages.and(Hooks::IDENTITY))
    }

    fn open(config: &Rc<Config>, handshake: &Handshake) -> Result<Admission<Self>, Refusal> {
        let session = Self::new(config, handshake);
        match session.refused() {
            Some(status) => Err(refusal(status)),
            None => Ok(Admission::new(session)),
        }
    }

    /// Under new rules the connection is judged anew.
    fn resume(
        config: &Rc<Config>,
        handshake: &Handshake,
        _state: Option<Vec<u8>>,
        _cause: ResumeCause,
    ) -> Result<Resumed<Self>, Rejection> {
        let session = Self::new(config, handshake);
        match session.lost() {
            true => Err(Rejection::close(NO_LONGER.0, NO_LONGER.1)),
            false => Ok(Resumed::new(session)),
        }
    }

    fn on_message(&mut self, direction: Direction, message: Message) -> Result<Verdict, Error> {
        let Some(messages) = &self.config.messages else {
            return Ok(Verdict::Forward);
        };
        let (rule, answer) = match messages.judge(&message, &self.client, &self.granted) {
            Outcome::Allowed => return Ok(Verdict::Forward),
            Outcome::Refused { rule, answer } => (rule, answer),
        };
        log::reason(rule);
        let labels = [("rule", rule), ("direction", direction.name())];
        metrics::add(self.config.counter("refused_messages"), &labels, 1);
        Ok(match self.config.dry_run {
            true => Verdict::Forward,
            false => messages.verdict(answer, &message, rule, NOT_ALLOWED),
        })
    }

    fn on_identity(&mut self, identity: Identity) -> Result<Vec<Action>, Error> {
        self.identify(Some(identity));
        Ok(match self.lost() {
            true => vec![Action::close(NO_LONGER.0, NO_LONGER.1)],
            false => Vec::new(),
        })
    }
}

#[cfg(test)]
mod tests;
