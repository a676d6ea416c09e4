//! A temporary folder that goes with the process; what a killed process left behind goes at the next start.

use std::{
    env,
    fs::{self, File, TryLockError},
    io,
    os::unix::fs::{DirBuilderExt, MetadataExt},
    path::{Path, PathBuf},
};

use rustix::process::geteuid;

use super::StateDirError;

/// What is swept away has this at its beginning.
const PREFIX: &str = "wsgate-state-";
/// So many folders of others are looked at; the folder for temporary files may be anybody's.
const SWEEP_ENTRIES: usize = 10_000;
/// A gateway that starts at the same moment may sweep a folder away between its making and its locking.
const ATTEMPTS: usize = 16;

/// Removed when dropped.
pub(super) struct Temporary {
    path: PathBuf,
    /// Held as long as the folder is in use: neither a gateway that sweeps nor a cleaner of temporary files takes it.
    _lock: File,
}

impl Temporary {
    pub(super) fn make() -> Result<Self, StateDirError> {
        let parent = env::temp_dir();
        sweep(&parent);
        let mut path = parent.clone();
        for _ in 0..ATTEMPTS {
            path = parent.join(format!("{PREFIX}{:016x}", rand::random::<u64>()));
            match made_and_locked(&path) {
                Ok(Some(lock)) => return Ok(Self { path, _lock: lock }),
                Ok(None) => {}
                Err(cause) => return Err(StateDirError::Unusable { path, cause }),
            }
        }
        Err(StateDirError::Unusable { path, cause: io::Error::other("other gateways sweep it away each time") })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(&self.path) {
            tracing::debug!(folder = %self.path.display(), "a temporary folder stays: {error}");
        }
    }
}

/// `None` if another gateway swept it away at once.
fn made_and_locked(path: &Path) -> io::Result<Option<File>> {
    fs::DirBuilder::new().mode(0o700).create(path)?;
    let folder = match File::open(path) {
        Ok(folder) => folder,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    match folder.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => return Ok(None),
        Err(TryLockError::Error(error)) => return Err(error),
    }
    let own = folder.metadata()?.ino();
    Ok(fs::symlink_metadata(path).is_ok_and(|now| now.ino() == own).then_some(folder))
}

/// Removes what gateways of this user left that were killed.
fn sweep(parent: &Path) {
    let Ok(entries) = fs::read_dir(parent) else { return };
    for entry in entries.take(SWEEP_ENTRIES).flatten() {
        let own = |found: fs::Metadata| found.is_dir() && found.uid() == geteuid().as_raw();
        if !entry.file_name().to_string_lossy().starts_with(PREFIX) || !entry.metadata().is_ok_and(own) {
            continue;
        }
        if let Ok(folder) = File::open(entry.path())
            && folder.try_lock().is_ok()
            && let Err(error) = fs::remove_dir_all(entry.path())
        {
            tracing::debug!(folder = %entry.path().display(), "what a killed gateway left stays: {error}");
        }
    }
}
