//! MQTT 3.1.1 and 5 over WebSocket.

pub(crate) mod packet;
mod from_client;
mod from_upstream;
mod pending;

#[cfg(test)]
mod tests;

use serde::{Deserialize, Serialize};

use crate::{
    Publishing,
    held::Held,
    outcome::{End, Outcome},
    rules::Rules,
};
use packet::Version;
use pending::{Aliases, Subscriptions};

/// Most refused messages of quality 2 that are between PUBREC and PUBREL: a client has to finish some of them first.
const MAX_REFUSED_QOS2: usize = 1024;

/// What a client may do, in MQTT's syntax.
#[derive(Debug, Default)]
pub(crate) struct Allowed {
    pub(crate) publish: Rules,
    pub(crate) subscribe: Rules,
    /// None: any.
    pub(crate) client_ids: Option<Vec<String>>,
    pub(crate) refused_publish: Publishing,
    pub(crate) max_packet_bytes: usize,
}

/// One connection: all that has to be known of it between two messages.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct Mqtt {
    /// None before CONNECT.
    version: Option<Version>,
    /// The beginning of a packet from the client.
    from_client: Held,
    /// The beginning of a packet from the upstream.
    from_upstream: Held,
    /// Bytes of the upstream's current packet that are still to come, and pass unread.
    unread_bytes: usize,
    subscriptions: Subscriptions,
    aliases: Aliases,
    /// Identifiers of refused messages of quality 2 (3.1.1 only; in 5 a refusing PUBREC ends the exchange).
    refused_qos2: Vec<u16>,
}

impl Mqtt {
    /// What becomes of bytes from the client. None: they pass as they came.
    pub(crate) fn on_client_bytes(&mut self, bytes: &[u8], allowed: &Allowed) -> Option<Outcome> {
        let mut outcome = Outcome::default();
        match self.read_client(bytes, allowed, &mut outcome) {
            Ok(true) => return None,
            Ok(false) => {}
            Err(end) => {
                if let Some(version) = self.version {
                    version.disconnect(&mut outcome.answer, disconnect_code(end));
                }
                outcome.end = Some(end);
            }
        }
        Some(outcome)
    }

    /// What becomes of bytes from the upstream. None: they pass as they came.
    pub(crate) fn on_upstream_bytes(&mut self, bytes: &[u8], allowed: &Allowed) -> Option<Outcome> {
        match self.read_upstream(bytes, allowed) {
            Ok(None) => None,
            Ok(Some(onward)) => Some(Outcome { onward, ..Outcome::default() }),
            Err(end) => Some(Outcome::end(end)),
        }
    }
}

/// The reason code of a DISCONNECT that says the same as a close code (MQTT 5, section 3.14.2.1).
fn disconnect_code(end: End) -> u8 {
    match end.code {
        1008 if end.reason == "too_many" => 0x97,
        1008 => packet::NOT_AUTHORIZED,
        1009 => 0x95,
        1013 => 0x97,
        1002 => 0x82,
        _ => 0x81,
    }
}
