//! The file of revocations: a line of JSON each, appended and synced before an order is answered, and written anew where
//! most of its lines are over. Several gateways may have the same folder: a lock lets one write at a time, and who finds
//! the file replaced takes over what is in the new one.

use std::{
    fs::File,
    io::{self, BufRead, BufReader, BufWriter, Read, Write},
    os::unix::fs::MetadataExt,
};

use super::{MAX_ENTRIES, Revocation, Revocations, RevocationsError, unix_now};
use crate::state_dir::PrivateFolder;

const FILE: &str = "revocations.jsonl";
const PART: &str = ".revocations.jsonl.part";
const LOCK: &str = "lock";
/// Longer than any line that is written.
const LINE_BYTES: u64 = 16 << 10;
/// Lines that are over may be as many as those that count, and so many more.
const SURPLUS_LINES: usize = 10_000;

/// See the module.
pub(super) struct Journal {
    folder: PrivateFolder,
    /// `None` after a failure: then the file is written anew.
    file: Option<File>,
    lines: usize,
}

impl Journal {
    /// Reads what is there into the table, and writes it anew without what is over.
    pub(super) fn open(folder: PrivateFolder, table: &Revocations) -> Result<Self, RevocationsError> {
        let file = folder.path().join(FILE);
        let mut journal = Self { folder, file: None, lines: 0 };
        let opened = journal.locked(|journal| journal.rewrite(table));
        opened.map_err(|source| RevocationsError::File { file, source })?;
        Ok(journal)
    }

    /// Appends these. Once it returns they outlive a crash of the machine.
    pub(super) fn add(&mut self, table: &Revocations, list: &[Revocation]) -> io::Result<()> {
        let mut lines = Vec::new();
        for revocation in list {
            serde_json::to_writer(&mut lines, revocation)?;
            lines.push(b'\n');
        }
        self.locked(|journal| {
            let mut file = match journal.file.take() {
                Some(file) if file.metadata()?.nlink() > 0 => file,
                Some(_) | None => {
                    journal.rewrite(table)?;
                    journal.file.take().ok_or(io::ErrorKind::NotFound)?
                }
            };
            file.write_all(&lines)?;
            file.sync_data()?;
            journal.file = Some(file);
            journal.lines += list.len();
            Ok(())
        })
    }

    /// Writes the file anew if most of it is over.
    pub(super) fn tidy(&mut self, table: &Revocations) -> io::Result<()> {
        if self.lines <= 2 * table.len() + SURPLUS_LINES {
            return Ok(());
        }
        self.locked(|journal| journal.rewrite(table))
    }

    fn locked<T>(&mut self, write: impl FnOnce(&mut Self) -> io::Result<T>) -> io::Result<T> {
        let lock = match self.folder.create(LOCK) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => self.folder.read(LOCK)?,
            created => created?,
        };
        lock.lock()?;
        // Dropping the file gives the lock back.
        write(self)
    }

    /// Takes over what is in the file, which another gateway may have written, and writes all that counts into a new one.
    fn rewrite(&mut self, table: &Revocations) -> io::Result<()> {
        self.file = None;
        self.load(table)?;
        self.folder.remove(PART)?;
        let mut out = BufWriter::new(self.folder.create(PART)?);
        let (now, mut lines) = (unix_now(), 0);
        table.try_each(|revocation| {
            if revocation.until > now {
                serde_json::to_writer(&mut out, revocation)?;
                out.write_all(b"\n")?;
                lines += 1;
            }
            Ok::<_, io::Error>(())
        })?;
        let file = out.into_inner().map_err(io::IntoInnerError::into_error)?;
        file.sync_all()?;
        self.folder.rename(PART, FILE)?;
        (self.file, self.lines) = (Some(file), lines);
        Ok(())
    }

    fn load(&self, table: &Revocations) -> io::Result<()> {
        let mut lines = match self.folder.read(FILE) {
            Ok(file) => BufReader::new(file),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(error),
        };
        let (now, mut line) = (unix_now(), Vec::new());
        // What this process was told counts before what it finds.
        let is_first = table.is_empty();
        for number in 1_usize.. {
            line.clear();
            lines.by_ref().take(LINE_BYTES).read_until(b'\n', &mut line)?;
            let wrong = |why: &dyn std::fmt::Display| {
                io::Error::new(io::ErrorKind::InvalidData, format!("line {number}: {why}"))
            };
            match line.last() {
                None => break,
                Some(b'\n') => {}
                // The process was killed while it wrote this, before it answered.
                Some(_) if (line.len() as u64) < LINE_BYTES => break,
                Some(_) => return Err(wrong(&"too long")),
            }
            let revocation: Revocation = serde_json::from_slice(&line).map_err(|error| wrong(&error))?;
            // Later lines about the same replace earlier ones, so one that is over counts too, until the end.
            match revocation.check(0) {
                Ok(()) if revocation.until <= now && !table.has(&revocation.key()) => {}
                Ok(()) if !is_first && table.has(&revocation.key()) => {}
                Ok(()) if table.len() < MAX_ENTRIES => table.put(revocation),
                Ok(()) => return Err(wrong(&format_args!("more than {MAX_ENTRIES} count"))),
                Err(error) => return Err(wrong(&error)),
            }
        }
        Ok(())
    }
}
