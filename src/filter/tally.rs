//! Counts and times calls. Handles are kept, because looking them up hashes three labels.

use std::{sync::OnceLock, time::Duration};

use prometheus::{Histogram, IntCounter};

use super::bindings::wsgate::filter::types::{Action, Verdict};
use crate::telemetry::metrics::FilterMetrics;

/// A function of the contract.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Hook {
    Init,
    Open,
    Resume,
    OnMessage,
    OnDelivery,
    OnTick,
    OnIdentity,
    OnClose,
    Save,
    /// The destructor of a session.
    Release,
}

const HOOKS: usize = Hook::Release as usize + 1;

impl Hook {
    pub(super) fn label(self) -> &'static str {
        match self {
            Self::Init => "init",
            Self::Open => "open",
            Self::Resume => "resume",
            Self::OnMessage => "on_message",
            Self::OnDelivery => "on_delivery",
            Self::OnTick => "on_tick",
            Self::OnIdentity => "on_identity",
            Self::OnClose => "on_close",
            Self::Save => "save",
            Self::Release => "release",
        }
    }
}

/// How a call ended.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Ending {
    Ok,
    Admit,
    Refuse,
    Forward,
    Replace,
    Drop,
    Reply,
    Close,
    Act,
    Route,
    KeepOld,
    Error,
    Fault,
}

const ENDINGS: usize = Ending::Fault as usize + 1;

impl Ending {
    pub(super) fn label(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Admit => "admit",
            Self::Refuse => "refuse",
            Self::Forward => "forward",
            Self::Replace => "replace",
            Self::Drop => "drop",
            Self::Reply => "reply",
            Self::Close => "close",
            Self::Act => "act",
            Self::Route => "route",
            Self::KeepOld => "keep_old",
            Self::Error => "error",
            Self::Fault => "fault",
        }
    }
}

/// The counters of one filter's calls.
pub(super) struct Tally {
    metrics: FilterMetrics,
    hooks: [HookTally; HOOKS],
}

#[derive(Default)]
struct HookTally {
    duration: OnceLock<Histogram>,
    endings: [OnceLock<IntCounter>; ENDINGS],
}

impl Tally {
    pub(super) fn new(metrics: FilterMetrics) -> Self {
        Self { metrics, hooks: Default::default() }
    }

    pub(super) fn metrics(&self) -> &FilterMetrics {
        &self.metrics
    }

    pub(super) fn count(&self, hook: Hook, ending: Ending, took: Duration) {
        let tally = &self.hooks[hook as usize];
        tally.duration.get_or_init(|| self.metrics.duration(hook.label())).observe(took.as_secs_f64());
        tally.endings[ending as usize].get_or_init(|| self.metrics.calls(hook.label(), ending.label())).inc();
    }
}

/// How a call ended that gave a verdict.
pub(super) fn verdict_ending(answer: &Result<Verdict, String>) -> Ending {
    match answer {
        Ok(Verdict::Forward) => Ending::Forward,
        Ok(Verdict::Replace(_)) => Ending::Replace,
        Ok(Verdict::Drop) => Ending::Drop,
        Ok(Verdict::Reply(_)) => Ending::Reply,
        Ok(Verdict::Close(_)) => Ending::Close,
        Ok(Verdict::Act(_)) => Ending::Act,
        Ok(Verdict::Route(_)) => Ending::Route,
        Err(_) => Ending::Error,
    }
}

/// How a call ended that gave a list of actions.
pub(super) fn actions_ending(answer: &Result<Vec<Action>, String>) -> Ending {
    match answer {
        Ok(actions) if actions.is_empty() => Ending::Ok,
        Ok(_) => Ending::Act,
        Err(_) => Ending::Error,
    }
}
