//! All files and folders, and the chains that they make.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
    sync::Arc,
    time::Instant,
};

use super::{
    LoadError,
    folder::{Folder, filter_name, wasm_files},
    source::{Checked, Source, after},
    status::Row,
};
use crate::{
    config::{ChainSource, Config, Filter, Route},
    filter::{
        engine::Engine,
        generation::{Digest256, Generation, Settings},
        live::{ChainSpec, Live},
        room::max_map_count,
    },
};

/// Name and file of a filter.
type Key = (String, PathBuf);

/// Owned by the thread that watches.
pub(super) struct State {
    engine: Arc<Engine>,
    config: Arc<Config>,
    sources: BTreeMap<Key, Source>,
    folders: BTreeMap<PathBuf, Folder>,
    live: Live,
}

/// What a scan came to.
pub(super) struct Scanned {
    /// Chains changed.
    pub(super) live: Option<Live>,
    /// Look again then.
    pub(super) again: Option<Instant>,
}

impl State {
    pub(super) fn new(engine: Arc<Engine>, config: &Arc<Config>) -> Self {
        let mut folders = BTreeMap::<PathBuf, Folder>::new();
        for route in &config.routes {
            if let ChainSource::Folder { path, required, removal_grace } = &route.filters {
                let folder = folders.entry(path.clone()).or_insert_with(|| Folder::new(path.clone()));
                folder.require(required, *removal_grace);
            }
        }
        Self { engine, config: config.clone(), sources: BTreeMap::new(), folders, live: Live::default() }
    }

    /// Loads what routes name, and then the rest.
    ///
    /// # Errors
    /// Something that a route names cannot be loaded.
    pub(super) fn start(&mut self) -> Result<Live, LoadError> {
        for folder in self.folders.values_mut() {
            folder.start()?;
            if folder.entries.is_empty() {
                tracing::warn!(folder = %folder.path.display(), "a filters_folder is empty: its routes have no filters");
            }
        }
        let used = self.used();
        let engine = self.engine.clone();
        for key in &used {
            self.source(key).load_now(&engine)?;
        }
        for key in self.unused(&used) {
            let file = key.1.display().to_string();
            match self.source(&key).load_now(&engine) {
                Ok(()) => tracing::info!(filter = key.0, file, "a filter is loaded that no route uses"),
                Err(error) => {
                    let cause = std::error::Error::source(&error).map(ToString::to_string);
                    tracing::warn!(filter = key.0, file, cause, "a filter that no route uses is not loaded: {error}");
                }
            }
        }
        for generation in self.sources.values().filter_map(|source| source.current.as_ref()) {
            if let Some(max_sessions) = generation.max_sessions() {
                let (filter, max_map_count) = (&**generation.filter(), max_map_count());
                let maps_per_session = generation.maps();
                tracing::info!(
                    filter,
                    max_sessions,
                    maps_per_session,
                    max_map_count,
                    "each connection has an instance of its own: this machine holds max_sessions of them"
                );
            }
        }
        Ok(self.build())
    }

    /// Looks at every folder and file, and loads what changed.
    pub(super) fn scan(&mut self) -> Scanned {
        let now = Instant::now();
        for folder in self.folders.values_mut() {
            folder.scan(now);
        }
        let used = self.used();
        let unused = self.unused(&used);
        let wanted: Vec<_> = used.iter().chain(&unused).cloned().collect();
        self.sources.retain(|key, _| wanted.contains(key));
        let known: Vec<_> = self.folders.values().flat_map(Folder::chain).collect();
        let mut again = self.folders.values().filter_map(Folder::next_removal).min();
        let engine = self.engine.clone();
        for key in wanted {
            let source = self.source(&key);
            if let Checked::Again(wait) = source.check(&engine, &known) {
                let at = after(wait);
                again = Some(again.map_or(at, |again| again.min(at)));
            }
            source.older.retain(|generation| generation.strong_count() > 0);
        }
        let live = self.build();
        Scanned { live: (!live.same(&self.live)).then_some(live), again }
    }

    /// What is to be published is what later scans compare with.
    pub(super) fn published(&mut self, live: &Live) {
        self.live = live.clone();
    }

    /// Every directory in which something may change.
    pub(super) fn directories(&self) -> BTreeSet<PathBuf> {
        let files = self.sources.keys().filter_map(|(_, path)| path.parent().map(Path::to_owned));
        let folders = self.folders.keys().cloned();
        files.chain(folders).chain([self.config.server.filter_dir.clone()]).collect()
    }

    pub(super) fn rows(&self) -> Vec<Row> {
        self.sources.iter().map(|(key, source)| Row::new(source, self.routes_of(key))).collect()
    }

