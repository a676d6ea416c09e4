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
use crate::filter::{compile::FILE_BYTES, engine::Memories};

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

/// How the compiler of scripts ends when the script is at fault.
const SCRIPT_FAILED: i32 = 1;

/// The program that runs. The link leads to it even after an upgrade has replaced its file: the same program compiles
/// what it runs. Where there is no such link, starting it says so.
pub(super) fn this_program() -> PathBuf {
    let link = PathBuf::from("/proc/self/exe");
    if link.exists() { link } else { std::env::current_exe().unwrap_or(link) }
}

/// Has the program compile these bytes into this file.
pub(super) fn compile(program: &Path, memories: Memories, bytes: &[u8], into: &File) -> Result<(), NotCompiled> {
    let mut command = Command::new(program);
    command
        .arg0("wsgate")
        .arg("compile-filter")
        .args(["--memories", &memories.to_string()])
        .args(["--parent", &std::process::id().to_string()]);
    run(command, bytes, into, TIME)
        .unwrap_or_else(|cause| Err(NotCompiled::Start { program: program.to_owned(), cause }))
}

/// Has the compiler of scripts make a component of this source. The limits are set by `limiter`, this program, which then
/// becomes the compiler.
pub(super) fn script(
    limiter: Option<&Path>,
    compiler: &Path,
    name: &str,
    source: &[u8],
) -> Result<Vec<u8>, NotCompiled> {
    let mut command = Command::new(limiter.unwrap_or(compiler));
    if limiter.is_some() {
        let parent = std::process::id().to_string();
        command.arg0("wsgate").args(["compile-script", "--parent", &parent, "--compiler"]).arg(compiler);
    }
    command.args(["--name", name]);
    let made = || {
        let mut out = memory_file(b"")?;
        let Some((status, said)) = end(command, source, &out, TIME)? else { return Ok(Err(NotCompiled::Time)) };
        if status.code() == Some(SCRIPT_FAILED) {
            return Ok(Err(NotCompiled::Script(said)));
        }
        if let Err(error) = outcome(status, &said) {
            return Ok(Err(error));
        }
        out.rewind()?;
        let mut component = Vec::new();
        out.take(FILE_BYTES + 1).read_to_end(&mut component)?;
        if component.len() as u64 > FILE_BYTES {
            return Ok(Err(NotCompiled::Size));
        }
        let is_wasm = component.starts_with(b"\0asm");
        Ok(is_wasm
            .then_some(component)
            .ok_or_else(|| NotCompiled::Foreign(format!("{} made no component", compiler.display()))))
    };
    made().unwrap_or_else(|cause| Err(NotCompiled::Start { program: compiler.to_owned(), cause }))
}

/// The outer error is about the process, the inner one about what was to be compiled.
fn run(command: Command, bytes: &[u8], into: &File, within: Duration) -> io::Result<Result<(), NotCompiled>> {
    let ended = end(command, bytes, into, within)?;
    Ok(ended.map_or(Err(NotCompiled::Time), |(status, said)| outcome(status, &said)))
}

/// How it ended, and what it said; `None` where it did not in time.
fn end(mut command: Command, bytes: &[u8], into: &File, within: Duration) -> io::Result<Option<(ExitStatus, String)>> {
    command
        .env_clear()
        .current_dir("/")
        // Of its own: Ctrl-C is for the gateway, which ends it.
        .process_group(0)
        .stdin(memory_file(bytes)?)
        .stdout(into.try_clone()?)
        .stderr(Stdio::piped());
    let mut running = Running { child: command.spawn()?, ended: None };
    let deadline = Instant::now() + within;
    let said = running.child.stderr.take().map_or_else(|| Ok(Vec::new()), |stderr| listen(stderr, deadline))?;
    let ended = running.wait(deadline)?;
    Ok(ended.map(|status| (status, String::from_utf8_lossy(&said).trim_end().to_owned())))
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
            Err(NotCompiled::Write { folder: PathBuf::new(), cause: io::Error::other(said) })
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

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs a line of the shell as the process. It says its number on what would be machine code.
    fn shell(line: &str, within: Duration) -> (Result<(), NotCompiled>, String) {
        let out = tempfile::tempfile().unwrap();
        let mut command = Command::new("/bin/sh");
        command.arg("-c").arg(line);
        let result = run(command, b"a component", &out, within).unwrap();
        let mut written = String::new();
        (&out).rewind().unwrap();
        (&out).read_to_string(&mut written).unwrap();
        (result, written)
    }

    fn said(line: &str) -> String {
        shell(line, Duration::from_secs(60)).0.unwrap_err().to_string()
    }

    #[test]
    fn the_bytes_go_in_and_what_is_made_of_them_comes_out() {
        let (result, written) = shell("cat; echo \"; $PWD; $(env | grep -c HOME)\"", Duration::from_secs(60));
        assert_eq!((result.is_ok(), written.as_str()), (true, "a component; /; 0\n"));
    }

    #[test]
    fn what_takes_too_long_is_ended_with_all_that_it_started() {
        // The first says nothing more; the second cannot, and so seems to have ended.
        for line in ["echo $$; sleep 1000 & echo $!; wait", "echo $$; exec 2>&-; sleep 1000 & echo $!; wait"] {
            let begin = Instant::now();
            let (result, numbers) = shell(line, Duration::from_millis(300));
            assert!(matches!(result, Err(NotCompiled::Time)), "{result:?}");
            assert!(begin.elapsed() < Duration::from_secs(10), "{:?}", begin.elapsed());
            let numbers: Vec<_> = numbers.split_whitespace().collect();
            assert_eq!(numbers.len(), 2);
            let alive = |number: &&str| {
                let stat = std::fs::read_to_string(format!("/proc/{number}/stat")).unwrap_or_default();
                stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with(['Z', 'X']))
            };
            let end = Instant::now() + Duration::from_secs(10);
            while numbers.iter().any(alive) {
                assert!(Instant::now() < end, "still there: {numbers:?}");
                thread::sleep(Duration::from_millis(5));
            }
        }
    }

    #[test]
    fn what_it_says_is_bounded() {
        let text = said("yes 'a long story' | head -c 10000000 >&2; exit 3");
        assert!((MESSAGE_BYTES..MESSAGE_BYTES + 200).contains(&text.len()), "{}", text.len());
        assert!(text.starts_with("the compiler failed on it: exit status: 3: a long story a long story"));
    }

    #[test]
    fn each_end_has_its_reason() {
        let expect = |line: &str, words: &str| {
            let text = said(line);
            assert!(text.contains(words), "{line}: {text}");
        };
        expect("echo bad magic >&2; exit 65", "bad magic");
        expect("exit 71", "2048 MiB of memory");
        expect("echo 'memory allocation of 99 bytes failed' >&2; kill -ABRT $$", "2048 MiB of memory");
        expect("echo assertion >&2; kill -ABRT $$", "signal: 6");
        expect("kill -SEGV $$", "signal: 11");
        expect("kill -XCPU $$", "60 s of processor time");
        expect("kill -XFSZ $$", "larger than 512 MiB");
        expect("kill -KILL $$", "it was killed");
        expect("echo full >&2; exit 74", "full");
        expect("echo no limits >&2; exit 70", "no limits");
    }
}
