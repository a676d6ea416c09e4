//! `talk`: bounds how long a client's messages are and how many a user sends in a minute.

use std::num::NonZero;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use wsgate_sdk::prelude::*;

wsgate_sdk::export!(Talk);

const MINUTE: Duration = Duration::from_secs(60);

/// The filter's table in `wsgate.toml`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Config {
    max_bytes: NonZero<usize>,
    /// How many messages a user may send in a minute, over all connections.
    max_messages: NonZero<i64>,
    /// How often a connection is told before it is closed.
    #[serde(default = "three")]
    warnings: u32,
}

fn three() -> u32 {
    3
}

/// What goes along when the connection moves to another build of this filter.
#[derive(Debug, Default, Deserialize, Serialize)]
struct State {
    warned: u32,
}

/// Raised when an older build could not read [`State`] any more.
const STATE_VERSION: u32 = 1;

/// One connection.
struct Talk {
    config: Rc<Config>,
    user: String,
    state: State,
}

impl Talk {
    fn new(config: &Rc<Config>, handshake: &Handshake, state: State) -> Self {
        let user = match (handshake.subject(), handshake.client_ip()) {
            (Some(subject), _) => format!("user:{subject}"),
            (None, Some(address)) => format!("address:{address}"),
            (None, None) => "unknown".to_owned(),
        };
        Talk { config: Rc::clone(config), user, state }
    }

    /// Counts a message of this user. The counter is the gateway's: every connection and every instance adds to it.
    fn is_too_fast(&self) -> Result<bool, Error> {
        let sent = key_value::increment("talk", &self.user, 1, Some(MINUTE))?;
        Ok(sent > self.config.max_messages.get())
    }

    fn refuse(&mut self, why: &str) -> Verdict {
        log::reason(why);
        metrics::add("refused", &[("why", why)], 1);
        if self.state.warned >= self.config.warnings {
            return Verdict::close(CloseInfo::POLICY_VIOLATION, why);
        }
        self.state.warned += 1;
        Verdict::reply(json!({ "error": why, "warning": self.state.warned }))
    }
}

impl Filter for Talk {
    type Config = Config;

    fn interest(_config: &Config) -> Result<Interest, Error> {
        Ok(Interest::messages(Directions::ToUpstream))
    }

    fn open(config: &Rc<Config>, handshake: &Handshake) -> Result<Admission<Self>, Refusal> {
        Ok(Admission::new(Talk::new(config, handshake, State::default())))
    }

    fn on_message(&mut self, _direction: Direction, message: Message) -> Result<Verdict, Error> {
        if message.len() > self.config.max_bytes.get() {
            Ok(self.refuse("too_long"))
        } else if self.is_too_fast()? {
            Ok(self.refuse("too_fast"))
        } else {
            Ok(Verdict::Forward)
        }
    }

    fn save(&mut self) -> Option<Vec<u8>> {
        state::save(STATE_VERSION, &self.state)
    }

    fn resume(
        config: &Rc<Config>,
        handshake: &Handshake,
        state: Option<Vec<u8>>,
        _cause: ResumeCause,
    ) -> Result<Resumed<Self>, Rejection> {
        let state = state::resume(STATE_VERSION, state)?.unwrap_or_default();
        Ok(Resumed::new(Talk::new(config, handshake, state)))
    }
}

#[cfg(test)]
mod tests {
    use wsgate_sdk::testing::{self, Host};

    use super::*;

    const CONFIG: &str = r#"{ "max_bytes": 5, "max_messages": 2, "warnings": 1 }"#;

    #[test]
    fn a_user_has_one_allowance_on_all_connections() {
        let host = Host::new().with_store("talk");
        let ann = testing::handshake("/chat").with_identity(testing::identity("ann"));
        let mut phone = testing::connect::<Talk>(CONFIG, &ann).unwrap();
        let mut laptop = testing::connect::<Talk>(CONFIG, &ann).unwrap();
        assert_eq!(phone.to_upstream("one"), Ok(Verdict::Forward));
        assert_eq!(laptop.to_upstream("two"), Ok(Verdict::Forward));
        let warning = Verdict::reply(json!({ "error": "too_fast", "warning": 1 }));
        assert_eq!(phone.to_upstream("three"), Ok(warning));
        assert_eq!(host.text("talk", "user:ann").as_deref(), Some("3"));
        assert_eq!(host.counter("refused", &[("why", "too_fast")]), 1);

        host.advance(MINUTE);
        assert_eq!(phone.to_upstream("four"), Ok(Verdict::Forward));
    }

    #[test]
    fn warnings_are_not_forgotten_by_a_reload() {
        let _host = Host::new().with_store("talk");
        let mut ann = testing::connect::<Talk>(CONFIG, &testing::handshake("/chat")).unwrap();
        assert!(matches!(ann.to_upstream("too long"), Ok(Verdict::Reply(_))));
        ann.reload(CONFIG).unwrap();
        assert_eq!(ann.to_upstream("too long"), Ok(Verdict::close(1008, "too_long")));
    }

    #[test]
    fn without_its_store_a_message_is_a_fault() {
        let _host = Host::new();
        let mut ann = testing::connect::<Talk>(CONFIG, &testing::handshake("/chat")).unwrap();
        let error = ann.to_upstream("one").unwrap_err();
        assert_eq!(error.to_string(), "key-value: denied: `allow.key_value` does not name the store");
    }
}
