//! `message-router`: chooses the upstream of each message by what the message says. Its README has the configuration.

mod config;
mod packet;

use filter_parts::json::{Json, Names};
use filter_parts::{Answer, Facts, Verified};
use wsgate_sdk::prelude::*;

pub use config::Config;
use config::{Format, Rule, Then};

wsgate_sdk::export!(MessageRouter);

/// How a connection is closed where the configuration does not say.
const CLOSE: (u16, &str) = (1008, "this message goes nowhere");

/// One connection.
#[derive(Debug)]
pub struct MessageRouter {
    config: Rc<Config>,
}

/// What a message is.
enum Judged<'c> {
    /// This rule is for it.
    Rule(&'c Rule),
    /// None is.
    NoRule,
    /// A value that decides is there twice.
    Ambiguous,
}

impl Config {
    fn judge(&self, json: Json<'_>) -> Judged<'_> {
        for rule in &self.rules {
            match rule.when.verify(json, Names::Exact) {
                Verified::Yes => return Judged::Rule(rule),
                Verified::No => {}
                Verified::Ambiguous => return Judged::Ambiguous,
            }
        }
        Judged::NoRule
    }

    fn verdict(&self, text: &str) -> Verdict {
        let Ok(json) = Json::check(text, self.max_depth) else {
            return answered(&self.not_json, None, "not_json");
        };
        match self.judge(json) {
            Judged::Rule(rule) => {
                log::reason(&rule.name);
                match &rule.then {
                    Then::Upstream(name) => Verdict::Route(name.clone()),
                    Then::Answer(answer) => answer.verdict(Facts { json: Some(json), known: &[] }, CLOSE),
                }
            }
            Judged::NoRule => answered(&self.default, Some(json), "no_rule"),
            Judged::Ambiguous => answered(&self.not_json, Some(json), "ambiguous"),
        }
    }
}

/// The verdict, and why, but where the message passes as it would without this filter.
fn answered(answer: &Answer, json: Option<Json<'_>>, why: &str) -> Verdict {
    if !matches!(answer, Answer::Forward) {
        log::reason(why);
    }
    answer.verdict(Facts { json, known: &[] }, CLOSE)
}

impl Filter for MessageRouter {
    type Config = Config;

    fn interest(config: &Config) -> Result<Interest, Error> {
        let messages = Interest::messages(Directions::ToUpstream);
        // A binary message could only be forwarded: it need not come here.
        Ok(if config.forwards_binary() { messages.text_only() } else { messages })
    }

    fn open(config: &Rc<Config>, _handshake: &Handshake) -> Result<Admission<Self>, Refusal> {
        Ok(Admission::new(Self { config: Rc::clone(config) }))
    }

    fn on_message(&mut self, _direction: Direction, message: Message) -> Result<Verdict, Error> {
        let config = &self.config;
        let Some(text) = message.as_text() else {
            return Ok(answered(&config.not_json, None, "binary"));
        };
        Ok(match config.format {
            Format::Json => config.verdict(text),
            Format::SocketIo => match packet::event(text) {
                Some(event) => config.verdict(event),
                None => Verdict::Forward,
            },
        })
    }
}

#[cfg(test)]
mod tests;
