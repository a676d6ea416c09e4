//! Closing all sessions of a worker, evenly over a time.

use std::time::Duration;

use tokio::time::{Instant, sleep_until};

use super::Load;
use crate::session::Registry;

/// Sessions are closed this often.
const STEP: Duration = Duration::from_millis(20);
/// When few sessions are left, this often is looked whether they have gone by themselves.
const LONGEST_STEP: Duration = Duration::from_millis(100);
/// Before the end the closes are over, so that peers can answer them: a fifth of the time, but at most this.
const LONGEST_LAST_ANSWERS: Duration = Duration::from_secs(1);

/// Closes per second = what remains ÷ the time that remains. Returns when nobody is left, also nobody in a handshake, or
/// at the deadline, when whoever did not answer is cut off.
pub(super) async fn drain(sessions: &Registry, load: &Load, until: Instant) {
    let begun = Instant::now();
    let over = until.saturating_duration_since(begun);
    let last_close = until - (over / 5).min(LONGEST_LAST_ANSWERS);
    let mut next_close = begun;
    loop {
        let now = Instant::now();
        if load.is_none() {
            return;
        }
        if now >= until {
            return sessions.cut_off();
        }
        let remaining = sessions.undrained();
        if remaining > 0 && now >= next_close {
            let left = last_close.saturating_duration_since(now);
            let pace = left / u32::try_from(remaining).unwrap_or(u32::MAX);
            sessions.drain(if pace >= STEP { 1 } else { close_in_a_step(remaining, left) });
            next_close = now + pace.max(STEP);
        }
        let next_look = now + LONGEST_STEP;
        sleep_until(if remaining > 0 { next_look.min(next_close) } else { next_look }.min(until)).await;
    }
}

/// After the deadline of a gateway that stays: handshakes that were under way may still become sessions.
pub(super) async fn keep_empty(sessions: &Registry, load: &Load) {
    while !load.is_none() {
        tokio::time::sleep(LONGEST_STEP).await;
        sessions.cut_off();
    }
}

fn close_in_a_step(remaining: usize, left: Duration) -> usize {
    let steps = left.as_micros().div_ceil(STEP.as_micros()).max(1);
    remaining.div_ceil(usize::try_from(steps).unwrap_or(usize::MAX))
}
