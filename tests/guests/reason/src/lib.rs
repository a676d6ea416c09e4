//! `guest-reason`: a filter that names reasons.
//!
//! It takes no configuration. A handshake whose query is `refuse=LABEL` is refused for this reason. Of text messages to
//! the upstream, `because LABEL` is forwarded for it, `close LABEL` closes with 4000, and `flood N` names so many
//! different ones before it is forwarded.

use wsgate_sdk::prelude::*;

wsgate_sdk::export!(Reason);

/// One connection.
#[derive(Debug)]
pub struct Reason;

impl Filter for Reason {
    type Config = ();

    fn interest(_config: &()) -> Result<Interest, Error> {
        Ok(Interest::messages(Directions::ToUpstream).text_only())
    }

    fn open(_config: &Rc<()>, handshake: &Handshake) -> Result<Admission<Self>, Refusal> {
        if let Some(label) = handshake.query.as_deref().and_then(|query| query.strip_prefix("refuse=")) {
            log::reason(label);
            return Err(Refusal::new(403));
        }
        Ok(Admission::new(Self))
    }

    fn on_message(&mut self, _direction: Direction, message: Message) -> Result<Verdict, Error> {
        match message.as_text().unwrap_or_default().split_once(' ') {
            Some(("because", label)) => log::reason(label),
            Some(("close", label)) => {
                log::reason(label);
                return Ok(Verdict::close(4000, "closed"));
            }
            Some(("flood", count)) => (0..count.parse()?).for_each(|number: u32| log::reason(&format!("r{number}"))),
            _ => {}
        }
        Ok(Verdict::Forward)
    }
}
