//! The filter of `tests/languages.rs`: the same in Rust, JavaScript, Python and C.

use serde::Deserialize;
use wsgate_sdk::prelude::*;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Config {
    #[serde(default = "hello")]
    greeting: String,
    #[serde(default)]
    first_count: u32,
}

fn hello() -> String {
    "hello".into()
}

struct Four {
    config: Rc<Config>,
    count: u32,
}

impl Four {
    fn command(&self, text: &str) -> Result<Verdict, Error> {
        Ok(match text {
            "characters" => Verdict::reply("grüße 😀 𝄞"),
            "several" => {
                Verdict::Act(vec![Action::to_client("one"), Action::to_upstream("two"), Action::to_client("three 😀")])
            }
            "drop" => Verdict::Drop,
            "bye" => Verdict::close(4001, "auf Wiedersehen 👋"),
            "count" => Verdict::reply(self.count.to_string()),
            "fail" => return Err(Error::new("four failed 😀")),
            "hits" => Verdict::reply(key_value::increment("shared", "hits", 1, None)?.to_string()),
            "read" => {
                let entry = key_value::get("shared", "hits")?;
                Verdict::reply(entry.map_or(Vec::new(), |entry| entry.value))
            }
            "denied" => match key_value::get("others", "hits") {
                Err(key_value::Error::Denied) => Verdict::reply("denied"),
                other => return Err(Error::new(format_args!("{other:?}"))),
            },
            text => match (text.strip_prefix("greet "), text.strip_prefix('{')) {
                (Some(name), _) => Verdict::replace(format!("{}, {name}", self.config.greeting)),
                (None, Some(_)) => {
                    let mut table: serde_json::Value = serde_json::from_str(text)?;
                    table["seen"] = true.into();
                    Verdict::replace(table.to_string())
                }
                (None, None) => Verdict::Forward,
            },
        })
    }
}

impl Filter for Four {
    type Config = Config;

    fn interest(_config: &Config) -> Result<Interest, Error> {
        Ok(Interest::messages(Directions::ToUpstream))
    }

    fn open(config: &Rc<Config>, handshake: &Handshake) -> Result<Admission<Self>, Refusal> {
        if handshake.header("x-refuse").is_some() {
            return Err(Refusal::new(403).with_header("x-why", "four").with_body("not today 😀"));
        }
        let four = Self { config: config.clone(), count: config.first_count };
        Ok(Admission::new(four).with_client_headers(HeaderEdits::new().set("x-four", "yes")))
    }

    fn resume(
        config: &Rc<Config>,
        _handshake: &Handshake,
        state: Option<Vec<u8>>,
        _cause: ResumeCause,
    ) -> Result<Resumed<Self>, Rejection> {
        let saved = state.and_then(|state| serde_json::from_slice(&state).ok());
        Ok(Resumed::new(Self { config: config.clone(), count: saved.unwrap_or(config.first_count) }))
    }

    fn on_message(&mut self, _direction: Direction, message: Message) -> Result<Verdict, Error> {
        self.count += 1;
        match message {
            Message::Text(text) => self.command(&text),
            Message::Binary(bytes) => Ok(Verdict::replace(bytes.into_iter().rev().collect::<Vec<u8>>())),
        }
    }

    fn save(&mut self) -> Option<Vec<u8>> {
        Some(self.count.to_string().into_bytes())
    }
}

wsgate_sdk::export!(Four);
