//! The filter's table in `wsgate.toml`.

use filter_parts::json::MAX_DEPTH;
use filter_parts::{Answer, When};
use serde::Deserialize;

/// Most rules: each costs a look at the message.
const MAX_RULES: usize = 200;
/// Longest name of a rule, which becomes a label.
const MAX_NAME_BYTES: usize = 64;

/// The filter's configuration.
#[derive(Debug, Deserialize)]
#[serde(try_from = "Table")]
pub struct Config {
    pub(crate) rules: Vec<Rule>,
    pub(crate) default: Answer,
    pub(crate) not_json: Answer,
    pub(crate) format: Format,
    pub(crate) max_depth: u8,
}

/// Messages, and what becomes of them.
#[derive(Debug)]
pub(crate) struct Rule {
    pub(crate) name: String,
    pub(crate) when: When,
    pub(crate) then: Then,
}

/// What becomes of a message.
#[derive(Debug)]
pub(crate) enum Then {
    /// It goes to the upstream of this name.
    Upstream(String),
    Answer(Answer),
}

/// Where the JSON is in a message.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq)]
pub(crate) enum Format {
    /// The whole of it.
    #[default]
    #[serde(rename = "json")]
    Json,
    /// Behind the header of a Socket.IO event.
    #[serde(rename = "socket.io")]
    SocketIo,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Table {
    rules: Vec<Written>,
    #[serde(default = "forward")]
    default: Answer,
    #[serde(default = "forward")]
    not_json: Answer,
    #[serde(default)]
    format: Format,
    #[serde(default = "default_max_depth")]
    max_depth: u8,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    name: Option<String>,
    #[serde(default)]
    when: When,
    upstream: Option<String>,
    then: Option<Answer>,
}

fn forward() -> Answer {
    Answer::Forward
}

fn default_max_depth() -> u8 {
    64
}

impl TryFrom<Table> for Config {
    type Error = String;

    fn try_from(table: Table) -> Result<Self, String> {
        if !(1..=MAX_RULES).contains(&table.rules.len()) {
            return Err(format!("rules: 1 to {MAX_RULES} are needed, not {}", table.rules.len()));
        }
        if !(1..=MAX_DEPTH).contains(&table.max_depth) {
            return Err(format!("max_depth: 1 to {MAX_DEPTH}, not {}", table.max_depth));
        }
        table.default.check(&[]).map_err(|error| format!("default: {error}"))?;
        table.not_json.check(&[]).map_err(|error| format!("not_json: {error}"))?;
        let Table { rules: written, default, not_json, format, max_depth } = table;
        let count = written.len();
        let mut rules = Vec::with_capacity(count);
        for (at, rule) in written.into_iter().enumerate() {
            if rule.when.is_empty() && at + 1 < count {
                return Err(format!("rules[{at}].when: only the last rule can be for every message"));
            }
            rules.push(Rule::new(at, rule).map_err(|error| format!("rules[{at}]{error}"))?);
        }
        Ok(Self { rules, default, not_json, format, max_depth })
    }
}

impl Rule {
    /// Errors begin with what follows the rule's own place.
    fn new(at: usize, rule: Written) -> Result<Self, String> {
        let then = match (rule.upstream, rule.then) {
            (Some(upstream), None) if !upstream.is_empty() => Then::Upstream(upstream),
            (Some(_), None) => return Err(".upstream: must not be empty".to_owned()),
            (None, Some(answer)) => {
                answer.check(&[]).map_err(|error| format!(".then: {error}"))?;
                Then::Answer(answer)
            }
            (None, None) => return Err(": `upstream` or `then` is needed".to_owned()),
            (Some(_), Some(_)) => return Err(": `upstream` or `then`, not both".to_owned()),
        };
        let name = rule.name.unwrap_or_else(|| match &then {
            Then::Upstream(upstream) => upstream.clone(),
            Then::Answer(_) => format!("rule_{at}"),
        });
        match (1..=MAX_NAME_BYTES).contains(&name.len()) {
            true => Ok(Self { name, when: rule.when, then }),
            false => Err(format!(".name: 1 to {MAX_NAME_BYTES} bytes, not {}", name.len())),
        }
    }
}

impl Config {
    /// Whether binary messages pass in any case.
    pub(crate) fn forwards_binary(&self) -> bool {
        matches!(self.not_json, Answer::Forward)
    }
}
