//! How a call fails, what a log line says of it, and the last few of each filter for the admin API.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Mutex, PoisonError},
    time::{SystemTime, UNIX_EPOCH},
};

use serde::Serialize;
use wasmtime::Trap;

use super::{generation::Generation, host::logging::printable, limits::Exhausted, tally::Hook};
use crate::message::Direction;

/// Longest cause in a log line.
const CAUSE_BYTES: usize = 1024;
/// Frames of a backtrace, the innermost: a panic takes half of them before it comes to the filter's own.
const TRACE_FRAMES: usize = 16;
/// Longest name of a function in a backtrace.
const FRAME_BYTES: usize = 160;
/// Faults of one filter that the admin API shows.
const RECENT_FAULTS: usize = 16;

/// The label of a fault in metrics and logs.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub(super) enum FaultKind {
    /// The guest returned an error; its instance lives.
    Error,
    /// The guest's answer breaks the contract: a code that cannot be sent, too many actions, too large a message, an
    /// upstream that it may not choose. Its instance lives.
    Verdict,
    /// The guest trapped: a panic, an invalid access, an exit.
    Trap,
    /// The guest's stack is exhausted.
    Stack,
    /// `cpu_timeout`
    CpuTimeout,
    /// `wait_timeout`
    WaitTimeout,
    /// `memory_limit`, or a table that grew too large.
    Memory,
    /// More bytes handed to the host than host-call fuel allows.
    Fuel,
    /// More handles or WASI resources than allowed.
    Handles,
    /// No instance could be made for a session that had lost its own.
    Instance,
    /// The state of a session went with its instance, and `on_state_loss` is `close`.
    StateLoss,
    /// The filter keeps failing and is not called: the breaker is open.
    Breaker,
}

impl FaultKind {
    pub(super) fn label(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Verdict => "verdict",
            Self::Trap => "trap",
            Self::Stack => "stack",
            Self::CpuTimeout => "cpu_timeout",
            Self::WaitTimeout => "wait_timeout",
            Self::Memory => "memory",
            Self::Fuel => "fuel",
            Self::Handles => "handles",
            Self::Instance => "instance",
            Self::StateLoss => "state_loss",
            Self::Breaker => "breaker",
        }
    }
}

/// A failed call.
#[derive(Debug)]
pub(super) struct Fault {
    pub(super) kind: FaultKind,
    /// For the log: what happened.
    pub(super) cause: String,
    /// Where in the guest: functions, the innermost first.
    pub(super) trace: Vec<String>,
}

/// On what occasion a fault happened; never the content of a message.
#[derive(Clone, Copy, Debug)]
pub(super) struct Occasion<'a> {
    pub(super) hook: Hook,
    /// `-` where there is none.
    pub(super) connection: &'a str,
    /// Direction and bytes of the last message that the filter got for this connection.
    pub(super) last_message: Option<(Direction, usize)>,
}

/// A fault that happened.
#[derive(Clone, Debug, Serialize)]
pub struct FaultRecord {
    /// When, in milliseconds of Unix time.
    pub at_unix_ms: u64,
    /// The first 12 digits of the generation's hash.
    pub generation: String,
    /// The function of the contract that was called.
    pub hook: &'static str,
    /// As in the metric `filter_faults_total`.
    pub kind: &'static str,
    /// The connection for which the call was made, or `-`.
    pub connection: String,
    /// Which way the last message went that the filter got for this connection.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub direction: Option<&'static str>,
    /// Its size.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message_bytes: Option<usize>,
    /// What happened.
    pub cause: String,
    /// Functions of the guest, the innermost first.
    pub trace: Vec<String>,
}

/// The last faults of every filter, by its name: a reload does not take them away.
#[derive(Default)]
pub(super) struct FaultBook(Mutex<HashMap<Arc<str>, Arc<RecentFaults>>>);

/// The last faults of one filter.
#[derive(Default)]
pub(super) struct RecentFaults(Mutex<VecDeque<FaultRecord>>);

impl FaultBook {
    pub(super) fn of(&self, filter: &Arc<str>) -> Arc<RecentFaults> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).entry(filter.clone()).or_default().clone()
    }
}

impl RecentFaults {
    fn add(&self, record: FaultRecord) {
        let mut recent = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        recent.truncate(RECENT_FAULTS - 1);
        recent.push_front(record);
    }

