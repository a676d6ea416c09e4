//! The contents that were rolled back from: they are not loaded again, also after a restart where there is a `state_dir`.

use std::{
    fs::{self, DirBuilder, File, OpenOptions},
    io::{self, Read, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
    time::SystemTime,
};

use serde::{Deserialize, Serialize};

use super::{LoadError, status::unix_ms};
use crate::filter::generation::Digest256;

/// More are not kept: the oldest goes.
const ENTRIES: usize = 256;
/// Larger than so many entries can be.
const FILE_BYTES: u64 = 1 << 20;

const FILE: &str = "quarantine.json";
const PART: &str = ".quarantine.json.part";

/// A content of a filter's file that is not loaded.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Quarantined {
    /// Of the file, in 64 hexadecimal digits.
    pub sha256: String,
    /// When it was rolled back, in milliseconds of Unix time.
    pub since_unix_ms: u64,
}

#[derive(Clone, Debug, Deserialize, Serialize)]
struct Entry {
    filter: String,
    #[serde(flatten)]
    content: Quarantined,
}

/// What is in the file.
#[derive(Deserialize, Serialize)]
struct Kept {
    quarantined: Vec<Entry>,
}

/// Owned by the thread that watches.
#[derive(Default)]
pub(super) struct Quarantine {
    folder: Option<PathBuf>,
    /// Oldest first.
    entries: Vec<Entry>,
    /// The last change is not in the file.
    unsaved: bool,
}

impl Quarantine {
    /// What earlier runs left in this folder.
    ///
    /// # Errors
    /// Something is there that cannot be read: without it a bad filter might be loaded again.
    pub(super) fn open(state_dir: Option<&Path>) -> Result<Self, LoadError> {
        let Some(folder) = state_dir else { return Ok(Self::default()) };
        let entries = read(folder).map_err(|source| LoadError::Quarantine { file: folder.join(FILE), source })?;
        Ok(Self { folder: Some(folder.to_owned()), entries, unsaved: false })
    }

    pub(super) fn holds(&self, filter: &str, content: &Digest256) -> bool {
        let sha256 = content.hex();
        self.entries.iter().any(|entry| entry.filter == filter && entry.content.sha256 == sha256)
    }

    /// A filter's, oldest first.
    pub(super) fn of(&self, filter: &str) -> Vec<Quarantined> {
        self.entries.iter().filter(|entry| entry.filter == filter).map(|entry| entry.content.clone()).collect()
    }

    /// Answers whether a restart will know of it. It counts at once in any case.
    pub(super) fn add(&mut self, filter: &str, content: &Digest256) -> bool {
        let content = Quarantined { sha256: content.hex(), since_unix_ms: unix_ms(SystemTime::now()) };
        let entry = Entry { filter: filter.to_owned(), content };
        self.change(|entries| {
            entries.retain(|known| known.filter != entry.filter || known.content.sha256 != entry.content.sha256);
            entries.push(entry);
            let surplus = entries.len().saturating_sub(ENTRIES);
            for dropped in entries.drain(..surplus) {
                let (filter, sha256) = (dropped.filter, dropped.content.sha256);
                tracing::warn!(filter, sha256, "more than {ENTRIES} files are quarantined: the oldest no longer is");
            }
        })
    }

    /// Answers whether a restart will know of it; `None` where it was not in quarantine.
    pub(super) fn lift(&mut self, filter: &str, sha256: &str) -> Option<bool> {
        let is_it = |entry: &Entry| entry.filter == filter && entry.content.sha256 == sha256;
        self.entries.iter().any(is_it).then(|| self.change(|entries| entries.retain(|entry| !is_it(entry))))
    }

    fn change(&mut self, change: impl FnOnce(&mut Vec<Entry>)) -> bool {
        let Some(folder) = self.folder.clone() else {
            change(&mut self.entries);
            return false;
        };
        // Another process may have the same folder.
        if !self.unsaved
            && let Ok(entries) = read(&folder)
        {
            self.entries = entries;
        }
        change(&mut self.entries);
        let written = write(&folder, &self.entries);
        if let Err(error) = &written {
            let file = folder.join(FILE).display().to_string();
            tracing::error!(file, "a change of the quarantine is lost with the next restart: {error}");
        }
        self.unsaved = written.is_err();
        !self.unsaved
    }
}

