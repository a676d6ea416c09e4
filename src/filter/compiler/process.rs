//! The gateway's side of the process that compiles: starts it, waits for it, ends it when it takes too long, and says
//! what came of it.

use std::{
    fs::File,
    io::{self, Read, Seek, Write},
    os::unix::process::{CommandExt, ExitStatusExt},
    path::{Path, PathBuf},
    process::{Child, ChildStderr, Command, ExitStatus, Stdio},
    thread,
    time::{Duration, Instant},
};

use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    fs::{MemfdFlags, memfd_create},
    io::Errno,
    process::{Pid, Signal, kill_process_group},
};

use super::{NotCompiled, child::CPU_SECONDS};
use crate::filter::engine::Memories;

/// Bound of a compilation by the clock. Four times its processor time: what it has at its low priority beside workers
/// that want everything.
pub(super) const TIME: Duration = Duration::from_secs(4 * CPU_SECONDS);
/// So much of what it says is listened to.
const MESSAGE_BYTES: usize = 16 << 10;
/// Between its last word and its end.
const REAP_EVERY: Duration = Duration::from_millis(1);

/// How the process ends, when it ends by itself.
#[derive(Clone, Copy)]
#[repr(u8)]
pub(super) enum Exit {
    Failed = 70,
    Invalid = 65,
    OutOfMemory = 71,
    NotWritten = 74,
}

/// The program that runs. The link leads to it even after an upgrade has replaced its file: the same program compiles
/// what it runs.
pub(super) fn this_program() -> io::Result<PathBuf> {
    let link = Path::new("/proc/self/exe");
    if link.exists() { Ok(link.to_owned()) } else { std::env::current_exe() }
}

/// Has the program compile these bytes into this file.
pub(super) fn compile(program: &Path, memories: Memories, bytes: &[u8], into: &File) -> Result<(), NotCompiled> {
    let start = |source| NotCompiled::Start { program: program.to_owned(), source };
    let mut command = Command::new(program);
    command
        .arg0("wsgate")
        .arg("compile-filter")
        .args(["--memories", &memories.to_string()])
        .args(["--parent", &std::process::id().to_string()])
        .env_clear()
        .current_dir("/")
        // Of its own: Ctrl-C is for the gateway, which ends it.
        .process_group(0)
        .stdin(memory_file(bytes).map_err(start)?)
        .stdout(into.try_clone().map_err(start)?)
        .stderr(Stdio::piped());
    let mut running = Running { child: command.spawn().map_err(start)?, ended: None };
    let deadline = Instant::now() + TIME;
    let stderr = running.child.stderr.take();
    let said = stderr.map_or_else(|| Ok(Vec::new()), |stderr| listen(stderr, deadline)).map_err(start)?;
    let status = running.wait(deadline).map_err(start)?;
    match status {
        Some(status) => outcome(status, String::from_utf8_lossy(&said).trim_end()),
        None => Err(NotCompiled::Time),
    }
}

/// A file that is nowhere, with these bytes: nothing has to be fed to the process, and what it reads is what was hashed.
fn memory_file(bytes: &[u8]) -> io::Result<File> {
    let mut file = File::from(memfd_create("wsgate-component", MemfdFlags::CLOEXEC)?);
    file.write_all(bytes)?;
    file.rewind()?;
    Ok(file)
}

/// What the process says until it ends, or until the deadline.
fn listen(mut stderr: ChildStderr, deadline: Instant) -> io::Result<Vec<u8>> {
    let mut said = Vec::new();
    let mut buffer = [0; 4096];
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let left = Timespec::try_from(left).map_err(io::Error::other)?;
        match poll(&mut [PollFd::new(&stderr, PollFlags::IN)], Some(&left)) {
            Ok(0) => return Ok(said),
            Ok(_) => {}
            Err(Errno::INTR) => continue,
            Err(error) => return Err(error.into()),
        }
        let read = stderr.read(&mut buffer)?;
        if read == 0 {
            return Ok(said);
        }
        let room = MESSAGE_BYTES - said.len();
        said.extend_from_slice(&buffer[..read.min(room)]);
    }
}

/// Ended with everything that it started, and reaped, when dropped.
struct Running {
    child: Child,
    ended: Option<ExitStatus>,
}

impl Running {
    /// `None`: not before the deadline.
    fn wait(&mut self, deadline: Instant) -> io::Result<Option<ExitStatus>> {
        loop {
            self.ended = self.child.try_wait()?;
            if self.ended.is_some() || Instant::now() >= deadline {
                return Ok(self.ended);
            }
            thread::sleep(REAP_EVERY);
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if self.ended.is_none() {
            // It is not reaped yet, so the number is still its own.
            let _ = kill_process_group(Pid::from_child(&self.child), Signal::KILL);
            let _ = self.child.wait();
        }
    }
}

fn outcome(status: ExitStatus, said: &str) -> Result<(), NotCompiled> {
    let said = said.to_owned();
    match (status.code(), status.signal().and_then(Signal::from_named_raw)) {
        (Some(0), _) => Ok(()),
        (Some(code), _) if code == Exit::Invalid as i32 => Err(NotCompiled::Invalid(said)),
        (Some(code), _) if code == Exit::OutOfMemory as i32 => Err(NotCompiled::Memory),
        (Some(code), _) if code == Exit::NotWritten as i32 => {
            // The caller knows the folder.
            Err(NotCompiled::Write { folder: PathBuf::new(), source: io::Error::other(said) })
        }
        (Some(code), _) if code == Exit::Failed as i32 => Err(NotCompiled::Foreign(said)),
        (_, Some(Signal::XCPU)) => Err(NotCompiled::Cpu),
        (_, Some(Signal::XFSZ)) => Err(NotCompiled::Size),
        // What Rust does when an allocation fails.
        (_, Some(Signal::ABORT)) if said.contains("memory allocation of") => Err(NotCompiled::Memory),
        (_, Some(Signal::KILL)) => {
            Err(NotCompiled::Crash("it was killed, as the system does when memory is short".to_owned()))
        }
        _ if said.is_empty() => Err(NotCompiled::Crash(status.to_string())),
        _ => Err(NotCompiled::Crash(format!("{status}: {}", said.replace('\n', " ")))),
    }
}
