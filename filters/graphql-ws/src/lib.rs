//! `graphql-ws`: what GraphQL operations clients may run. Its README has the configuration.

mod config;
mod operation;
mod protocol;

#[cfg(test)]
mod tests;

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use wsgate_sdk::prelude::*;

pub use config::Config;
use operation::{Operation, Unreadable};
use protocol::{FromClient, FromUpstream, MAX_ID_BYTES, Request, SUBPROTOCOL, Violation};

wsgate_sdk::export!(GraphqlWs);

/// One connection.
#[derive(Debug)]
pub struct GraphqlWs {
    config: Rc<Config>,
    state: State,
}

/// What goes over to the next generation.
#[derive(Debug, Default, Serialize, Deserialize)]
struct State {
    initialised: bool,
    acknowledged: bool,
    /// Operations that run, by their identifiers.
    running: BTreeSet<String>,
}

/// Why an operation does not run: the code of the error, the reason, and the text for the client.
struct Refused {
    code: &'static str,
    reason: &'static str,
    text: String,
}

impl Refused {
    fn new(code: &'static str, reason: &'static str, text: impl Into<String>) -> Self {
        Self { code, reason, text: text.into() }
    }
}

impl From<Unreadable> for Refused {
    fn from(unreadable: Unreadable) -> Self {
        let invalid = |text: String| Self::new("GRAPHQL_VALIDATION_FAILED", "invalid_document", text);
        match unreadable {
            Unreadable::Syntax(text) => {
                Self::new("GRAPHQL_PARSE_FAILED", "invalid_document", format!("Syntax Error: {text}"))
            }
            Unreadable::TooLarge => Self::new("DOCUMENT_TOO_LARGE", "too_large", "The document is too large."),
            Unreadable::WhichOperation => {
                invalid("operationName has to name one operation of the document.".to_owned())
            }
            Unreadable::UnknownFragment(name) => invalid(format!("Unknown fragment \"{name}\".")),
            Unreadable::Cycle(name) => invalid(format!("Cannot spread fragment \"{name}\" within itself.")),
        }
    }
}

impl GraphqlWs {
    fn judge_client(&mut self, text: &str) -> Result<Verdict, Violation> {
        let message: FromClient = serde_json::from_str(text).map_err(|_| Violation::Invalid("not of the protocol"))?;
        match (message.kind.as_ref(), message.id) {
            ("connection_init", _) if self.state.initialised => Err(Violation::SecondInit),
            ("connection_init", _) => {
                self.state.initialised = true;
                Ok(Verdict::Forward)
            }
            ("ping" | "pong", _) => Ok(Verdict::Forward),
            ("subscribe", Some(id)) if id.is_empty() || id.len() > MAX_ID_BYTES => Err(Violation::Invalid("the id")),
            ("subscribe", Some(id)) => {
                let payload = message.payload.ok_or(Violation::Invalid("no payload"))?;
                let request =
                    serde_json::from_str(payload.get()).map_err(|_| Violation::Invalid("the payload of subscribe"))?;
                self.subscribe(&id, request)
            }
            ("complete", Some(id)) => {
                self.state.running.remove(id.as_ref());
                Ok(Verdict::Forward)
            }
            _ => Err(Violation::Invalid("the type or a missing id")),
        }
    }

    fn subscribe(&mut self, id: &str, request: Request<'_>) -> Result<Verdict, Violation> {
        if !self.state.acknowledged {
            return Err(Violation::NotAcknowledged);
        }
        if self.state.running.contains(id) {
            return Err(Violation::Duplicate(id.to_owned()));
        }
        match self.judge(request) {
            Ok(()) => {
                self.state.running.insert(id.to_owned());
                Ok(Verdict::Forward)
            }
            Err(refused) => {
                log::reason(refused.reason);
                metrics::add("refusals", &[("reason", refused.reason)], 1);
                Ok(Verdict::reply(protocol::error(id, refused.code, &refused.text)))
            }
        }
    }

    fn judge(&self, request: Request<'_>) -> Result<(), Refused> {
        let config = &self.config;
        if self.state.running.len() >= config.max_subscriptions {
            let text = format!("At most {} operations may run at once.", config.max_subscriptions);
            return Err(Refused::new("TOO_MANY_OPERATIONS", "too_many_operations", text));
        }
        let not_listed = || Refused::new("OPERATION_NOT_ALLOWED", "not_allowed", "This operation is not allowed.");
        let Some(query) = request.query.as_deref() else {
            // A persisted query: what it is stands on the server, so only its hash can be judged.
            let hash =
                request.extensions.as_ref().and_then(|all| all.get("persistedQuery")?.get("sha256Hash")?.as_str());
            let listed = hash.and_then(|hash| config::Sha256::try_from(hash.to_owned()).ok());
            return match listed.is_some_and(|hash| config.allow_sha256.contains(&hash)) {
                true => Ok(()),
                false => Err(not_listed()),
            };
        };
        if query.len() > config.max_query_bytes {
            return Err(Unreadable::TooLarge.into());
        }
        let variables = request.variables.unwrap_or_default();
        let operation = operation::read(query, request.operation_name.as_deref(), &variables, &config.cost)?;
        if config.has_list() && !self.is_listed(query, &operation) {
            return Err(not_listed());
        }
        self.limits(&operation)
    }

