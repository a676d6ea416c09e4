//! `rewrite`: adds, removes, renames and copies members of JSON messages. Its README has the configuration.

mod config;
mod source;
mod time;

use filter_parts::json::{Document, Edit, Found, Names};
use filter_parts::{Answer, Facts, Verified};
use wsgate_sdk::prelude::*;

pub use config::Config;
use config::{Operation, Rule};
use source::Known;

wsgate_sdk::export!(Rewrite);

/// How a connection is closed where the configuration does not say.
const CLOSE: (u16, &str) = (1007, "the message cannot be rewritten");

/// One connection.
#[derive(Debug)]
pub struct Rewrite {
    config: Rc<Config>,
    known: Known,
}

/// Why a message is not rewritten.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Trouble {
    NotJson,
    Ambiguous,
    TooLarge,
}

impl Trouble {
    fn label(self) -> &'static str {
        match self {
            Self::NotJson => "not_json",
            Self::Ambiguous => "ambiguous",
            Self::TooLarge => "too_large",
        }
    }
}

impl Rewrite {
    /// The text after all rules of its direction. None where none of them changes it.
    fn rewritten(&self, direction: Direction, text: &str) -> Result<Option<String>, Trouble> {
        if text.len() > self.config.max_bytes {
            return Err(Trouble::TooLarge);
        }
        let document = Document::check(text.to_owned(), self.config.max_depth);
        let mut document = document.map_err(|_| Trouble::NotJson)?;
        let mut changed = false;
        for rule in self.config.rules.iter().filter(|rule| rule.direction.contain(direction)) {
            match rule.when.verify(document.json(), Names::Exact) {
                Verified::Yes => {}
                Verified::No => continue,
                Verified::Ambiguous => return Err(Trouble::Ambiguous),
            }
            match self.apply(rule, &mut document)? {
                Edit::Done => changed = true,
                Edit::Nothing => {}
                Edit::Ambiguous => return Err(Trouble::Ambiguous),
            }
            // Copies of copies could double the text with every rule.
            if document.json().text().len() > self.config.max_bytes {
                return Err(Trouble::TooLarge);
            }
        }
        Ok(changed.then(|| document.into_text()))
    }

    fn apply(&self, rule: &Rule, document: &mut Document) -> Result<Edit, Trouble> {
        match &rule.operation {
            Operation::Set { at, value } => {
                Ok(self.known.read(value).map_or(Edit::Nothing, |value| document.set(at, &value)))
            }
            Operation::Add { at, value } => match document.json().find(at, Names::Exact) {
                Found::Value(_) => Ok(Edit::Nothing),
                Found::Ambiguous => Ok(Edit::Ambiguous),
                Found::Absent => Ok(self.known.read(value).map_or(Edit::Nothing, |value| document.set(at, &value))),
            },
            Operation::Remove { at } => Ok(document.remove(at)),
            Operation::Rename { at, to } => Ok(document.rename(at, to)),
            Operation::Copy { from, to } => {
                let value = match document.json().find(from, Names::Exact) {
                    Found::Value(value) => value.text().to_owned(),
                    Found::Absent => return Ok(Edit::Nothing),
                    Found::Ambiguous => return Ok(Edit::Ambiguous),
                };
                Ok(document.set(to, &value))
            }
        }
    }

    fn answer(&self, why: &'static str) -> Verdict {
        let answer = &self.config.not_json;
        if !matches!(answer, Answer::Forward) {
            log::reason(why);
        }
        answer.verdict(Facts::default(), CLOSE)
    }
}

impl Filter for Rewrite {
    type Config = Config;

    fn interest(config: &Config) -> Result<Interest, Error> {
        let messages = Interest::messages(config.directions()).and(Hooks::IDENTITY);
        // A binary message could only be forwarded: it need not come here.
        Ok(if matches!(config.not_json, Answer::Forward) { messages.text_only() } else { messages })
    }

    fn open(config: &Rc<Config>, handshake: &Handshake) -> Result<Admission<Self>, Refusal> {
        let known = Known::new(handshake, config.sources());
        Ok(Admission::new(Self { config: Rc::clone(config), known }))
    }

    fn on_message(&mut self, direction: Direction, message: Message) -> Result<Verdict, Error> {
        let Some(text) = message.as_text() else {
            return Ok(self.answer("binary"));
        };
        Ok(match self.rewritten(direction, text) {
            Ok(None) => Verdict::Forward,
            Ok(Some(text)) => {
                log::reason("rewritten");
                Verdict::replace(text)
            }
            Err(trouble) => self.answer(trouble.label()),
        })
    }

    fn on_identity(&mut self, identity: Identity) -> Result<Vec<Action>, Error> {
        self.known.identify(Some(&identity), self.config.sources());
        Ok(Vec::new())
    }
}

#[cfg(test)]
mod tests;
