use wsgate_sdk::prelude::*;

/// One connection.
struct Talk;

impl Filter for Talk {
    type Config = ();

    fn open(_config: &Rc<()>, _handshake: &Handshake) -> Result<Admission<Self>, Refusal> {
        Ok(Admission::new(Talk))
    }

    fn on_message(&mut self, direction: Direction, message: Message) -> Result<Verdict, Error> {
        match direction {
            Direction::ToUpstream if message.len() > 280 => Ok(Verdict::reply("too long")),
            _ => Ok(Verdict::Forward),
        }
    }
}

wsgate_sdk::export!(Talk);
