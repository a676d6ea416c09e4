//! `{{name}}`: answers a word with how often it was said on this connection, and forwards everything else.

use serde::{Deserialize, Serialize};
use wsgate_sdk::prelude::*;

wsgate_sdk::export!(Counter);

/// The filter's table in `wsgate.toml`: `[filters.{{name}}]`, `config = { word = "ping" }`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    word: String,
}

impl Default for Config {
    fn default() -> Self {
        Self { word: "ping".to_owned() }
    }
}

/// What goes along when the connection moves to another build of this filter.
#[derive(Debug, Default, Deserialize, Serialize)]
struct State {
    count: u64,
}

/// Raised when an older build could not read [`State`] any more.
const STATE_VERSION: u32 = 1;

/// One connection.
#[derive(Debug)]
pub struct Counter {
    config: Rc<Config>,
    state: State,
}

impl Filter for Counter {
    type Config = Config;

    /// Called for text messages of clients, and for nothing else.
    fn interest(config: &Config) -> Result<Interest, Error> {
        match config.word.is_empty() {
            true => Err(Error::new("word: must not be empty")),
            false => Ok(Interest::messages(Directions::ToUpstream).text_only()),
        }
    }

    fn open(config: &Rc<Config>, _handshake: &Handshake) -> Result<Admission<Self>, Refusal> {
        Ok(Admission::new(Self { config: Rc::clone(config), state: State::default() }))
    }

    fn on_message(&mut self, _direction: Direction, message: Message) -> Result<Verdict, Error> {
        if message.as_text() != Some(self.config.word.as_str()) {
            return Ok(Verdict::Forward);
        }
        self.state.count += 1;
        Ok(Verdict::reply(json!({ "word": self.config.word, "count": self.state.count })))
    }

    fn save(&mut self) -> Option<Vec<u8>> {
        state::save(STATE_VERSION, &self.state)
    }

    fn resume(
        config: &Rc<Config>,
        _handshake: &Handshake,
        state: Option<Vec<u8>>,
        _cause: ResumeCause,
    ) -> Result<Resumed<Self>, Rejection> {
        let state = state::resume(STATE_VERSION, state)?.unwrap_or_default();
        Ok(Resumed::new(Self { config: Rc::clone(config), state }))
    }
}

#[cfg(test)]
mod tests {
    use wsgate_sdk::testing::{self, Connection};

    use super::*;

    fn connect(config: &str) -> Connection<Counter> {
        testing::connect(config, &testing::handshake("/")).unwrap()
    }

    fn answer(word: &str, count: u64) -> Result<Verdict, Error> {
        Ok(Verdict::reply(json!({ "word": word, "count": count })))
    }

    #[test]
    fn the_word_is_counted_and_the_rest_passes() {
        let mut ann = connect("{}");
        assert_eq!(ann.to_upstream("ping"), answer("ping", 1));
        assert_eq!(ann.to_upstream("hello"), Ok(Verdict::Forward));
        assert_eq!(ann.to_upstream("ping"), answer("ping", 2));
    }

    #[test]
    fn the_count_goes_on_after_a_reload() {
        let mut ann = connect("{}");
        assert_eq!(ann.to_upstream("ping"), answer("ping", 1));
        ann.reload(r#"{ "word": "hey" }"#).unwrap();
        assert_eq!(ann.to_upstream("hey"), answer("hey", 2));
    }

    #[test]
    fn an_empty_word_is_refused() {
        let error = testing::init::<Counter>(r#"{ "word": "" }"#).unwrap_err();
        assert_eq!(error.to_string(), "word: must not be empty");
    }
}
