//! `bench-json`: the script of the benchmark, the same as `benches/peers/script.mjs`. Text to the upstream is parsed, must have the
//! string `user`, gets the field `via`, and is printed again. What does not fit ends its connection with 1008.

use serde_json::{Map, Value};
use wsgate_sdk::prelude::*;

wsgate_sdk::export!(Script);

/// One connection.
#[derive(Debug)]
pub struct Script;

impl Filter for Script {
    type Config = ();

    fn interest(_config: &()) -> Result<Interest, Error> {
        Ok(Interest::messages(Directions::ToUpstream).text_only())
    }

    fn open(_config: &Rc<()>, _handshake: &Handshake) -> Result<Admission<Self>, Refusal> {
        Ok(Admission::new(Self))
    }

    fn on_message(&mut self, _direction: Direction, message: Message) -> Result<Verdict, Error> {
        let Message::Text(text) = message else { return Ok(Verdict::Forward) };
        let Ok(mut fields) = serde_json::from_str::<Map<String, Value>>(&text) else {
            return Ok(Verdict::close(1008, "not JSON"));
        };
        if !fields.get("user").is_some_and(Value::is_string) {
            return Ok(Verdict::close(1008, "user is missing"));
        }
        fields.insert("via".to_owned(), "gateway".into());
        Ok(Verdict::replace(serde_json::to_string(&fields)?))
    }
}

#[cfg(test)]
mod tests {
    use wsgate_sdk::testing;

    use super::*;

    fn say(text: &str) -> Verdict {
        testing::open::<Script>("{}").on_message(Direction::ToUpstream, text.into()).unwrap()
    }

    #[test]
    fn a_message_with_a_user_gets_one_more_field() {
        assert_eq!(say(r#"{"user":"a","z":1}"#), Verdict::replace(r#"{"user":"a","via":"gateway","z":1}"#));
    }

    #[test]
    fn anything_else_is_a_violation_of_policy() {
        assert_eq!(say(r#"{"user":1}"#), Verdict::close(1008, "user is missing"));
        assert_eq!(say("[]"), Verdict::close(1008, "not JSON"));
    }
}
