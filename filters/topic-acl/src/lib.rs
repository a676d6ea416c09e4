//! `topic-acl`: which MQTT topics and STOMP destinations a client may use. Its README has the configuration.

mod held;
mod levels;
mod mqtt;
mod outcome;
mod rules;
mod stomp;

#[cfg(test)]
mod tests;

use serde::{Deserialize, Serialize};
use wsgate_sdk::prelude::*;

use levels::Syntax;
use mqtt::Mqtt;
use outcome::{End, Outcome};
use rules::{Client, Rules, Template};
use stomp::Stomp;

wsgate_sdk::export!(TopicAcl);

/// Largest packet that may be configured: it is held as a whole.
const MAX_PACKET_BYTES_LIMIT: usize = 8 << 20;

/// The filter's table in `wsgate.toml`.
#[derive(Debug, Deserialize)]
#[serde(try_from = "Table")]
pub struct Config {
    publish: Vec<Template>,
    subscribe: Vec<Template>,
    client_ids: Option<Vec<Template>>,
    refused_publish: Publishing,
    default_protocol: Option<Protocol>,
    stomp_separators: String,
    max_packet_bytes: usize,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Table {
    #[serde(default)]
    publish: Vec<Rule>,
    #[serde(default)]
    subscribe: Vec<Rule>,
    client_ids: Option<Vec<Template>>,
    #[serde(default)]
    refused_publish: Publishing,
    default_protocol: Option<Protocol>,
    stomp_separators: Option<String>,
    max_packet_bytes: Option<usize>,
}

/// A template whose wildcards are in their places.
#[derive(Deserialize)]
#[serde(try_from = "String")]
struct Rule(Template);

impl TryFrom<String> for Rule {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let template = Template::try_from(text)?;
        template.check_wildcards()?;
        Ok(Self(template))
    }
}

/// What becomes of a message that may not be published.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Publishing {
    /// It is dropped, and answered as far as the protocol has words for it.
    #[default]
    Answer,
    /// The connection is closed.
    Close,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Protocol {
    Mqtt,
    Stomp,
}

impl Protocol {
    /// By the name of a subprotocol (IANA's registry).
    fn of(subprotocol: &str) -> Option<Self> {
        match subprotocol {
            "mqtt" => Some(Self::Mqtt),
            "v10.stomp" | "v11.stomp" | "v12.stomp" => Some(Self::Stomp),
            _ => None,
        }
    }
}

impl TryFrom<Table> for Config {
    type Error = String;

    fn try_from(table: Table) -> Result<Self, String> {
        let max_packet_bytes = table.max_packet_bytes.unwrap_or(64 << 10);
        if !(1024..=MAX_PACKET_BYTES_LIMIT).contains(&max_packet_bytes) {
            return Err(format!("max_packet_bytes: 1024 to {MAX_PACKET_BYTES_LIMIT}, not {max_packet_bytes}"));
        }
        let stomp_separators = table.stomp_separators.unwrap_or_else(|| "/.".to_owned());
        let separator =
            |c: char| c.is_ascii_punctuation() && !['*', '+', '#', '>', '%', ',', '\\', '{', '}'].contains(&c);
        if !stomp_separators.chars().all(separator) {
            return Err("stomp_separators: punctuation that is no wildcard, such as \"/.\"".to_owned());
        }
        Ok(Self {
            publish: table.publish.into_iter().map(|rule| rule.0).collect(),
            subscribe: table.subscribe.into_iter().map(|rule| rule.0).collect(),
            client_ids: table.client_ids,
            refused_publish: table.refused_publish,
            default_protocol: table.default_protocol,
            stomp_separators,
            max_packet_bytes,
        })
    }
}

/// One connection.
#[derive(Debug)]
pub struct TopicAcl {
    config: Rc<Config>,
    client: Client,
    session: Session,
    mqtt: mqtt::Allowed,
    stomp: stomp::Allowed,
}

/// What goes over to the next generation.
#[derive(Debug, Serialize, Deserialize)]
enum Session {
    Mqtt(Mqtt),
    Stomp(Stomp),
}

impl TopicAcl {
    fn new(config: &Rc<Config>, handshake: &Handshake, session: Session) -> Self {
        let client = Client::new(handshake);
        let mut filter = Self {
            config: Rc::clone(config),
            client,
            session,
            mqtt: mqtt::Allowed::default(),
            stomp: stomp::Allowed::default(),
        };
        filter.fill_rules();
        filter
    }

