//! What is remembered of packets until others come.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::outcome::End;

/// Most filters that wait for an answer of the upstream while others of their packet were refused.
const MAX_WAITING_FILTERS: usize = 4096;

/// Most topic aliases of a connection, and most bytes of their topics. Brokers allow few: mosquitto 10.
const MAX_ALIASES: usize = 1024;
const MAX_ALIAS_TOPIC_BYTES: usize = 256 << 10;

/// SUBSCRIBE packets of which a part was refused: a code for each refused filter, none for each that went on.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct Subscriptions {
    waiting: BTreeMap<u16, Vec<Option<u8>>>,
    filters: usize,
}

impl Subscriptions {
    pub(crate) fn wait(&mut self, id: u16, codes: Vec<Option<u8>>) -> Result<(), End> {
        if self.waiting.contains_key(&id) {
            return Err(End::malformed("a packet identifier is in use"));
        }
        if self.filters + codes.len() > MAX_WAITING_FILTERS {
            return Err(End::too_many("too many subscriptions without an answer"));
        }
        self.filters += codes.len();
        self.waiting.insert(id, codes);
        Ok(())
    }

    /// Is there nothing for which the upstream's answers have to be read?
    pub(crate) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    pub(crate) fn contains(&self, id: u16) -> bool {
        self.waiting.contains_key(&id)
    }

    /// The codes of all filters of a packet, the upstream's among them. None where all of them are the upstream's.
    pub(crate) fn answered(&mut self, id: u16, codes: &[u8]) -> Result<Option<Vec<u8>>, End> {
        let Some(waiting) = self.waiting.remove(&id) else { return Ok(None) };
        self.filters -= waiting.len();
        if waiting.iter().filter(|code| code.is_none()).count() != codes.len() {
            return Err(End::malformed("the upstream answered another number of filters"));
        }
        let mut granted = codes.iter().copied();
        Ok(Some(waiting.into_iter().filter_map(|refused| refused.or_else(|| granted.next())).collect()))
    }
}

/// Topics that have a number (MQTT 5, section 3.3.2.3.4).
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct Aliases {
    topics: BTreeMap<u16, Alias>,
    topic_bytes: usize,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Alias {
    pub(crate) topic: String,
    /// Whether the upstream knows it: not where the message that set it was refused.
    pub(crate) upstream_knows: bool,
}

impl Aliases {
    pub(crate) fn set(&mut self, alias: u16, topic: &str, upstream_knows: bool) -> Result<(), End> {
        if let Some(known) = self.topics.get_mut(&alias)
            && known.topic == topic
        {
            known.upstream_knows = upstream_knows;
            return Ok(());
        }
        let before = self.topics.remove(&alias).map_or(0, |alias| alias.topic.len());
        self.topic_bytes = self.topic_bytes - before + topic.len();
        if self.topics.len() == MAX_ALIASES || self.topic_bytes > MAX_ALIAS_TOPIC_BYTES {
            return Err(End::too_many("too many topic aliases"));
        }
        self.topics.insert(alias, Alias { topic: topic.to_owned(), upstream_knows });
        Ok(())
    }

    pub(crate) fn get(&self, alias: u16) -> Result<Alias, End> {
        self.topics.get(&alias).cloned().ok_or(End::malformed("a topic alias is unknown"))
    }
}
