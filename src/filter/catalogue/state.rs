//! All files and folders, and the chains that they make.

use std::{collections::BTreeMap, path::PathBuf, sync::Arc, time::Instant};

use super::{
    LoadError,
    folder::Folder,
    orders::OrderError,
    quarantine::Quarantine,
    rollback::RolledBack,
    source::{Checked, Source, after},
    status::Row,
};
use crate::{
    config::{Allow, Candidate, ChainSource, Config},
    filter::{
        engine::Engine,
        generation::{Digest256, Role, Settings},
        live::Live,
        room::max_map_count,
    },
};

/// A file and what it is to its filter.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(super) struct Key {
    pub(super) name: String,
    pub(super) role: Role,
    pub(super) path: PathBuf,
}

impl Key {
    pub(super) fn main(name: impl Into<String>, path: PathBuf) -> Self {
        Self { name: name.into(), role: Role::Main, path }
    }
}

/// Owned by the thread that watches.
pub(super) struct State {
    pub(super) engine: Arc<Engine>,
    pub(super) config: Arc<Config>,
    pub(super) sources: BTreeMap<Key, Source>,
    pub(super) folders: BTreeMap<PathBuf, Folder>,
    pub(super) quarantine: Quarantine,
    pub(super) live: Live,
}

/// What a scan came to.
pub(super) struct Scanned {
    /// Chains changed.
    pub(super) live: Option<Live>,
    /// Look again then.
    pub(super) again: Option<Instant>,
}