    /// Makes the rules of this client anew.
    fn fill_rules(&mut self) {
        let (config, client) = (&self.config, &self.client);
        let rules = |templates, syntax| Rules::new(templates, client, syntax);
        match &self.session {
            Session::Mqtt(_) => {
                let ids = |ids: &Vec<Template>| ids.iter().flat_map(|id| id.fill(client, Syntax::Mqtt)).collect();
                self.mqtt = mqtt::Allowed {
                    publish: rules(&config.publish, Syntax::Mqtt),
                    subscribe: rules(&config.subscribe, Syntax::Mqtt),
                    client_ids: config.client_ids.as_ref().map(ids),
                    refused_publish: config.refused_publish,
                    max_packet_bytes: config.max_packet_bytes,
                };
            }
            Session::Stomp(_) => {
                let syntax = Syntax::Stomp { separators: &config.stomp_separators };
                self.stomp = stomp::Allowed {
                    publish: rules(&config.publish, syntax),
                    subscribe: rules(&config.subscribe, syntax),
                    separators: config.stomp_separators.clone(),
                    refused_publish: config.refused_publish,
                    max_frame_bytes: config.max_packet_bytes,
                };
            }
        }
    }

    /// What to be called for: what a STOMP server says is not read.
    fn interest(&self) -> Interest {
        match self.session {
            Session::Mqtt(_) => Interest::messages(Directions::Both).and(Hooks::IDENTITY),
            Session::Stomp(_) => Interest::messages(Directions::ToUpstream).and(Hooks::IDENTITY),
        }
    }
}

impl Filter for TopicAcl {
    type Config = Config;

    fn interest(_config: &Config) -> Result<Interest, Error> {
        Ok(Interest::messages(Directions::Both).and(Hooks::IDENTITY))
    }

    fn open(config: &Rc<Config>, handshake: &Handshake) -> Result<Admission<Self>, Refusal> {
        let chosen = handshake.subprotocols.iter().find_map(|name| Some((name, Protocol::of(name)?)));
        let protocol = match (chosen, config.default_protocol) {
            (Some((_, protocol)), _) => protocol,
            (None, Some(protocol)) if handshake.subprotocols.is_empty() => protocol,
            (None, _) => {
                log::reason("no_protocol");
                let refusal = Refusal::new(400).with_header("content-type", "text/plain");
                return Err(refusal.with_body("offer the subprotocol mqtt, v10.stomp, v11.stomp or v12.stomp\n"));
            }
        };
        let session = match protocol {
            Protocol::Mqtt => Session::Mqtt(Mqtt::default()),
            Protocol::Stomp => Session::Stomp(Stomp::default()),
        };
        let filter = Self::new(config, handshake, session);
        let interest = filter.interest();
        let admission = Admission::new(filter).with_interest(interest);
        // The upstream may choose among names of one protocol, but not another that nobody would read here.
        let foreign = handshake.subprotocols.iter().any(|name| Protocol::of(name) != Some(protocol));
        Ok(match chosen {
            Some((name, _)) if foreign => admission.with_subprotocol(name),
            Some(_) | None => admission,
        })
    }

    fn resume(
        config: &Rc<Config>,
        handshake: &Handshake,
        state: Option<Vec<u8>>,
        _cause: ResumeCause,
    ) -> Result<Resumed<Self>, Rejection> {
        // Without it nobody knows where the next packet begins. Clients of both protocols connect again.
        let Some(state) = state else { return Err(Rejection::close(1012, "connect again")) };
        let session = serde_json::from_slice(&state).map_err(Rejection::keep_old)?;
        let filter = Self::new(config, handshake, session);
        let interest = filter.interest();
        Ok(Resumed::new(filter).with_interest(interest))
    }

    fn on_message(&mut self, direction: Direction, message: Message) -> Result<Verdict, Error> {
        let (outcome, is_text) = match (&mut self.session, &message) {
            (Session::Mqtt(_), Message::Text(_)) => {
                (Some(Outcome::end(End::wrong_kind("MQTT is sent in binary messages"))), false)
            }
            (Session::Mqtt(mqtt), Message::Binary(bytes)) => match direction {
                Direction::ToUpstream => (mqtt.on_client_bytes(bytes, &self.mqtt), false),
                Direction::ToClient => (mqtt.on_upstream_bytes(bytes, &self.mqtt), false),
            },
            (Session::Stomp(stomp), message) => match direction {
                Direction::ToUpstream => {
                    (stomp.on_client_bytes(message.as_bytes(), &self.stomp), message.as_text().is_some())
                }
                Direction::ToClient => (None, false),
            },
        };
        let Some(outcome) = outcome else { return Ok(Verdict::Forward) };
        Ok(outcome.verdict(|bytes| match is_text {
            false => Message::Binary(bytes),
            // The halves of a frame may have come in messages of both kinds.
            true => String::from_utf8(bytes).map_or_else(|error| Message::Binary(error.into_bytes()), Message::Text),
        }))
    }

    /// Of a new token the next packets are judged; what is subscribed to already stays.
    fn on_identity(&mut self, identity: Identity) -> Result<Vec<Action>, Error> {
        self.client.refresh(&identity);
        self.fill_rules();
        Ok(Vec::new())
    }

    fn save(&mut self) -> Option<Vec<u8>> {
        serde_json::to_vec(&self.session).ok()
    }
}
