//! What text messages can ask for.

use std::str::FromStr;
use std::time::Duration;

use wsgate_sdk::prelude::*;

use crate::{Faulty, MESSAGES, OPENS, fault, report};

impl Faulty {
    /// Does what a command says. None where the text is no command.
    pub(crate) fn obey(&mut self, text: &str) -> Option<Result<Verdict, Error>> {
        let (word, argument) = match text.split_once(':') {
            Some((word, argument)) => (word, Some(argument)),
            None => (text, None),
        };
        verdict(word, argument).or_else(|| misbehave(word, argument)).or_else(|| self.tell(word))
    }

    /// Commands that ask about this connection.
    fn tell(&self, word: &str) -> Option<Result<Verdict, Error>> {
        let told = match word {
            "count" => format!("count {}", self.messages),
            "instance" => format!("instance opens={} messages={}", OPENS.get(), MESSAGES.get()),
            "resumed" => report::start(self.start),
            "handshake" => report::handshake(&self.handshake),
            _ => return None,
        };
        Some(Ok(Verdict::reply(told)))
    }
}

/// Commands that only name a verdict.
fn verdict(word: &str, argument: Option<&str>) -> Option<Result<Verdict, Error>> {
    let text = argument.unwrap_or_default();
    Some(match word {
        "forward" => Ok(Verdict::Forward),
        "drop" => Ok(Verdict::Drop),
        "replace" => Ok(Verdict::replace(text)),
        "reply" => Ok(Verdict::reply(text)),
        "close" => close_info(argument).map(Verdict::Close),
        "route" => Ok(Verdict::Route(text.to_owned())),
        "replace-size" => number(argument, 0).map(|bytes| Verdict::replace("x".repeat(bytes))),
        "reply-size" => number(argument, 0).map(|bytes| Verdict::reply("x".repeat(bytes))),
        "replace-binary" => number(argument, 0).map(|bytes| Verdict::replace(vec![0; bytes])),
        "act" => text.split('|').map(action).collect::<Result<_, _>>().map(Verdict::Act),
        "million" => number(argument, 1_000_000).map(|count| Verdict::Act(vec![Action::to_client("x"); count])),
        "error" => Err(Error::new(argument.unwrap_or("failed"))),
        _ => return None,
    })
}

/// Commands that are faults, or the beginning of one.
fn misbehave(word: &str, argument: Option<&str>) -> Option<Result<Verdict, Error>> {
    let done = |()| Verdict::Forward;
    Some(match word {
        "trap" => std::process::abort(),
        "panic" => panic!("{}", argument.unwrap_or("told to")),
        "exit" => std::process::exit(1),
        "spin" if argument.is_none() => fault::spin(),
        "spin" => number(argument, 0).map(Duration::from_millis).map(fault::spin_for).map(done),
        "recurse" => Ok(Verdict::reply(fault::recurse(0).to_string())),
        "grow" => fault::grow(),
        "grow-politely" => Ok(Verdict::reply(format!("got {} MiB", fault::grow_politely()))),
        "hold" => number(argument, 1).map(fault::hold).map(|()| Verdict::reply("held")),
        "sleep" => number(argument, 10_000)
            .map(Duration::from_millis)
            .map(std::thread::sleep)
            .map(|()| Verdict::reply("slept")),
        "log-flood" => number(argument, 100_000).map(fault::log_flood).map(done),
        "log-big" => number(argument, 32 << 20).map(fault::log_big).map(done),
        "log-fields" => number(argument, 100_000).map(fault::log_fields).map(done),
        "stdout-flood" => {
            number(argument, 100_000).map(|lines: u64| (0..lines).for_each(|n| println!("{n}"))).map(done)
        }
        "stderr-flood" => {
            number(argument, 100_000).map(|lines: u64| (0..lines).for_each(|n| eprintln!("{n}"))).map(done)
        }
        "stdout-big" => number(argument, 32 << 20).map(|bytes| print!("{}", "x".repeat(bytes))).map(done),
        "metric-flood" => number(argument, 100_000).map(fault::metric_flood).map(done),
        "handles" => number(argument, 1_000_000).map(fault::leak_handles).map(done),
        "reason" => {
            log::reason(argument.unwrap_or_default());
            Ok(Verdict::Forward)
        }
        "log" => {
            log::info!("{}", argument.unwrap_or_default());
            Ok(Verdict::Forward)
        }
        _ => return None,
    })
}

