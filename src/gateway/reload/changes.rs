//! What two configurations differ in, in words.

use std::collections::{BTreeMap, BTreeSet};

use crate::config::Config;

/// Keys that are read at the start only and differ.
pub(super) fn need_restart(before: &Config, after: &Config) -> Option<String> {
    let (old, new) = (&before.server, &after.server);
    let keys = [
        ("server.workers", old.workers != new.workers),
        ("server.filter_dir", old.filter_dir != new.filter_dir),
        ("server.state_dir", old.state_dir != new.state_dir),
        ("server.js_compiler", old.js_compiler != new.js_compiler),
        ("admin", before.admin != after.admin),
        ("health", before.health != after.health),
        ("log.format", before.log.format != after.log.format),
    ];
    let differing: Vec<_> = keys.into_iter().filter(|(_, differs)| *differs).map(|(key, _)| key).collect();
    (!differing.is_empty()).then(|| differing.join(", "))
}

/// Everything but listeners.
pub(super) fn changes(before: &Config, after: &Config) -> Vec<String> {
    let mut changes = Vec::new();
    if before.server != after.server {
        changes.push("server changed".to_owned());
    }
    if before.log != after.log {
        changes.push("log changed".to_owned());
    }
    tables("upstream", &before.upstreams, &after.upstreams, &mut changes);
    tables("jwt", &before.jwt, &after.jwt, &mut changes);
    tables("filter", &before.filters, &after.filters, &mut changes);
    tables("store", &before.stores, &after.stores, &mut changes);
    let routes = |config: &Config| -> BTreeMap<String, _> {
        config.routes.iter().map(|route| (route.name.clone(), route.clone())).collect()
    };
    tables("route", &routes(before), &routes(after), &mut changes);
    let both = |config: &Config, other: &Config| -> Vec<String> {
        let names: BTreeSet<_> = other.routes.iter().map(|route| &route.name).collect();
        config.routes.iter().map(|route| route.name.clone()).filter(|name| names.contains(name)).collect()
    };
    if both(before, after) != both(after, before) {
        changes.push("order of routes changed".to_owned());
    }
    changes
}

/// What opening and closing sockets will say of itself.
pub(super) fn listeners(before: &Config, after: &Config) -> Vec<String> {
    let of = |config: &Config| -> BTreeMap<String, _> {
        config.listeners.iter().map(|listener| (listener.address.to_string(), listener.clone())).collect()
    };
    let mut changes = Vec::new();
    tables("listener", &of(before), &of(after), &mut changes);
    changes
}

fn tables<T: PartialEq>(
    what: &str,
    before: &BTreeMap<String, T>,
    after: &BTreeMap<String, T>,
    changes: &mut Vec<String>,
) {
    let names: BTreeSet<_> = before.keys().chain(after.keys()).collect();
    for name in names {
        let change = match (before.get(name), after.get(name)) {
            (Some(old), Some(new)) if old == new => continue,
            (Some(_), Some(_)) => "changed",
            (Some(_), None) => "removed",
            (None, _) => "added",
        };
        changes.push(format!("{what} {name} {change}"));
    }
}
