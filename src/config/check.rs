//! From the raw types to the validated ones. Every check goes on after an error, with a default in place of what is
//! wrong, so that all errors are found; the result counts only if there were none.

mod admin;
mod allow;
mod auth_request;
mod balance;
mod dialling;
mod filter;
mod header;
mod http;
mod jwks;
mod jwt;
mod limits;
mod listen;
mod listener;
mod route;
mod service;
mod upstream;

use std::{
    collections::BTreeSet,
    fmt::Display,
    ops::{Range, RangeInclusive},
    path::{Path, PathBuf},
    time::Duration,
};

pub(super) use admin::check_loopback;
pub(super) use filter::{A_FILTER_NAME, to_json};
pub(super) use upstream::parse_endpoint;

use super::{
    Config,
    document::Document,
    error::{ConfigError, ConfigErrors, Warning},
    explain::{listed, nearest},
    leaf::{At, Count, Size, SizeOrOff, Time, TimeOrOff},
    raw::RawConfig,
    units::{show_size, show_time},
};

const A_PLAIN_NAME: &str = "a name; use up to 64 of A-Z a-z 0-9 _ . -, first a letter or digit";

/// The longest name of a filter, an upstream or a route, in bytes.
pub(super) const MAX_NAME_BYTES: usize = 64;

/// The most routes, and the most of anything else that has a table.
const MAX_TABLES: usize = 4096;

pub(super) struct Checker<'a> {
    document: &'a Document<'a>,
    base_dir: &'a Path,
    filter_dir: PathBuf,
    errors: Vec<ConfigError>,
    warnings: Vec<Warning>,
}

/// Checks everything. `errors` are those found before; what they are about is not complained of again.
pub(super) fn check(
    document: &Document<'_>,
    base_dir: &Path,
    raw: RawConfig,
    errors: Vec<ConfigError>,
) -> Result<(Config, Vec<Warning>), Vec<ConfigError>> {
    let filter_dir = base_dir.join(Config::DEFAULT_FILTER_DIR);
    let mut checker = Checker { document, base_dir, filter_dir, errors, warnings: Vec::new() };
    let server = checker.server(&raw.server);
    checker.filter_dir.clone_from(&server.filter_dir);
    checker.at_most("upstreams", raw.upstreams.len());
    checker.at_most("jwt", raw.jwt.len());
    checker.at_most("filters", raw.filters.len());
    checker.at_most("stores", raw.stores.len());
    checker.at_most("routes", raw.routes.len());
    let config = Config {
        server,
        listeners: checker.listeners(&raw.listeners),
        admin: checker.admin(&raw.admin),
        health: checker.health(raw.health.as_ref()),
        log: checker.log(&raw.log),
        upstreams: raw.upstreams.iter().map(|(name, raw)| checker.upstream(name, raw)).collect(),
        jwt: raw.jwt.iter().filter_map(|(name, raw)| checker.jwt(name, raw)).collect(),
        filters: raw.filters.iter().map(|(name, raw)| checker.filter(name, raw)).collect(),
        stores: raw.stores.iter().map(|(name, raw)| checker.store(name, raw)).collect(),
        routes: checker.routes(&raw.routes),
    };
    checker.addresses_differ(&raw);
    checker.warn_of_open_routes(&config.listeners, &raw.routes);
    checker.stores_are_used(&raw);
    checker.warnings.sort_by_key(|warning| warning.position);
    if checker.errors.is_empty() { Ok((config, checker.warnings)) } else { Err(checker.errors) }
}

