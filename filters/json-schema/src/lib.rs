//! `json-schema`: lets only messages pass that match a JSON Schema. Its README has the configuration.

mod config;
mod parse;
mod schema;

use wsgate_sdk::prelude::*;

use filter_parts::json::Json;
use filter_parts::{Answer, Facts};

pub use config::Config;
use parse::NotTaken;
use schema::Problem;

wsgate_sdk::export!(JsonSchema);

/// How a connection is closed where the configuration does not say: 1007, data that is not what it should be.
const CLOSE: (u16, &str) = (1007, "the message does not match its schema");

/// One connection.
#[derive(Debug)]
pub struct JsonSchema {
    config: Rc<Config>,
}

/// Why a message is not let through.
enum Failure {
    /// It was not looked at any further.
    NotTaken(NotTaken),
    /// No schema is for it.
    NoSchema,
    /// The schema of this name does not hold.
    Invalid(String, Vec<Problem>),
}

impl Failure {
    fn reason(&self) -> &'static str {
        match self {
            Self::NotTaken(cause) => cause.label(),
            Self::NoSchema => "no_schema",
            Self::Invalid(..) => "invalid",
        }
    }

    fn schema(&self) -> &str {
        match self {
            Self::NotTaken(_) | Self::NoSchema => "none",
            Self::Invalid(name, _) => name,
        }
    }

    fn problems(&self) -> Vec<Problem> {
        match self {
            Self::NotTaken(cause) => vec![Problem::whole(cause.label(), cause)],
            Self::NoSchema => vec![Problem::whole("no_schema", "no schema is for this message")],
            Self::Invalid(_, problems) => problems.clone(),
        }
    }
}

impl JsonSchema {
    fn judge(&self, text: &str) -> Result<(), Failure> {
        let config = &self.config;
        let value = parse::parse(text, config.max_bytes, config.max_depth).map_err(Failure::NotTaken)?;
        let Some(schema) = config.schema_for(text) else {
            return if config.forwards_unmatched() { Ok(()) } else { Err(Failure::NoSchema) };
        };
        match schema.holds(&value) {
            true => Ok(()),
            false => Err(Failure::Invalid(schema.name().to_owned(), self.problems(schema, &value))),
        }
    }

    /// What is wrong, where a reply is to tell.
    fn problems(&self, schema: &schema::Schema, value: &serde_json::Value) -> Vec<Problem> {
        match self.config.on_failure {
            Answer::Reply(_) => schema.problems(value, self.config.max_errors),
            Answer::Forward | Answer::Drop | Answer::Close { .. } => Vec::new(),
        }
    }

    fn refuse(&self, direction: Direction, text: Option<&str>, failure: &Failure) -> Verdict {
        let config = &self.config;
        let labels = [("schema", failure.schema()), ("direction", direction.name()), ("cause", failure.reason())];
        log::reason(failure.reason());
        metrics::add("failures", &labels, 1);
        if config.dry_run {
            return Verdict::Forward;
        }
        let errors = schema::list(&failure.problems());
        let known = [("errors", errors), ("schema", serde_json::Value::from(failure.schema()).to_string())];
        let json = text.and_then(|text| Json::check(text, config.max_depth).ok());
        config.on_failure.verdict(Facts { json, known: &known }, CLOSE)
    }
}

impl Filter for JsonSchema {
    type Config = Config;

    fn interest(config: &Config) -> Result<Interest, Error> {
        let messages = Interest::messages(config.direction);
        Ok(if config.forwards_other() { messages.text_only() } else { messages })
    }

    fn open(config: &Rc<Config>, _handshake: &Handshake) -> Result<Admission<Self>, Refusal> {
        Ok(Admission::new(Self { config: Rc::clone(config) }))
    }

    fn on_message(&mut self, direction: Direction, message: Message) -> Result<Verdict, Error> {
        let text = message.as_text();
        let outcome = match text {
            Some(text) => self.judge(text),
            None => Err(Failure::NotTaken(NotTaken::Binary)),
        };
        Ok(match outcome {
            Ok(()) => Verdict::Forward,
            Err(Failure::NotTaken(NotTaken::Binary | NotTaken::NotJson)) if self.config.forwards_other() => {
                Verdict::Forward
            }
            Err(failure) => self.refuse(direction, text, &failure),
        })
    }
}

#[cfg(test)]
mod tests;
