//! How a call fails, and what a log line says of it.

use std::fmt::Write as _;

use wasmtime::Trap;

use super::{generation::Generation, host::logging::printable, limits::Exhausted, tally::Hook};

/// Longest cause in a log line.
const CAUSE_BYTES: usize = 1024;

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
        }
    }
}

/// A failed call.
#[derive(Debug)]
pub(super) struct Fault {
    pub(super) kind: FaultKind,
    /// For the log: what happened, and where in the guest.
    pub(super) cause: String,
}

impl Fault {
    pub(super) fn new(kind: FaultKind, cause: impl Into<String>) -> Self {
        Self { kind, cause: cause.into() }
    }

    /// Counts it, and writes one line unless there were too many of late.
    pub(super) fn log(&self, generation: &Generation, hook: Hook, connection: &str) {
        let kind = self.kind.label();
        generation.metrics().fault(kind);
        let Some(suppressed) = generation.fault_lines().take() else { return };
        let (filter, hook) = (&**generation.label(), hook.label());
        if suppressed > 0 {
            tracing::warn!(filter, suppressed, "more faults than log lines");
        }
        let cause = printable(&self.cause, CAUSE_BYTES);
        tracing::warn!(
            filter,
            generation = generation.digest().short(),
            hook,
            kind,
            connection,
            "filter fault: {cause}"
        );
    }
}

impl From<wasmtime::Error> for Fault {
    fn from(error: wasmtime::Error) -> Self {
        Self { kind: kind_of(&error), cause: describe(&error) }
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

/// The root cause first, then the guest's innermost frames; one line.
fn describe(error: &wasmtime::Error) -> String {
    let mut text = error.root_cause().to_string().replace('\n', " ");
    if let Some(trace) = error.downcast_ref::<wasmtime::WasmBacktrace>() {
        let trace = trace.to_string();
        let frames: Vec<&str> =
            trace.lines().skip(1).filter_map(|line| line.split_once(" - ")).map(|(_, name)| name).take(8).collect();
        if !frames.is_empty() {
            // Writing to a String cannot fail.
            let _ = write!(text, " at {}", frames.join(" < "));
        }
    }
    text
}
