//! `guest-router`: a JSON text with a member `to` goes to the upstream of that name, anything else where it would go.

use serde_json::Value;
use wsgate_sdk::prelude::*;

wsgate_sdk::export!(Router);

/// One connection.
#[derive(Debug)]
pub struct Router;

impl Filter for Router {
    type Config = ();

    fn interest(_config: &()) -> Result<Interest, Error> {
        Ok(Interest::messages(Directions::ToUpstream).text_only())
    }

    fn open(_config: &Rc<()>, _handshake: &Handshake) -> Result<Admission<Self>, Refusal> {
        Ok(Admission::new(Self))
    }

    fn on_message(&mut self, _direction: Direction, message: Message) -> Result<Verdict, Error> {
        let Message::Text(text) = message else { return Ok(Verdict::Forward) };
        let Ok(value) = serde_json::from_str::<Value>(&text) else { return Ok(Verdict::Forward) };
        Ok(match value.get("to").and_then(Value::as_str) {
            Some(upstream) => Verdict::Route(upstream.to_owned()),
            None => Verdict::Forward,
        })
    }
}

#[cfg(test)]
mod tests {
    use wsgate_sdk::testing;

    use super::*;

    #[test]
    fn a_message_goes_where_it_says() {
        let mut router = testing::open::<Router>("{}");
        let mut say = |text: &str| router.on_message(Direction::ToUpstream, text.into()).unwrap();
        assert_eq!(say(r#"{"to":"billing","n":1}"#), Verdict::Route("billing".to_owned()));
        assert_eq!(say(r#"{"n":1}"#), Verdict::Forward);
        assert_eq!(say("to: billing"), Verdict::Forward);
    }
}