fn action(item: &str) -> Result<Action, Error> {
    match item.split_once(':') {
        Some(("client", text)) => Ok(Action::to_client(text)),
        Some(("upstream", text)) => Ok(Action::to_upstream(text)),
        Some(("close", info)) => close_info(Some(info)).map(Action::Close),
        _ => Err(Error::new(format_args!("`{item}` is no action"))),
    }
}

/// `code[:reason]`.
pub(crate) fn close_info(argument: Option<&str>) -> Result<CloseInfo, Error> {
    let argument = argument.ok_or_else(|| Error::new("a code is missing"))?;
    let (code, reason) = argument.split_once(':').unwrap_or((argument, ""));
    Ok(CloseInfo::new(number(Some(code), 0)?, reason))
}

pub(crate) fn number<T: FromStr>(argument: Option<&str>, default: T) -> Result<T, Error> {
    let Some(digits) = argument else {
        return Ok(default);
    };
    digits.parse().map_err(|_| Error::new(format_args!("`{digits}` is no number that fits")))
}

#[cfg(test)]
mod tests {
    use wsgate_sdk::testing;

    use super::*;

    fn say(text: &str) -> Result<Verdict, Error> {
        testing::open::<Faulty>("{}").on_message(Direction::ToUpstream, text.into())
    }

    #[test]
    fn what_is_no_command_is_forwarded() {
        for text in ["", "hello", "hello: reply", "spinning", "close-up:1"] {
            assert_eq!(say(text), Ok(Verdict::Forward), "{text}");
        }
    }

    #[test]
    fn a_verdict_is_given_as_it_is_named() {
        assert_eq!(say("replace:a:b"), Ok(Verdict::replace("a:b")));
        assert_eq!(say("close:4001:bye: now"), Ok(Verdict::close(4001, "bye: now")));
        assert_eq!(say("reply-size:3"), Ok(Verdict::reply("xxx")));
        assert_eq!(say("replace-binary:2"), Ok(Verdict::replace(vec![0, 0])));
        assert_eq!(say("million:2"), Ok(Verdict::Act(vec![Action::to_client("x"), Action::to_client("x")])));
    }

    #[test]
    fn actions_keep_their_order() {
        let actions = vec![Action::to_client("a"), Action::to_upstream("b:c"), Action::close(4000, "d")];
        assert_eq!(say("act:client:a|upstream:b:c|close:4000:d"), Ok(Verdict::Act(actions)));
    }

    #[test]
    fn bad_arguments_are_errors() {
        assert_eq!(say("close"), Err(Error::new("a code is missing")));
        assert_eq!(say("close:x"), Err(Error::new("`x` is no number that fits")));
        assert_eq!(say("close:70000"), Err(Error::new("`70000` is no number that fits")));
        assert_eq!(say("act:hello"), Err(Error::new("`hello` is no action")));
        assert_eq!(say("error:no"), Err(Error::new("no")));
    }

    #[test]
    fn always_turns_every_message_into_one_command() {
        let mut faulty = testing::open::<Faulty>(r#"{ "mode": "always:replace:x" }"#);
        assert_eq!(faulty.on_message(Direction::ToUpstream, vec![1].into()), Ok(Verdict::replace("x")));
        let mut mistaken = testing::open::<Faulty>(r#"{ "mode": "always:dance" }"#);
        assert_eq!(mistaken.on_message(Direction::ToUpstream, "a".into()), Err(Error::new("no command: dance")));
    }

    #[test]
    fn messages_of_the_connection_are_counted() {
        let mut faulty = testing::open::<Faulty>("{}");
        faulty.on_message(Direction::ToUpstream, "hello".into()).unwrap();
        assert_eq!(faulty.on_message(Direction::ToUpstream, "count".into()), Ok(Verdict::reply("count 2")));
    }
}
