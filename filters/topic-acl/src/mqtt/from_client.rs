//! What the client says, packet by packet.

use super::{
    Allowed, MAX_REFUSED_QOS2, Mqtt,
    packet::{self, CONNECT, FixedHeader, PUBLISH, PUBREL, Reader, SUBSCRIBE, Version},
};
use crate::{
    Publishing,
    levels::Syntax,
    outcome::{End, Outcome, refused},
    rules::shared,
};

/// What becomes of one packet.
enum Fate {
    /// It passes as it came.
    Pass,
    /// It goes no further; what is to be said or sent in its place is in the outcome.
    Taken,
}

impl Mqtt {
    /// True: all of it passes as it came.
    pub(super) fn read_client(&mut self, bytes: &[u8], allowed: &Allowed, outcome: &mut Outcome) -> Result<bool, End> {
        let held = self.from_client.take();
        let mut unchanged = held.is_empty();
        let joined = if unchanged { Vec::new() } else { [&held, bytes].concat() };
        let bytes = if unchanged { bytes } else { &joined };
        // What passes is copied only once something does not.
        let mut copied = 0;
        let mut at = 0;
        let mut result = Ok(());
        while at < bytes.len() {
            let before = outcome.onward.len();
            let fate = match self.next_packet(&bytes[at..], allowed, outcome) {
                Ok(Some((length, Fate::Pass))) => {
                    at += length;
                    continue;
                }
                Ok(Some((length, Fate::Taken))) => Some(length),
                Ok(None) => None,
                Err(end) => {
                    result = Err(end);
                    None
                }
            };
            // What the packet left to be sent stands behind what passed before it.
            let sent = outcome.onward.split_off(before);
            outcome.onward.extend_from_slice(&bytes[copied..at]);
            outcome.onward.extend_from_slice(&sent);
            unchanged = false;
            let Some(length) = fate else { return result.map(|()| unchanged) };
            at += length;
            copied = at;
        }
        if !unchanged {
            outcome.onward.extend_from_slice(&bytes[copied..]);
        }
        Ok(unchanged)
    }

    /// Decides on the first packet of these bytes. None where it is held, because its end has not come.
    fn next_packet(
        &mut self,
        bytes: &[u8],
        allowed: &Allowed,
        out: &mut Outcome,
    ) -> Result<Option<(usize, Fate)>, End> {
        let max_packet_bytes = allowed.max_packet_bytes;
        let Some(header) = FixedHeader::read(bytes)? else {
            // Its first byte alone may be wrong already, but is told so with the next one.
            self.from_client.keep(bytes, max_packet_bytes)?;
            return Ok(None);
        };
        header.check_from_client(self.version)?;
        let length = header.packet_bytes();
        if length > max_packet_bytes {
            return Err(End::too_large());
        }
        match bytes.get(..length) {
            Some(packet) => Ok(Some((length, self.packet(header, packet, allowed, out)?))),
            None => {
                self.from_client.keep(bytes, max_packet_bytes)?;
                Ok(None)
            }
        }
    }

    fn packet(
        &mut self,
        header: FixedHeader,
        packet: &[u8],
        allowed: &Allowed,
        out: &mut Outcome,
    ) -> Result<Fate, End> {
        let body = &packet[header.header_bytes..];
        match (header.kind, self.version) {
            (CONNECT, _) => self.connect(body, allowed, out),
            (PUBLISH, Some(version)) => self.publish(version, header, body, allowed, out),
            (SUBSCRIBE, Some(version)) => self.subscribe(version, body, allowed, out),
            (PUBREL, Some(_)) => self.release(body, out),
            _ => Ok(Fate::Pass),
        }
    }