impl Checker<'_> {
    /// `message` about a value.
    fn refuse<T>(&mut self, at: &At<T>, message: impl Into<String>) {
        self.refuse_at(&at.span, None, message.into());
    }

    /// `<value> is not …`
    fn refuse_as<T>(&mut self, at: &At<T>, is_not: impl Display) {
        if !self.is_full() {
            let found = self.document.found(&at.span);
            self.refuse(at, format!("{found} is not {is_not}"));
        }
    }

    /// `message` about a key that has no value here, unless that is so because its value is wrong. `table` is `None`
    /// for the whole file.
    fn refuse_key<T>(&mut self, table: Option<&At<T>>, key: &str, message: &str) {
        match table {
            None if !self.is_wrong(key) => self.refuse_at(&(0..0), Some(key.to_owned()), message.to_owned()),
            Some(table) if !self.has_wrong(table, key) => {
                let key = self.key_in(table, key);
                self.refuse_at(&table.span, Some(key), message.to_owned());
            }
            None | Some(_) => {}
        }
    }

    fn refuse_at(&mut self, span: &Range<usize>, key: Option<String>, message: String) {
        if !self.is_full() {
            let key = key.or_else(|| self.document.key(span));
            self.errors.push(self.document.error(span, key, message));
        }
    }

    /// Are there more errors than will be shown? Finding a place costs a walk through the file.
    fn is_full(&self) -> bool {
        self.errors.len() > ConfigErrors::MAX_LISTED
    }

    /// Was this key of a table refused before?
    fn has_wrong<T>(&self, table: &At<T>, key: &str) -> bool {
        !self.errors.is_empty() && self.is_wrong(&self.key_in(table, key))
    }

    fn key_in<T>(&self, table: &At<T>, key: &str) -> String {
        let table = self.document.key(&table.span);
        table.map_or_else(|| key.to_owned(), |table| format!("{table}.{key}"))
    }

    /// Was this key, or something in it, refused before?
    fn is_wrong(&self, key: &str) -> bool {
        let within =
            |wrong: &str| wrong.strip_prefix(key).is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']));
        self.errors.iter().filter_map(|error| error.key.as_deref()).any(within)
    }

    fn warn<T>(&mut self, at: &At<T>, message: impl Into<String>) {
        self.warn_at(&at.span, None, message.into());
    }

    fn warn_at(&mut self, span: &Range<usize>, key: Option<String>, message: String) {
        if self.warnings.len() < ConfigErrors::MAX_LISTED {
            let key = key.or_else(|| self.document.key(span));
            let ConfigError { file, position, key, message } = self.document.error(span, key, message);
            self.warnings.push(Warning { file, position, key, message });
        }
    }

    fn at_most(&mut self, key: &str, count: usize) {
        if count > MAX_TABLES {
            self.refuse_key::<()>(None, key, &format!("there are {count}; at most {MAX_TABLES} are accepted"));
        }
    }

    fn size(&mut self, raw: Option<&At<Size>>, default: usize, accepted: RangeInclusive<usize>) -> usize {
        let Some(at) = raw else { return default };
        if accepted.contains(&at.value.0) {
            return at.value.0;
        }
        let (least, most) = (show_size(*accepted.start()), show_size(*accepted.end()));
        self.refuse_as(at, format!("accepted; write a size from {least:?} to {most:?}"));
        default
    }

    fn size_or_off(
        &mut self,
        raw: Option<&At<SizeOrOff>>,
        default: Option<usize>,
        accepted: RangeInclusive<usize>,
    ) -> Option<usize> {
        let Some(at) = raw else { return default };
        if at.value.0.is_none_or(|size| accepted.contains(&size)) {
            return at.value.0;
        }
        let (least, most) = (show_size(*accepted.start()), show_size(*accepted.end()));
        self.refuse_as(at, format!("accepted; write a size from {least:?} to {most:?}, or \"off\""));
        default
    }

    fn count(&mut self, raw: Option<&At<Count>>, default: usize, accepted: RangeInclusive<usize>) -> usize {
        let Some(at) = raw else { return default };
        if accepted.contains(&at.value.0) {
            return at.value.0;
        }
        self.refuse_as(at, format!("accepted; write a number from {} to {}", accepted.start(), accepted.end()));
        default
    }

    fn time(&mut self, raw: Option<&At<Time>>, default: Duration, at_least: Duration) -> Duration {
        let Some(at) = raw else { return default };
        if at.value.0 >= at_least {
            return at.value.0;
        }
        self.refuse_as(at, format!("accepted; write a duration of at least {:?}", show_time(at_least)));
        default
    }

    fn time_or_off(&mut self, raw: Option<&At<TimeOrOff>>, default: Option<Duration>) -> Option<Duration> {
        let Some(at) = raw else { return default };
        if at.value.0 == Some(Duration::ZERO) {
            self.refuse_as(at, "accepted; write a duration of at least \"1ms\", or \"off\"");
        }
        at.value.0
    }

    /// A code that says something to a client (RFC 6455 section 7.4).
    fn close_code(&mut self, raw: Option<&At<Count>>, default: u16) -> u16 {
        let Some(at) = raw else { return default };
        match u16::try_from(at.value.0) {
            Ok(code @ (1000 | 1001 | 1008 | 3000..=4999)) => code,
            Ok(_) | Err(_) => {
                self.refuse_as(at, "accepted; write 1000, 1001, 1008, or a number from 3000 to 4999");
                default
            }
        }
    }

    /// A path of the file system, relative to the configuration's folder.
    fn path(&mut self, at: &At<String>) -> PathBuf {
        if at.value.is_empty() {
            self.refuse_as(at, "a path");
        }
        self.base_dir.join(&at.value).components().collect()
    }

    /// Refuses what is there a second time.
    fn all_differ(&mut self, texts: &[At<String>], what: &str) {
        let mut seen = BTreeSet::new();
        for at in texts.iter().filter(|at| !seen.insert(&at.value)) {
            self.refuse_as(at, format!("accepted; this {what} is in the list already"));
        }
    }

    /// An upstream that is configured, well or not.
    fn known_upstream(&mut self, at: &At<String>) {
        if !self.is_full() && !self.document.has("upstreams", &at.value) {
            let known: Vec<_> = self.document.names("upstreams").collect();
            let accepted = known_names(&at.value, &known, "there is no [upstreams.*] table");
            self.refuse_as(at, format!("an upstream; {accepted}"));
        }
    }
}

/// `did you mean "a"? Known: "a", "b"`
fn known_names(name: &str, known: &[&str], none: &str) -> String {
    const MAX_SHOWN: usize = 20;
    if known.is_empty() {
        return none.to_owned();
    }
    let hint = nearest(name, known.iter().copied()).map(|known| format!("did you mean {known:?}? "));
    let more = if known.len() > MAX_SHOWN { ", …" } else { "" };
    let shown = &known[..known.len().min(MAX_SHOWN)];
    format!("{}known: {}{more}", hint.unwrap_or_default(), listed(shown, if more.is_empty() { "and" } else { "," }))
}

/// `[a-z0-9][a-z0-9_-]*`, at most 64 bytes.
pub(super) fn is_filter_name(name: &str) -> bool {
    let is_first = |byte: &u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    name.len() <= MAX_NAME_BYTES
        && name.as_bytes().first().is_some_and(is_first)
        && name.bytes().all(|byte| is_first(&byte) || matches!(byte, b'_' | b'-'))
}

/// `[A-Za-z0-9][A-Za-z0-9_.-]*`, at most 64 bytes.
fn is_plain_name(name: &str) -> bool {
    name.len() <= MAX_NAME_BYTES
        && name.starts_with(|first: char| first.is_ascii_alphanumeric())
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'-'))
}
