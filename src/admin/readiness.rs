//! Should a balancer send connections here?

use std::{
    collections::BTreeSet,
    fmt,
    sync::{Mutex, PoisonError},
};

/// What keeps the gateway from being ready.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Reason {
    /// Not every listener accepts yet.
    Starting,
    /// A filter without which a route cannot serve is not there.
    FilterMissing,
    /// The keys that tokens are checked with did not come yet.
    KeysMissing,
    /// It was told to stop, or to drain.
    Draining,
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Starting => "starting",
            Self::FilterMissing => "a required filter is missing",
            Self::KeysMissing => "the first keys of an issuer are not fetched",
            Self::Draining => "draining",
        })
    }
}

/// The reasons of this moment. Share it in an `Arc`.
pub struct Readiness {
    set: Mutex<BTreeSet<Reason>>,
    conditions: Vec<(Reason, Condition)>,
}

/// Asked for each time; it must not block.
type Condition = Box<dyn Fn() -> bool + Send + Sync>;

impl Readiness {
    /// Starting. `filters_ready` is asked for each time and must not block.
    pub fn new(filters_ready: impl Fn() -> bool + Send + Sync + 'static) -> Self {
        let ready = Self { set: Mutex::new(BTreeSet::from([Reason::Starting])), conditions: Vec::new() };
        ready.unless(Reason::FilterMissing, filters_ready)
    }

    /// Not ready for this reason while that is not so. It is asked for each time and must not block.
    #[must_use]
    pub fn unless(mut self, reason: Reason, condition: impl Fn() -> bool + Send + Sync + 'static) -> Self {
        self.conditions.push((reason, Box::new(condition)));
        self
    }

    /// Every listener accepts.
    pub fn started(&self) {
        self.change(|set| set.remove(&Reason::Starting));
    }

    /// Empty where it is ready.
    #[must_use]
    pub fn reasons(&self) -> BTreeSet<Reason> {
        let mut reasons = self.set.lock().unwrap_or_else(PoisonError::into_inner).clone();
        reasons.extend(self.conditions.iter().filter(|(_, holds)| !holds()).map(|(reason, _)| *reason));
        reasons
    }

    fn change(&self, change: impl FnOnce(&mut BTreeSet<Reason>) -> bool) {
        // Two words and no panic between: a poisoned lock would still hold a whole set.
        change(&mut self.set.lock().unwrap_or_else(PoisonError::into_inner));
    }
}