fn read(folder: &Path) -> io::Result<Vec<Entry>> {
    let file = match File::open(folder.join(FILE)) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let mut bytes = Vec::new();
    file.take(FILE_BYTES + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > FILE_BYTES {
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, format!("larger than {} MiB", FILE_BYTES >> 20)));
    }
    let kept: Kept = serde_json::from_slice(&bytes)?;
    Ok(kept.quarantined)
}

/// The file is whole at any time: it is written beside its place and renamed into it.
fn write(folder: &Path, entries: &[Entry]) -> io::Result<()> {
    let json = serde_json::to_vec_pretty(&Kept { quarantined: entries.to_vec() })?;
    DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    let part = folder.join(PART);
    match fs::remove_file(&part) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        Ok(()) | Err(_) => {}
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&part)?;
    file.write_all(&json)?;
    file.sync_all()?;
    fs::rename(&part, folder.join(FILE))?;
    File::open(folder)?.sync_all()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt;

    use super::*;

    fn content(n: u32) -> Digest256 {
        Digest256::of(&n.to_le_bytes())
    }

    #[test]
    fn what_is_added_is_there_after_a_restart_until_it_is_lifted() {
        let folder = tempfile::tempdir().unwrap();
        let state = folder.path().join("deep/state");
        let open = || Quarantine::open(Some(&state)).unwrap();
        let mut first = open();
        assert!(first.add("redact", &content(1)));
        assert!(first.add("stamp", &content(2)));
        assert_eq!(fs::metadata(state.join(FILE)).unwrap().mode() & 0o777, 0o600);
        assert!(!state.join(PART).exists());
        let mut second = open();
        assert!(second.holds("redact", &content(1)) && !second.holds("redact", &content(2)));
        assert_eq!(second.lift("redact", &content(2).hex()), None);
        assert_eq!(second.lift("redact", &content(1).hex()), Some(true));
        // The first process learns of it with its own next change.
        assert!(first.add("stamp", &content(3)));
        assert!(!open().holds("redact", &content(1)) && open().holds("stamp", &content(2)));
    }

    #[test]
    fn without_a_folder_it_lasts_as_long_as_the_process() {
        let mut quarantine = Quarantine::open(None).unwrap();
        assert!(!quarantine.add("redact", &content(1)));
        assert!(quarantine.holds("redact", &content(1)));
        assert_eq!(quarantine.lift("redact", &content(1).hex()), Some(false));
    }

    #[test]
    fn a_folder_that_cannot_be_written_changes_memory_alone() {
        let folder = tempfile::tempdir().unwrap();
        let mut quarantine = Quarantine::open(Some(folder.path())).unwrap();
        // A folder in the place of the file that is written.
        fs::create_dir(folder.path().join(PART)).unwrap();
        assert!(!quarantine.add("redact", &content(1)));
        assert!(quarantine.holds("redact", &content(1)));
        fs::remove_dir(folder.path().join(PART)).unwrap();
        assert!(quarantine.add("redact", &content(2)));
        assert!(Quarantine::open(Some(folder.path())).unwrap().holds("redact", &content(1)));
    }

    #[test]
    fn entries_are_bounded_and_the_oldest_goes() {
        let mut quarantine = Quarantine::default();
        for n in 0..=256 {
            quarantine.add("redact", &content(n));
        }
        assert_eq!(quarantine.of("redact").len(), ENTRIES);
        assert!(!quarantine.holds("redact", &content(0)) && quarantine.holds("redact", &content(256)));
    }

    #[test]
    fn what_cannot_be_read_is_refused_with_its_place() {
        let folder = tempfile::tempdir().unwrap();
        for text in ["", "{}", "{\"quarantined\": 1}", "[]"] {
            fs::write(folder.path().join(FILE), text).unwrap();
            let error = Quarantine::open(Some(folder.path())).map(|_| ()).unwrap_err();
            assert!(error.to_string().contains(FILE), "{error}");
        }
    }
}
