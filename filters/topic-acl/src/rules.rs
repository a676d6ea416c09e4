//! The configured rules, and what they come to for one client.

use serde::Deserialize;
use serde_json::Value;
use wsgate_sdk::prelude::*;

use crate::levels::{Level, Syntax, covers};

/// Most rules of a client for one kind of action, so that a claim with a long list costs a bounded time a message.
pub(crate) const MAX_RULES_PER_ACTION: usize = 256;

/// A rule with placeholders: `sensors/{claim:sub}/#`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub(crate) struct Template {
    parts: Vec<Part>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Text(String),
    Claim(String),
    Parameter(String),
}

impl TryFrom<String> for Template {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let mut parts = Vec::new();
        let mut rest = text.as_str();
        while let Some((before, after)) = rest.split_once('{') {
            let (name, after) = after.split_once('}').ok_or_else(|| format!("`{text}` has a `{{` without a `}}`"))?;
            if !before.is_empty() {
                parts.push(Part::Text(before.to_owned()));
            }
            parts.push(match name.split_once(':') {
                Some(("claim", name)) if !name.is_empty() => Part::Claim(name.to_owned()),
                Some(("param", name)) if !name.is_empty() => Part::Parameter(name.to_owned()),
                _ => return Err(format!("`{{{name}}}` is unknown, expected `{{claim:NAME}}` or `{{param:NAME}}`")),
            });
            rest = after;
        }
        if !rest.is_empty() {
            parts.push(Part::Text(rest.to_owned()));
        }
        match parts.is_empty() {
            true => Err("a rule must not be empty".to_owned()),
            false => Ok(Self { parts }),
        }
    }
}

impl Template {
    /// Refuses wildcards that do not stand for whole levels, and a `#` that is not the last.
    pub(crate) fn check_wildcards(&self) -> Result<(), String> {
        // What a placeholder stands for is never empty, a separator or a wildcard.
        let text: String = self.parts.iter().map(|part| if let Part::Text(text) = part { text } else { "x" }).collect();
        let mut levels = text.split(['/', '.']).peekable();
        while let Some(level) = levels.next() {
            if level.contains(['+', '#']) && level.len() > 1 {
                return Err(format!("`{level}`: a wildcard stands for a whole level"));
            }
            if level == "#" && levels.peek().is_some() {
                return Err("`#` has to be the last level".to_owned());
            }
        }
        Ok(())
    }

    /// Every text that this comes to for a client: several where a claim is a list, none where one is missing or is
    /// nothing that may stand in a topic.
    pub(crate) fn fill(&self, client: &Client, syntax: Syntax<'_>) -> Vec<String> {
        let mut texts = vec![String::new()];
        for (index, part) in self.parts.iter().enumerate() {
            let values = match part {
                Part::Text(text) => vec![text.clone()],
                Part::Claim(name) => client.claim(name),
                Part::Parameter(name) => client.parameter(name).into_iter().collect(),
            };
            let is_text = matches!(part, Part::Text(_));
            let fits = |value: &&String| is_text || (syntax.is_plain(value) && (index > 0 || !value.starts_with('$')));
            let fitting: Vec<&String> = values.iter().filter(fits).collect();
            texts = texts
                .iter()
                .flat_map(|text| fitting.iter().map(move |value| format!("{text}{value}")))
                .take(MAX_RULES_PER_ACTION)
                .collect();
        }
        texts
    }
}

/// What placeholders may name.
#[derive(Debug)]
pub(crate) struct Client {
    claims: Value,
    parameters: Vec<(String, String)>,
}

impl Client {
    pub(crate) fn new(handshake: &Handshake) -> Self {
        let parameters = handshake.parameters.clone();
        let mut client = Self { claims: Value::Null, parameters };
        if let Some(identity) = &handshake.identity {
            client.refresh(identity);
        }
        client
    }

    pub(crate) fn refresh(&mut self, identity: &Identity) {
        // Without readable claims no rule that names one applies.
        self.claims = serde_json::from_str(&identity.claims).unwrap_or_default();
    }

    /// A claim by its name, or by a JSON pointer (RFC 6901) where that begins with `/`.
    fn claim(&self, name: &str) -> Vec<String> {
        let value = match name.starts_with('/') {
            true => self.claims.pointer(name),
            false => self.claims.get(name),
        };
        let text = |value: &Value| match value {
            Value::String(text) => Some(text.clone()),
            Value::Number(number) if !number.is_f64() => Some(number.to_string()),
            Value::Number(_) | Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => None,
        };
        match value {
            Some(Value::Array(values)) => values.iter().filter_map(text).collect(),
            Some(value) => text(value).into_iter().collect(),
            None => Vec::new(),
        }
    }

    fn parameter(&self, name: &str) -> Option<String> {
        let (_, value) = self.parameters.iter().find(|(parameter, _)| parameter == name)?;
        Some(value.clone())
    }
}

/// What a client may do to topics.
#[derive(Debug, Default)]
pub(crate) struct Rules(Vec<Rule>);

#[derive(Debug)]
struct Rule {
    /// The group of `$share/GROUP/…`: a rule without one covers no shared subscription. `+` is every group.
    group: Option<String>,
    levels: Vec<Level<String>>,
}

impl Rules {
    pub(crate) fn new(templates: &[Template], client: &Client, syntax: Syntax<'_>) -> Self {
        let texts = templates.iter().flat_map(|template| template.fill(client, syntax));
        let rule = |text: String| {
            let (group, text) = match syntax {
                Syntax::Mqtt => shared(&text),
                Syntax::Stomp { .. } => (None, text.as_str()),
            };
            Rule { group: group.map(str::to_owned), levels: syntax.rule(text) }
        };
        Self(texts.take(MAX_RULES_PER_ACTION).map(rule).collect())
    }

