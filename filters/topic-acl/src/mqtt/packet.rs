//! Packets of MQTT 3.1.1 and 5 as far as an access list reads and writes them.

use serde::{Deserialize, Serialize};

use crate::outcome::End;

pub(crate) const CONNECT: u8 = 1;
pub(crate) const PUBLISH: u8 = 3;
pub(crate) const PUBREL: u8 = 6;
pub(crate) const SUBSCRIBE: u8 = 8;
pub(crate) const SUBACK: u8 = 9;

const PUBACK: u8 = 4;
const PUBREC: u8 = 5;
const PUBCOMP: u8 = 7;
const UNSUBSCRIBE: u8 = 10;
const PINGREQ: u8 = 12;
const DISCONNECT: u8 = 14;
const AUTH: u8 = 15;

/// Reason codes (MQTT 5, section 2.4).
pub(crate) const NOT_AUTHORIZED: u8 = 0x87;
const FAILURE: u8 = 0x80;
const CLIENT_ID_NOT_VALID: u8 = 0x85;
const TOPIC_FILTER_INVALID: u8 = 0x8f;

/// The version that CONNECT names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Version {
    V311,
    V5,
}

/// Where a packet ends.
#[derive(Clone, Copy, Debug)]
pub(crate) struct FixedHeader {
    pub(crate) kind: u8,
    pub(crate) flags: u8,
    pub(crate) header_bytes: usize,
    pub(crate) body_bytes: usize,
}

impl FixedHeader {
    /// None where it is not there as a whole yet.
    pub(crate) fn read(bytes: &[u8]) -> Result<Option<Self>, End> {
        let Some(&first) = bytes.first() else { return Ok(None) };
        let mut body_bytes = 0;
        for at in 0..4 {
            let Some(&byte) = bytes.get(at + 1) else { return Ok(None) };
            body_bytes |= usize::from(byte & 0x7f) << (7 * at);
            if byte & 0x80 == 0 {
                return Ok(Some(Self { kind: first >> 4, flags: first & 0x0f, header_bytes: at + 2, body_bytes }));
            }
        }
        Err(End::malformed("a packet's length has more than four bytes"))
    }

    pub(crate) fn packet_bytes(self) -> usize {
        self.header_bytes + self.body_bytes
    }

    /// Refuses what no client may send (section 2.1).
    pub(crate) fn check_from_client(self, version: Option<Version>) -> Result<(), End> {
        let flags_fit = match self.kind {
            PUBLISH => self.flags & 0b0110 != 0b0110,
            PUBREL | SUBSCRIBE | UNSUBSCRIBE => self.flags == 0b0010,
            CONNECT | PUBACK | PUBREC | PUBCOMP | PINGREQ | DISCONNECT => self.flags == 0,
            AUTH => self.flags == 0 && version != Some(Version::V311),
            _ => return Err(End::malformed("no packet that a client may send")),
        };
        match (flags_fit, version) {
            (false, _) => Err(End::malformed("a packet's flags are wrong")),
            (true, None) if self.kind != CONNECT => Err(End::malformed("the first packet has to be CONNECT")),
            (true, Some(_)) if self.kind == CONNECT => Err(End::malformed("a second CONNECT")),
            (true, _) => Ok(()),
        }
    }
}

/// Reads fields one after the other.
pub(crate) struct Reader<'a>(pub(crate) &'a [u8]);

impl<'a> Reader<'a> {
    pub(crate) fn bytes(&mut self, count: usize) -> Result<&'a [u8], End> {
        match self.0.split_at_checked(count) {
            Some((bytes, rest)) => {
                self.0 = rest;
                Ok(bytes)
            }
            None => Err(End::malformed("a packet is shorter than its fields")),
        }
    }

    pub(crate) fn u8(&mut self) -> Result<u8, End> {
        Ok(self.bytes(1)?[0])
    }

    pub(crate) fn u16(&mut self) -> Result<u16, End> {
        let bytes = self.bytes(2)?;
        Ok(u16::from_be_bytes([bytes[0], bytes[1]]))
    }

    /// An identifier of a packet, which is never 0 (section 2.2.1).
    pub(crate) fn packet_id(&mut self) -> Result<u16, End> {
        match self.u16()? {
            0 => Err(End::malformed("a packet identifier is 0")),
            id => Ok(id),
        }
    }

    pub(crate) fn binary(&mut self) -> Result<&'a [u8], End> {
        let count = self.u16()?;
        self.bytes(usize::from(count))
    }

    /// UTF-8 without the character 0 (section 1.5.4).
    pub(crate) fn string(&mut self) -> Result<&'a str, End> {
        let text = std::str::from_utf8(self.binary()?).map_err(|_| End::not_utf8("a string is not UTF-8"))?;
        match text.contains('\0') {
            true => Err(End::malformed("a string has the character 0")),
            false => Ok(text),
        }
    }

    fn variable(&mut self) -> Result<usize, End> {
        let mut value = 0;
        for at in 0..4 {
            let byte = self.u8()?;
            value |= usize::from(byte & 0x7f) << (7 * at);
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(End::malformed("a number has more than four bytes"))
    }

    /// The properties of MQTT 5; earlier versions have none.
    pub(crate) fn properties(&mut self, version: Version) -> Result<&'a [u8], End> {
        match version {
            Version::V311 => Ok(&[]),
            Version::V5 => {
                let count = self.variable()?;
                self.bytes(count)
            }
        }
    }

    /// Passes over the value of one property (section 2.2.2.2).
    fn property(&mut self, id: u8) -> Result<(), End> {
        match id {
            0x01 | 0x17 | 0x19 | 0x24 | 0x25 | 0x28 | 0x29 | 0x2a => self.u8().map(drop),
            0x13 | 0x21..=0x23 => self.u16().map(drop),
            0x02 | 0x11 | 0x18 | 0x27 => self.bytes(4).map(drop),
            0x0b => self.variable().map(drop),
            0x03 | 0x08 | 0x12 | 0x15 | 0x1a | 0x1c | 0x1f => self.string().map(drop),
            0x09 | 0x16 => self.binary().map(drop),
            0x26 => self.string().and_then(|_| self.string()).map(drop),
            _ => Err(End::malformed("a property is unknown")),
        }
    }
}

