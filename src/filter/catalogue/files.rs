//! Which files there are: those that chains are made of, their candidates, and the rest.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
};

use super::{
    folder::{filter_files, filter_name},
    state::{Key, State},
};
use crate::{
    config::{ChainSource, Filter, Route, filter_file, twin},
    filter::generation::Role,
};

impl State {
    /// Every directory in which something may change.
    pub(super) fn directories(&self) -> BTreeSet<PathBuf> {
        let files = self.sources.keys().filter_map(|key| key.path.parent().map(Path::to_owned));
        let folders = self.folders.keys().cloned();
        files.chain(folders).chain([self.config.server.filter_dir.clone()]).collect()
    }

    /// The files that chains are made of.
    pub(super) fn used(&self) -> BTreeSet<Key> {
        let mut used = BTreeSet::new();
        for route in &self.config.routes {
            if let ChainSource::Names(names) = &route.filters {
                used.extend(names.iter().map(|name| Key::main(name, self.settings_of(name).file)));
            }
        }
        for folder in self.folders.values() {
            let entries = folder.entries.iter();
            used.extend(entries.map(|(name, entry)| Key::main(name, folder.path.join(&entry.file_name))));
        }
        used
    }

    /// Canaries and shadows of the filters that chains are made of.
    pub(super) fn candidates(&self, used: &BTreeSet<Key>) -> BTreeSet<Key> {
        let mut candidates = BTreeSet::new();
        for key in used {
            let filter = self.config.filters.get(&key.name);
            let Some(Filter { canary, shadow, .. }) = filter else { continue };
            for (role, candidate) in [(Role::Canary, canary), (Role::Shadow, shadow)] {
                let file = candidate.iter().map(|candidate| candidate.file.clone());
                candidates.extend(file.map(|path| Key { name: key.name.clone(), role, path }));
            }
        }
        candidates
    }

    /// A filter whose file got another name in its folder keeps what is known of it.
    pub(super) fn follow_renames(&mut self, wanted: &BTreeSet<Key>) {
        let gone: Vec<Key> = self.sources.keys().filter(|key| !wanted.contains(*key)).cloned().collect();
        for old in gone {
            let same_place =
                |new: &&Key| new.name == old.name && new.role == old.role && new.path.parent() == old.path.parent();
            // The new file may be known already, as one that was refused while the old one was there: what served goes on.
            let serves = |key: &Key| self.sources.get(key).is_some_and(|source| source.current.is_some());
            let new = wanted.iter().filter(same_place).find(|new| !serves(new));
            if let Some(new) = new
                && let Some(mut source) = self.sources.remove(&old)
            {
                source.look_anew(new.path.clone());
                self.sources.insert(new.clone(), source);
            }
        }
    }

    /// Configured filters and files of `filter_dir` that no route uses.
    pub(super) fn unused(&self, used: &BTreeSet<Key>) -> Vec<Key> {
        let filters = self.config.filters.iter();
        let mut unused: Vec<Key> = filters.map(|(name, filter)| Key::main(name, filter.file.clone())).collect();
        // The table of a filter that is in a folder need not have a file of its own.
        unused.retain(|key| key.path.exists() || !used.iter().any(|known| known.name == key.name));
        let folder = &self.config.server.filter_dir;
        // The folder of named filters need not exist where every filter has a file of its own.
        for file in filter_files(folder).unwrap_or_default() {
            if let Some(name) = filter_name(&file) {
                unused.push(Key::main(name, folder.join(&file)));
            }
        }
        let mut seen: BTreeSet<_> = used.iter().map(|key| key.path.clone()).collect();
        let candidates = self.config.filters.values().flat_map(|filter| [&filter.canary, &filter.shadow]);
        seen.extend(candidates.flatten().map(|candidate| candidate.file.clone()));
        unused.retain(|key| !used.contains(key) && seen.insert(key.path.clone()));
        unused
    }

    pub(super) fn settings_of(&self, name: &str) -> Filter {
        let place = self.place_of(name);
        let Some(filter) = self.config.filters.get(name) else { return Filter::with_defaults(place) };
        let mut filter = filter.clone();
        if filter.file == place || filter.file == twin(&place) {
            filter.file = place;
        }
        filter
    }

    /// Where a filter without a file of its own has it: a script may take the place of a component, and the other way
    /// round. Where there are both, it is the one that serves, whatever else is known of the other.
    fn place_of(&self, name: &str) -> PathBuf {
        let place = filter_file(&self.config.server.filter_dir, name);
        let twin = twin(&place);
        let serves = |path: &PathBuf| {
            self.sources.get(&Key::main(name, path.clone())).is_some_and(|source| source.current.is_some())
        };
        if serves(&twin) && !serves(&place) && twin.is_file() { twin } else { place }
    }

    /// The other file of the same name in `filter_dir`: nothing says which of the two is meant.
    pub(super) fn twin_of(&self, key: &Key) -> Option<PathBuf> {
        let place = key.path.parent() == Some(&self.config.server.filter_dir) && key.role == Role::Main;
        let is_by_name = || key.path.file_stem().is_some_and(|stem| stem == key.name.as_str());
        let twin = (place && is_by_name()).then(|| twin(&key.path))?;
        (twin.is_file() && key.path.is_file()).then_some(twin)
    }

    pub(super) fn uses(&self, route: &Route, name: &str) -> bool {
        match &route.filters {
            ChainSource::Names(names) => names.iter().any(|known| known == name),
            ChainSource::Folder { path, .. } => {
                self.folders.get(path).is_some_and(|folder| folder.entries.contains_key(name))
            }
        }
    }

    pub(super) fn routes_of(&self, key: &Key) -> Vec<String> {
        let has = |route: &&Route| {
            self.uses(route, &key.name)
                && match &route.filters {
                    ChainSource::Names(_) => self.settings_of(&key.name).file == key.path,
                    ChainSource::Folder { path, .. } => key.path.parent() == Some(path),
                }
        };
        self.config.routes.iter().filter(has).map(|route| route.name.clone()).collect()
    }

    /// Of the routes that use the filter; of all where none does.
    pub(super) fn largest_payload(&self, name: &str) -> usize {
        let largest =
            |route: &Route| route.limits.client_max_payload_bytes.max(route.limits.upstream_max_payload_bytes);
        let routes = &self.config.routes;
        let using = routes.iter().filter(|route| self.uses(route, name)).map(largest).max();
        using.or_else(|| routes.iter().map(largest).max()).unwrap_or(1 << 20)
    }
}
