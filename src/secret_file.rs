//! Files with keys, secrets and tokens: read within a bound, and read again when they change.

use std::{
    fs,
    io::{self, Read},
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use sha2::{Digest, Sha256};

/// Files are looked at this often: a change counts within twice this time.
pub const LOOK_INTERVAL: Duration = Duration::from_secs(1);
/// A file that was changed so lately may change again without looking different: clocks of file systems are coarse.
const UNSETTLED: Duration = Duration::from_secs(2);

/// A file as it was last looked at.
pub struct SecretFile {
    path: PathBuf,
    max_bytes: u64,
    stamp: Option<Stamp>,
    content: Option<[u8; 32]>,
}

/// What tells one state of a file from another; `None` where it cannot be looked at.
type Stamp = Option<(u64, u64, u64, i64, i64, i64, i64)>;

impl SecretFile {
    /// Not read yet. A file of more than `max_bytes` is an error.
    #[must_use]
    pub fn new(path: PathBuf, max_bytes: u64) -> Self {
        Self { path, max_bytes, stamp: None, content: None }
    }

    /// Which.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What is in it.
    ///
    /// # Errors
    /// It cannot be read, or is too large.
    pub fn read(&mut self) -> io::Result<Vec<u8>> {
        // Before the content: what changes in between is seen the next time.
        self.stamp = Some(self.look());
        let read = self.read_bounded();
        self.content = read.as_ref().ok().map(|bytes| Sha256::digest(bytes).into());
        read
    }

    /// What is in it, if that is not what it was the last time.
    pub fn changed(&mut self) -> Option<io::Result<Vec<u8>>> {
        if self.stamp.is_some_and(|seen| seen == self.look() && !is_unsettled(seen)) {
            return None;
        }
        let (was_read, before) = (self.content.is_some(), self.content);
        match self.read() {
            Ok(_) if self.content == before => None,
            Err(_) if !was_read => None,
            other => Some(other),
        }
    }

    fn look(&self) -> Stamp {
        let found = fs::metadata(&self.path).ok()?;
        Some((
            found.dev(),
            found.ino(),
            found.size(),
            found.mtime(),
            found.mtime_nsec(),
            found.ctime(),
            found.ctime_nsec(),
        ))
    }

    fn read_bounded(&self) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        fs::File::open(&self.path)?.take(self.max_bytes + 1).read_to_end(&mut bytes)?;
        if bytes.len() as u64 > self.max_bytes {
            let most = format!("it is larger than {} bytes", self.max_bytes);
            return Err(io::Error::new(io::ErrorKind::FileTooLarge, most));
        }
        Ok(bytes)
    }
}

fn is_unsettled(stamp: Stamp) -> bool {
    let Some((.., changed_at, _)) = stamp else { return false };
    let changed_at = SystemTime::UNIX_EPOCH + Duration::from_secs(u64::try_from(changed_at).unwrap_or(0));
    SystemTime::now().duration_since(changed_at).is_ok_and(|ago| ago < UNSETTLED)
}

/// Without the line break that editors end files with.
#[must_use]
pub fn without_line_break(bytes: &[u8]) -> &[u8] {
    let line = bytes.strip_suffix(b"\n").unwrap_or(bytes);
    line.strip_suffix(b"\r").unwrap_or(line)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_is_seen_once_and_what_stays_the_same_is_none() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key");
        fs::write(&path, "one").unwrap();
        let mut file = SecretFile::new(path.clone(), 8);
        assert_eq!(file.read().unwrap(), b"one");
        assert!(file.changed().is_none());
        // Of the same length, and within the same tick of the file system's clock.
        fs::write(&path, "two").unwrap();
        assert_eq!(file.changed().unwrap().unwrap(), b"two");
        assert!(file.changed().is_none());
        fs::remove_file(&path).unwrap();
        assert!(file.changed().unwrap().is_err());
        assert!(file.changed().is_none());
        fs::write(&path, "two").unwrap();
        assert_eq!(file.changed().unwrap().unwrap(), b"two");
    }

    #[test]
    fn what_is_too_large_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key");
        fs::write(&path, "123456789").unwrap();
        assert_eq!(SecretFile::new(path.clone(), 8).read().unwrap_err().kind(), io::ErrorKind::FileTooLarge);
        assert!(SecretFile::new(path, 9).read().is_ok());
    }
}
