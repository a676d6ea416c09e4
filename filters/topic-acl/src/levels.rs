//! Topics, destinations and rules as levels, and whether one covers another.

/// How a protocol writes topics.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Syntax<'a> {
    /// Levels end at `/`; `+` and `#` are wildcards.
    Mqtt,
    /// Levels end at any of these. Which wildcards there are is the broker's affair, so every character that is one
    /// somewhere counts.
    Stomp { separators: &'a str },
}

/// What a level stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Kind<T> {
    /// Itself.
    Text(T),
    /// Any one level.
    One,
    /// Any number of levels, none among them; in a rule always the last.
    Many,
}

/// A level and the separator before it; the first has none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Level<T> {
    separator: Option<char>,
    kind: Kind<T>,
}

impl Level<&str> {
    pub(crate) fn into_owned(self) -> Level<String> {
        let kind = match self.kind {
            Kind::Text(text) => Kind::Text(text.to_owned()),
            Kind::One => Kind::One,
            Kind::Many => Kind::Many,
        };
        Level { separator: self.separator, kind }
    }
}

impl Syntax<'_> {
    fn separates(self, c: char) -> bool {
        match self {
            Self::Mqtt => c == '/',
            Self::Stomp { separators } => separators.contains(c),
        }
    }

    /// What a level of a topic or destination asks for.
    fn asked(self, text: &str) -> Kind<&str> {
        match (self, text) {
            (Self::Mqtt, "+") => Kind::One,
            (Self::Mqtt, "#") => Kind::Many,
            (Self::Mqtt, _) => Kind::Text(text),
            (Self::Stomp { .. }, "*" | "+") => Kind::One,
            // `>`, `#` and `**` are several levels to one broker or another; `%23` is a `#` to RabbitMQ.
            (Self::Stomp { .. }, _) if text.contains(['*', '>', '#', '+', '%']) => Kind::Many,
            (Self::Stomp { .. }, _) => Kind::Text(text),
        }
    }

    /// Whether a value from outside may stand within a level: it must not become two levels or a wildcard.
    pub(crate) fn is_plain(self, value: &str) -> bool {
        let special = match self {
            // RabbitMQ takes `*` for a level of any name here, too.
            Self::Mqtt => &['+', '#', '*'][..],
            Self::Stomp { .. } => &['+', '#', '*', '>', '%', ',', '\\'][..],
        };
        !value.is_empty()
            && value.trim() == value
            && !value.contains(|c: char| self.separates(c) || c.is_control() || special.contains(&c))
    }

    /// The levels of what a client asks for.
    pub(crate) fn levels(self, text: &str) -> impl Iterator<Item = Level<&str>> {
        self.cut(text).map(move |(separator, text)| Level { separator, kind: self.asked(text) })
    }

    /// The levels of a rule: `+` and `#` are its wildcards in every protocol.
    pub(crate) fn rule(self, text: &str) -> Vec<Level<String>> {
        let level = |(separator, text)| {
            let kind = match text {
                "+" => Kind::One,
                "#" => Kind::Many,
                text => Kind::Text(text),
            };
            Level { separator, kind }.into_owned()
        };
        self.cut(text).map(level).collect()
    }

    fn cut(self, text: &str) -> impl Iterator<Item = (Option<char>, &str)> {
        let mut rest = Some((None, text));
        std::iter::from_fn(move || {
            let (separator, text) = rest?;
            let (level, next) = match text.char_indices().find(|(_, c)| self.separates(*c)) {
                Some((at, c)) => (&text[..at], Some((Some(c), &text[at + c.len_utf8()..]))),
                None => (text, None),
            };
            rest = next;
            Some((separator, level))
        })
    }
}

