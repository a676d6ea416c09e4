//! Child processes: pinned to a core, logging to a file, ended with their parent.

use std::ffi::OsString;
use std::fs::{self, File};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{self, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use rustix::process::{Pid, Signal, kill_process_group};

use crate::interrupt;

/// Long enough to compile a filter on a slow machine.
const READY_TIMEOUT: Duration = Duration::from_secs(60);
const LOG_LINES_SHOWN: usize = 20;

/// A program to start.
#[derive(Clone, Debug)]
pub struct Launch {
    program: PathBuf,
    arguments: Vec<OsString>,
}

impl Launch {
    /// The program without arguments.
    pub fn new(program: impl Into<PathBuf>) -> Self {
        Self { program: program.into(), arguments: Vec::new() }
    }

    /// Adds an argument.
    pub fn arg(mut self, argument: impl Into<OsString>) -> Self {
        self.arguments.push(argument.into());
        self
    }
}

/// A running child. Dropping it kills it and everything that it started.
#[derive(Debug)]
pub struct Child {
    name: String,
    process: process::Child,
    log: PathBuf,
    /// Where it listens.
    pub address: SocketAddr,
}

impl Child {
    /// Starts the program on `core` and waits until `address` accepts connections. Its output goes to `folder`/`name`.log.
    pub fn start(name: &str, launch: &Launch, core: usize, address: SocketAddr, folder: &Path) -> Result<Self> {
        let log = folder.join(format!("{name}.log"));
        let output = File::create(&log).with_context(|| format!("cannot create {}", log.display()))?;
        // taskset and setpriv become the program itself, so the process id is the program's. The signal is for the day when this
        // process is killed outright and no destructor runs.
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "TERM", "taskset", "--cpu-list", &core.to_string()]);
        command.arg(&launch.program).args(&launch.arguments);
        command.stdin(Stdio::null()).stdout(output.try_clone()?).stderr(output);
        command.current_dir(folder).process_group(0);
        let process = command.spawn().with_context(|| format!("cannot start {name} by setpriv and taskset"))?;
        let mut child = Self { name: name.to_owned(), process, log, address };
        child.wait_ready()?;
        Ok(child)
    }

    /// The root of its process tree.
    pub fn pid(&self) -> u32 {
        self.process.id()
    }

    /// The last lines of its output, to explain a failure.
    pub fn log_tail(&self) -> String {
        let text = fs::read(&self.log).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(LOG_LINES_SHOWN)..].join("\n")
    }

    fn wait_ready(&mut self) -> Result<()> {
        let deadline = Instant::now() + READY_TIMEOUT;
        while TcpStream::connect_timeout(&self.address, Duration::from_secs(1)).is_err() {
            interrupt::check()?;
            if let Some(status) = self.process.try_wait()? {
                bail!("{} ended at once ({status}):\n{}", self.name, self.log_tail());
            }
            ensure!(
                Instant::now() < deadline,
                "{} does not accept connections on {}:\n{}",
                self.name,
                self.address,
                self.log_tail()
            );
            thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        // It leads a process group of its own, which nginx and others keep for their workers. Errors mean that it has ended.
        if let Ok(pid) = i32::try_from(self.process.id())
            && let Some(group) = Pid::from_raw(pid)
        {
            let _ = kill_process_group(group, Signal::KILL);
        }
        let _ = self.process.wait();
    }
}

/// An address of this machine on which nothing listens just now.
pub fn free_address() -> Result<SocketAddr> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("cannot find a free port")?;
    Ok(listener.local_addr()?)
}

/// Where a program of that name is on the PATH, or in the directories for system programs.
pub fn find_program(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let system = ["/usr/sbin", "/usr/local/sbin", "/sbin"].map(PathBuf::from);
    std::env::split_paths(&path).chain(system).map(|folder| folder.join(name)).find(|file| file.is_file())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_that_ends_at_once_is_reported_with_its_output() {
        let folder = tempfile::tempdir().unwrap();
        let launch = Launch::new("sh").arg("-c").arg("echo no such luck >&2; exit 3");
        let error = Child::start("sh", &launch, 0, free_address().unwrap(), folder.path()).unwrap_err();
        assert!(error.to_string().contains("no such luck"), "{error}");
    }

    #[test]
    fn dropping_a_child_ends_what_it_started() {
        let folder = tempfile::tempdir().unwrap();
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let launch = Launch::new("sh").arg("-c").arg("sleep 60 & echo $!; wait");
        let child = Child::start("sh", &launch, 0, listener.local_addr().unwrap(), folder.path()).unwrap();
        let grandchild = loop {
            if let Ok(pid) = child.log_tail().trim().parse::<u32>() {
                break pid;
            }
            thread::yield_now();
        };
        drop(child);
        let deadline = Instant::now() + Duration::from_secs(5);
        while fs::read_to_string(format!("/proc/{grandchild}/stat")).is_ok_and(|stat| !stat.contains(") Z ")) {
            assert!(Instant::now() < deadline, "the grandchild still runs");
            thread::yield_now();
        }
    }

    #[test]
    fn a_shell_is_found_and_nonsense_is_not() {
        assert!(find_program("sh").is_some());
        assert!(find_program("no-such-program-anywhere").is_none());
    }
}
