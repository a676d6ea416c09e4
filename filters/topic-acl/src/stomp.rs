//! STOMP 1.0 to 1.2 over WebSocket. Only what clients send is read.
//!
//! Brokers differ in how they read a frame that the specification leaves open. Where two readings are possible, the frame
//! is refused or both have to be allowed: what passes has one meaning.

mod frame;

#[cfg(test)]
mod tests;

use serde::{Deserialize, Serialize};

use crate::{
    Publishing,
    held::Held,
    levels::Syntax,
    outcome::{End, Outcome, refused},
    rules::Rules,
};
use frame::{Frame, Next};

/// What a client may do, in STOMP's syntax.
#[derive(Debug, Default)]
pub(crate) struct Allowed {
    pub(crate) publish: Rules,
    pub(crate) subscribe: Rules,
    pub(crate) separators: String,
    pub(crate) refused_publish: Publishing,
    pub(crate) max_frame_bytes: usize,
}

/// One connection.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct Stomp {
    /// The beginning of a frame.
    from_client: Held,
}

enum Fate {
    Pass,
    Taken,
}

impl Stomp {
    /// What becomes of bytes from the client. None: they pass as they came.
    pub(crate) fn on_client_bytes(&mut self, bytes: &[u8], allowed: &Allowed) -> Option<Outcome> {
        let held = self.from_client.take();
        let mut unchanged = held.is_empty();
        let joined = if unchanged { Vec::new() } else { [&held, bytes].concat() };
        let bytes = if unchanged { bytes } else { &joined };
        let mut outcome = Outcome::default();
        // What passes is copied only once something does not.
        let mut copied = 0;
        let mut at = 0;
        while at < bytes.len() {
            let length = match self.next_frame(&bytes[at..], allowed, &mut outcome) {
                Ok(Some((length, Fate::Pass))) => {
                    at += length;
                    continue;
                }
                Ok(Some((length, Fate::Taken))) => Some(length),
                Ok(None) => None,
                Err(end) => {
                    if outcome.answer.is_empty() {
                        frame::error(&mut outcome.answer, end.text, None);
                    }
                    outcome.end = Some(end);
                    None
                }
            };
            outcome.onward.extend_from_slice(&bytes[copied..at]);
            unchanged = false;
            let Some(length) = length else { return Some(outcome) };
            at += length;
            copied = at;
        }
        if unchanged {
            return None;
        }
        outcome.onward.extend_from_slice(&bytes[copied..]);
        Some(outcome)
    }

    fn next_frame(&mut self, bytes: &[u8], allowed: &Allowed, out: &mut Outcome) -> Result<Option<(usize, Fate)>, End> {
        match Frame::read(bytes)? {
            Next::Line(length) => Ok(Some((length, Fate::Pass))),
            Next::Partial => {
                self.from_client.keep(bytes, allowed.max_frame_bytes)?;
                Ok(None)
            }
            Next::Frame(_, length) if length > allowed.max_frame_bytes => Err(End::too_large()),
            Next::Frame(frame, length) => Ok(Some((length, decide(&frame, allowed, out)?))),
        }
    }
}

fn decide(frame: &Frame<'_>, allowed: &Allowed, out: &mut Outcome) -> Result<Fate, End> {
    let (action, rules, reason) = match frame.command {
        "SEND" => ("publish", &allowed.publish, "publish_denied"),
        "SUBSCRIBE" => ("subscribe", &allowed.subscribe, "subscribe_denied"),
        "CONNECT" | "STOMP" | "UNSUBSCRIBE" | "ACK" | "NACK" | "BEGIN" | "COMMIT" | "ABORT" | "DISCONNECT" => {
            return Ok(Fate::Pass);
        }
        _ => return Err(End::malformed("no frame that a client may send")),
    };
    let Some(destination) = frame.destination else { return Err(End::malformed("a frame without a destination")) };
    if allows(rules, destination, &allowed.separators)? {
        return Ok(Fate::Pass);
    }
    refused("stomp", action, reason);
    let answer = match (action, allowed.refused_publish) {
        ("publish", Publishing::Answer) if frame.receipt.is_none() => return Ok(Fate::Taken),
        ("publish", _) => "this destination may not be sent to",
        _ => "this destination may not be subscribed to",
    };
    // After ERROR the connection has to be closed (1.2, section ERROR).
    frame::error(&mut out.answer, answer, frame.receipt);
    Err(End::refused(answer))
}

/// Whether a destination is allowed however the broker reads it: 1.0 knows no escapes, 1.1 and 1.2 do.
fn allows(rules: &Rules, destination: &str, separators: &str) -> Result<bool, End> {
    // ActiveMQ takes a comma for several destinations, and older brokers cut blanks off.
    if destination.is_empty() || destination.trim() != destination || destination.contains(',') {
        return Ok(false);
    }
    let syntax = Syntax::Stomp { separators };
    if !rules.allow(destination, syntax) {
        return Ok(false);
    }
    match destination.contains('\\') {
        false => Ok(true),
        true => Ok(rules.allow(&frame::unescaped(destination)?, syntax)),
    }
}