    fn is_listed(&self, query: &str, operation: &Operation) -> bool {
        let named = || operation.name.as_ref().is_some_and(|name| self.config.allow_names.contains(name));
        let hash = || config::Sha256(Sha256::digest(query).into());
        named() || (!self.config.allow_sha256.is_empty() && self.config.allow_sha256.contains(&hash()))
    }

    fn limits(&self, operation: &Operation) -> Result<(), Refused> {
        let (config, measure) = (&self.config, operation.measure);
        if !config.operations.contains(&operation.kind) {
            return Err(Refused::new("OPERATION_NOT_ALLOWED", "kind", "Operations of this kind are not allowed."));
        }
        if measure.introspects && !config.introspection {
            return Err(Refused::new("INTROSPECTION_DISABLED", "introspection", "Introspection is not allowed."));
        }
        if measure.depth > config.max_depth {
            let text = format!("The operation has depth {}, at most {} is allowed.", measure.depth, config.max_depth);
            return Err(Refused::new("DEPTH_LIMIT_EXCEEDED", "depth", text));
        }
        metrics::observe("operation_cost", &[], measure.cost as f64);
        match config.max_cost {
            Some(most) if measure.cost > most => {
                let text = format!("The operation costs {}, at most {most} is allowed.", measure.cost);
                Err(Refused::new("COST_LIMIT_EXCEEDED", "cost", text))
            }
            Some(_) | None => Ok(()),
        }
    }

    /// What the upstream says is not judged, only followed.
    fn follow_upstream(&mut self, text: &str) {
        let Ok(message) = serde_json::from_str::<FromUpstream<'_>>(text) else { return };
        match (message.kind.as_ref(), message.id) {
            ("connection_ack", _) => self.state.acknowledged = true,
            ("error" | "complete", Some(id)) => {
                self.state.running.remove(id.as_ref());
            }
            _ => {}
        }
    }
}

impl Filter for GraphqlWs {
    type Config = Config;

    fn interest(config: &Config) -> Result<Interest, Error> {
        config.check()?;
        Ok(Interest::messages(Directions::Both))
    }

    fn open(config: &Rc<Config>, handshake: &Handshake) -> Result<Admission<Self>, Refusal> {
        if !handshake.offers_subprotocol(SUBPROTOCOL) {
            log::reason("no_protocol");
            let refusal = Refusal::new(400).with_header("content-type", "text/plain");
            return Err(refusal.with_body("offer the subprotocol graphql-transport-ws\n"));
        }
        let session = Self { config: Rc::clone(config), state: State::default() };
        // No other protocol may be agreed on, which nobody would read here.
        Ok(Admission::new(session).with_subprotocol(SUBPROTOCOL))
    }

    fn resume(
        config: &Rc<Config>,
        _handshake: &Handshake,
        state: Option<Vec<u8>>,
        _cause: ResumeCause,
    ) -> Result<Resumed<Self>, Rejection> {
        let state = match state {
            Some(state) => serde_json::from_slice(&state).map_err(Rejection::keep_old)?,
            // How far the connection is nobody knows: the server does, and refuses what comes too early.
            None => State { initialised: false, acknowledged: true, running: BTreeSet::new() },
        };
        Ok(Resumed::new(Self { config: Rc::clone(config), state }))
    }

    fn on_message(&mut self, direction: Direction, message: Message) -> Result<Verdict, Error> {
        let judged = match (direction, &message) {
            (Direction::ToUpstream, Message::Text(text)) => self.judge_client(text),
            (Direction::ToUpstream, Message::Binary(_)) => Err(Violation::Invalid("it is not text")),
            (Direction::ToClient, message) => {
                self.follow_upstream(message.as_text().unwrap_or_default());
                Ok(Verdict::Forward)
            }
        };
        Ok(judged.unwrap_or_else(|violation| {
            log::reason("protocol");
            metrics::add("refusals", &[("reason", "protocol")], 1);
            violation.close()
        }))
    }

    fn save(&mut self) -> Option<Vec<u8>> {
        serde_json::to_vec(&self.state).ok()
    }
}
