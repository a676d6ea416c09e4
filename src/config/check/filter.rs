//! `[filters.*]`, and names of filters wherever they are used.

use std::{
    ops::RangeInclusive,
    path::{Path, PathBuf},
    time::Duration,
};

use super::{
    super::{
        filter_file::{A_FILTER_FILE, filter_file, is_filter_file, twin},
        leaf::{At, CountOrOff, SizeOrOff, Table},
        raw::{RawCandidate, RawFilter},
        types::{Candidate, Filter, Isolation},
        units::show_size,
    },
    Checker, is_filter_name, known_names,
};

/// Chains are walked for each message.
const MAX_CHAIN: usize = 64;

/// A fresh instance a call would be the most expensive way to run a filter.
const RECYCLE_CALLS: RangeInclusive<usize> = 100..=1_000_000_000_000;
/// Fewer would let one client, which may have two addresses, close all others.
const BREAKER_CLIENTS: RangeInclusive<usize> = 3..=64;

const KIB: usize = 1 << 10;
const GIB: usize = 1 << 30;

pub(in super::super) const A_FILTER_NAME: &str =
    "the name of a filter; use up to 64 of a-z 0-9 _ -, first a letter or digit";

impl Checker<'_> {
    pub(super) fn filter(&mut self, name: &str, at: &At<Table<RawFilter>>) -> (String, Filter) {
        if !is_filter_name(name) {
            self.refuse(at, format!("{name:?} is not {A_FILTER_NAME}"));
        }
        let raw = &at.value;
        let default = Filter::with_defaults(self.default_file(name));
        if raw.file.is_none() {
            self.one_file(at, &default.file);
        }
        let file = raw.file.as_ref().map_or(default.file, |at| self.component(at));
        if !file.is_file() {
            let shown = file.display();
            match &raw.file {
                Some(at) => self.warn(at, format!("there is no file {shown} now")),
                None => self.warn(at, format!("there is no file {shown} now, and the table names no other")),
            }
        }
        let sessions = raw.max_sessions_per_instance.as_ref();
        let millisecond = Duration::from_millis(1);
        let (canary, shadow) = self.candidates(raw, &file);
        let memory_limit_bytes = self.size(raw.memory_limit.as_ref(), default.memory_limit_bytes, 64 * KIB..=4 * GIB);
        let filter = Filter {
            file,
            config: raw.config.as_ref().map_or(default.config, |at| self.filter_config(at)),
            isolation: raw.isolation.map_or(default.isolation, |word| word.0),
            instances: raw.instances.as_ref().map(|at| self.count(Some(at), 1, 1..=1024)),
            max_sessions_per_instance: self.count(sessions, default.max_sessions_per_instance, 1..=1_000_000),
            failure_policy: raw.failure_policy.map_or(default.failure_policy, |word| word.0),
            on_reload: raw.on_reload.map_or(default.on_reload, |word| word.0),
            on_state_loss: raw.on_state_loss.map_or(default.on_state_loss, |word| word.0),
            cpu_timeout: self.time(raw.cpu_timeout.as_ref(), default.cpu_timeout, millisecond),
            wait_timeout: self.time(raw.wait_timeout.as_ref(), default.wait_timeout, millisecond),
            memory_limit_bytes,
            recycle_after_calls: self.count_or_off(raw.recycle_after_calls.as_ref(), None, RECYCLE_CALLS),
            recycle_above_bytes: self.recycle_above(raw.recycle_above_memory.as_ref(), memory_limit_bytes),
            max_client_faults: self.count_or_off(raw.max_client_faults.as_ref(), default.max_client_faults, 1..=1000),
            breaker_clients: self.count_or_off(raw.breaker_clients.as_ref(), default.breaker_clients, BREAKER_CLIENTS),
            sha256: raw.sha256.map(|digest| digest.0),
            allow: self.allow(&raw.allow),
            canary,
            shadow,
        };
        self.isolated(raw);
        (name.to_owned(), filter)
    }

    /// `canary` and `shadow`, which are not the file that serves, nor one and the same.
    fn candidates(&mut self, raw: &RawFilter, file: &Path) -> (Option<Candidate>, Option<Candidate>) {
        let canary = raw.canary.as_ref().map(|at| self.candidate(at, &[file]));
        let taken = [Some(file), canary.as_ref().map(|canary| canary.file.as_path())];
        let taken: Vec<_> = taken.into_iter().flatten().collect();
        let shadow = raw.shadow.as_ref().map(|at| self.candidate(at, &taken));
        (canary, shadow)
    }

    fn candidate(&mut self, at: &At<Table<RawCandidate>>, taken: &[&Path]) -> Candidate {
        let raw = &at.value;
        let file = match &raw.file {
            None => {
                self.refuse_key(Some(at), "file", "missing; write the path of a .wasm or .js file");
                PathBuf::new()
            }
            Some(named) => {
                let file = self.component(named);
                if taken.contains(&file.as_path()) {
                    self.refuse_as(named, "accepted; the filter has this file already, name another");
                } else if !file.is_file() {
                    self.warn(named, format!("there is no file {} now", file.display()));
                }
                file
            }
        };
        if raw.percent.is_none() {
            self.refuse_key(Some(at), "percent", "missing; write the share of the new connections, 0 to 100");
        }
        let percent = self.count(raw.percent.as_ref(), 0, 0..=100);
        Candidate { file, percent: u8::try_from(percent).unwrap_or(0) }
    }

    /// Keys that say how sessions share instances mean nothing where they do not.
    fn isolated(&mut self, raw: &RawFilter) {
        if raw.isolation.is_none_or(|word| word.0 == Isolation::Shared) {
            return;
        }
        for at in [&raw.instances, &raw.max_sessions_per_instance].into_iter().flatten() {
            self.warn(
                at,
                "has no effect with isolation = \"connection\": each session has an instance of its own".to_owned(),
            );
        }
    }

    fn count_or_off(
        &mut self,
        raw: Option<&At<CountOrOff>>,
        default: Option<usize>,
        accepted: RangeInclusive<usize>,
    ) -> Option<usize> {
        let Some(at) = raw else { return default };
        if at.value.0.is_some_and(|count| !accepted.contains(&count)) {
            let (least, most) = (accepted.start(), accepted.end());
            self.refuse_as(at, format!("accepted; write a number from {least} to {most}, or \"off\""));
        }
        at.value.0
    }

    /// Beyond `memory_limit` the instance ends anyway.
    fn recycle_above(&mut self, raw: Option<&At<SizeOrOff>>, memory_limit_bytes: usize) -> Option<usize> {
        let at = raw?;
        let accepted = 64 * KIB..=memory_limit_bytes;
        if at.value.0.is_some_and(|bytes| !accepted.contains(&bytes)) {
            let most = show_size(memory_limit_bytes);
            self.refuse_as(at, format!("accepted; write a size from \"64KiB\" to memory_limit ({most:?}), or \"off\""));
        }
        at.value.0
    }

    fn default_file(&self, name: &str) -> PathBuf {
        filter_file(&self.filter_dir, name)
    }

    /// Two files of one name: nothing says which is meant.
    fn one_file<T>(&mut self, at: &At<T>, file: &Path) {
        let twin = twin(file);
        if !self.is_full() && file.is_file() && twin.is_file() {
            self.refuse(at, format!("there are two files, {} and {}: remove one", file.display(), twin.display()));
        }
    }

    fn component(&mut self, at: &At<String>) -> PathBuf {
        let path = self.path(at);
        if !is_filter_file(&path) {
            self.refuse_as(at, A_FILTER_FILE);
        }
        path
    }

    fn filter_config(&mut self, at: &At<toml::Table>) -> serde_json::Value {
        let entries = at.value.iter().map(|(key, value)| Some((key.clone(), to_json(value)?)));
        match entries.collect::<Option<serde_json::Map<_, _>>>() {
            Some(config) => serde_json::Value::Object(config),
            None => {
                self.refuse(at, "has a number that JSON cannot hold (nan or inf)");
                serde_json::Value::Null
            }
        }
    }

    /// `filters` or `required_filters` of a route.
    pub(super) fn filter_names(&mut self, raw: &At<Vec<At<String>>>, presence: Presence) -> Vec<String> {
        if raw.value.len() > MAX_CHAIN {
            self.refuse(raw, format!("{} filters are not accepted; write at most {MAX_CHAIN}", raw.value.len()));
        }
        self.all_differ(&raw.value, "filter");
        for at in &raw.value {
            if !is_filter_name(&at.value) {
                self.refuse_as(at, A_FILTER_NAME);
            } else if let Presence::Needed = presence {
                self.known_filter(at);
            }
        }
        raw.value.iter().map(|at| at.value.clone()).collect()
    }

    /// A filter has a table or a file in `filter_dir`.
    fn known_filter(&mut self, at: &At<String>) {
        let file = self.default_file(&at.value);
        if self.is_full() || self.document.has("filters", &at.value) {
            return;
        }
        if file.is_file() {
            self.one_file(at, &file);
            return;
        }
        let known: Vec<_> = self.document.names("filters").collect();
        let tables = known_names(&at.value, &known, "there are no [filters.*] tables");
        self.refuse_as(at, format!("a filter: there is no file {}; {tables}", file.display()));
    }
}

/// Must a filter be there when the configuration is read?
#[derive(Clone, Copy)]
pub(super) enum Presence {
    Needed,
    Later,
}

/// `None` where JSON has no such number. Dates become strings.
pub(in super::super) fn to_json(value: &toml::Value) -> Option<serde_json::Value> {
    use serde_json::Value as Json;
    use toml::Value as Toml;
    Some(match value {
        Toml::String(text) => Json::String(text.clone()),
        Toml::Integer(number) => Json::from(*number),
        Toml::Float(number) => Json::Number(serde_json::Number::from_f64(*number)?),
        Toml::Boolean(flag) => Json::Bool(*flag),
        Toml::Datetime(time) => Json::String(time.to_string()),
        Toml::Array(items) => Json::Array(items.iter().map(to_json).collect::<Option<_>>()?),
        Toml::Table(table) => {
            let entries = table.iter().map(|(key, value)| Some((key.clone(), to_json(value)?)));
            Json::Object(entries.collect::<Option<_>>()?)
        }
    })
}
