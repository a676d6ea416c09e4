//! `guest-store`: a filter that does with stores what messages say.
//!
//! It takes no configuration. A text message to the upstream that is one of these is replied to with what came of it; all
//! else is forwarded. A time to live is in milliseconds, and may be left out.
//!
//! | message | reply |
//! |---|---|
//! | `get STORE KEY` | `value@version`, or `absent` |
//! | `set STORE KEY VALUE [TTL]` | the version |
//! | `fill STORE KEY BYTES [TTL]` | the same, for a value of so many bytes |
//! | `cas STORE KEY VERSION VALUE [TTL]` | `true` or `false`; the version may be `absent` |
//! | `delete STORE KEY` | `done` |
//! | `add STORE KEY NUMBER [TTL]` | the sum |
//!
//! Errors are `denied`, `too-large`, `invalid: …` and `unavailable: …`.

use std::time::Duration;

use wsgate_sdk::key_value::Error as StoreError;
use wsgate_sdk::prelude::*;

wsgate_sdk::export!(Store);

/// One connection.
#[derive(Debug)]
pub struct Store;

impl Filter for Store {
    type Config = ();

    fn interest(_config: &()) -> Result<Interest, Error> {
        Ok(Interest::messages(Directions::ToUpstream).text_only())
    }

    fn open(_config: &Rc<()>, _handshake: &Handshake) -> Result<Admission<Self>, Refusal> {
        Ok(Admission::new(Self))
    }

    fn on_message(&mut self, _direction: Direction, message: Message) -> Result<Verdict, Error> {
        let words: Vec<&str> = message.as_text().unwrap_or_default().split(' ').collect();
        match run(&words) {
            Some(Ok(reply)) => Ok(Verdict::reply(reply)),
            Some(Err(error)) => Ok(Verdict::reply(shown(error))),
            None => Ok(Verdict::Forward),
        }
    }
}

fn run(words: &[&str]) -> Option<Result<String, StoreError>> {
    Some(match words {
        ["get", store, key] => key_value::get(store, key).map(|entry| match entry {
            Some(entry) => format!("{}@{}", String::from_utf8_lossy(&entry.value), entry.version),
            None => "absent".to_owned(),
        }),
        ["set", store, key, value, ttl @ ..] => {
            key_value::set(store, key, value.as_bytes(), time(ttl)).map(|version| version.to_string())
        }
        ["fill", store, key, bytes, ttl @ ..] => {
            let value = vec![b'x'; bytes.parse().ok()?];
            key_value::set(store, key, &value, time(ttl)).map(|version| version.to_string())
        }
        ["cas", store, key, version, value, ttl @ ..] => {
            let expected = version.parse().ok();
            key_value::compare_and_set(store, key, expected, value.as_bytes(), time(ttl)).map(|done| done.to_string())
        }
        ["delete", store, key] => key_value::delete(store, key).map(|()| "done".to_owned()),
        ["add", store, key, by, ttl @ ..] => {
            key_value::increment(store, key, by.parse().ok()?, time(ttl)).map(|sum| sum.to_string())
        }
        _ => return None,
    })
}

fn time(ttl: &[&str]) -> Option<Duration> {
    ttl.first()?.parse().ok().map(Duration::from_millis)
}

fn shown(error: StoreError) -> String {
    match error {
        StoreError::Denied => "denied".to_owned(),
        StoreError::Invalid(text) => format!("invalid: {text}"),
        StoreError::TooLarge => "too-large".to_owned(),
        StoreError::Unavailable(text) => format!("unavailable: {text}"),
    }
}
