//! `quota`: how many messages, bytes or tokens a user has in a minute, an hour, a day or a month. Its README has the
//! configuration.

mod config;
mod counter;
mod meter;
mod window;

#[cfg(test)]
mod tests;

use std::time::Duration;

use serde_json::{Value, json};
use wsgate_sdk::prelude::*;

pub use config::Config;
use config::{Count, Quota as Rule, Reaction};
use counter::Counter;
use meter::{Account, Meter};

wsgate_sdk::export!(Quota);

/// How often units that lie unused are given back to the other connections of the user.
const GIVE_BACK_EVERY: Duration = Duration::from_secs(5);

/// The close code for too much, as HTTP's 429.
const CLOSE_CODE: u16 = 4429;

/// One connection.
#[derive(Debug)]
pub struct Quota {
    config: Rc<Config>,
    /// Who is counted, one for each quota.
    users: Vec<String>,
    /// One for each quota.
    meters: Vec<Meter>,
}

/// The time, which tests set.
fn now_ms() -> u64 {
    #[cfg(not(test))]
    return clock::now_ms();
    #[cfg(test)]
    tests::NOW_MS.get()
}

/// What says that a quota is or will soon be used up.
fn document(kind: &str, rule: &Rule, meter: &Meter, now_ms: u64) -> String {
    let window = meter.window();
    json!({
        "error": kind,
        "quota": rule.name,
        "limit": rule.limit,
        "resets_at": window.end_s,
        "retry_after_seconds": window.left_s(now_ms),
    })
    .to_string()
}

/// The number at a place of a JSON document; what is no whole number is rounded up.
fn number_at(text: &str, pointer: &str) -> Option<u64> {
    // Most messages of a stream have no such key. `~1` and `~0` in it are left to the parser.
    let last = pointer.rsplit('/').next().unwrap_or_default();
    if !last.contains('~') && !text.contains(last) {
        return None;
    }
    let document: Value = serde_json::from_str(text).ok()?;
    let number = document.pointer(pointer)?;
    match number.as_u64() {
        Some(number) => Some(number),
        None => number.as_f64().filter(|number| *number > 0.0).map(|number| number.ceil() as u64),
    }
}

impl Quota {
    fn new(config: &Rc<Config>, handshake: &Handshake) -> Result<Self, Refusal> {
        let users = config.quotas.iter().map(|rule| {
            rule.user(handshake).ok_or_else(|| {
                log::reason("no_user");
                Refusal::new(403)
            })
        });
        let users = users.collect::<Result<_, _>>()?;
        Ok(Self { config: Rc::clone(config), users, meters: vec![Meter::default(); config.quotas.len()] })
    }

    fn interest(config: &Config) -> Interest {
        let mut interest = Interest::none().and(Hooks::CLOSE);
        interest.kinds = Kinds::all();
        for rule in &config.quotas {
            let directions = match rule.count {
                Count::Messages(directions) | Count::Bytes(directions) => {
                    interest = interest.with_tick(GIVE_BACK_EVERY);
                    directions
                }
                Count::Tokens { .. } => Directions::Both,
            };
            interest = interest.and(Interest::messages(directions).hooks);
        }
        interest
    }

    /// Each quota with its meter.
    fn each(&mut self) -> impl Iterator<Item = (Account<'_>, &mut Meter)> {
        let Self { config, users, meters } = self;
        let store = config.store.as_str();
        let accounts = config.quotas.iter().zip(users).map(move |(quota, user)| Account { store, quota, user });
        accounts.zip(meters)
    }

    /// Counts the message, unless a quota has not enough left: that one's number then.
    fn count(&mut self, direction: Direction, message: &Message, now_ms: u64) -> Result<Option<usize>, Error> {
        let bytes = message.as_bytes().len() as u64;
        let units = |count: &Count| match count {
            Count::Messages(directions) => directions.contain(direction).then_some(1),
            Count::Bytes(directions) => directions.contain(direction).then_some(bytes),
            Count::Tokens { .. } => None,
        };
        for (at, (account, meter)) in self.each().enumerate() {
            let enough = match (&account.quota.count, direction) {
                (Count::Tokens { .. }, Direction::ToUpstream) => meter.is_left(&account, now_ms)?,
                (Count::Tokens { pointer }, Direction::ToClient) => {
                    let tokens =
                        message.as_text().and_then(|text| number_at(text, pointer)).filter(|tokens| *tokens > 0);
                    if let Some(tokens) = tokens {
                        meter.count(tokens, &account, now_ms)?;
                        metrics::add("tokens", &[("quota", &account.quota.name)], tokens);
                    }
                    true
                }
                (count, _) => match units(count) {
                    Some(units) => meter.has(units, &account, now_ms)?,
                    None => true,
                },
            };
            if !enough {
                return Ok(Some(at));
            }
        }
        // Nothing is used up of one quota where another refuses.
        for (account, meter) in self.each() {
            if let Some(units) = units(&account.quota.count) {
                meter.take(units);
            }
        }
        Ok(None)
    }

