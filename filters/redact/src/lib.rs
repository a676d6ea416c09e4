//! `redact`: replaces what matches a pattern in text messages. Its README has the configuration.

mod patterns;

use serde::Deserialize;
use wsgate_sdk::prelude::*;

use patterns::{Pattern, PatternError, Patterns};

wsgate_sdk::export!(Redact);

/// The filter's table in `wsgate.toml`, with its patterns compiled.
#[derive(Debug, Deserialize)]
#[serde(try_from = "Table")]
pub struct Config {
    patterns: Patterns,
    replacement: String,
    direction: Directions,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Table {
    patterns: Option<Vec<Pattern>>,
    replacement: Option<String>,
    #[serde(default)]
    direction: Directions,
}

impl TryFrom<Table> for Config {
    type Error = PatternError;

    fn try_from(table: Table) -> Result<Self, PatternError> {
        Ok(Self {
            patterns: table.patterns.map_or_else(Patterns::payment_cards, Patterns::new)?,
            replacement: table.replacement.unwrap_or_else(|| "[redacted]".to_owned()),
            direction: table.direction,
        })
    }
}

/// One connection.
#[derive(Debug)]
pub struct Redact {
    config: Rc<Config>,
}

impl Filter for Redact {
    type Config = Config;

    fn interest(config: &Config) -> Result<Interest, Error> {
        Ok(Interest::messages(config.direction).text_only())
    }

    fn open(config: &Rc<Config>, _handshake: &Handshake) -> Result<Admission<Self>, Refusal> {
        Ok(Admission::new(Self { config: Rc::clone(config) }))
    }

    fn on_message(&mut self, direction: Direction, message: Message) -> Result<Verdict, Error> {
        let Message::Text(text) = message else {
            return Ok(Verdict::Forward);
        };
        let Some((redacted, matches)) = self.config.patterns.replace_all(&text, &self.config.replacement) else {
            return Ok(Verdict::Forward);
        };
        log::reason("redacted");
        metrics::add("redactions", &[("direction", direction.name())], matches);
        Ok(Verdict::replace(redacted))
    }
}

#[cfg(test)]
mod tests {
    use wsgate_sdk::testing;

    use super::*;

    fn verdict(config: &str, text: &str) -> Verdict {
        testing::open::<Redact>(config).on_message(Direction::ToClient, text.into()).unwrap()
    }

    fn interest(config: &str) -> Interest {
        testing::init::<Redact>(config).unwrap().1
    }

    fn refused(config: &str) -> String {
        testing::init::<Redact>(config).unwrap_err().to_string()
    }

    #[test]
    fn a_match_is_replaced_and_the_rest_is_kept() {
        let config = r#"{ "patterns": ["\\d{16}"] }"#;
        assert_eq!(
            verdict(config, "pay 1234567890123456, then 6543210987654321!"),
            Verdict::replace("pay [redacted], then [redacted]!")
        );
    }

    #[test]
    fn a_message_without_a_match_is_forwarded() {
        assert_eq!(verdict(r#"{ "patterns": ["\\d{16}"] }"#, "pay 123"), Verdict::Forward);
        assert_eq!(verdict("{}", ""), Verdict::Forward);
    }

    #[test]
    fn binary_messages_are_forwarded() {
        let mut redact = testing::open::<Redact>(r#"{ "patterns": ["a"] }"#);
        assert_eq!(redact.on_message(Direction::ToClient, b"a".to_vec().into()), Ok(Verdict::Forward));
    }

    #[test]
    fn a_replacement_is_taken_literally() {
        let config = r#"{ "patterns": ["(b)"], "replacement": "$1${0}" }"#;
        assert_eq!(verdict(config, "abc"), Verdict::replace("a$1${0}c"));
        assert_eq!(verdict(r#"{ "patterns": ["b"], "replacement": "" }"#, "abc"), Verdict::replace("ac"));
    }

    #[test]
    fn only_text_of_the_configured_directions_is_asked_for() {
        assert_eq!(interest(r#"{ "direction": "to_upstream" }"#).hooks, Hooks::TO_UPSTREAM);
        assert_eq!(interest(r#"{ "direction": "to_client" }"#).hooks, Hooks::TO_CLIENT);
        assert_eq!(interest("{}").hooks, Hooks::TO_CLIENT | Hooks::TO_UPSTREAM);
        assert_eq!(interest("{}").kinds, Kinds::TEXT);
    }

    #[test]
    fn without_patterns_payment_card_numbers_are_redacted() {
        for number in ["4111111111111111", "4111 1111 1111 1111", "3782-822463-10005", "4222222222222"] {
            assert_eq!(verdict("{}", &format!("card {number}.")), Verdict::replace("card [redacted]."), "{number}");
        }
        for other in ["411111111111", "41111111111111111", "id4111111111111111x", "4111  1111  1111  1111"] {
            assert_eq!(verdict("{}", other), Verdict::Forward, "{other}");
        }
    }

    #[test]
    fn a_bad_pattern_is_refused_by_its_index_and_text() {
        let error = refused(r#"{ "patterns": ["a", "(\\d"] }"#);
        assert!(error.starts_with(r"patterns[1]: `(\d` is not a regular expression: "), "{error}");
        assert!(error.ends_with("unclosed group"), "{error}");
    }

    #[test]
    fn other_mistakes_are_refused_by_their_key() {
        assert_eq!(
            refused(r#"{ "patterns": [] }"#),
            "patterns: at least one is needed; leave the key out for the default"
        );
        assert_eq!(refused(r#"{ "patterns": ["a", "b*"] }"#), "patterns[1]: `b*` can match the empty text");
        assert!(refused(r#"{ "patterns": ["\\w{5000}"] }"#).starts_with("patterns: together they need more than"));
        assert_eq!(refused(r#"{ "patterns": "a" }"#), "patterns: invalid type: string \"a\", expected a sequence");
        assert!(refused(r#"{ "direction": "up" }"#).starts_with("direction: unknown variant `up`, expected"));
        assert!(refused(r#"{ "pattern": ["a"] }"#).starts_with("pattern: unknown field `pattern`, expected"));
    }
}
