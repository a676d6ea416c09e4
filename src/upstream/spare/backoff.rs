//! Waiting before the next attempt, longer after each that failed.

use std::time::Duration;

use tokio::time::Instant;

/// After the first failure.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
/// Each pause is twice the one before, up to this.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// How long no attempt is made.
#[derive(Default)]
pub(super) struct Backoff {
    failures: u32,
    until: Option<Instant>,
}

impl Backoff {
    /// An attempt failed. Those that were under way at the same time count once.
    pub(super) fn failed(&mut self, now: Instant) {
        if self.pause(now).is_some() {
            return;
        }
        let doubled = 2_u32.saturating_pow(self.failures);
        let pause = FIRST_PAUSE.saturating_mul(doubled).min(LONGEST_PAUSE);
        self.failures = self.failures.saturating_add(1);
        // Gateways that lost an endpoint together do not all come back together.
        self.until = Some(now + pause.mul_f64(0.5 + rand::random::<f64>() / 2.0));
    }

    /// Attempts have come to something.
    pub(super) fn reset(&mut self) {
        *self = Self::default();
    }

    /// Until when no attempt is made, if that is still to come.
    pub(super) fn pause(&self, now: Instant) -> Option<Instant> {
        self.until.filter(|until| *until > now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_a_limit_and_begin_anew_after_a_success() {
        let (mut backoff, mut now) = (Backoff::default(), Instant::now());
        let mut pauses = Vec::new();
        for _ in 0..12 {
            backoff.failed(now);
            backoff.failed(now);
            let until = backoff.pause(now).unwrap();
            pauses.push(until - now);
            now = until;
            assert_eq!(backoff.pause(now), None);
        }
        assert!((FIRST_PAUSE / 2..=FIRST_PAUSE).contains(&pauses[0]), "{pauses:?}");
        assert!((FIRST_PAUSE..=FIRST_PAUSE * 2).contains(&pauses[1]), "{pauses:?}");
        assert!((LONGEST_PAUSE / 2..=LONGEST_PAUSE).contains(&pauses[11]), "{pauses:?}");
        backoff.reset();
        backoff.failed(now);
        assert!(backoff.pause(now).unwrap() - now <= FIRST_PAUSE);
    }
}
