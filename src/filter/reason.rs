//! Why a filter decided as it did, in its own words.

use std::{
    fmt,
    sync::{Arc, Mutex, PoisonError},
};

/// A filter's label for a decision.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Reason {
    /// Which filter.
    pub filter: Arc<str>,
    /// Cut and without control characters.
    pub label: Arc<str>,
}

/// `filter:label`, as log lines show it.
impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.filter, self.label)
    }
}

/// The last reason that a filter named for one connection. Written in calls of any of its filters, read by one thread.
#[derive(Debug, Default)]
pub struct LastReason(Mutex<Option<Reason>>);

impl LastReason {
    /// The last one, if any.
    #[must_use]
    pub fn get(&self) -> Option<Reason> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn set(&self, reason: Reason) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(reason);
    }
}