    fn connect(&mut self, body: &[u8], allowed: &Allowed, out: &mut Outcome) -> Result<Fate, End> {
        let mut reader = Reader(body);
        let protocol = reader.string()?;
        let version = match (protocol, reader.u8()?) {
            ("MQTT", 4) => Version::V311,
            ("MQTT", 5) => Version::V5,
            ("MQTT" | "MQIsdp", _) => {
                Version::refuse_version(&mut out.answer);
                return Err(End { code: 1002, text: "MQTT 3.1.1 and 5 are served", reason: "version" });
            }
            _ => return Err(End::malformed("the first packet is not of MQTT")),
        };
        let flags = reader.u8()?;
        let (will, will_qos) = (flags & 0b100 != 0, flags >> 3 & 0b11);
        if flags & 1 != 0 || will_qos == 3 || (!will && flags & 0b11_1000 != 0) {
            return Err(End::malformed("the flags of CONNECT are wrong"));
        }
        reader.u16()?;
        reader.properties(version)?;
        let client_id = reader.string()?;
        if allowed.client_ids.as_ref().is_some_and(|ids| !ids.iter().any(|allowed| matches_star(allowed, client_id))) {
            version.refuse_client_id(&mut out.answer);
            refused("mqtt", "client_id", "client_id_denied");
            return Err(End::refused("this client identifier is not allowed"));
        }
        if will {
            reader.properties(version)?;
            let topic = reader.string()?;
            reader.binary()?;
            packet::check_topic(topic)?;
            if !allowed.publish.allow(topic, Syntax::Mqtt) {
                version.refuse_will(&mut out.answer);
                refused("mqtt", "will", "will_denied");
                return Err(End::refused("the will may not be published"));
            }
        }
        for flag in [0b1000_0000, 0b0100_0000] {
            if flags & flag != 0 {
                reader.binary()?;
            }
        }
        if !reader.0.is_empty() {
            return Err(End::malformed("CONNECT is longer than its fields"));
        }
        // From here on ends are told in the words of this version.
        self.version = Some(version);
        Ok(Fate::Pass)
    }

    fn publish(
        &mut self,
        version: Version,
        header: FixedHeader,
        body: &[u8],
        allowed: &Allowed,
        out: &mut Outcome,
    ) -> Result<Fate, End> {
        let qos = header.flags >> 1 & 0b11;
        let mut reader = Reader(body);
        let topic = reader.string()?;
        let after_topic = reader.0;
        let id = if qos > 0 { reader.packet_id()? } else { 0 };
        let alias = packet::topic_alias(reader.properties(version)?)?;
        let known = match (topic, alias) {
            ("", Some(alias)) => Some(self.aliases.get(alias)?),
            _ => None,
        };
        let name = known.as_ref().map_or(topic, |known| &known.topic);
        packet::check_topic(name)?;
        let granted = allowed.publish.allow(name, Syntax::Mqtt);
        if let Some(alias) = alias {
            let knows = granted || known.as_ref().is_some_and(|known| known.upstream_knows);
            self.aliases.set(alias, name, knows)?;
        }
        match (granted, known) {
            // The alias was set by a message that was refused then and would not be now.
            (true, Some(known)) if !known.upstream_knows => {
                let first = PUBLISH << 4 | header.flags;
                let topic = known.topic.as_bytes();
                let length = u16::try_from(topic.len()).unwrap_or(u16::MAX);
                Version::write(&mut out.onward, first, &[&length.to_be_bytes(), topic, after_topic]);
                Ok(Fate::Taken)
            }
            (true, _) => Ok(Fate::Pass),
            (false, _) => self.refuse_publish(version, qos, id, allowed.refused_publish, out),
        }
    }

    fn refuse_publish(
        &mut self,
        version: Version,
        qos: u8,
        id: u16,
        how: Publishing,
        out: &mut Outcome,
    ) -> Result<Fate, End> {
        refused("mqtt", "publish", "publish_denied");
        match how {
            Publishing::Close => return Err(End::refused("this topic may not be published to")),
            Publishing::Answer => {}
        }
        if qos > 0 {
            if qos == 2 && version == Version::V311 && !self.refused_qos2.contains(&id) {
                if self.refused_qos2.len() == MAX_REFUSED_QOS2 {
                    return Err(End::too_many("too many messages without PUBREL"));
                }
                self.refused_qos2.push(id);
            }
            version.refuse_publish(&mut out.answer, qos, id);
        }
        Ok(Fate::Taken)
    }

