//! The cache of machine code: `compiled/` in the state directory. An entry is written beside its place, brought to the
//! disk and renamed, so that a reader finds a whole one or none; and it is read whole and checked before any of it runs,
//! so that whatever happened to the disk is found.

mod entry;
mod script;

use std::{
    collections::HashSet,
    fs::File,
    io::{self, Read},
    os::unix::fs::MetadataExt,
    time::SystemTime,
};

pub(super) use entry::{Damage, Key, MachineCode, ScriptKey};
pub(super) use script::Made;

use crate::state_dir::{PrivateFolder, StateDir, StateDirError};

/// The largest entry that is written or read. The machine code of a Python interpreter is a fifteenth of it.
pub(super) const ENTRY_BYTES: u64 = 512 << 20;
/// All entries together, where they outlive the process: thirty such interpreters, or a thousand Rust filters.
const KEPT_BYTES: u64 = 1 << 30;
/// The same in a temporary folder, which may lie in memory.
const TEMPORARY_BYTES: u64 = 256 << 20;
/// The folder below the state directory.
const FOLDER: &str = "compiled";
/// Another gateway that tidies up may take a draft between its making and its locking.
const ATTEMPTS: usize = 16;
/// Entries end with this.
const ENTRY: &str = ".code";
/// Components that scripts were made to end with this.
const MADE: &str = ".component";
/// What is being written ends with this.
const DRAFT: &str = ".draft";

/// The folder with the entries.
pub(super) struct Cache {
    folder: PrivateFolder,
    limit_bytes: u64,
}

impl Cache {
    /// Opens the folder and tidies it up.
    ///
    /// # Errors
    /// It cannot be had, or others could have changed it.
    pub(super) fn open(state_dir: &StateDir) -> Result<Self, StateDirError> {
        let limit_bytes = if state_dir.is_kept() { KEPT_BYTES } else { TEMPORARY_BYTES };
        let cache = Self { folder: state_dir.private_folder(FOLDER)?, limit_bytes };
        cache.tidy(&HashSet::new());
        Ok(cache)
    }

    /// Did somebody clear it away?
    pub(super) fn is_gone(&self) -> bool {
        self.folder.is_gone()
    }

    /// For messages.
    pub(super) fn path(&self) -> &std::path::Path {
        self.folder.path()
    }

    /// The machine code of a component, if it is there and unharmed. What is harmed is removed.
    pub(super) fn get(&self, key: &Key) -> Option<MachineCode> {
        self.read_or_remove(&file_name(key), |file| read(file, key))
    }

    fn read_or_remove<T>(&self, name: &str, read: impl FnOnce(&File) -> Result<T, Damage>) -> Option<T> {
        let file = match self.folder.read(name) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return None,
            Err(error) => {
                tracing::warn!(file = name, "compiled code is in the cache but cannot be read: {error}");
                return None;
            }
        };
        match read(&file) {
            Ok(content) => {
                // For the order in which entries go; another user's clock or a read-only disk is no reason to compile.
                let _ = file.set_modified(SystemTime::now());
                Some(content)
            }
            Err(damage) => {
                tracing::warn!(file = name, "compiled code in the cache is damaged, it is made anew: {damage}");
                if let Err(error) = self.folder.remove(name) {
                    tracing::warn!(file = name, "the damaged file stays: {error}");
                }
                None
            }
        }
    }

    /// A file to write an entry to.
    ///
    /// # Errors
    /// It cannot be made.
    pub(super) fn draft(&self) -> io::Result<Draft<'_>> {
        for _ in 0..ATTEMPTS {
            let name = format!("{:016x}{DRAFT}", rand::random::<u64>());
            let file = self.folder.create(&name)?;
            // Who tidies up leaves alone what is locked.
            file.lock()?;
            if file.metadata()?.nlink() > 0 {
                return Ok(Draft { folder: &self.folder, name, file, is_kept: false });
            }
        }
        Err(io::Error::other("other gateways remove what this one writes"))
    }

    /// Removes what killed gateways left half written, and entries beyond the limit: those first that were not asked for
    /// the longest. `in_use` are those of this process; they stay.
    pub(super) fn tidy(&self, in_use: &HashSet<String>) {
        let names = match self.folder.names() {
            Ok(names) => names,
            Err(error) => {
                tracing::warn!(folder = %self.path().display(), "the cache of compiled code cannot be tidied: {error}");
                return;
            }
        };
        let mut entries = Vec::new();
        for name in names {
            let Ok(file) = self.folder.read(&name) else { continue };
            if name.ends_with(DRAFT) {
                if file.try_lock().is_ok() {
                    let _ = self.folder.remove(&name);
                }
            } else if let (true, Ok(found)) = (name.ends_with(ENTRY) || name.ends_with(MADE), file.metadata()) {
                entries.push((found.modified().unwrap_or(SystemTime::UNIX_EPOCH), found.size(), name));
            }
        }
        entries.sort();
        let mut bytes: u64 = entries.iter().map(|(_, bytes, _)| bytes).sum();
        for (_, size, name) in entries {
            if bytes <= self.limit_bytes {
                return;
            }
            if !in_use.contains(&name) && self.folder.remove(&name).is_ok() {
                tracing::info!(file = name, "compiled code removed: the cache is over its limit");
                bytes -= size;
            }
        }
    }
}

/// A file that will be an entry. Removed when dropped, unless it was kept.
pub(super) struct Draft<'a> {
    folder: &'a PrivateFolder,
    name: String,
    pub(super) file: File,
    is_kept: bool,
}

impl Draft<'_> {
    /// Checks what was written.
    pub(super) fn check(&self, key: &Key) -> Result<MachineCode, Damage> {
        io::Seek::rewind(&mut &self.file).map_err(Damage::Unreadable)?;
        read(&self.file, key)
    }

    /// Makes it the entry of this name.
    ///
    /// # Errors
    /// It cannot be brought to the disk.
    pub(super) fn keep(mut self, entry: &str) -> io::Result<()> {
        self.file.sync_all()?;
        self.folder.rename(&self.name, entry)?;
        self.is_kept = true;
        Ok(())
    }
}

impl Drop for Draft<'_> {
    fn drop(&mut self) {
        if !self.is_kept {
            let _ = self.folder.remove(&self.name);
        }
    }
}

/// The component's SHA-256, as `sha256` of a filter has it, and the beginning of the engine's.
pub(super) fn file_name(key: &Key) -> String {
    format!("{}-{}{ENTRY}", key.component.hex(), &key.engine.hex()[..16])
}

fn read(file: &File, key: &Key) -> Result<MachineCode, Damage> {
    MachineCode::check(take(file)?, key)
}

/// One byte more than is accepted, so that what is too large is seen to be.
fn take(file: &File) -> Result<Vec<u8>, Damage> {
    let mut bytes = Vec::new();
    file.take(ENTRY_BYTES + 1).read_to_end(&mut bytes).map_err(Damage::Unreadable)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests;
