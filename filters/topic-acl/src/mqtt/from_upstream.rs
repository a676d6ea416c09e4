//! What the upstream says: only answers to subscriptions are read, all else passes.

use super::{
    Allowed, Mqtt,
    packet::{FixedHeader, Reader, SUBACK, Version},
};
use crate::outcome::End;

/// The answer to a SUBSCRIBE of which a part was refused.
struct Answer<'a> {
    id: u16,
    /// With their length before them, where the version has any.
    properties: &'a [u8],
    /// Of all filters.
    codes: Vec<u8>,
}

impl Mqtt {
    /// None: all of it passes as it came.
    pub(super) fn read_upstream(&mut self, bytes: &[u8], allowed: &Allowed) -> Result<Option<Vec<u8>>, End> {
        let held = self.from_upstream.take();
        let mut changed = !held.is_empty();
        let joined = if changed { [&held, bytes].concat() } else { Vec::new() };
        let bytes = if changed { &joined } else { bytes };
        let mut out = Vec::new();
        // What passes is copied only once something does not.
        let mut copied = 0;
        let mut at = 0;
        while at < bytes.len() {
            let pass = self.unread_bytes.min(bytes.len() - at);
            self.unread_bytes -= pass;
            at += pass;
            if at == bytes.len() {
                break;
            }
            let rest = &bytes[at..];
            let header = FixedHeader::read(rest)?;
            let whole = header.filter(|header| rest.len() >= header.packet_bytes());
            match (header, whole) {
                (Some(header), _) if header.kind != SUBACK || self.subscriptions.is_empty() => {
                    self.unread_bytes = header.packet_bytes();
                }
                (_, Some(header)) => {
                    if let Some(Answer { id, properties, codes }) =
                        self.answer(&rest[header.header_bytes..header.packet_bytes()])?
                    {
                        out.extend_from_slice(&bytes[copied..at]);
                        Version::write(&mut out, SUBACK << 4, &[&id.to_be_bytes(), properties, &codes]);
                        changed = true;
                        copied = at + header.packet_bytes();
                    }
                    at += header.packet_bytes();
                }
                (Some(_) | None, None) => {
                    self.from_upstream.keep(rest, allowed.max_packet_bytes)?;
                    out.extend_from_slice(&bytes[copied..at]);
                    return Ok(Some(out));
                }
            }
        }
        if !changed {
            return Ok(None);
        }
        out.extend_from_slice(&bytes[copied..]);
        Ok(Some(out))
    }

    /// None where nothing of the packet was refused.
    fn answer<'a>(&mut self, body: &'a [u8]) -> Result<Option<Answer<'a>>, End> {
        let Some(version) = self.version else { return Ok(None) };
        let mut reader = Reader(body);
        let id = reader.u16()?;
        let before = reader.0;
        reader.properties(version)?;
        let properties = &before[..before.len() - reader.0.len()];
        Ok(self.subscriptions.answered(id, reader.0)?.map(|codes| Answer { id, properties, codes }))
    }
}
