//! The filter's table in `wsgate.toml`.

use std::collections::BTreeMap;

use filter_parts::Matcher;
use serde::Deserialize;
use wsgate_sdk::Handshake;

use crate::identity::{Client, Who};
use crate::messages::Messages;
use crate::request::{Networks, RequestConditions};

/// Most rules of either list: each is looked at for each message, or each connection.
pub(crate) const MAX_RULES: usize = 500;
/// Longest name of a rule, which becomes a label.
const MAX_NAME_BYTES: usize = 64;

/// The filter's configuration.
#[derive(Debug, Deserialize)]
#[serde(try_from = "Table")]
pub struct Config {
    pub(crate) connections: Option<Connections>,
    pub(crate) messages: Option<Messages>,
    pub(crate) dry_run: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Table {
    connections: Option<Connections>,
    messages: Option<Messages>,
    #[serde(default)]
    dry_run: bool,
}

impl TryFrom<Table> for Config {
    type Error = &'static str;

    fn try_from(table: Table) -> Result<Self, &'static str> {
        match table {
            Table { connections: None, messages: None, .. } => Err("connections or messages: at least one is needed"),
            Table { connections, messages, dry_run } => Ok(Self { connections, messages, dry_run }),
        }
    }
}

impl Config {
    /// The name of a counter: what a dry run would refuse is counted apart.
    pub(crate) fn counter(&self, refused: &'static str) -> &'static str {
        match (self.dry_run, refused) {
            (true, "refused_connections") => "would_refuse_connections",
            (true, "refused_messages") => "would_refuse_messages",
            (_, refused) => refused,
        }
    }
}

/// What a rule, or the lack of one, does.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Action {
    #[default]
    Allow,
    Deny,
}

fn deny() -> Action {
    Action::Deny
}

/// Which rule decides.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Order {
    /// The first that holds.
    #[default]
    FirstMatch,
    /// One that denies, wherever it stands; else one that allows.
    DenyFirst,
}

/// Who may open a connection.
#[derive(Debug, Deserialize)]
#[serde(try_from = "ConnectionsTable")]
pub(crate) struct Connections {
    pub(crate) rules: Vec<Rule>,
    pub(crate) order: Order,
    pub(crate) default: Action,
    pub(crate) status: u16,
    /// Whether an open connection is judged again: with a new token, and under new rules.
    pub(crate) live: bool,
}

/// A rule for connections.
#[derive(Debug)]
pub(crate) struct Rule {
    pub(crate) name: String,
    pub(crate) action: Action,
    pub(crate) status: Option<u16>,
    request: RequestConditions,
    who: Option<Who>,
    unless: Option<(RequestConditions, Option<Who>)>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ConnectionsTable {
    #[serde(default)]
    rules: Vec<RuleTable>,
    #[serde(default)]
    order: Order,
    #[serde(default = "deny")]
    default: Action,
    #[serde(default = "forbidden")]
    status: u16,
    #[serde(default = "yes")]
    live: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RuleTable {
    name: Option<String>,
    #[serde(default)]
    action: Action,
    #[serde(default)]
    when: Conditions,
    unless: Option<Conditions>,
    status: Option<u16>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Conditions {
    path: Option<Matcher>,
    host: Option<Matcher>,
    route: Option<Matcher>,
    subprotocol: Option<Matcher>,
    client: Option<Networks>,
    certificate: Option<Matcher>,
    secure: Option<bool>,
    header: BTreeMap<String, Matcher>,
    query: BTreeMap<String, Matcher>,
    parameter: BTreeMap<String, Matcher>,
    identity: Option<Who>,
}

impl Conditions {
    fn split(self) -> (RequestConditions, Option<Who>) {
        let Self { path, host, route, subprotocol, client, certificate, secure, header, query, parameter, identity } =
            self;
        let request =
            RequestConditions { path, host, route, subprotocol, client, certificate, secure, header, query, parameter };
        (request, identity)
    }
}

fn forbidden() -> u16 {
    403
}

fn yes() -> bool {
    true
}

fn checked_status(status: u16) -> Result<(), String> {
    match status {
        400..=499 => Ok(()),
        other => Err(format!("status: 400 to 499, such as 401, 403 and 404, not {other}")),
    }
}

/// The name of a rule, or one made of its place.
pub(crate) fn rule_name(name: Option<String>, at: usize) -> Result<String, String> {
    let name = name.unwrap_or_else(|| format!("rule_{at}"));
    match (1..=MAX_NAME_BYTES).contains(&name.len()) {
        true => Ok(name),
        false => Err(format!("rules[{at}].name: 1 to {MAX_NAME_BYTES} bytes, not {}", name.len())),
    }
}

impl TryFrom<ConnectionsTable> for Connections {
    type Error = String;

    fn try_from(table: ConnectionsTable) -> Result<Self, String> {
        if table.rules.len() > MAX_RULES {
            return Err(format!("rules: at most {MAX_RULES}, here are {}", table.rules.len()));
        }
        checked_status(table.status)?;
        let mut rules = Vec::with_capacity(table.rules.len());
        for (at, rule) in table.rules.into_iter().enumerate() {
            if let Some(status) = rule.status {
                checked_status(status).map_err(|error| format!("rules[{at}].{error}"))?;
                if rule.action == Action::Allow {
                    return Err(format!("rules[{at}].status: only a rule with action = \"deny\" has one"));
                }
            }
            let (request, who) = rule.when.split();
            let unless = rule.unless.map(Conditions::split);
            let name = rule_name(rule.name, at)?;
            rules.push(Rule { name, action: rule.action, status: rule.status, request, who, unless });
        }
        let ConnectionsTable { order, default, status, live, .. } = table;
        Ok(Self { rules, order, default, status, live })
    }
}

/// What a rule says of a request, whoever the client is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Seen {
    holds: bool,
    excepted: bool,
}

impl Rule {
    /// Looks at the request; it stays the same for as long as the connection is open.
    pub(crate) fn look(&self, request: &Handshake) -> Seen {
        Seen {
            holds: self.request.hold(request),
            excepted: self.unless.as_ref().is_some_and(|(unless, _)| unless.hold(request)),
        }
    }

    /// Whether it holds for a client with this request.
    pub(crate) fn holds(&self, seen: Seen, client: &Client) -> bool {
        let is = |who: &Option<Who>| who.as_ref().is_none_or(|who| who.holds(client));
        let excepted = seen.excepted && self.unless.as_ref().is_some_and(|(_, who)| is(who));
        seen.holds && is(&self.who) && !excepted
    }
}
