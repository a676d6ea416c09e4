//! The process that compiles: a component comes in on standard input, an entry of the cache goes out on standard output,
//! why not on standard error. It opens no file and needs no right.

use std::{
    ffi::CStr,
    fmt, fs,
    io::{self, Read, Write},
    os::unix::process::CommandExt,
    path::Path,
    process::{Command, ExitCode},
};

use rustix::{
    process::{
        DumpableBehavior, Pid, Resource, Rlimit, Signal, getppid, getrlimit, set_dumpable_behavior,
        set_parent_process_death_signal, setrlimit,
    },
    thread::{set_name, set_no_new_privs},
};

use super::process::Exit;
use crate::filter::{
    cache::{ENTRY_BYTES, Key, MachineCode},
    compile::{self, FILE_BYTES},
    engine::{self, Memories},
    generation::Digest256,
};

/// Processor time of one compilation. A Python interpreter of 18 MB takes 13 s, a Rust filter less than one.
pub(super) const CPU_SECONDS: u64 = 60;
/// Address space of one compilation. The same interpreter takes 400 MiB, a Rust filter 60.
pub(super) const MEMORY_BYTES: u64 = 2 << 30;
/// Descriptors: three, and some for what the system's libraries look up.
const DESCRIPTORS: u64 = 16;
const NAME: &CStr = c"wsgate-compile";

/// Why there is no entry.
#[derive(Debug)]
pub(super) enum Failure {
    Invalid(String),
    OutOfMemory,
    Engine(String),
    Read(io::Error),
    Write(io::Error),
    Limits(String),
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Invalid(text) | Self::Engine(text) | Self::Limits(text) => f.write_str(text),
            Self::OutOfMemory => f.write_str("out of memory"),
            Self::Read(error) | Self::Write(error) => error.fmt(f),
        }
    }
}

/// All that the process does. `memories` are those of the gateway's engine, because machine code depends on them;
/// `parent` is the gateway's process, with which this one ends.
#[must_use]
pub fn compile_stdin(memories: Memories, parent: i32) -> ExitCode {
    let failure = match limit_myself(parent).and_then(|()| run(memories)) {
        Ok(()) => return ExitCode::SUCCESS,
        Err(failure) => failure,
    };
    let exit = match &failure {
        Failure::Invalid(_) => Exit::Invalid,
        Failure::OutOfMemory => Exit::OutOfMemory,
        Failure::Write(_) => Exit::NotWritten,
        Failure::Engine(_) | Failure::Read(_) | Failure::Limits(_) => Exit::Failed,
    };
    // If nobody listens the exit code has to do.
    let _ = write!(io::stderr(), "{failure}");
    ExitCode::from(exit as u8)
}

/// Becomes the compiler of scripts, with the limits of one that compiles. It answers only if it could not.
#[must_use]
pub fn compile_script(parent: i32, compiler: &Path, name: &str) -> ExitCode {
    let failure = match limit_myself(parent) {
        Ok(()) => {
            let error = Command::new(compiler).args(["--name", name]).env_clear().exec();
            Failure::Engine(format!("{} cannot be started: {error}", compiler.display()))
        }
        Err(failure) => failure,
    };
    let _ = write!(io::stderr(), "{failure}");
    ExitCode::from(Exit::Failed as u8)
}

fn run(memories: Memories) -> Result<(), Failure> {
    let mut bytes = Vec::new();
    io::stdin().lock().take(FILE_BYTES + 1).read_to_end(&mut bytes).map_err(Failure::Read)?;
    let engine = engine::compiling(memories).map_err(|error| Failure::Engine(compile::one_line(&error)))?;
    let entry = entry(&engine, &bytes)?;
    let mut out = io::stdout().lock();
    out.write_all(&entry).and_then(|()| out.flush()).map_err(Failure::Write)
}

/// The entry of the cache for this component.
pub(super) fn entry(engine: &wasmtime::Engine, bytes: &[u8]) -> Result<Vec<u8>, Failure> {
    let code = engine.precompile_component(bytes).map_err(|error| {
        if error.is::<wasmtime::OutOfMemory>() {
            Failure::OutOfMemory
        } else {
            Failure::Invalid(compile::one_line(&error))
        }
    })?;
    let key = Key { component: Digest256::of(bytes), engine: engine::compatibility(engine) };
    Ok(MachineCode::encode(&key, &code))
}

/// Before anything of the component is looked at.
fn limit_myself(parent: i32) -> Result<(), Failure> {
    let failed = |what: &str, error: rustix::io::Errno| Failure::Limits(format!("cannot set {what}: {error}"));
    // Who runs this is gone already, and its death with it.
    set_parent_process_death_signal(Some(Signal::KILL)).map_err(|error| failed("the parent's death signal", error))?;
    if getppid() != Pid::from_raw(parent) {
        return Err(Failure::Limits("the gateway is gone".to_owned()));
    }
    // If memory runs out this process goes first, not the gateway. Needs /proc, and helps only where it works.
    let _ = fs::write("/proc/self/oom_score_adj", "1000");
    let _ = set_name(NAME);
    for (what, resource, bound) in [
        ("its processor time", Resource::Cpu, CPU_SECONDS + 1),
        ("its memory", Resource::As, MEMORY_BYTES),
        ("the size of its files", Resource::Fsize, ENTRY_BYTES),
        ("its descriptors", Resource::Nofile, DESCRIPTORS),
        ("its core dumps", Resource::Core, 0),
    ] {
        limit(resource, bound).map_err(|error| failed(what, error))?;
    }
    // Dumps that go to a program disregard the limit.
    set_dumpable_behavior(DumpableBehavior::NotDumpable).map_err(|error| failed("that it is not dumped", error))?;
    set_no_new_privs(true).map_err(|error| failed("that it gets no rights", error))
}

/// The lower of this bound and the one that is there.
fn limit(resource: Resource, bound: u64) -> rustix::io::Result<()> {
    let now = getrlimit(resource);
    let maximum = now.maximum.map_or(bound, |maximum| maximum.min(bound));
    // At the soft limit of processor time comes a signal that says so, at the hard one SIGKILL.
    let current = if matches!(resource, Resource::Cpu) { maximum.saturating_sub(1).max(1) } else { maximum };
    let current = now.current.map_or(current, |now| now.min(current));
    setrlimit(resource, Rlimit { current: Some(current), maximum: Some(maximum) })
}
