//! `guest-fetch`: a filter that sends HTTP requests.
//!
//! Its configuration may have `ask`, a URL: then each text message to the upstream is posted to it, and forwarded where
//! the answer is 200, dropped with a reply `refused STATUS` where it is another, and an error where there is none. With
//! `open`, another URL, handshakes are admitted where it answers 200.
//!
//! Without `ask`, a text message is a request: `METHOD URL [name:value …] [timeout=MS] [body=TEXT]`. It is replied to
//! with `STATUS name:value … BODY` or `STATUS … N bytes`, or with the error: `denied`, `timeout`, `too-large`,
//! `invalid: …` or `unavailable: …`.

use std::fmt::Write;
use std::time::Duration;

use serde::Deserialize;
use wsgate_sdk::http::{self, Request};
use wsgate_sdk::prelude::*;

wsgate_sdk::export!(Fetch);

/// Bodies above this are counted, not shown.
const SHOWN_BYTES: usize = 1000;

/// The filter's table of the gateway's configuration.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    ask: Option<String>,
    open: Option<String>,
    /// Of requests to `ask` and `open`.
    #[serde(default = "second")]
    timeout_ms: u64,
}

fn second() -> u64 {
    1000
}

/// One connection.
#[derive(Debug)]
pub struct Fetch {
    config: Rc<Config>,
}

impl Filter for Fetch {
    type Config = Config;

    fn interest(_config: &Config) -> Result<Interest, Error> {
        Ok(Interest::messages(Directions::ToUpstream).text_only())
    }

    fn open(config: &Rc<Config>, _handshake: &Handshake) -> Result<Admission<Self>, Refusal> {
        if let Some(url) = &config.open {
            let request = Request::get(url).with_timeout(Duration::from_millis(config.timeout_ms));
            match http::send(&request) {
                Ok(response) if response.status == 200 => {}
                Ok(response) => return Err(Refusal::new(response.status)),
                Err(error) => return Err(Refusal::new(503).with_body(shown(&error))),
            }
        }
        Ok(Admission::new(Self { config: config.clone() }))
    }

    fn on_message(&mut self, _direction: Direction, message: Message) -> Result<Verdict, Error> {
        let text = message.as_text().unwrap_or_default();
        let Some(url) = &self.config.ask else {
            return Ok(match parse(text) {
                Some(request) => Verdict::reply(answer(&request)),
                None => Verdict::Forward,
            });
        };
        let request = Request::post(url, text).with_timeout(Duration::from_millis(self.config.timeout_ms));
        match http::send(&request) {
            Ok(response) if response.status == 200 => Ok(Verdict::Forward),
            Ok(response) => Ok(Verdict::reply(format!("refused {}", response.status))),
            Err(error) => Err(Error::new(shown(&error))),
        }
    }
}

fn parse(text: &str) -> Option<Request> {
    let (method, rest) = text.split_once(' ')?;
    let mut words = rest.split(' ');
    let mut request = Request::new(method, words.next()?);
    for word in words {
        match word.split_once('=') {
            Some(("timeout", ms)) => request = request.with_timeout(Duration::from_millis(ms.parse().ok()?)),
            Some(("body", body)) => request.body = body.into(),
            Some(("zeros", bytes)) => request.body = vec![b'0'; bytes.parse().ok()?],
            _ => {
                let (name, value) = word.split_once(':')?;
                request = request.with_header(name, value);
            }
        }
    }
    Some(request)
}

fn answer(request: &Request) -> String {
    let response = match http::send(request) {
        Ok(response) => response,
        Err(error) => return shown(&error),
    };
    let mut text = response.status.to_string();
    for header in &response.headers {
        // Writing to a String cannot fail.
        let _ = write!(text, " {}:{}", header.name, String::from_utf8_lossy(&header.value));
    }
    match response.body.len() {
        0..=SHOWN_BYTES => text + " " + &String::from_utf8_lossy(&response.body),
        bytes => format!("{text} {bytes} bytes"),
    }
}

fn shown(error: &http::Error) -> String {
    match error {
        http::Error::Denied => "denied".to_owned(),
        http::Error::Invalid(text) => format!("invalid: {text}"),
        http::Error::Timeout => "timeout".to_owned(),
        http::Error::TooLarge => "too-large".to_owned(),
        http::Error::Unavailable(text) => format!("unavailable: {text}"),
    }
}