/// The topic alias among the properties of a PUBLISH.
pub(crate) fn topic_alias(properties: &[u8]) -> Result<Option<u16>, End> {
    const TOPIC_ALIAS: u8 = 0x23;
    let mut reader = Reader(properties);
    let mut found = None;
    while !reader.0.is_empty() {
        let id = reader.u8()?;
        if id != TOPIC_ALIAS {
            reader.property(id)?;
        } else if found.replace(reader.u16()?).is_some() {
            return Err(End::malformed("two topic aliases"));
        }
    }
    match found {
        Some(0) => Err(End::malformed("a topic alias is 0")),
        other => Ok(other),
    }
}

/// A topic to publish to has no wildcards (section 4.7.1).
pub(crate) fn check_topic(topic: &str) -> Result<(), End> {
    match topic.is_empty() || topic.contains(['+', '#']) {
        true => Err(End::malformed("a topic is empty or has a wildcard")),
        false => Ok(()),
    }
}

/// Whether this is a topic filter, and where it is shared one of a group (sections 4.7.1 and 4.8.2).
pub(crate) fn is_filter(filter: &str) -> bool {
    let filter = match filter.strip_prefix("$share/") {
        None => filter,
        Some(shared) => match shared.split_once('/') {
            Some((group, filter)) if !group.is_empty() && !group.contains(['+', '#']) => filter,
            Some(_) | None => return false,
        },
    };
    let mut levels = filter.split('/').peekable();
    while let Some(level) = levels.next() {
        let wild = level.contains(['+', '#']);
        if (wild && level.len() > 1) || (level == "#" && levels.peek().is_some()) {
            return false;
        }
    }
    !filter.is_empty()
}

impl Version {
    /// Adds a packet to others.
    pub(crate) fn write(out: &mut Vec<u8>, first: u8, parts: &[&[u8]]) {
        out.push(first);
        let mut left: usize = parts.iter().map(|part| part.len()).sum();
        loop {
            let byte = (left & 0x7f) as u8;
            left >>= 7;
            out.push(if left > 0 { byte | 0x80 } else { byte });
            if left == 0 {
                break;
            }
        }
        out.extend(parts.iter().copied().flatten());
    }

    /// CONNACK: a will that may not be published.
    pub(crate) fn refuse_will(self, out: &mut Vec<u8>) {
        match self {
            Self::V311 => Self::write(out, 0x20, &[&[0, 5]]),
            Self::V5 => Self::write(out, 0x20, &[&[0, NOT_AUTHORIZED, 0]]),
        }
    }

    /// CONNACK: a client identifier that this client may not take.
    pub(crate) fn refuse_client_id(self, out: &mut Vec<u8>) {
        match self {
            Self::V311 => Self::write(out, 0x20, &[&[0, 2]]),
            Self::V5 => Self::write(out, 0x20, &[&[0, CLIENT_ID_NOT_VALID, 0]]),
        }
    }

    /// CONNACK: another version of the protocol, in the words that all of them have.
    pub(crate) fn refuse_version(out: &mut Vec<u8>) {
        Self::write(out, 0x20, &[&[0, 1]]);
    }

    /// SUBACK without properties.
    pub(crate) fn suback(self, out: &mut Vec<u8>, id: u16, codes: &[u8]) {
        let properties: &[u8] = match self {
            Self::V311 => &[],
            Self::V5 => &[0],
        };
        Self::write(out, SUBACK << 4, &[&id.to_be_bytes(), properties, codes]);
    }

    /// The answer to a PUBLISH that goes no further: 5 says so, 3.1.1 has no words for it.
    pub(crate) fn refuse_publish(self, out: &mut Vec<u8>, qos: u8, id: u16) {
        let kind = if qos == 1 { PUBACK } else { PUBREC };
        match self {
            Self::V311 => Self::write(out, kind << 4, &[&id.to_be_bytes()]),
            Self::V5 => Self::write(out, kind << 4, &[&id.to_be_bytes(), &[NOT_AUTHORIZED]]),
        }
    }

    pub(crate) fn pubcomp(out: &mut Vec<u8>, id: u16) {
        Self::write(out, PUBCOMP << 4, &[&id.to_be_bytes()]);
    }

    /// DISCONNECT from the server, which only 5 has.
    pub(crate) fn disconnect(self, out: &mut Vec<u8>, code: u8) {
        match self {
            Self::V311 => {}
            Self::V5 => Self::write(out, DISCONNECT << 4, &[&[code, 0]]),
        }
    }

    /// The code in SUBACK of a filter that may not be subscribed to.
    pub(crate) fn not_authorized(self) -> u8 {
        match self {
            Self::V311 => FAILURE,
            Self::V5 => NOT_AUTHORIZED,
        }
    }

    /// The code in SUBACK of what is no filter.
    pub(crate) fn invalid_filter(self) -> u8 {
        match self {
            Self::V311 => FAILURE,
            Self::V5 => TOPIC_FILTER_INVALID,
        }
    }
}
