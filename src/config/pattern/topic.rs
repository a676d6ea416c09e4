//! Topics, and patterns of them as a filter's rights name them.

use std::{fmt, str::FromStr};

use thiserror::Error;

/// Longest name of a topic. Names are kept once a topic, and compared with patterns in each call.
pub const MAX_TOPIC_BYTES: usize = 256;

/// Is this the name of a topic: 1 to [`MAX_TOPIC_BYTES`] bytes of UTF-8 without white space, control characters and `*`?
#[must_use]
pub fn is_topic(name: &str) -> bool {
    !name.is_empty() && name.len() <= MAX_TOPIC_BYTES && name.chars().all(|c| is_topic_character(c) && c != '*')
}

fn is_topic_character(c: char) -> bool {
    !c.is_control() && !c.is_whitespace()
}

/// A topic, or a set of topics: each `*` stands for any characters, dots among them, or for none.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct TopicPattern(String);

/// Why a text is not a topic pattern.
#[derive(Clone, Copy, Debug, Eq, Error, PartialEq)]
pub enum TopicPatternError {
    /// Nothing there.
    #[error("it is empty; \"*\" is every topic")]
    Empty,
    /// No topic is as long.
    #[error("it has more than {MAX_TOPIC_BYTES} bytes")]
    TooLong,
    /// No topic has it.
    #[error("{0:?} is not part of any topic's name")]
    Character(char),
}

impl TopicPattern {
    /// Is this one of the topics?
    #[must_use]
    pub fn matches(&self, topic: &str) -> bool {
        let mut parts = self.0.split('*');
        let first = parts.next().unwrap_or_default();
        let Some(mut rest) = topic.strip_prefix(first) else { return false };
        let Some(last) = parts.next_back() else { return rest.is_empty() };
        // Between stars the first place is as good as any later one.
        for part in parts {
            let Some(at) = rest.find(part) else { return false };
            rest = &rest[at + part.len()..];
        }
        rest.ends_with(last)
    }
}

impl FromStr for TopicPattern {
    type Err = TopicPatternError;

    fn from_str(text: &str) -> Result<Self, TopicPatternError> {
        if text.is_empty() {
            return Err(TopicPatternError::Empty);
        }
        if text.len() > MAX_TOPIC_BYTES {
            return Err(TopicPatternError::TooLong);
        }
        match text.chars().find(|c| !is_topic_character(*c)) {
            Some(c) => Err(TopicPatternError::Character(c)),
            None => Ok(Self(text.to_owned())),
        }
    }
}

impl fmt::Display for TopicPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_stands_for_any_characters() {
        for (pattern, topic, matches) in [
            ("room.*", "room.blue", true),
            ("room.*", "room.blue.side", true),
            ("room.*", "room.", true),
            ("room.*", "room", false),
            ("room.*", "aroom.b", false),
            ("*", "anything", true),
            ("a*b", "ab", true),
            ("a*b", "axxb", true),
            ("a*b", "axxbc", false),
            // Neither end may use what the other one needs.
            ("ab*ba", "aba", false),
            ("ab*ba", "abba", true),
            ("*.a.*.b", "x.a.a.b.b", true),
            ("*.a.*.b", "x.a.b", false),
            ("news", "news", true),
            ("news", "news.x", false),
            ("**", "x", true),
        ] {
            assert_eq!(pattern.parse::<TopicPattern>().unwrap().matches(topic), matches, "{pattern} {topic}");
        }
    }

    #[test]
    fn names_and_patterns_have_rules() {
        assert!(is_topic("room.blau-ä") && is_topic(&"x".repeat(256)));
        for bad in ["", "a b", "a\n", "room.*", &"x".repeat(257)] {
            assert!(!is_topic(bad), "{bad}");
        }
        let error = |text: &str| text.parse::<TopicPattern>().unwrap_err();
        assert_eq!(error(""), TopicPatternError::Empty);
        assert_eq!(error("a b"), TopicPatternError::Character(' '));
        assert_eq!(error(&"x".repeat(257)), TopicPatternError::TooLong);
    }
}
