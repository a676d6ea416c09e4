use std::num::NonZero;

use serde::Deserialize;
use wsgate_sdk::prelude::*;

wsgate_sdk::export!(Talk);

/// The filter's table in `wsgate.toml`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Config {
    max_bytes: NonZero<usize>,
}

/// One connection.
struct Talk {
    config: Rc<Config>,
}

impl Filter for Talk {
    type Config = Config;

    fn interest(_config: &Config) -> Result<Interest, Error> {
        Ok(Interest::messages(Directions::ToUpstream))
    }

    fn open(config: &Rc<Config>, _handshake: &Handshake) -> Result<Admission<Self>, Refusal> {
        Ok(Admission::new(Talk { config: Rc::clone(config) }))
    }

    fn on_message(&mut self, _direction: Direction, message: Message) -> Result<Verdict, Error> {
        match message.len() > self.config.max_bytes.get() {
            true => Ok(Verdict::reply("too long")),
            false => Ok(Verdict::Forward),
        }
    }
}

#[cfg(test)]
mod tests {
    use wsgate_sdk::testing;

    use super::*;

    #[test]
    fn what_is_too_long_comes_back() {
        let mut ann = testing::connect::<Talk>(r#"{ "max_bytes": 3 }"#, &testing::handshake("/")).unwrap();
        assert_eq!(ann.to_upstream("abc"), Ok(Verdict::Forward));
        assert_eq!(ann.to_upstream("abcd"), Ok(Verdict::reply("too long")));
        assert_eq!(ann.to_client("abcd"), Ok(Verdict::Forward));
    }

    #[test]
    fn a_limit_of_nothing_is_refused() {
        let error = testing::init::<Talk>(r#"{ "max_bytes": 0 }"#).map(|_| ()).unwrap_err();
        assert_eq!(error.to_string(), "max_bytes: invalid value: integer `0`, expected a nonzero usize");
    }
}
