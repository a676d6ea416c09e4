//! Log lines on stderr. Traffic never waits for them: a thread writes, and what it cannot write in time is dropped and
//! counted.

use std::{
    env::{self, VarError},
    io::{self, IsTerminal, Write},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
        mpsc::{Receiver, SyncSender, TrySendError, sync_channel},
    },
    thread,
    time::{Duration, Instant},
};

use prometheus::IntCounter;
use thiserror::Error;
use tracing::Dispatch;
use tracing_subscriber::{
    EnvFilter,
    filter::ParseError,
    fmt::MakeWriter,
    util::{SubscriberInitExt, TryInitError},
};

use crate::config::{Log, LogFormat};

/// Overrides `level` of `[log]`.
pub const LEVEL_VARIABLE: &str = "WSGATE_LOG";

/// Lines that wait for the writer.
const MAX_LINES: usize = 8192;
/// Bytes that wait for the writer.
const MAX_BYTES: usize = 4 << 20;
/// For the lines that still wait when the process ends.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(1);
/// Between two looks for room in a full queue, when the process ends.
const FLUSH_PAUSE: Duration = Duration::from_millis(10);

/// Why nothing can be logged.
#[derive(Debug, Error)]
pub enum LogError {
    /// `level` is no list of directives, which the configuration has ruled out.
    #[error("[log] level is not valid")]
    Level(#[source] ParseError),
    /// Nor is the variable's value.
    #[error("{LEVEL_VARIABLE} is not valid")]
    Variable(#[source] ParseError),
    /// It is not even text.
    #[error("{LEVEL_VARIABLE} is not valid")]
    NotText(#[source] VarError),
    /// No thread can be had.
    #[error("cannot start the writer of the log")]
    Writer(#[source] io::Error),
    /// The log is gone.
    #[error("the level of the log cannot be changed")]
    Reload(#[source] tracing_subscriber::reload::Error),
    /// Logging was set up before.
    #[error("cannot set up the log")]
    Twice(#[from] TryInitError),
}

/// Set up for the whole process. Dropping it waits, for a second at most, until what was logged is written.
#[must_use = "lines that were not written yet are lost"]
pub struct Logs {
    queue: Queue,
    set_level: SetLevel,
}

/// Replaces the level of the log. `WSGATE_LOG` still overrides it.
pub type SetLevel = Arc<dyn Fn(&str) -> Result<(), LogError> + Send + Sync>;

impl Logs {
    /// How the level is replaced.
    #[must_use]
    pub fn set_level(&self) -> SetLevel {
        Arc::clone(&self.set_level)
    }
}

/// Logs to stderr from now on, as the configuration and `WSGATE_LOG` say. `dropped` counts lines that were not written.
///
/// # Errors
/// A variable that is not valid, or logging was set up before.
pub fn start(log: &Log, dropped: IntCounter) -> Result<Logs, LogError> {
    let ansi = io::stderr().is_terminal();
    let queue = Queue::start(io::stderr(), dropped).map_err(LogError::Writer)?;
    let variable = match env::var(LEVEL_VARIABLE) {
        Ok(directives) => Some(directives),
        Err(VarError::NotPresent) => None,
        Err(error @ VarError::NotUnicode(_)) => return Err(LogError::NotText(error)),
    };
    let (dispatch, set_level) = dispatch(log, variable.as_deref(), ansi, queue.clone())?;
    dispatch.try_init()?;
    Ok(Logs { queue, set_level })
}

impl Drop for Logs {
    fn drop(&mut self) {
        self.queue.flush(FLUSH_TIMEOUT);
    }
}

fn dispatch(log: &Log, variable: Option<&str>, ansi: bool, queue: Queue) -> Result<(Dispatch, SetLevel), LogError> {
    let overridden = variable.is_some_and(|directives| !directives.is_empty());
    let filter = match variable.filter(|_| overridden) {
        Some(directives) => EnvFilter::try_new(directives).map_err(LogError::Variable)?,
        None => EnvFilter::try_new(&log.level).map_err(LogError::Level)?,
    };
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(queue);
    /// Whatever the format, the handle does the same.
    macro_rules! with_handle {
        ($builder:expr) => {{
            let builder = $builder.with_filter_reloading();
            let handle = builder.reload_handle();
            let set_level: SetLevel = Arc::new(move |level| {
                let filter = EnvFilter::try_new(level).map_err(LogError::Level)?;
                if overridden { Ok(()) } else { handle.reload(filter).map_err(LogError::Reload) }
            });
            (builder.into(), set_level)
        }};
    }
    Ok(match log.format {
        LogFormat::Text => with_handle!(builder.with_ansi(ansi)),
        LogFormat::Json => with_handle!(builder.json().flatten_event(true)),
    })
}

/// Lines on their way to the writer.
#[derive(Clone)]
struct Queue {
    sender: SyncSender<Entry>,
    waiting_bytes: Arc<AtomicUsize>,
    dropped: IntCounter,
}

enum Entry {
    Line(Vec<u8>),
    /// Answered when everything before it is written.
    Flush(SyncSender<()>),
}

impl Queue {
    fn start(out: impl Write + Send + 'static, dropped: IntCounter) -> io::Result<Self> {
        let (sender, entries) = sync_channel(MAX_LINES);
        let waiting_bytes = Arc::<AtomicUsize>::default();
        let (waiting, unwritten) = (Arc::clone(&waiting_bytes), dropped.clone());
        thread::Builder::new().name("log".to_owned()).spawn(move || write(out, &entries, &waiting, &unwritten))?;
        Ok(Self { sender, waiting_bytes, dropped })
    }

    fn push(&self, line: &[u8]) {
        let before = self.waiting_bytes.fetch_add(line.len(), Ordering::Relaxed);
        let fits = before + line.len() <= MAX_BYTES;
        if !fits || self.sender.try_send(Entry::Line(line.to_vec())).is_err() {
            self.waiting_bytes.fetch_sub(line.len(), Ordering::Relaxed);
            self.dropped.inc();
        }
    }

    fn flush(&self, within: Duration) {
        let deadline = Instant::now() + within;
        let (written, wait) = sync_channel(1);
        let mut flush = Entry::Flush(written);
        while let Err(TrySendError::Full(again)) = self.sender.try_send(flush) {
            if Instant::now() >= deadline {
                return;
            }
            flush = again;
            thread::sleep(FLUSH_PAUSE);
        }
        // Late or not: the process ends now.
        let _ = wait.recv_timeout(deadline.saturating_duration_since(Instant::now()));
    }
}

fn write(mut out: impl Write, entries: &Receiver<Entry>, waiting_bytes: &AtomicUsize, dropped: &IntCounter) {
    for entry in entries {
        match entry {
            Entry::Line(line) => {
                // A stderr that is closed or full must not end anything.
                if out.write_all(&line).is_err() {
                    dropped.inc();
                }
                waiting_bytes.fetch_sub(line.len(), Ordering::Relaxed);
            }
            Entry::Flush(written) => {
                let _ = out.flush();
                let _ = written.try_send(());
            }
        }
    }
}

impl<'a> MakeWriter<'a> for Queue {
    type Writer = LineWriter<'a>;

    fn make_writer(&'a self) -> LineWriter<'a> {
        LineWriter { queue: self }
    }
}

/// tracing-subscriber writes each event whole, with one call.
struct LineWriter<'a> {
    queue: &'a Queue,
}

impl Write for LineWriter<'_> {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.queue.push(line);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests;
