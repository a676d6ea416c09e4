//! `guest-room`: a chat room that obeys commands. Each connection is subscribed to the topic `room.<room>`, where the
//! path's parameter names the room (`lobby` without). What the client says is published there and goes no further, but
//! for these commands:
//!
//! | message | what happens |
//! |---|---|
//! | `!id` | replies with the connection's id |
//! | `!subscribe TOPIC` `!unsubscribe TOPIC` | of this connection; replies `ok` or the error |
//! | `!subscribe-other ID TOPIC` | of another; replies `ok` or the error |
//! | `!publish TOPIC TEXT` | replies `ok` or the error |
//! | `!publish-bytes TOPIC N` | publishes N bytes; replies `ok` or the error |
//! | `!send ID TEXT` `!send-bytes ID N` `!close ID CODE REASON` | replies `ok` or the error |
//! | `!many N TOPIC` | publishes `0`, `1`, … N-1; replies `ok N`, or the error and how many were taken: `queue-full 1000` |
//! | `!self TEXT` | sends the text to this connection, replies `before` |
//! | `!trap TOPIC TEXT` `!fail TOPIC TEXT` | publishes, then panics, or returns an error |
//! | `!state` | replies with what the connection has said so far: a number that survives reloads |
//!
//! The query decides at the handshake, one word of it: `alone` does not subscribe, `refuse` publishes `refused` in the
//! room and refuses with 403, `greet` sends the connection `welcome` and publishes `joined`, `fault` publishes and panics.

use serde::Deserialize;
use wsgate_sdk::messaging::Error as Refused;
use wsgate_sdk::prelude::*;

wsgate_sdk::export!(Room);

/// The filter's table in `wsgate.toml`.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Publish `left` at the end.
    leave: bool,
    /// Do those who speak hear themselves?
    hear_own: bool,
    /// Put before each delivery.
    mark: String,
    /// Call `publish` in `init`.
    early: bool,
}

/// One connection.
#[derive(Debug)]
pub struct Room {
    config: Rc<Config>,
    id: String,
    topic: String,
    said: u64,
}

impl Room {
    fn new(config: &Rc<Config>, handshake: &Handshake) -> Self {
        let topic = format!("room.{}", handshake.parameter("room").unwrap_or("lobby"));
        Self { config: Rc::clone(config), id: handshake.connection.clone(), topic, said: 0 }
    }

    fn publish(&self, topic: &str, text: &str) -> Result<(), Refused> {
        let exclude = (!self.config.hear_own).then_some(self.id.as_str());
        messaging::publish(topic, &text.into(), exclude)
    }

    fn obey(&mut self, text: &str) -> Option<Result<Verdict, Error>> {
        let mut words = text.splitn(3, ' ');
        let (command, first, rest) = (words.next()?, words.next().unwrap_or(""), words.next().unwrap_or(""));
        let done = match command {
            "!id" => return Some(Ok(Verdict::reply(self.id.clone()))),
            "!state" => return Some(Ok(Verdict::reply(self.said.to_string()))),
            "!subscribe" => messaging::subscribe(&self.id, first),
            "!unsubscribe" => messaging::unsubscribe(&self.id, first),
            "!subscribe-other" => messaging::subscribe(first, rest),
            "!publish" => self.publish(first, rest),
            "!publish-bytes" => messaging::publish(first, &bytes(rest), None),
            "!send" => messaging::send(first, &rest.into()),
            "!send-bytes" => messaging::send(first, &bytes(rest)),
            "!close" => {
                let (code, reason) = rest.split_once(' ').unwrap_or((rest, ""));
                messaging::close(first, &CloseInfo::new(code.parse().unwrap_or(0), reason))
            }
            "!many" => return Some(Ok(Verdict::reply(many(first, rest)))),
            "!self" => {
                let text = text.trim_start_matches("!self ");
                return Some(match messaging::send(&self.id, &text.into()) {
                    Ok(()) => Ok(Verdict::reply("before")),
                    Err(error) => Ok(Verdict::reply(name(error))),
                });
            }
            "!trap" => {
                let _ = self.publish(first, rest);
                panic!("as told");
            }
            "!fail" => {
                let _ = self.publish(first, rest);
                return Some(Err(Error::new("as told")));
            }
            _ => return None,
        };
        Some(Ok(Verdict::reply(done.map_or_else(name, |()| "ok".to_owned()))))
    }
}

