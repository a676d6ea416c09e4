//! So many log lines at once, then so many a second; the rest is counted.

use std::{
    sync::{Mutex, PoisonError},
    time::Instant,
};

const BURST_LINES: f64 = 100.0;
const LINES_PER_SECOND: f64 = 20.0;

/// Shared by whoever writes lines about one thing.
pub struct Allowance(Mutex<State>);

struct State {
    lines: f64,
    at: Instant,
    suppressed: u64,
}

impl Allowance {
    /// The first lines pass.
    #[must_use]
    pub fn new() -> Self {
        Self(Mutex::new(State { lines: BURST_LINES, at: Instant::now(), suppressed: 0 }))
    }

    /// How many lines were suppressed since the last one that was not; `None` where this one is to be as well.
    pub fn take(&self) -> Option<u64> {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        let refill = now.duration_since(state.at).as_secs_f64() * LINES_PER_SECOND;
        state.at = now;
        state.lines = (state.lines + refill).min(BURST_LINES);
        if state.lines < 1.0 {
            state.suppressed += 1;
            return None;
        }
        state.lines -= 1.0;
        Some(std::mem::take(&mut state.suppressed))
    }
}

impl Default for Allowance {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_is_suppressed_and_counted() {
        let allowance = Allowance::new();
        let passed = (0..10_000).filter(|_| allowance.take().is_some()).count();
        assert!((100..200).contains(&passed), "{passed}");
        assert!(allowance.0.lock().unwrap().suppressed > 9_000);
    }
}
