//! What a filter does, written down for `wsgate filter test`: its calls have no effect outside the process, HTTP requests
//! get the answers that were prepared, and the time stands still where it was set.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use super::fault::FaultRecord;
use crate::{
    http_client::{CallError, Request, Response},
    topic::Order,
};

/// Entries of one list between two looks: a filter that loops fills no memory. What exceeds them is left out.
const ENTRIES: usize = 10_000;

/// Of one engine, which has no other filters.
#[derive(Default)]
pub(super) struct Recorder(Mutex<State>);

#[derive(Default)]
struct State {
    record: Record,
    answers: VecDeque<Result<Response, CallError>>,
    now_ms: Option<u64>,
}

/// What happened since the last look, each list in order.
#[derive(Default)]
pub(super) struct Record {
    /// What was carried out of the calls to messaging.
    pub(super) orders: Vec<Order>,
    /// Requests that may be sent.
    pub(super) requests: Vec<Sent>,
    /// `level: message name="value"`
    pub(super) lines: Vec<String>,
    /// Calls without a right: the import, and what was asked of it.
    pub(super) denied: Vec<(&'static str, String)>,
    pub(super) faults: Vec<FaultRecord>,
    pub(super) reason: Option<String>,
    /// Counters and what was added.
    pub(super) added: BTreeMap<String, u64>,
}

/// An HTTP request, and whether there was an answer for it.
pub(super) struct Sent {
    pub(super) request: Request,
    pub(super) was_answered: bool,
}

impl Recorder {
    /// What happened, and nothing more is known of it.
    pub(super) fn take(&self) -> Record {
        std::mem::take(&mut self.state().record)
    }

    /// The next requests get these answers; those that are left over are gone.
    pub(super) fn prepare(&self, answers: impl IntoIterator<Item = Result<Response, CallError>>) {
        self.state().answers = answers.into_iter().collect();
    }

    /// It is this late from now on, in milliseconds of Unix time.
    pub(super) fn set_now_ms(&self, now_ms: u64) {
        self.state().now_ms = Some(now_ms);
    }

    /// What was set.
    pub(super) fn now_ms(&self) -> Option<u64> {
        self.state().now_ms
    }

    pub(super) fn order(&self, order: &Order) {
        push(&mut self.state().record.orders, || order.clone());
    }

    pub(super) fn answer(&self, request: Request) -> Result<Response, CallError> {
        let mut state = self.state();
        let answer = state.answers.pop_front();
        let was_answered = answer.is_some();
        push(&mut state.record.requests, || Sent { request, was_answered });
        answer.unwrap_or_else(|| Err(CallError::Unavailable("the case has no answer to this request".to_owned())))
    }

    pub(super) fn line(&self, level: tracing::Level, text: &str) {
        push(&mut self.state().record.lines, || format!("{}: {text}", level.as_str().to_ascii_lowercase()));
    }

    pub(super) fn denied(&self, import: &'static str, asked: &str) {
        push(&mut self.state().record.denied, || (import, asked.to_owned()));
    }

    pub(super) fn fault(&self, fault: &FaultRecord) {
        push(&mut self.state().record.faults, || fault.clone());
    }

    pub(super) fn reason(&self, label: &str) {
        self.state().record.reason = Some(label.to_owned());
    }

    pub(super) fn add(&self, counter: &str, by: u64) {
        let added = &mut self.state().record.added;
        if added.len() < ENTRIES || added.contains_key(counter) {
            let sum = added.entry(counter.to_owned()).or_default();
            *sum = sum.saturating_add(by);
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn push<T>(list: &mut Vec<T>, entry: impl FnOnce() -> T) {
    if list.len() < ENTRIES {
        list.push(entry());
    }
}

/// The time as the standard libraries of guests see it.
pub(super) struct RecordedClock(pub(super) Arc<Recorder>);

impl wasmtime_wasi::HostWallClock for RecordedClock {
    fn resolution(&self) -> Duration {
        Duration::from_millis(1)
    }

    fn now(&self) -> Duration {
        self.0.now_ms().map_or_else(super::host::since_1970, Duration::from_millis)
    }
}
