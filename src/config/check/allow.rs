//! `allow` of a filter, and the `[stores.*]` that it may name.

use std::collections::BTreeSet;

use super::{
    super::{
        leaf::{At, Table},
        pattern::{OriginPattern, OriginPatternError},
        raw::{RawAllow, RawConfig, RawStore},
        types::{Allow, Store},
    },
    A_PLAIN_NAME, Checker, is_plain_name,
};

/// Entries of one list of `allow`: each is looked at when a filter uses the right.
const MAX_ALLOWED: usize = 256;

const LEAST_STORE_BYTES: usize = 64 << 10;
const LARGEST_STORE_BYTES: usize = 64 << 30;

impl Checker<'_> {
    pub(super) fn allow(&mut self, raw: &RawAllow) -> Allow {
        self.granted(&raw.upstreams, "upstream");
        raw.upstreams.iter().for_each(|at| self.known_upstream(at));
        self.granted(&raw.key_value, "store");
        for at in raw.key_value.iter().filter(|at| !is_plain_name(&at.value)) {
            self.refuse_as(at, A_PLAIN_NAME);
        }
        self.granted(&raw.http, "origin");
        self.granted(&raw.topics, "topic");
        let texts = |list: &[At<String>]| list.iter().map(|at| at.value.clone()).collect();
        Allow {
            upstreams: texts(&raw.upstreams),
            key_value: texts(&raw.key_value),
            http: raw.http.iter().filter_map(|at| self.origin(at)).collect(),
            topics: raw.topics.iter().filter_map(|at| self.pattern(at, "a topic")).collect(),
            send: raw.send.as_ref().is_some_and(|at| at.value),
        }
    }

    fn granted(&mut self, list: &[At<String>], what: &str) {
        self.all_differ(list, what);
        if let Some(beyond) = list.get(MAX_ALLOWED) {
            self.refuse(beyond, format!("there are {}; at most {MAX_ALLOWED} are accepted", list.len()));
        }
    }

    fn origin(&mut self, at: &At<String>) -> Option<OriginPattern> {
        match at.value.parse() {
            Ok(origin) => Some(origin),
            // It may hold a password.
            Err(why @ OriginPatternError::UserInfo) => {
                self.refuse(at, why.to_string());
                None
            }
            Err(why) => {
                self.refuse_as(at, format!("an origin: {why}"));
                None
            }
        }
    }

    pub(super) fn store(&mut self, name: &str, at: &At<Table<RawStore>>) -> (String, Store) {
        if !is_plain_name(name) {
            self.refuse(at, format!("{name:?} is not {A_PLAIN_NAME}"));
        }
        let default = Store::default().max_size_bytes;
        let accepted = LEAST_STORE_BYTES..=LARGEST_STORE_BYTES;
        (name.to_owned(), Store { max_size_bytes: self.size(at.value.max_size.as_ref(), default, accepted) })
    }

    pub(super) fn stores_are_used(&mut self, raw: &RawConfig) {
        let granted = raw.filters.values().flat_map(|filter| &filter.value.allow.key_value);
        let granted: BTreeSet<&str> = granted.map(|at| at.value.as_str()).collect();
        for (name, at) in raw.stores.iter().filter(|(name, _)| !granted.contains(name.as_str())) {
            self.warn(at, format!("no filter is allowed to use this store; allow = {{ key_value = [{name:?}] }} does"));
        }
    }
}