    /// Is every filter there that a route needs?
    pub(super) fn complete(&self) -> bool {
        let named = self.config.routes.iter().all(|route| match &route.filters {
            ChainSource::Names(names) => names.len() == self.live.chain(&route.name).filters().len(),
            ChainSource::Folder { .. } => true,
        });
        let required = self.folders.values().all(|folder| {
            folder.required.iter().all(|name| folder.entries.get(name).is_some_and(|entry| entry.good.is_some()))
        });
        named && required
    }

    /// The files that chains are made of.
    fn used(&self) -> BTreeSet<Key> {
        let mut used = BTreeSet::new();
        for route in &self.config.routes {
            if let ChainSource::Names(names) = &route.filters {
                used.extend(names.iter().map(|name| (name.clone(), self.settings_of(name).file)));
            }
        }
        for folder in self.folders.values() {
            let entries = folder.entries.iter();
            used.extend(entries.map(|(name, entry)| (name.clone(), folder.path.join(&entry.file_name))));
        }
        used
    }

    /// Configured filters and files of `filter_dir` that no route uses.
    fn unused(&self, used: &BTreeSet<Key>) -> Vec<Key> {
        let mut unused: Vec<Key> =
            self.config.filters.iter().map(|(name, filter)| (name.clone(), filter.file.clone())).collect();
        // The table of a filter that is in a folder need not have a file of its own.
        unused.retain(|(name, path)| path.exists() || !used.iter().any(|(known, _)| known == name));
        let folder = &self.config.server.filter_dir;
        // The folder of named filters need not exist where every filter has a file of its own.
        for file in wasm_files(folder).unwrap_or_default() {
            if let Some(name) = filter_name(&file) {
                unused.push((name.to_owned(), folder.join(&file)));
            }
        }
        let paths: BTreeSet<_> = used.iter().map(|(_, path)| path.clone()).collect();
        unused.retain(|key| !used.contains(key));
        let mut seen = paths;
        unused.retain(|(_, path)| seen.insert(path.clone()));
        unused
    }

    fn source(&mut self, key: &Key) -> &mut Source {
        let filter = self.settings_of(&key.0);
        let largest_payload = self.largest_payload(&key.0);
        self.sources.entry(key.clone()).or_insert_with(|| {
            let settings = Settings::new(&filter, largest_payload);
            Source::new(key.0.as_str().into(), key.1.clone(), settings, filter.sha256.map(Digest256))
        })
    }

    fn settings_of(&self, name: &str) -> Filter {
        self.config
            .filters
            .get(name)
            .cloned()
            .unwrap_or_else(|| Filter::with_defaults(self.config.server.filter_dir.join(format!("{name}.wasm"))))
    }

    fn uses(&self, route: &Route, name: &str) -> bool {
        match &route.filters {
            ChainSource::Names(names) => names.iter().any(|known| known == name),
            ChainSource::Folder { path, .. } => {
                self.folders.get(path).is_some_and(|folder| folder.entries.contains_key(name))
            }
        }
    }

    fn routes_of(&self, key: &Key) -> Vec<String> {
        let has = |route: &&Route| {
            self.uses(route, &key.0)
                && match &route.filters {
                    ChainSource::Names(_) => self.settings_of(&key.0).file == key.1,
                    ChainSource::Folder { path, .. } => key.1.parent() == Some(path),
                }
        };
        self.config.routes.iter().filter(has).map(|route| route.name.clone()).collect()
    }

    /// Of the routes that use the filter; of all where none does.
    fn largest_payload(&self, name: &str) -> usize {
        let largest =
            |route: &Route| route.limits.client_max_payload_bytes.max(route.limits.upstream_max_payload_bytes);
        let routes = &self.config.routes;
        let using = routes.iter().filter(|route| self.uses(route, name)).map(largest).max();
        using.or_else(|| routes.iter().map(largest).max()).unwrap_or(1 << 20)
    }

    fn build(&mut self) -> Live {
        for folder in self.folders.values_mut() {
            for (name, entry) in &mut folder.entries {
                let key = (name.clone(), folder.path.join(&entry.file_name));
                if let Some(good) = self.sources.get(&key).and_then(|source| source.current.clone()) {
                    entry.good = Some(good);
                }
            }
        }
        let chains = self.config.routes.iter().map(|route| {
            let filters: Vec<Arc<Generation>> = match &route.filters {
                ChainSource::Names(names) => names.iter().filter_map(|name| self.named(name)).collect(),
                ChainSource::Folder { path, .. } => self.folders.get(path).map(Folder::chain).unwrap_or_default(),
            };
            (route.name.clone(), ChainSpec::new(filters, &route.limits))
        });
        Live::new(chains.collect(), &self.live)
    }

    fn named(&self, name: &str) -> Option<Arc<Generation>> {
        self.sources.get(&(name.to_owned(), self.settings_of(name).file))?.current.clone()
    }
}
