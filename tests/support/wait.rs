//! Conditions with deadlines, in place of sleeps.

use std::{
    thread,
    time::{Duration, Instant},
};

/// For what should take milliseconds, on a machine that does much else.
pub(crate) const SOON: Duration = Duration::from_secs(10);

/// Looks again every few milliseconds until `probe` has an answer.
pub(crate) fn eventually<T>(what: &str, within: Duration, mut probe: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + within;
    loop {
        if let Some(answer) = probe() {
            return answer;
        }
        assert!(Instant::now() < deadline, "not within {within:?}: {what}");
        thread::sleep(Duration::from_millis(5));
    }
}

/// The same for a condition.
pub(crate) fn until(what: &str, within: Duration, mut condition: impl FnMut() -> bool) {
    eventually(what, within, || condition().then_some(()));
}
