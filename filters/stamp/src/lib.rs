//! `stamp`: numbers the text messages of each connection, also across reloads. Its README has the configuration.

mod object;

use serde::{Deserialize, Serialize};
use wsgate_sdk::prelude::*;

wsgate_sdk::export!(Stamp);

/// What this build calls itself.
const BUILD: &str = if cfg!(feature = "v2") { "v2" } else { "v1" };

/// The form of [`Numbers`].
const STATE_VERSION: u32 = 1;

/// The filter's table in `wsgate.toml`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    #[serde(default = "default_key")]
    key: String,
    #[serde(default = "default_direction")]
    direction: Directions,
    version: Option<String>,
    #[serde(default)]
    show_version: bool,
}

fn default_key() -> String {
    "seq".to_owned()
}

fn default_direction() -> Directions {
    Directions::ToClient
}

impl Config {
    /// The version to show, where one is to be shown.
    fn shown_version(&self) -> Option<&str> {
        self.version.as_deref().or(self.show_version.then_some(BUILD))
    }

    fn stamp(&self, text: &str, number: u64) -> String {
        let mut members = vec![(self.key.clone(), number.into())];
        if let Some(version) = self.shown_version() {
            members.push((format!("{}_version", self.key), version.into()));
        }
        match object::set_members(text, &members) {
            Some(stamped) => stamped,
            None => match self.shown_version() {
                Some(version) => format!("{text} #{number} {version}"),
                None => format!("{text} #{number}"),
            },
        }
    }
}

/// The last number given in each direction, and the form in which it is saved.
#[derive(Clone, Copy, Debug, Default, Deserialize, Serialize)]
struct Numbers {
    to_upstream: u64,
    to_client: u64,
}

impl Numbers {
    fn next(&mut self, direction: Direction) -> u64 {
        let number = match direction {
            Direction::ToUpstream => &mut self.to_upstream,
            Direction::ToClient => &mut self.to_client,
        };
        *number += 1;
        *number
    }
}

/// One connection.
#[derive(Debug)]
pub struct Stamp {
    config: Rc<Config>,
    numbers: Numbers,
}

impl Filter for Stamp {
    type Config = Config;

    fn interest(config: &Config) -> Result<Interest, Error> {
        match config.key.is_empty() {
            true => Err(Error::new("key: must not be empty")),
            false => Ok(Interest::messages(config.direction).text_only()),
        }
    }

    fn open(config: &Rc<Config>, _handshake: &Handshake) -> Result<Admission<Self>, Refusal> {
        Ok(Admission::new(Self { config: Rc::clone(config), numbers: Numbers::default() }))
    }

    fn resume(
        config: &Rc<Config>,
        _handshake: &Handshake,
        state: Option<Vec<u8>>,
        _cause: ResumeCause,
    ) -> Result<Resumed<Self>, Rejection> {
        // Without state the numbers start anew: the filter was added, or its instance was lost.
        let numbers = state::resume(STATE_VERSION, state)?.unwrap_or_default();
        Ok(Resumed::new(Self { config: Rc::clone(config), numbers }))
    }

    fn on_message(&mut self, direction: Direction, message: Message) -> Result<Verdict, Error> {
        let Message::Text(text) = message else {
            return Ok(Verdict::Forward);
        };
        let number = self.numbers.next(direction);
        Ok(Verdict::replace(self.config.stamp(&text, number)))
    }

    fn save(&mut self) -> Option<Vec<u8>> {
        state::save(STATE_VERSION, &self.numbers)
    }
}

#[cfg(test)]
mod tests {
    use wsgate_sdk::testing;

    use super::*;

    fn say(stamp: &mut Stamp, direction: Direction, text: &str) -> Verdict {
        stamp.on_message(direction, text.into()).unwrap()
    }

    fn resume(state: Option<&[u8]>, cause: ResumeCause) -> Result<Resumed<Stamp>, Rejection> {
        let (config, _) = testing::init::<Stamp>("{}").unwrap();
        Stamp::resume(&config, &testing::handshake("/"), state.map(<[u8]>::to_vec), cause)
    }

    #[test]
    fn messages_are_numbered_from_one() {
        let mut stamp = testing::open::<Stamp>("{}");
        assert_eq!(say(&mut stamp, Direction::ToClient, r#"{"b":1}"#), Verdict::replace(r#"{"b":1,"seq":1}"#));
        assert_eq!(say(&mut stamp, Direction::ToClient, "plain"), Verdict::replace("plain #2"));
        assert_eq!(say(&mut stamp, Direction::ToClient, "[1]"), Verdict::replace("[1] #3"));
    }

    #[test]
    fn each_direction_has_its_own_numbers() {
        let mut stamp = testing::open::<Stamp>(r#"{ "direction": "both" }"#);
        assert_eq!(say(&mut stamp, Direction::ToClient, "a"), Verdict::replace("a #1"));
        assert_eq!(say(&mut stamp, Direction::ToUpstream, "b"), Verdict::replace("b #1"));
        assert_eq!(say(&mut stamp, Direction::ToClient, "c"), Verdict::replace("c #2"));
    }

    #[test]
    fn binary_messages_are_neither_numbered_nor_counted() {
        let mut stamp = testing::open::<Stamp>("{}");
        assert_eq!(stamp.on_message(Direction::ToClient, vec![1].into()), Ok(Verdict::Forward));
        assert_eq!(say(&mut stamp, Direction::ToClient, "a"), Verdict::replace("a #1"));
    }

    #[test]
    fn the_version_is_shown_where_asked_for() {
        let mut named = testing::open::<Stamp>(r#"{ "key": "n", "version": "blue" }"#);
        assert_eq!(say(&mut named, Direction::ToClient, "{}"), Verdict::replace(r#"{"n":1,"n_version":"blue"}"#));
        assert_eq!(say(&mut named, Direction::ToClient, "a"), Verdict::replace("a #2 blue"));
        let mut built = testing::open::<Stamp>(r#"{ "show_version": true }"#);
        assert_eq!(say(&mut built, Direction::ToClient, "a"), Verdict::replace(format!("a #1 {BUILD}")));
    }

    #[test]
    fn numbers_go_on_after_a_reload() {
        let mut before = testing::open::<Stamp>("{}");
        say(&mut before, Direction::ToClient, "a");
        let state = before.save().unwrap();
        let mut after = resume(Some(&state), ResumeCause::Reload).unwrap().session;
        assert_eq!(say(&mut after, Direction::ToClient, "b"), Verdict::replace("b #2"));
    }

    #[test]
    fn without_state_the_numbers_start_anew() {
        let mut after = resume(None, ResumeCause::Fault).unwrap().session;
        assert_eq!(say(&mut after, Direction::ToClient, "a"), Verdict::replace("a #1"));
    }

    #[test]
    fn state_that_cannot_be_read_stays_with_the_old_generation() {
        let rejection = resume(Some(b"?"), ResumeCause::Reload).unwrap_err();
        assert!(matches!(rejection, Rejection::KeepOld(why) if why.starts_with("the saved state cannot be read")));
    }

    #[test]
    fn mistakes_are_refused_by_their_key() {
        let refused = |config| testing::init::<Stamp>(config).unwrap_err().to_string();
        assert_eq!(refused(r#"{ "key": "" }"#), "key: must not be empty");
        assert_eq!(refused(r#"{ "key": 1 }"#), "key: invalid type: integer `1`, expected a string");
        assert!(refused(r#"{ "direction": "out" }"#).starts_with("direction: unknown variant `out`"));
    }
}