    /// Whether one of the rules covers all of it.
    pub(crate) fn allow(&self, text: &str, syntax: Syntax<'_>) -> bool {
        let none = |rule: &&Rule| rule.group.is_none();
        self.0.iter().filter(none).any(|rule| covers(&rule.levels, syntax.levels(text)))
    }

    /// The same for a subscription of MQTT, which may be a shared one.
    pub(crate) fn allow_subscription(&self, filter: &str) -> bool {
        let (Some(group), filter) = shared(filter) else { return self.allow(filter, Syntax::Mqtt) };
        let of_group = |rule: &&Rule| rule.group.as_deref().is_some_and(|of| of == "+" || of == group);
        self.0.iter().filter(of_group).any(|rule| covers(&rule.levels, Syntax::Mqtt.levels(filter)))
    }
}

/// The group and the filter of a shared subscription (MQTT 5, section 4.8.2). No group where it is none.
pub(crate) fn shared(filter: &str) -> (Option<&str>, &str) {
    match filter.strip_prefix("$share/").and_then(|rest| rest.split_once('/')) {
        Some((group, filter)) => (Some(group), filter),
        None => (None, filter),
    }
}

/// Rules without placeholders.
#[cfg(test)]
pub(crate) fn tests_rules(texts: &[&str], syntax: Syntax<'_>) -> Rules {
    let client = Client { claims: Value::Null, parameters: Vec::new() };
    let templates: Vec<_> = texts.iter().map(|text| Template::try_from((*text).to_owned()).unwrap()).collect();
    Rules::new(&templates, &client, syntax)
}

#[cfg(test)]
mod tests {
    use wsgate_sdk::testing;

    use super::*;

    fn client(claims: &str) -> Client {
        let handshake = testing::handshake("/").with_parameter("room", "7");
        let mut client = Client::new(&handshake);
        client.claims = serde_json::from_str(claims).unwrap();
        client
    }

    fn filled(template: &str, claims: &str) -> Vec<String> {
        Template::try_from(template.to_owned()).unwrap().fill(&client(claims), Syntax::Mqtt)
    }

    fn refused(template: &str) -> String {
        let template = Template::try_from(template.to_owned());
        template.and_then(|template| template.check_wildcards()).unwrap_err()
    }

    #[test]
    fn placeholders_are_filled_in() {
        assert_eq!(filled("s/{claim:sub}/#", r#"{"sub":"ann"}"#), ["s/ann/#"]);
        assert_eq!(filled("s/{claim:/a/b}-{param:room}", r#"{"a":{"b":3}}"#), ["s/3-7"]);
        assert_eq!(filled("s/{claim:t}/{claim:u}", r#"{"t":["a","b"],"u":["c","d"]}"#).len(), 4);
        assert_eq!(filled("plain", "{}"), ["plain"]);
    }

    #[test]
    fn a_value_that_would_widen_a_rule_makes_none() {
        let none: [String; 0] = [];
        for sub in ["", "#", "+", "a/b", "a/#", "\\u0000", " "] {
            assert_eq!(filled("s/{claim:sub}", &format!(r#"{{"sub":"{sub}"}}"#)), none, "{sub}");
        }
        assert_eq!(filled("{claim:sub}/#", r#"{"sub":"$SYS"}"#), none);
        assert_eq!(filled("s/{claim:sub}", r#"{"sub":true}"#), none);
        assert_eq!(filled("s/{claim:missing}", "{}"), none);
        assert_eq!(filled("s/{claim:sub}", r##"{"sub":["a","#"]}"##), ["s/a"]);
    }

    #[test]
    fn rules_are_bounded() {
        let many: Vec<String> = (0..1000).map(|number| number.to_string()).collect();
        let claims = serde_json::json!({ "a": many, "b": many }).to_string();
        assert_eq!(filled("{claim:a}/{claim:b}", &claims).len(), MAX_RULES_PER_ACTION);
    }

    #[test]
    fn shared_subscriptions_need_a_rule_of_their_own() {
        let templates: Vec<_> = ["jobs/#", "$share/+/work/#", "$share/g/#"]
            .iter()
            .map(|text| Template::try_from((*text).to_owned()).unwrap())
            .collect();
        let rules = Rules::new(&templates, &client("{}"), Syntax::Mqtt);
        for (filter, expected) in [
            ("jobs/1", true),
            ("work/1", false),
            ("$share/x/work/1", true),
            ("$share/x/jobs/1", false),
            ("$share/g/jobs/1", true),
            ("$share/g/$SYS/x", false),
            ("$share/x", false),
        ] {
            assert_eq!(rules.allow_subscription(filter), expected, "{filter}");
        }
        assert!(!rules.allow("$share/x/work/1", Syntax::Mqtt), "nobody publishes there");
    }

    #[test]
    fn mistakes_are_explained() {
        assert_eq!(refused("a/{sub}"), "`{sub}` is unknown, expected `{claim:NAME}` or `{param:NAME}`");
        assert_eq!(refused("a/{claim:"), "`a/{claim:` has a `{` without a `}`");
        assert_eq!(refused(""), "a rule must not be empty");
        assert_eq!(refused("a/#/b"), "`#` has to be the last level");
        assert_eq!(refused("a/b#"), "`b#`: a wildcard stands for a whole level");
        assert_eq!(refused("a/{claim:sub}+"), "`x+`: a wildcard stands for a whole level");
    }
}