fn bytes(count: &str) -> Message {
    vec![b'x'; count.parse().unwrap_or(0)].into()
}

fn many(count: &str, topic: &str) -> String {
    let count: usize = count.parse().unwrap_or(0);
    for number in 0..count {
        if let Err(error) = messaging::publish(topic, &number.to_string().into(), None) {
            return format!("{} {number}", name(error));
        }
    }
    format!("ok {count}")
}

fn name(error: Refused) -> String {
    match error {
        Refused::Denied => "denied",
        Refused::NotFound => "not-found",
        Refused::QueueFull => "queue-full",
        Refused::TooLarge => "too-large",
    }
    .to_owned()
}

impl Filter for Room {
    type Config = Config;

    fn interest(config: &Config) -> Result<Interest, Error> {
        if config.early
            && let Err(error) = messaging::publish("room.lobby", &"early".into(), None)
        {
            log::info!("early: {}", name(error));
        }
        Ok(Interest::messages(Directions::ToUpstream).and(Hooks::DELIVERY | Hooks::CLOSE))
    }

    fn open(config: &Rc<Config>, handshake: &Handshake) -> Result<Admission<Self>, Refusal> {
        let room = Self::new(config, handshake);
        let wish = handshake.query.as_deref().unwrap_or_default();
        if wish != "alone" && messaging::subscribe(&room.id, &room.topic).is_err() {
            return Err(Refusal::new(500));
        }
        match wish {
            "refuse" => {
                let _ = room.publish(&room.topic, "refused");
                return Err(Refusal::new(403));
            }
            "greet" => {
                let _ = messaging::send(&room.id, &"welcome".into());
                let _ = room.publish(&room.topic, "joined");
            }
            "fault" => {
                let _ = room.publish(&room.topic, "fault");
                panic!("as told");
            }
            _ => {}
        }
        Ok(Admission::new(room))
    }

    fn resume(
        config: &Rc<Config>,
        handshake: &Handshake,
        state: Option<Vec<u8>>,
        _cause: ResumeCause,
    ) -> Result<Resumed<Self>, Rejection> {
        let mut room = Self::new(config, handshake);
        let said = state.and_then(|state| state.try_into().ok()).map(u64::from_le_bytes);
        room.said = said.unwrap_or_default();
        Ok(Resumed::new(room))
    }

    fn on_message(&mut self, _direction: Direction, message: Message) -> Result<Verdict, Error> {
        let text = message.as_text().unwrap_or_default();
        if let Some(answer) = self.obey(text) {
            return answer;
        }
        self.said += 1;
        let exclude = (!self.config.hear_own).then_some(self.id.as_str());
        match messaging::publish(&self.topic, &message, exclude) {
            Ok(()) => Ok(Verdict::Drop),
            Err(error) => Ok(Verdict::reply(name(error))),
        }
    }

    fn on_delivery(&mut self, _topic: &str, message: Message) -> Result<Verdict, Error> {
        match (self.config.mark.as_str(), message.as_text()) {
            ("", _) | (_, None) => Ok(Verdict::Forward),
            (mark, Some(text)) => Ok(Verdict::replace(format!("{mark}{text}"))),
        }
    }

    fn on_close(&mut self, _by: Closer, _info: CloseInfo) {
        if self.config.leave {
            let _ = self.publish(&self.topic, "left");
        }
    }

    fn save(&mut self) -> Option<Vec<u8>> {
        Some(self.said.to_le_bytes().to_vec())
    }
}
