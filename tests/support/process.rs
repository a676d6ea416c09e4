//! A child process: its output is kept line by line, it is killed when dropped, and what it wrote is shown when the
//! test fails.

use std::{
    fs,
    io::{BufRead, BufReader, Read},
    process::{Child, Command, ExitStatus, Stdio},
    sync::{Arc, Condvar, Mutex},
    thread,
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process};

use super::wait::eventually;

/// Lines of a stream, as they come.
#[derive(Clone, Default)]
pub(crate) struct Lines(Arc<(Mutex<Kept>, Condvar)>);

#[derive(Default)]
struct Kept {
    lines: Vec<String>,
    ended: bool,
}

impl Lines {
    fn follow(stream: impl Read + Send + 'static) -> Self {
        let lines = Self::default();
        let kept = lines.clone();
        thread::spawn(move || {
            let mut reader = BufReader::new(stream);
            let mut line = Vec::new();
            while reader.read_until(b'\n', &mut line).is_ok_and(|read| read > 0) {
                let text = String::from_utf8_lossy(&line).trim_end().to_owned();
                kept.0.0.lock().unwrap().lines.push(text);
                kept.0.1.notify_all();
                line.clear();
            }
            kept.0.0.lock().unwrap().ended = true;
            kept.0.1.notify_all();
        });
        lines
    }

    /// Waits until `find` finds something in all lines so far; `None` when the time is up or the stream ended first.
    pub(crate) fn wait<T>(&self, within: Duration, mut find: impl FnMut(&[String]) -> Option<T>) -> Option<T> {
        let deadline = Instant::now() + within;
        let mut kept = self.0.0.lock().unwrap();
        loop {
            if let Some(found) = find(&kept.lines) {
                return Some(found);
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if kept.ended || left.is_zero() {
                return None;
            }
            kept = self.0.1.wait_timeout(kept, left).unwrap().0;
        }
    }

    /// Everything so far.
    pub(crate) fn text(&self) -> String {
        self.0.0.lock().unwrap().lines.join("\n")
    }
}

/// A running child process.
pub(crate) struct Process {
    pub(crate) child: Child,
    pub(crate) stdout: Lines,
    pub(crate) stderr: Lines,
    name: String,
}

impl Process {
    /// Starts it with both outputs captured.
    pub(crate) fn start(name: &str, command: &mut Command) -> Self {
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap_or_else(|error| panic!("{name} does not start: {error}"));
        let stdout = Lines::follow(child.stdout.take().unwrap());
        let stderr = Lines::follow(child.stderr.take().unwrap());
        Self { child, stdout, stderr, name: name.to_owned() }
    }

    /// Sends a signal.
    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    /// Waits for its end.
    pub(crate) fn wait_exit(&mut self, within: Duration) -> ExitStatus {
        let what = format!("{} exits", self.name);
        eventually(&what, within, || self.child.try_wait().unwrap())
    }
}

/// A process that another one started, as `/proc` shows it.
#[derive(Clone, Debug)]
pub(crate) struct Descendant {
    pub(crate) pid: u32,
    pub(crate) group: u32,
    pub(crate) niceness: i32,
}

/// The processes that this one started and that have not ended.
pub(crate) fn children(of: u32) -> Vec<Descendant> {
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc").unwrap().flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
        let Ok(stat) = fs::read_to_string(entry.path().join("stat")) else { continue };
        // The name before it is in parentheses and may have spaces.
        let Some((_, rest)) = stat.rsplit_once(") ") else { continue };
        let fields: Vec<&str> = rest.split(' ').collect();
        if fields[0] != "Z" && fields[1] == of.to_string() {
            let (group, niceness) = (fields[2].parse().unwrap(), fields[16].parse().unwrap());
            found.push(Descendant { pid, group, niceness });
        }
    }
    found
}

/// Is it there, and not only waiting to be asked how it ended?
pub(crate) fn is_alive(pid: u32) -> bool {
    fs::read_to_string(format!("/proc/{pid}/stat"))
        .is_ok_and(|stat| stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with(['Z', 'X'])))
}

impl Drop for Process {
    fn drop(&mut self) {
        // Both fail only where the process is gone already.
        let _ = self.child.kill();
        let _ = self.child.wait();
        if thread::panicking() {
            eprintln!("--- {}: standard output\n{}", self.name, self.stdout.text());
            eprintln!("--- {}: standard error\n{}\n---", self.name, self.stderr.text());
        }
    }
}
