//! `room`: what one client says, every other client of its room hears. Its README has the configuration.

use serde::Deserialize;
use wsgate_sdk::prelude::*;

wsgate_sdk::export!(Room);

/// Longest name that a client may take.
const MAX_NAME_BYTES: usize = 32;

/// The filter's table in `wsgate.toml`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    parameter: String,
    prefix: String,
    hear_own: bool,
    announce: bool,
}

impl Default for Config {
    fn default() -> Self {
        Self { parameter: "room".to_owned(), prefix: "room.".to_owned(), hear_own: false, announce: true }
    }
}

impl Config {
    /// The topic of the room that the path names.
    fn topic(&self, handshake: &Handshake) -> String {
        format!("{}{}", self.prefix, handshake.parameter(&self.parameter).unwrap_or("lobby"))
    }
}

/// The name in the query, `?name=ann`; else one made of the connection's id. None where it may not be taken.
fn name(handshake: &Handshake) -> Option<String> {
    let mut pairs = handshake.query.as_deref().unwrap_or_default().split('&');
    match pairs.find_map(|pair| pair.strip_prefix("name=")) {
        None => Some(format!("guest-{}", handshake.connection.get(..4).unwrap_or("0"))),
        Some(name) => {
            let plain = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-'));
            (plain && (1..=MAX_NAME_BYTES).contains(&name.len())).then(|| name.to_owned())
        }
    }
}

/// One connection.
#[derive(Debug)]
pub struct Room {
    config: Rc<Config>,
    connection: String,
    topic: String,
    name: String,
}

impl Room {
    fn new(config: &Rc<Config>, handshake: &Handshake) -> Option<Self> {
        Some(Self {
            config: Rc::clone(config),
            connection: handshake.connection.clone(),
            topic: config.topic(handshake),
            name: name(handshake)?,
        })
    }

    /// To everybody in the room, also to the one who said it where that is wanted.
    fn publish(&self, text: String) -> Result<(), Error> {
        let exclude = (!self.config.hear_own).then_some(self.connection.as_str());
        let published = messaging::publish(&self.topic, &text.into(), exclude);
        published.map_err(|error| Error::from(error).context(format_args!("{} was not told", self.topic)))
    }

    fn announce(&self, what: &str) {
        if self.config.announce
            && let Err(error) = self.publish(format!("* {} {what}", self.name))
        {
            log::warn!("{error}");
        }
    }
}

impl Filter for Room {
    type Config = Config;

    fn interest(_config: &Config) -> Result<Interest, Error> {
        Ok(Interest::messages(Directions::ToUpstream).text_only().and(Hooks::CLOSE))
    }

    fn open(config: &Rc<Config>, handshake: &Handshake) -> Result<Admission<Self>, Refusal> {
        let Some(room) = Self::new(config, handshake) else {
            return Err(Refusal::text(400, "a name has 1 to 32 of A-Z a-z 0-9 _ -"));
        };
        messaging::subscribe(&room.connection, &room.topic).map_err(|error| match error {
            // The room is the client's choice: it may be none that the filter is allowed.
            messaging::Error::Denied => Refusal::text(400, "there is no such room"),
            error => Error::from(error).context(&room.topic).into(),
        })?;
        room.announce("joined");
        let name = room.name.clone();
        Ok(Admission::new(room).with_tag("name", name))
    }

    /// The subscription is the connection's and goes on by itself.
    fn resume(
        config: &Rc<Config>,
        handshake: &Handshake,
        _state: Option<Vec<u8>>,
        _cause: ResumeCause,
    ) -> Result<Resumed<Self>, Rejection> {
        match Self::new(config, handshake) {
            Some(room) => Ok(Resumed::new(room)),
            None => Err(Rejection::close(1008, "this name may not be taken any more")),
        }
    }

    fn on_message(&mut self, _direction: Direction, message: Message) -> Result<Verdict, Error> {
        let text = message.as_text().unwrap_or_default();
        self.publish(format!("{}: {text}", self.name))?;
        Ok(Verdict::Drop)
    }

    fn on_close(&mut self, _by: Closer, _info: CloseInfo) {
        self.announce("left");
    }
}

#[cfg(test)]
mod tests {
    use wsgate_sdk::testing;

    use super::*;

    fn handshake(query: Option<&str>) -> Handshake {
        Handshake { query: query.map(str::to_owned), connection: "abcdefgh".to_owned(), ..testing::handshake("/chat") }
    }

    #[test]
    fn the_name_comes_from_the_query() {
        assert_eq!(name(&handshake(Some("a=b&name=ann_1"))).as_deref(), Some("ann_1"));
        assert_eq!(name(&handshake(None)).as_deref(), Some("guest-abcd"));
        let long = format!("name={}", "x".repeat(33));
        for bad in ["name=", "name=a b", "name=%41", long.as_str()] {
            assert_eq!(name(&handshake(Some(bad))), None, "{bad}");
        }
    }

    #[test]
    fn the_path_names_the_room() {
        let config = Config::default();
        assert_eq!(config.topic(&handshake(None)), "room.lobby");
        assert_eq!(config.topic(&handshake(None).with_parameter("room", "blue")), "room.blue");
    }

    #[test]
    fn a_room_that_is_not_granted_is_refused() {
        // Outside the gateway nothing is granted.
        let config = Rc::new(Config::default());
        assert_eq!(Room::open(&config, &handshake(None)).unwrap_err().status, 400);
    }

    #[test]
    fn everybody_else_in_the_room_hears_what_one_says() {
        let host = testing::Host::new().with_topic("room.*");
        let mut ann = testing::connect::<Room>("{}", &handshake(Some("name=ann"))).unwrap();
        assert_eq!(host.subscriptions("abcdefgh"), ["room.lobby"]);
        assert_eq!(ann.to_upstream("hello"), Ok(Verdict::Drop));
        ann.close(Closer::Client, CloseInfo::new(CloseInfo::NORMAL, ""));
        assert_eq!(host.published("room.lobby"), ["* ann joined".into(), "ann: hello".into(), "* ann left".into()]);
        let excluded = |effect: &testing::Effect| match effect {
            testing::Effect::Publish { exclude, .. } => exclude.as_deref() == Some("abcdefgh"),
            _ => true,
        };
        assert!(host.effects().iter().all(excluded));
    }

    #[test]
    fn who_is_not_heard_is_told_why() {
        let host = testing::Host::new().with_topic("room.*");
        let mut ann = testing::connect::<Room>("{}", &handshake(Some("name=ann"))).unwrap();
        host.fail_messaging(Some(messaging::Error::QueueFull));
        let error = ann.to_upstream("hello").unwrap_err().to_string();
        assert_eq!(error, "room.lobby was not told: messaging: too much is waiting already");
    }

    #[test]
    fn unknown_keys_are_refused() {
        assert!(testing::init::<Room>(r#"{ "rooms": "x" }"#).is_err());
        let (_, interest) = testing::init::<Room>("{}").unwrap();
        assert_eq!(interest.kinds, Kinds::TEXT);
    }
}
