//! `bench-forward`: is called for every message in both directions, and forwards it.

use wsgate_sdk::prelude::*;

wsgate_sdk::export!(Forward);

/// One connection.
#[derive(Debug)]
pub struct Forward;

impl Filter for Forward {
    type Config = ();

    fn interest(_config: &()) -> Result<Interest, Error> {
        Ok(Interest::messages(Directions::Both))
    }

    fn open(_config: &Rc<()>, _handshake: &Handshake) -> Result<Admission<Self>, Refusal> {
        Ok(Admission::new(Self))
    }

    fn on_message(&mut self, _direction: Direction, _message: Message) -> Result<Verdict, Error> {
        Ok(Verdict::Forward)
    }
}