/// Whether all that is asked for is within the rule.
///
/// A wildcard that begins a rule does not stand for names that begin with `$`, such as `$SYS` (MQTT 5, section 4.7.2).
pub(crate) fn covers<'a>(rule: &[Level<String>], asked: impl Iterator<Item = Level<&'a str>>) -> bool {
    let mut asked = asked.peekable();
    let begins_with_wildcard = rule.first().is_some_and(|level| !matches!(level.kind, Kind::Text(_)));
    let system = matches!(asked.peek(), Some(Level { kind: Kind::Text(text), .. }) if text.starts_with('$'));
    if begins_with_wildcard && system {
        return false;
    }
    let mut rule = rule.iter();
    loop {
        let (level, asked) = match (rule.next(), asked.next()) {
            // `a/#` is also `a` itself.
            (Some(Level { kind: Kind::Many, .. }), None) | (None, None) => return true,
            (Some(level), Some(asked)) if level.separator == asked.separator => (level, asked),
            (Some(_), _) | (None, Some(_)) => return false,
        };
        match (&level.kind, &asked.kind) {
            (Kind::Many, _) => return true,
            (Kind::One, Kind::Text(_) | Kind::One) => {}
            (Kind::Text(rule), Kind::Text(asked)) if rule == asked => {}
            (Kind::One | Kind::Text(_), _) => return false,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const STOMP: Syntax<'static> = Syntax::Stomp { separators: "/." };

    fn covered(syntax: Syntax<'_>, rule: &str, asked: &str) -> bool {
        covers(&syntax.rule(rule), syntax.levels(asked))
    }

    #[test]
    fn a_filter_is_covered_where_all_it_matches_is_within_the_rule() {
        for (rule, asked) in [
            ("a/b", "a/b"),
            ("a/+", "a/b"),
            ("a/+", "a/+"),
            ("a/+", "a/"),
            ("a/#", "a/#"),
            ("a/#", "a/+/c"),
            ("a/#", "a"),
            ("#", "a/b"),
            ("#", "#"),
            ("+/b", "+/b"),
            ("$SYS/#", "$SYS/broker"),
            ("/+", "/a"),
            ("+/#", "a"),
        ] {
            assert!(covered(Syntax::Mqtt, rule, asked), "{rule} {asked}");
        }
    }

    #[test]
    fn a_filter_that_is_wider_than_the_rule_is_not() {
        for (rule, asked) in [
            ("a/b", "a"),
            ("a", "a/b"),
            ("a/b", "a/+"),
            ("a/+", "a/#"),
            ("a/+", "a"),
            ("a/+", "a/b/c"),
            ("a/b", "A/b"),
            ("a/#", "#"),
            ("a/#", "+/b"),
            ("a/#", "ab"),
            ("a", "a/#"),
            ("#", "$SYS/broker"),
            ("+/broker", "$SYS/broker"),
            ("+", "/a"),
            ("$SYS/#", "#"),
            ("a/+/#", "a/#"),
        ] {
            assert!(!covered(Syntax::Mqtt, rule, asked), "{rule} {asked}");
        }
    }

    #[test]
    fn every_brokers_wildcard_counts_in_a_destination() {
        for (rule, asked, expected) in [
            ("/topic/a.#", "/topic/a.b", true),
            ("/topic/a.#", "/topic/a.>", true),
            ("/topic/a.+", "/topic/a.*", true),
            ("/topic/a.+", "/topic/a.>", false),
            ("/topic/a.+", "/topic/a.#", false),
            ("/topic/a.+", "/topic/a.%23", false),
            ("/topic/a.+", "/topic/a.b*", false),
            ("/topic/a.#", "/topic/*.b", false),
            ("/topic/+", "/topic/a.b", false),
            ("/topic/a.b", "/topic/a/b", false),
            ("/queue/+", "/topic/a", false),
        ] {
            assert_eq!(covered(STOMP, rule, asked), expected, "{rule} {asked}");
        }
        let slashes = Syntax::Stomp { separators: "/" };
        assert!(covered(slashes, "/topic/+", "/topic/a.b"));
        assert!(!covered(slashes, "/topic/+", "/topic/a.*"));
    }

    #[test]
    fn values_that_would_be_levels_or_wildcards_are_not_plain() {
        for value in ["", "a/b", "+", "#", "*", "a+", "a\0", " a", "a\n"] {
            assert!(!Syntax::Mqtt.is_plain(value) && !STOMP.is_plain(value), "{value}");
        }
        for value in ["a.b", ">", "%23", "a,b", "a\\c"] {
            assert!(Syntax::Mqtt.is_plain(value) && !STOMP.is_plain(value), "{value}");
        }
        assert!(Syntax::Mqtt.is_plain("ann@example.com") && STOMP.is_plain("ann@example"));
    }

    /// Whether a filter of MQTT matches a topic, as section 4.7 says it.
    fn matches(filter: &[&str], topic: &[&str]) -> bool {
        match (filter, topic) {
            (["#"], _) => true,
            ([], []) => true,
            (["+", filter @ ..], [_, topic @ ..]) => matches(filter, topic),
            ([same, filter @ ..], [text, topic @ ..]) if same == text => matches(filter, topic),
            _ => false,
        }
    }

    fn filter() -> impl Strategy<Value = Vec<&'static str>> {
        let levels = prop::collection::vec(prop::sample::select(vec!["a", "b", "+", ""]), 1..4);
        (levels, any::<bool>()).prop_map(|(mut levels, many)| {
            if many {
                levels.push("#");
            }
            levels
        })
    }

    proptest! {
        #[test]
        fn what_a_covered_filter_matches_the_rule_matches(
            rule in filter(),
            asked in filter(),
            topic in prop::collection::vec(prop::sample::select(vec!["a", "b", "c", ""]), 1..6),
        ) {
            if covered(Syntax::Mqtt, &rule.join("/"), &asked.join("/")) && matches(&asked, &topic) {
                prop_assert!(matches(&rule, &topic));
            }
        }

        #[test]
        fn a_topic_is_covered_as_it_is_matched(
            rule in filter(),
            topic in prop::collection::vec(prop::sample::select(vec!["a", "b", "c", ""]), 1..6),
        ) {
            prop_assert_eq!(covered(Syntax::Mqtt, &rule.join("/"), &topic.join("/")), matches(&rule, &topic));
        }
    }
}