    fn refuse(&self, at: usize, now_ms: u64) -> Verdict {
        let (rule, meter) = (&self.config.quotas[at], &self.meters[at]);
        log::reason(&format!("exceeded_{}", rule.name));
        metrics::add("refusals", &[("quota", &rule.name)], 1);
        match rule.action {
            Reaction::Close => {
                let left_s = meter.window().left_s(now_ms);
                Verdict::close(CLOSE_CODE, format!("quota {} is used up, resets in {left_s} s", rule.name))
            }
            Reaction::Drop => Verdict::Drop,
            Reaction::Reply => {
                let document = document("quota_exceeded", rule, meter, now_ms);
                Verdict::Act(vec![Action::to_client(document)])
            }
        }
    }

    /// Warnings that are due, for the log and where configured for the client.
    fn warnings(&mut self, now_ms: u64) -> Vec<Action> {
        let mut warnings = Vec::new();
        for (account, meter) in self.each() {
            let rule = account.quota;
            if meter.warns(rule) {
                log::warn!(quota = rule.name, limit = rule.limit; "a quota is almost used up");
                metrics::add("warnings", &[("quota", &rule.name)], 1);
                if rule.warn_client {
                    warnings.push(Action::to_client(document("quota_warning", rule, meter, now_ms)));
                }
            }
        }
        warnings
    }

    fn give_back(&mut self, only_idle: bool) -> Result<(), Error> {
        let now_ms = now_ms();
        for (account, meter) in self.each() {
            meter.give_back(only_idle, &account, now_ms)?;
        }
        Ok(())
    }
}

impl Filter for Quota {
    type Config = Config;

    fn interest(config: &Config) -> Result<Interest, Error> {
        config.check()?;
        Ok(Self::interest(config))
    }

    fn open(config: &Rc<Config>, handshake: &Handshake) -> Result<Admission<Self>, Refusal> {
        let quota = Self::new(config, handshake)?;
        let now_ms = now_ms();
        // A client that was closed for too much would only come back to be closed again.
        for (rule, user) in config.quotas.iter().zip(&quota.users).filter(|(rule, _)| rule.action == Reaction::Close) {
            let window = rule.window.window(now_ms);
            let counter = Counter { store: &config.store, quota: rule, user, window };
            if counter.read().map_err(Refusal::fault)? >= rule.limit {
                log::reason(&format!("exceeded_{}", rule.name));
                metrics::add("refusals", &[("quota", &rule.name)], 1);
                return Err(Refusal::new(429).with_header("retry-after", window.left_s(now_ms).to_string()));
            }
        }
        Ok(Admission::new(quota))
    }

    fn resume(
        config: &Rc<Config>,
        handshake: &Handshake,
        state: Option<Vec<u8>>,
        _cause: ResumeCause,
    ) -> Result<Resumed<Self>, Rejection> {
        let mut quota = Self::new(config, handshake).map_err(|_| Rejection::close(1008, "no longer admitted"))?;
        // The counters are in the store; lost with a state is what was reserved.
        let saved: Vec<(String, Meter)> =
            state.and_then(|state| serde_json::from_slice(&state).ok()).unwrap_or_default();
        for (account, meter) in quota.each() {
            if let Some((_, saved)) = saved.iter().find(|(name, _)| *name == account.quota.name) {
                *meter = saved.clone();
            }
        }
        Ok(Resumed::new(quota))
    }

    fn on_message(&mut self, direction: Direction, message: Message) -> Result<Verdict, Error> {
        let now_ms = now_ms();
        if let Some(at) = self.count(direction, &message, now_ms)? {
            return Ok(self.refuse(at, now_ms));
        }
        let mut actions = self.warnings(now_ms);
        if actions.is_empty() {
            return Ok(Verdict::Forward);
        }
        actions.push(match direction {
            Direction::ToUpstream => Action::to_upstream(message),
            Direction::ToClient => Action::to_client(message),
        });
        Ok(Verdict::Act(actions))
    }

    fn on_tick(&mut self) -> Result<Vec<Action>, Error> {
        self.give_back(true)?;
        Ok(Vec::new())
    }

    fn on_close(&mut self, _by: Closer, _info: CloseInfo) {
        if let Err(error) = self.give_back(false) {
            log::warn!("what was reserved was not given back: {error}");
        }
    }

    fn save(&mut self) -> Option<Vec<u8>> {
        let state: Vec<_> = self.config.quotas.iter().map(|rule| &rule.name).zip(&self.meters).collect();
        serde_json::to_vec(&state).ok()
    }
}
