//! `[server] state_dir`: where the gateway keeps what a restart should find again. Where it is not configured, a
//! temporary folder stands for it until the process ends.

mod private;
mod temporary;

use std::{
    fs, io,
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
    sync::{Mutex, MutexGuard, PoisonError},
};

pub use private::PrivateFolder;
use temporary::Temporary;

/// Why what should be kept cannot be kept.
#[derive(Debug, thiserror::Error)]
pub enum StateDirError {
    /// It is not there and cannot be made, or cannot be opened.
    #[error("cannot use {}: {cause}", path.display())]
    Unusable {
        /// Which folder.
        path: PathBuf,
        /// Why.
        cause: io::Error,
    },
    /// Something else has its name.
    #[error("{} is not a folder: a symbolic link, or a file", path.display())]
    NotAFolder {
        /// What.
        path: PathBuf,
    },
    /// Another user could put anything into it.
    #[error(
        "{} belongs to the user {owner}, but the gateway runs as {user}: what is in it cannot be trusted; \
         remove it, or name another state_dir",
        path.display()
    )]
    Owner {
        /// Which folder.
        path: PathBuf,
        /// Its owner.
        owner: u32,
        /// Who runs this.
        user: u32,
    },
    /// Others could put anything into it.
    #[error(
        "{} can be written to by other users (its mode is {mode:04o}): what is in it cannot be trusted; \
         remove it, or clear it out and chmod it to 0700",
        path.display()
    )]
    Mode {
        /// Which folder.
        path: PathBuf,
        /// Its permissions.
        mode: u32,
    },
    /// The process is about to end.
    #[error("the gateway stops")]
    Closed,
}

/// The folder, made when it is first needed.
pub struct StateDir {
    configured: Option<PathBuf>,
    temporary: Mutex<Stage>,
}

/// What there is of a temporary folder.
enum Stage {
    NotNeededYet,
    Made(Temporary),
    Closed,
}

impl StateDir {
    /// `None` stands for a temporary folder.
    #[must_use]
    pub fn new(configured: Option<PathBuf>) -> Self {
        Self { configured, temporary: Mutex::new(Stage::NotNeededYet) }
    }

    /// Does it outlive the process?
    #[must_use]
    pub fn is_kept(&self) -> bool {
        self.configured.is_some()
    }

    /// A folder in it that nobody but this user can change. Made where it is not there.
    ///
    /// # Errors
    /// It cannot be made, or others could have changed what is in it.
    pub fn private_folder(&self, name: &str) -> Result<PrivateFolder, StateDirError> {
        match &self.configured {
            Some(path) => {
                make(path)?;
                PrivateFolder::open(path.join(name))
            }
            // Locked until the folder is open: it is not removed meanwhile.
            None => PrivateFolder::open(self.made(&mut self.stage())?.join(name)),
        }
    }

    /// Removes the temporary folder, if there is one. From now on there is none.
    pub fn close(&self) {
        *self.stage() = Stage::Closed;
    }

    fn made<'a>(&self, stage: &'a mut Stage) -> Result<&'a Path, StateDirError> {
        if matches!(stage, Stage::NotNeededYet) {
            let made = Temporary::make()?;
            tracing::info!(
                folder = %made.path().display(),
                "state_dir is not configured: compiled filters are kept in a temporary folder until the gateway ends"
            );
            *stage = Stage::Made(made);
        }
        match stage {
            Stage::Made(made) => Ok(made.path()),
            Stage::NotNeededYet | Stage::Closed => Err(StateDirError::Closed),
        }
    }

    fn stage(&self) -> MutexGuard<'_, Stage> {
        self.temporary.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Makes a folder for this user alone, and those above it, where they are not there.
fn make(path: &Path) -> Result<(), StateDirError> {
    let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(path);
    made.map_err(|cause| StateDirError::Unusable { path: path.to_owned(), cause })
}

#[cfg(test)]
mod tests;