impl State {
    pub(super) fn new(engine: Arc<Engine>, config: &Arc<Config>) -> Result<Self, LoadError> {
        let quarantine = Quarantine::open(config.server.state_dir.as_deref())?;
        let folders = folders(config);
        let (config, sources) = (config.clone(), BTreeMap::new());
        Ok(Self { engine, config, sources, folders, quarantine, live: Live::default() })
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
        for key in &used {
            self.load_now(key)?;
        }
        for key in self.candidates(&used) {
            let loaded = self.load_now(&key);
            self.tell_of_candidate(&key, loaded);
        }
        for key in self.unused(&used) {
            let loaded = self.load_now(&key);
            self.tell_of_unused(&key, loaded);
        }
        for generation in self.sources.values().filter_map(|source| source.current.as_ref()) {
            if let Some(max_sessions) = generation.max_sessions() {
                let (filter, max_map_count) = (&**generation.label(), max_map_count());
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

    pub(super) fn tell_of_candidate(&self, key: &Key, loaded: Result<(), LoadError>) {
        if let Err(error) = loaded {
            let (filter, cause) = (&*key.role.label(&key.name.as_str().into()), source_of(&error));
            tracing::error!(filter, cause, "without this candidate the filter serves alone: {error}");
        }
    }

    pub(super) fn tell_of_unused(&self, key: &Key, loaded: Result<(), LoadError>) {
        let file = key.path.display().to_string();
        match loaded {
            Ok(()) if self.sources.get(key).is_some_and(|source| source.current.is_some()) => {
                tracing::info!(filter = key.name, file, "a filter is loaded that no route uses");
            }
            // Quarantined, and said to be.
            Ok(()) => {}
            Err(error) => {
                let cause = source_of(&error);
                tracing::warn!(filter = key.name, file, cause, "a filter that no route uses is not loaded: {error}");
            }
        }
    }

    /// Looks at every folder and file, and loads what changed.
    pub(super) fn scan(&mut self) -> Scanned {
        let now = Instant::now();
        for folder in self.folders.values_mut() {
            folder.scan(now);
        }
        let used = self.used();
        let mut wanted = self.candidates(&used);
        wanted.extend(self.unused(&used));
        wanted.extend(used);
        self.follow_renames(&wanted);
        self.sources.retain(|key, _| wanted.contains(key));
        let mut again = self.folders.values().filter_map(Folder::next_removal).min();
        for key in wanted {
            self.enter(&key);
            let twin = self.twin_of(&key);
            let Some(source) = self.sources.get_mut(&key) else { continue };
            if let Some(twin) = twin {
                source.has_twin(&twin);
                continue;
            }
            if let Checked::Again(wait) = source.check(&self.engine, &self.quarantine) {
                let at = after(wait);
                again = Some(again.map_or(at, |again| again.min(at)));
            }
            source.older.retain(|generation| generation.strong_count() > 0);
        }
        Scanned { live: self.rebuild(), again }
    }

    /// The chains, where they are not those that are published.
    pub(super) fn rebuild(&mut self) -> Option<Live> {
        let live = self.build();
        (!live.same(&self.live)).then_some(live)
    }

    /// Every file of the filter goes back to what served before, where there is such a thing.
    ///
    /// # Errors
    /// Nothing changed.
    pub(super) fn roll_back(&mut self, filter: &str) -> Result<Vec<RolledBack>, OrderError> {
        let own = self.sources.iter_mut().filter(|(key, _)| key.role == Role::Main && key.name == filter);
        let mut results: Vec<_> = own.map(|(_, source)| source.roll_back(&self.engine, &mut self.quarantine)).collect();
        if results.is_empty() {
            return Err(OrderError::UnknownFilter);
        }
        if results.iter().any(Result::is_ok) {
            for (_, source) in self.sources.iter_mut().filter(|(key, _)| key.name == filter) {
                source.withdraw_canary(&self.quarantine);
            }
            return Ok(results.into_iter().flatten().collect());
        }
        // A reason that can be acted on comes before one that cannot.
        results.sort_by_key(|result| matches!(result, Err(OrderError::NothingBefore)));
        results.swap_remove(0).map(|rolled_back| vec![rolled_back])
    }

    /// A content may be loaded again. Answers whether a restart will know.
    ///
    /// # Errors
    /// It was not in quarantine.
    pub(super) fn lift(&mut self, filter: &str, sha256: &str) -> Result<bool, OrderError> {
        let persisted = self.quarantine.lift(filter, sha256).ok_or(OrderError::NotQuarantined)?;
        for (key, source) in self.sources.iter_mut().filter(|(key, _)| key.name == filter) {
            source.look_anew(key.path.clone());
        }
        tracing::warn!(filter, sha256, persisted, "a file is no longer quarantined");
        Ok(persisted)
    }

    /// What is to be published is what later scans compare with.
    pub(super) fn published(&mut self, live: &Live) {
        self.live = live.clone();
    }

    pub(super) fn rows(&self) -> Vec<Row> {
        let main = self.sources.iter().filter(|(key, _)| key.role == Role::Main);
        let row = |(key, source): (&Key, &Source)| {
            let candidate = |role, candidate: &Option<Candidate>| {
                let candidate = candidate.as_ref()?;
                let key = Key { name: key.name.clone(), role, path: candidate.file.clone() };
                Some((self.sources.get(&key)?, candidate.percent))
            };
            let filter = self.config.filters.get(&key.name);
            let canary = filter.and_then(|filter| candidate(Role::Canary, &filter.canary));
            let shadow = filter.and_then(|filter| candidate(Role::Shadow, &filter.shadow));
            Row::new(source, self.routes_of(key), self.quarantine.of(&key.name), canary, shadow)
        };
        main.map(row).collect()
    }

    /// Is every filter there that a route needs?
    pub(super) fn complete(&self) -> bool {
        let required = self.folders.values().all(|folder| {
            folder.required.iter().all(|name| folder.entries.get(name).is_some_and(|entry| entry.good.is_some()))
        });
        self.live.is_complete() && required
    }

    fn load_now(&mut self, key: &Key) -> Result<(), LoadError> {
        let (source, loaded) = self.first_look(key);
        self.sources.insert(key.clone(), source);
        loaded
    }

    /// Loads a file that is not among the sources yet.
    pub(super) fn first_look(&self, key: &Key) -> (Source, Result<(), LoadError>) {
        let mut source = self.source(key);
        if let Some(twin) = self.twin_of(key) {
            let (path, filter) = (self.config.server.filter_dir.clone(), key.name.clone());
            let [first, second] = [&key.path, &twin].map(|file| file.display().to_string());
            source.has_twin(&twin);
            return (source, Err(LoadError::Twins { path, filter, first, second }));
        }
        let loaded = source.load_now(&self.engine, &self.quarantine);
        (source, loaded)
    }

    /// From now on there is a source for it.
    fn enter(&mut self, key: &Key) {
        if !self.sources.contains_key(key) {
            self.sources.insert(key.clone(), self.source(key));
        }
    }

    fn source(&self, key: &Key) -> Source {
        let (settings, pin) = self.made_with(key);
        Source::new(&self.engine, key.name.as_str().into(), key.role, key.path.clone(), settings, pin)
    }

    /// What the configuration says of a file, and the only content that is accepted.
    pub(super) fn made_with(&self, key: &Key) -> (Settings, Option<Digest256>) {
        let mut filter = self.settings_of(&key.name);
        if key.role == Role::Shadow {
            // It is asked and not obeyed: without a right, imports that reach something answer that it is denied.
            filter.allow = Allow::default();
        }
        // The pin is for the file that serves.
        let pin = filter.sha256.filter(|_| key.role == Role::Main).map(Digest256);
        (Settings::new(&filter, self.largest_payload(&key.name)), pin)
    }
}

/// Those that routes use, not looked into yet.
pub(super) fn folders(config: &Config) -> BTreeMap<PathBuf, Folder> {
    let candidates = || config.filters.values().flat_map(|filter| [&filter.canary, &filter.shadow]).flatten();
    let mut folders = BTreeMap::<PathBuf, Folder>::new();
    for route in &config.routes {
        if let ChainSource::Folder { path, required, removal_grace } = &route.filters {
            let files = candidates().map(|candidate| &candidate.file);
            let folder = folders.entry(path.clone()).or_insert_with(|| Folder::new(path.clone(), files));
            folder.require(required, *removal_grace);
        }
    }
    folders
}

fn source_of(error: &LoadError) -> Option<String> {
    std::error::Error::source(error).map(ToString::to_string)
}
