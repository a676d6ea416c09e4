//! Who may send which message.

use std::collections::BTreeMap;

use filter_parts::json::{Found, Json, Kind, MAX_DEPTH, Names};
use filter_parts::{Answer, Facts, Pointer, Verified, When};
use serde::Deserialize;
use wsgate_sdk::{Directions, Message, Verdict};

use crate::config::{Action, MAX_RULES, rule_name};
use crate::identity::{Client, Who};

/// Most pairs of `same_as_claim` in a rule.
const MAX_PAIRS: usize = 16;

/// The rules for messages.
#[derive(Debug, Deserialize)]
#[serde(try_from = "Table")]
pub(crate) struct Messages {
    pub(crate) rules: Vec<Rule>,
    pub(crate) direction: Directions,
    default: Action,
    not_json: Action,
    refused: Answer,
    max_depth: u8,
}

/// A rule for messages: those for which `when` holds need what it requires.
#[derive(Debug)]
pub(crate) struct Rule {
    name: String,
    when: When,
    action: Action,
    require: Requirement,
    refused: Option<Answer>,
}

/// What a message needs beside its conditions.
#[derive(Debug, Default)]
struct Requirement {
    who: Who,
    same_as_claim: Vec<(Pointer, Pointer)>,
}

/// What is decided about a message.
#[derive(Debug)]
pub(crate) enum Outcome<'r> {
    Allowed,
    Refused { rule: &'r str, answer: &'r Answer },
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Table {
    #[serde(default)]
    rules: Vec<RuleTable>,
    #[serde(default = "to_upstream")]
    direction: Directions,
    #[serde(default = "deny")]
    default: Action,
    #[serde(default = "deny")]
    not_json: Action,
    #[serde(default = "closing")]
    refused: Answer,
    #[serde(default = "default_max_depth")]
    max_depth: u8,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RuleTable {
    name: Option<String>,
    when: When,
    #[serde(default)]
    action: Action,
    require: Option<RequirementTable>,
    refused: Option<Answer>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RequirementTable {
    identity: Option<Who>,
    #[serde(default)]
    same_as_claim: BTreeMap<Pointer, Pointer>,
}

fn to_upstream() -> Directions {
    Directions::ToUpstream
}

fn deny() -> Action {
    Action::Deny
}

fn closing() -> Answer {
    Answer::Close { code: None, reason: None }
}

fn default_max_depth() -> u8 {
    64
}

impl TryFrom<Table> for Messages {
    type Error = String;

    fn try_from(table: Table) -> Result<Self, String> {
        if table.rules.len() > MAX_RULES {
            return Err(format!("rules: at most {MAX_RULES}, here are {}", table.rules.len()));
        }
        if !(1..=MAX_DEPTH).contains(&table.max_depth) {
            return Err(format!("max_depth: 1 to {MAX_DEPTH}, not {}", table.max_depth));
        }
        checked(&table.refused).map_err(|error| format!("refused: {error}"))?;
        let Table { rules: written, direction, default, not_json, refused, max_depth } = table;
        let mut rules = Vec::with_capacity(written.len());
        for (at, rule) in written.into_iter().enumerate() {
            let name = rule_name(rule.name.clone(), at)?;
            rules.push(Rule::new(name, rule).map_err(|error| format!("rules[{at}].{error}"))?);
        }
        Ok(Self { rules, direction, default, not_json, refused, max_depth })
    }
}

/// An answer that refuses, and tells no more than it can.
fn checked(answer: &Answer) -> Result<(), String> {
    match answer {
        Answer::Forward => Err("\"forward\" refuses nothing: use `dry_run` or action = \"allow\"".to_owned()),
        Answer::Drop | Answer::Close { .. } | Answer::Reply(_) => answer.check(&["rule"]),
    }
}

impl Rule {
    fn new(name: String, rule: RuleTable) -> Result<Self, String> {
        if rule.action == Action::Deny && rule.require.is_some() {
            return Err("require: a rule with action = \"deny\" requires nothing".to_owned());
        }
        if let Some(answer) = &rule.refused {
            checked(answer).map_err(|error| format!("refused: {error}"))?;
        }
        let require = match rule.require {
            None => Requirement::default(),
            Some(RequirementTable { identity: None, same_as_claim }) if same_as_claim.is_empty() => {
                return Err("require: `identity` or `same_as_claim` is needed".to_owned());
            }
            Some(RequirementTable { same_as_claim, .. }) if same_as_claim.len() > MAX_PAIRS => {
                return Err(format!("require.same_as_claim: at most {MAX_PAIRS} pairs"));
            }
            Some(RequirementTable { identity, same_as_claim }) => {
                Requirement { who: identity.unwrap_or_default(), same_as_claim: same_as_claim.into_iter().collect() }
            }
        };
        Ok(Self { name, when: rule.when, action: rule.action, require, refused: rule.refused })
    }

    /// What it says of a client, whatever the message.
    pub(crate) fn grants(&self, client: &Client) -> bool {
        self.action == Action::Allow && self.require.who.holds(client)
    }
}

impl Requirement {
    /// Whether the values of the message are those of the client's claims, or among them.
    fn same(&self, json: Json<'_>, claims: Json<'_>) -> bool {
        self.same_as_claim.iter().all(|(place, claim)| {
            let value = json.find(place, Names::AnyCase);
            let (Found::Value(value), Found::Value(claim)) = (value, claims.find(claim, Names::Exact)) else {
                return false;
            };
            match claim.kind() {
                Kind::Array => claim.elements().any(|element| element.is_same_scalar(value)),
                Kind::Object | Kind::String | Kind::Number | Kind::Bool | Kind::Null => claim.is_same_scalar(value),
            }
        })
    }
}

impl Messages {
    /// Whether messages that are no JSON pass: then binary ones need not be looked at.
    pub(crate) fn allows_other(&self) -> bool {
        self.not_json == Action::Allow
    }

    /// Decides on a message. `granted` says of each rule whether it grants the client anything.
    pub(crate) fn judge(&self, message: &Message, client: &Client, granted: &[bool]) -> Outcome<'_> {
        let text = message.as_text();
        let Some(json) = text.and_then(|text| Json::check(text, self.max_depth).ok()) else {
            return self.by(self.not_json, "not_json");
        };
        for (rule, granted) in self.rules.iter().zip(granted) {
            match rule.when.verify(json, Names::AnyCase) {
                Verified::No => continue,
                Verified::Yes if *granted && rule.require.same(json, client.claims()) => return Outcome::Allowed,
                Verified::Yes => {
                    return Outcome::Refused {
                        rule: &rule.name,
                        answer: rule.refused.as_ref().unwrap_or(&self.refused),
                    };
                }
                // Who reads it decides what it says: that cannot be allowed.
                Verified::Ambiguous => return self.by(Action::Deny, "ambiguous"),
            }
        }
        self.by(self.default, "default")
    }

    fn by<'r>(&'r self, action: Action, rule: &'r str) -> Outcome<'r> {
        match action {
            Action::Allow => Outcome::Allowed,
            Action::Deny => Outcome::Refused { rule, answer: &self.refused },
        }
    }

    /// What becomes of a message that was refused.
    pub(crate) fn verdict(&self, answer: &Answer, message: &Message, rule: &str, close: (u16, &str)) -> Verdict {
        let json = message.as_text().and_then(|text| Json::check(text, self.max_depth).ok());
        let known = [("rule", serde_json::Value::from(rule).to_string())];
        answer.verdict(Facts { json, known: &known }, close)
    }
}