    /// The end of an exchange of which the upstream knows nothing.
    fn release(&mut self, body: &[u8], out: &mut Outcome) -> Result<Fate, End> {
        let id = Reader(body).packet_id()?;
        match self.refused_qos2.iter().position(|refused| *refused == id) {
            None => Ok(Fate::Pass),
            Some(at) => {
                self.refused_qos2.swap_remove(at);
                Version::pubcomp(&mut out.answer, id);
                Ok(Fate::Taken)
            }
        }
    }

    fn subscribe(&mut self, version: Version, body: &[u8], allowed: &Allowed, out: &mut Outcome) -> Result<Fate, End> {
        let mut reader = Reader(body);
        let id = reader.packet_id()?;
        if self.subscriptions.contains(id) {
            return Err(End::malformed("a packet identifier is in use"));
        }
        reader.properties(version)?;
        let fields = &body[..body.len() - reader.0.len()];
        if reader.0.is_empty() {
            return Err(End::malformed("SUBSCRIBE has no filter"));
        }
        let mut codes = Vec::new();
        let mut kept = Vec::new();
        while !reader.0.is_empty() {
            let before = reader.0;
            let filter = reader.string()?;
            let options = reader.u8()?;
            if options & 0b11 == 0b11 || (version == Version::V311 && options & !0b11 != 0) {
                return Err(End::malformed("the options of a subscription are wrong"));
            }
            let code = refusal(version, filter, allowed);
            if code.is_none() {
                kept.extend_from_slice(&before[..before.len() - reader.0.len()]);
            }
            codes.push(code);
        }
        let denied: Vec<u8> = codes.iter().copied().flatten().collect();
        if denied.is_empty() {
            return Ok(Fate::Pass);
        }
        refused("mqtt", "subscribe", "subscribe_denied");
        if kept.is_empty() {
            version.suback(&mut out.answer, id, &denied);
        } else {
            self.subscriptions.wait(id, codes)?;
            Version::write(&mut out.onward, SUBSCRIBE << 4 | 0b0010, &[fields, &kept]);
        }
        Ok(Fate::Taken)
    }
}

/// The code with which a filter is refused.
fn refusal(version: Version, filter: &str, allowed: &Allowed) -> Option<u8> {
    if !packet::is_filter(filter) {
        return Some(version.invalid_filter());
    }
    // A `$share` without a group was refused as no filter; below it the rules of that group hold.
    debug_assert!(shared(filter).0.is_some() || !filter.starts_with("$share/"));
    (!allowed.subscribe.allow_subscription(filter)).then(|| version.not_authorized())
}

/// Whether a text fits a pattern in which `*` stands for any characters.
fn matches_star(pattern: &str, text: &str) -> bool {
    let mut parts = pattern.split('*');
    let Some(mut rest) = text.strip_prefix(parts.next().unwrap_or_default()) else { return false };
    let mut parts: Vec<&str> = parts.collect();
    let Some(last) = parts.pop() else { return rest.is_empty() };
    for part in parts {
        match rest.split_once(part) {
            Some((_, after)) => rest = after,
            None => return false,
        }
    }
    rest.ends_with(last)
}

#[cfg(test)]
mod tests {
    use super::matches_star;

    #[test]
    fn stars_stand_for_any_characters() {
        for (pattern, text, expected) in [
            ("ann", "ann", true),
            ("ann", "anna", false),
            ("ann-*", "ann-1", true),
            ("ann-*", "ann-", true),
            ("ann-*", "bob-1", false),
            ("*", "", true),
            ("*-ann-*", "a-ann-b", true),
            ("a*a", "a", false),
            ("a*b*c", "axbxc", true),
        ] {
            assert_eq!(matches_star(pattern, text), expected, "{pattern} {text}");
        }
    }
}
