//! The filter's table in `wsgate.toml`.

use std::collections::BTreeSet;

use serde::Deserialize;
use wsgate_sdk::prelude::*;

use crate::window::Period;

/// Most quotas of a filter: each may ask the store about a message.
const MAX_QUOTAS: usize = 16;

/// Longest name of a quota: it is part of a key, of a reason and of a label.
const MAX_NAME_BYTES: usize = 32;

/// Largest limit: counters have 63 bits, and what is added beyond the limit has to fit too.
const MAX_LIMIT: u64 = 1 << 53;

/// Units that a connection takes out of the counter in advance, at most.
const MAX_BATCH_MESSAGES: u64 = 64;
const MAX_BATCH_BYTES: u64 = 64 << 10;

/// What may be used up.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    pub(crate) store: String,
    pub(crate) quotas: Vec<Quota>,
}

/// One quota.
#[derive(Debug, Deserialize)]
#[serde(try_from = "Table")]
pub(crate) struct Quota {
    pub(crate) name: String,
    pub(crate) count: Count,
    pub(crate) limit: u64,
    pub(crate) window: Period,
    pub(crate) by: By,
    pub(crate) action: Reaction,
    /// The count at which a warning is given.
    pub(crate) warn_at: Option<u64>,
    pub(crate) warn_client: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Table {
    name: String,
    count: Unit,
    direction: Option<Directions>,
    pointer: Option<String>,
    limit: u64,
    window: Period,
    #[serde(default)]
    by: By,
    #[serde(default)]
    action: Reaction,
    warn_at: Option<f64>,
    #[serde(default)]
    warn_client: bool,
}

#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
enum Unit {
    Messages,
    Bytes,
    Tokens,
}

/// What is counted.
#[derive(Debug, PartialEq)]
pub(crate) enum Count {
    Messages(Directions),
    Bytes(Directions),
    /// The number at this place of what the upstream says.
    Tokens {
        pointer: String,
    },
}

/// Whose quota it is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub(crate) enum By {
    #[default]
    Subject,
    Address,
    Header(String),
}

impl TryFrom<String> for By {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        match (text.as_str(), text.strip_prefix("header:")) {
            ("subject", _) => Ok(Self::Subject),
            ("address", _) => Ok(Self::Address),
            (_, Some(name)) if !name.is_empty() => Ok(Self::Header(name.to_owned())),
            _ => Err(format!("`{text}` is unknown, expected `subject`, `address` or `header:NAME`")),
        }
    }
}

/// What happens to a message beyond the limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Reaction {
    #[default]
    Close,
    Drop,
    Reply,
}

impl TryFrom<Table> for Quota {
    type Error = String;

    fn try_from(table: Table) -> Result<Self, String> {
        let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-' || c == '_';
        if table.name.is_empty() || table.name.len() > MAX_NAME_BYTES || !table.name.chars().all(plain) {
            return Err(format!("name: 1 to {MAX_NAME_BYTES} of a-z 0-9 _ -, not `{}`", table.name));
        }
        if !(1..=MAX_LIMIT).contains(&table.limit) {
            return Err(format!("limit: 1 to {MAX_LIMIT}, not {}", table.limit));
        }
        let warn_at = match table.warn_at {
            Some(part) if part > 0.0 && part <= 1.0 => Some((part * table.limit as f64).ceil() as u64),
            Some(part) => return Err(format!("warn_at: a part of the limit, above 0 and up to 1, not {part}")),
            None if table.warn_client => return Err("warn_client: needs warn_at".to_owned()),
            None => None,
        };
        let direction = table.direction.unwrap_or(Directions::ToUpstream);
        let count = match (table.count, table.pointer) {
            (Unit::Messages, None) => Count::Messages(direction),
            (Unit::Bytes, None) => Count::Bytes(direction),
            (Unit::Messages | Unit::Bytes, Some(_)) => return Err("pointer: only for `count = \"tokens\"`".to_owned()),
            (Unit::Tokens, _) if table.direction.is_some() => {
                return Err("direction: tokens are counted in what the upstream says".to_owned());
            }
            (Unit::Tokens, Some(pointer)) if pointer.starts_with('/') => Count::Tokens { pointer },
            (Unit::Tokens, _) => {
                return Err("pointer: a JSON pointer such as \"/usage/total_tokens\" is needed".to_owned());
            }
        };
        let Table { name, limit, window, by, action, warn_client, .. } = table;
        Ok(Self { name, count, limit, window, by, action, warn_at, warn_client })
    }
}

impl Quota {
    /// What a connection takes in advance while much is left: a hundredth, so that little is refused too early.
    pub(crate) fn batch(&self) -> u64 {
        let most = match self.count {
            Count::Messages(_) => MAX_BATCH_MESSAGES,
            Count::Bytes(_) => MAX_BATCH_BYTES,
            Count::Tokens { .. } => 1,
        };
        (self.limit / 100).clamp(1, most)
    }

    /// Who is counted. None where this client cannot be told.
    pub(crate) fn user(&self, handshake: &Handshake) -> Option<String> {
        let user = match &self.by {
            By::Subject => handshake.identity.as_ref()?.subject.clone()?,
            By::Header(name) => handshake.header(name)?.to_owned(),
            By::Address => return Some(network(&handshake.client)),
        };
        (!user.is_empty() && user.len() <= crate::counter::MAX_USER_BYTES).then_some(user)
    }
}

/// The address without its port; of IPv6 the first 64 bits, which is what one household has.
fn network(client: &str) -> String {
    match client.parse() {
        Ok(std::net::SocketAddr::V4(address)) => address.ip().to_string(),
        Ok(std::net::SocketAddr::V6(address)) => match address.ip().to_ipv4_mapped() {
            Some(ip) => ip.to_string(),
            None => {
                let [a, b, c, d, ..] = address.ip().segments();
                format!("{a:x}:{b:x}:{c:x}:{d:x}::/64")
            }
        },
        Err(_) => client.to_owned(),
    }
}

impl Config {
    /// What serde does not look at.
    pub(crate) fn check(&self) -> Result<(), Error> {
        if !(1..=MAX_QUOTAS).contains(&self.quotas.len()) {
            return Err(Error::new(format_args!("quotas: 1 to {MAX_QUOTAS}, not {}", self.quotas.len())));
        }
        let mut names = BTreeSet::new();
        match self.quotas.iter().find(|quota| !names.insert(&quota.name)) {
            Some(twice) => Err(Error::new(format_args!("quotas: the name `{}` is there twice", twice.name))),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::network;

    #[test]
    fn of_an_address_the_network_counts() {
        assert_eq!(network("192.0.2.1:5000"), "192.0.2.1");
        assert_eq!(network("[2001:db8:1:2:3:4:5:6]:5000"), "2001:db8:1:2::/64");
        assert_eq!(network("[::ffff:192.0.2.1]:5000"), "192.0.2.1");
    }
}
