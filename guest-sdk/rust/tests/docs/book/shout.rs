// src/lib.rs
use wsgate_sdk::prelude::*;

struct Shout; // one value is one connection

impl Filter for Shout {
    type Config = ();

    fn open(_config: &Rc<()>, _handshake: &Handshake) -> Result<Admission<Self>, Refusal> {
        Ok(Admission::new(Shout))
    }

    fn on_message(&mut self, direction: Direction, message: Message) -> Result<Verdict, Error> {
        match (direction, message) {
            (Direction::ToUpstream, Message::Text(text)) => Ok(Verdict::replace(text.to_uppercase())),
            _ => Ok(Verdict::Forward),
        }
    }
}

wsgate_sdk::export!(Shout);
