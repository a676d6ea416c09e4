//! A `filters_folder`: its files in name order are a chain. Adding counts at once, removing only after a while.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs, io,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use super::LoadError;
use crate::{config::is_filter_file, filter::generation::Generation};

/// A folder that routes use.
pub(super) struct Folder {
    pub(super) path: PathBuf,
    pub(super) required: BTreeSet<String>,
    /// Files that are canaries or shadows of filters, not filters of their own.
    candidates: BTreeSet<String>,
    grace: Duration,
    pub(super) entries: BTreeMap<String, Entry>,
    /// Why its present content does not count.
    error: Option<String>,
}

/// One filter of a folder.
#[derive(Clone)]
pub(super) struct Entry {
    pub(super) file_name: String,
    /// When its file was first found gone.
    gone_since: Option<Instant>,
    /// What serves, whatever happens to the file.
    pub(super) good: Option<Arc<Generation>>,
}

impl Folder {
    /// `candidates` are the files of all canaries and shadows.
    pub(super) fn new<'a>(path: PathBuf, candidates: impl Iterator<Item = &'a PathBuf>) -> Self {
        let own = candidates.filter(|file| file.parent() == Some(&path));
        let names = own.filter_map(|file| Some(file.file_name()?.to_str()?.to_owned()));
        Self {
            candidates: names.collect(),
            path,
            required: BTreeSet::new(),
            grace: Duration::ZERO,
            entries: BTreeMap::new(),
            error: None,
        }
    }

    /// A further route uses it.
    pub(super) fn require(&mut self, required: &[String], grace: Duration) {
        self.required.extend(required.iter().cloned());
        self.grace = self.grace.max(grace);
    }

    /// Goes on where this one was: what it had loaded, and when files were found gone.
    pub(super) fn take_over(&mut self, before: &Self) {
        self.entries = before.entries.clone();
        self.error.clone_from(&before.error);
    }

    /// A filter without which its route must not serve, and which is not there.
    ///
    /// # Errors
    /// The first one.
    pub(super) fn check_required(&self) -> Result<(), LoadError> {
        match self.required.iter().find(|name| !self.entries.contains_key(*name)) {
            Some(filter) => Err(LoadError::Required { path: self.path.clone(), filter: filter.clone() }),
            None => Ok(()),
        }
    }

    /// The first look.
    ///
    /// # Errors
    /// It cannot be read, or what is in it is no chain.
    pub(super) fn start(&mut self) -> Result<(), LoadError> {
        let files = filter_files(&self.path).map_err(|source| LoadError::Folder { path: self.path.clone(), source })?;
        let named = self.named(files)?;
        self.take(named, Instant::now());
        self.check_required()
    }

    /// Looks what changed. A folder that is empty or cannot be read changes nothing.
    pub(super) fn scan(&mut self, now: Instant) {
        let found = match filter_files(&self.path) {
            Ok(files) if files.is_empty() && !self.entries.is_empty() => Err("it is empty".to_owned()),
            Ok(files) => self.named(files).map_err(|error| error.to_string()),
            Err(error) => Err(error.to_string()),
        };
        match found {
            Ok(named) => {
                self.error = None;
                self.take(named, now);
            }
            Err(error) => {
                if self.error.as_ref() != Some(&error) {
                    let folder = self.path.display().to_string();
                    tracing::error!(folder, "the filters of a folder stay as they were: {error}");
                }
                self.error = Some(error);
            }
        }
    }

    /// When a removal counts next.
    pub(super) fn next_removal(&self) -> Option<Instant> {
        let removable = self.entries.iter().filter(|(name, _)| !self.required.contains(*name));
        removable.filter_map(|(_, entry)| entry.gone_since).min().map(|since| since + self.grace)
    }

    /// The filters in the order of file names.
    pub(super) fn chain(&self) -> Vec<(&String, &Entry)> {
        let mut entries: Vec<_> = self.entries.iter().collect();
        entries.sort_by(|a, b| a.1.file_name.cmp(&b.1.file_name));
        entries
    }

    fn named(&self, files: Vec<String>) -> Result<BTreeMap<String, String>, LoadError> {
        let mut named = BTreeMap::<String, String>::new();
        for file in files {
            if self.candidates.contains(&file) {
                continue;
            }
            let Some(filter) = filter_name(&file) else { continue };
            if let Some(first) = named.insert(filter.to_owned(), file.clone()) {
                let (path, filter) = (self.path.clone(), filter.to_owned());
                return Err(LoadError::Duplicate { path, filter, first, second: file });
            }
        }
        Ok(named)
    }

    fn take(&mut self, named: BTreeMap<String, String>, now: Instant) {
        let folder = self.path.display().to_string();
        let (required, grace) = (&self.required, self.grace);
        self.entries.retain(|name, entry| {
            if named.contains_key(name) {
                return true;
            }
            let since = *entry.gone_since.get_or_insert_with(|| {
                let required = required.contains(name);
                tracing::warn!(folder, filter = name, required, "a filter's file is gone from its folder");
                now
            });
            let keep = required.contains(name) || now < since + grace;
            if !keep {
                tracing::warn!(folder, filter = name, "filter removed from its folder");
            }
            keep
        });
        for (name, file_name) in named {
            let entry = self.entries.entry(name).or_insert_with(|| Entry {
                file_name: String::new(),
                gone_since: None,
                good: None,
            });
            entry.file_name = file_name;
            entry.gone_since = None;
        }
    }
}

/// The names of the components and scripts of a folder, sorted.
pub(super) fn filter_files(folder: &Path) -> io::Result<Vec<String>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder)? {
        let name = entry?.file_name();
        if let Some(name) = name.to_str()
            && is_filter_file(name.as_ref())
            && !name.starts_with('.')
        {
            files.push(name.to_owned());
        }
    }
    files.sort();
    Ok(files)
}

/// `20-redact.wasm` and `redact.js` are the filter `redact`.
pub(super) fn filter_name(file: &str) -> Option<&str> {
    let path = Path::new(file);
    let stem = path.file_stem()?.to_str().filter(|_| is_filter_file(path))?;
    let name = match stem.split_once('-') {
        Some((number, rest)) if !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit()) => rest,
        _ => stem,
    };
    (!name.is_empty()).then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_before_the_name_only_orders() {
        assert_eq!(filter_name("20-redact.wasm"), Some("redact"));
        assert_eq!(filter_name("redact.wasm"), Some("redact"));
        assert_eq!(filter_name("20-redact.js"), Some("redact"));
        assert_eq!(filter_name("re-dact.wasm"), Some("re-dact"));
        assert_eq!(filter_name("20-.wasm"), None);
        assert_eq!(filter_name("20.wasm"), Some("20"));
        assert_eq!(filter_name("redact.wasm.tmp"), None);
    }
}
