//! A folder that only this user can change, held open: whatever happens to its path, files are made and found in the
//! very folder that was checked.

use std::{
    ffi::CString,
    fs::File,
    io,
    os::fd::OwnedFd,
    path::{Path, PathBuf},
};

use rustix::{
    fs::{AtFlags, Dir, FileType, Mode, OFlags, fstat, fsync, open, openat, renameat, unlinkat},
    io::Errno,
    process::geteuid,
};

use super::{StateDirError, make};

/// Anyone but the owner may write.
const WRITABLE_BY_OTHERS: u32 = 0o022;

/// A folder of the state directory.
pub struct PrivateFolder {
    folder: OwnedFd,
    path: PathBuf,
}

impl PrivateFolder {
    pub(super) fn open(path: PathBuf) -> Result<Self, StateDirError> {
        make(&path)?;
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let folder = match open(&path, flags, Mode::empty()) {
            Ok(folder) => folder,
            Err(Errno::NOTDIR | Errno::LOOP) => return Err(StateDirError::NotAFolder { path }),
            Err(error) => return Err(StateDirError::Unusable { path, cause: error.into() }),
        };
        let found =
            fstat(&folder).map_err(|error| StateDirError::Unusable { path: path.clone(), cause: error.into() })?;
        let (owner, user) = (found.st_uid, geteuid().as_raw());
        if owner != user {
            return Err(StateDirError::Owner { path, owner, user });
        }
        let mode = found.st_mode & 0o7777;
        if mode & WRITABLE_BY_OTHERS != 0 {
            return Err(StateDirError::Mode { path, mode });
        }
        Ok(Self { folder, path })
    }

    /// For messages.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Was it removed since?
    #[must_use]
    pub fn is_gone(&self) -> bool {
        fstat(&self.folder).is_ok_and(|found| found.st_nlink == 0)
    }

    /// Opens a file to read it.
    ///
    /// # Errors
    /// There is none, or it is a symbolic link.
    pub fn read(&self, name: &str) -> io::Result<File> {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        Ok(openat(&self.folder, name, flags, Mode::empty())?.into())
    }

    /// Makes a file for this user alone, to be read and written.
    ///
    /// # Errors
    /// It is there already, or cannot be made.
    pub fn create(&self, name: &str) -> io::Result<File> {
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        Ok(openat(&self.folder, name, flags, Mode::RUSR | Mode::WUSR)?.into())
    }

    /// Gives a file another name, at once and for good; a file that has it goes.
    ///
    /// # Errors
    /// Whatever the system says.
    pub fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        renameat(&self.folder, from, &self.folder, to)?;
        Ok(fsync(&self.folder)?)
    }

    /// Removes a file. It need not be there.
    ///
    /// # Errors
    /// Whatever else the system says.
    pub fn remove(&self, name: &str) -> io::Result<()> {
        match unlinkat(&self.folder, name, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// The names of the files in it.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn names(&self) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in Dir::read_from(&self.folder)? {
            let entry = entry?;
            let is_file = matches!(entry.file_type(), FileType::RegularFile | FileType::Unknown);
            // What this program writes has a name that is text.
            if let (true, Ok(name)) = (is_file, CString::from(entry.file_name()).into_string()) {
                names.push(name);
            }
        }
        Ok(names)
    }
}