    /// The newest first.
    pub(super) fn list(&self) -> Vec<FaultRecord> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).iter().cloned().collect()
    }
}

impl Fault {
    pub(super) fn new(kind: FaultKind, cause: impl Into<String>) -> Self {
        Self { kind, cause: cause.into(), trace: Vec::new() }
    }

    /// The breaker is open.
    pub(super) fn breaker() -> Self {
        Self::new(FaultKind::Breaker, "the breaker is open")
    }

    /// Counts it, keeps it for the admin API, and writes one line unless there were too many of late.
    pub(super) fn log(&self, generation: &Generation, occasion: Occasion<'_>) {
        generation.metrics().fault(self.kind.label());
        if self.kind == FaultKind::Breaker {
            // That it opened is on record.
            return;
        }
        let record = self.record(generation, occasion);
        if let Some(recorder) = &generation.engine().recorder {
            recorder.fault(&record);
        }
        if let Some(suppressed) = generation.fault_lines().take() {
            let filter = &**generation.label();
            if suppressed > 0 {
                tracing::warn!(filter, suppressed, "more faults than log lines");
            }
            let FaultRecord { generation, hook, kind, connection, direction, message_bytes, cause, .. } = &record;
            let trace = (!record.trace.is_empty()).then(|| record.trace.join(" < "));
            tracing::warn!(
                filter,
                generation,
                hook,
                kind,
                connection,
                direction,
                message_bytes,
                trace,
                "filter fault: {cause}"
            );
        }
        generation.recent_faults().add(record);
    }

    fn record(&self, generation: &Generation, occasion: Occasion<'_>) -> FaultRecord {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        FaultRecord {
            at_unix_ms: u64::try_from(since.as_millis()).unwrap_or(u64::MAX),
            generation: generation.digest().short(),
            hook: occasion.hook.label(),
            kind: self.kind.label(),
            connection: occasion.connection.to_owned(),
            direction: occasion.last_message.map(|(direction, _)| direction.label()),
            message_bytes: occasion.last_message.map(|(_, bytes)| bytes),
            cause: printable(&self.cause, CAUSE_BYTES).to_string(),
            trace: self.trace.clone(),
        }
    }
}

impl From<wasmtime::Error> for Fault {
    fn from(error: wasmtime::Error) -> Self {
        let cause = error.root_cause().to_string().replace('\n', " ");
        Self { kind: kind_of(&error), cause, trace: trace_of(&error) }
    }
}

fn kind_of(error: &wasmtime::Error) -> FaultKind {
    if let Some(exhausted) = error.downcast_ref::<Exhausted>() {
        return match exhausted {
            Exhausted::Cpu(_) => FaultKind::CpuTimeout,
            Exhausted::Wait(_) => FaultKind::WaitTimeout,
            Exhausted::Memory { .. } | Exhausted::Table { .. } => FaultKind::Memory,
        };
    }
    if error.downcast_ref::<wasmtime::component::ResourceTableError>().is_some() {
        return FaultKind::Handles;
    }
    if let Some(trap) = error.downcast_ref::<Trap>() {
        return if *trap == Trap::StackOverflow { FaultKind::Stack } else { FaultKind::Trap };
    }
    // These two have no public type.
    let text = error.root_cause().to_string();
    if text.contains("fuel allocated for hostcalls") {
        FaultKind::Fuel
    } else if text.contains("cannot allocate another handle") {
        FaultKind::Handles
    } else {
        FaultKind::Trap
    }
}

/// The guest's innermost frames, as readable names of functions where the component has names.
fn trace_of(error: &wasmtime::Error) -> Vec<String> {
    let Some(trace) = error.downcast_ref::<wasmtime::WasmBacktrace>() else { return Vec::new() };
    let text = trace.to_string();
    let frames = text.lines().filter_map(|line| line.split_once(" - ")).map(|(_, frame)| {
        // Before the name stands the module's, which the toolchain chose; after it, what tells builds apart.
        let name = frame.split_once('!').map_or(frame, |(_, name)| name);
        let name = name.rsplit_once("::h").filter(|(_, hash)| is_hash(hash)).map_or(name, |(name, _)| name);
        printable(name, FRAME_BYTES).to_string()
    });
    frames.take(TRACE_FRAMES).collect()
}

fn is_hash(text: &str) -> bool {
    text.len() == 16 && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}
