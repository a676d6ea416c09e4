//! When something has to happen to a session that nothing else wakes. Each session keeps one timer at its earliest
//! deadline; activity only stamps these clocks.

use std::{
    future::Future,
    pin::{Pin, pin},
    task::Context,
    time::Duration,
};

use tokio::{
    task::unconstrained,
    time::{Instant, Sleep},
};

use super::leg::Leg;
use crate::config::SessionLimits;

/// A peer that answers a Close frame does so within this; afterwards its socket is dropped.
pub(super) const CLOSE_TIMEOUT: Duration = Duration::from_secs(5);
/// After a protocol error the peer's bytes are drained for this long.
pub(super) const LINGER_TIMEOUT: Duration = Duration::from_secs(2);

/// What a leg's clock asks for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Due {
    Nothing,
    Ping,
    PongTimeout,
    SendTimeout,
}

/// The deadlines of one leg.
#[derive(Debug)]
pub(super) struct LegClock {
    next_ping: Option<Instant>,
    /// When a pong, or any other byte, must have come, and how many bytes had come when the ping was due. A pong waits
    /// behind the frame that the peer is sending, so bytes count.
    pong_by: Option<(Instant, u64)>,
    /// Since when the peer takes no byte, and how many it had taken by then.
    blocked: Option<(Instant, u64)>,
}

impl LegClock {
    pub(super) fn new(now: Instant, limits: &SessionLimits) -> Self {
        Self { next_ping: limits.ping_interval.map(|interval| now + interval), pong_by: None, blocked: None }
    }

    /// Nobody reads from this peer, so nobody would see its pong: its clocks start anew when reading goes on.
    pub(super) fn unread(&mut self, now: Instant, limits: &SessionLimits) {
        self.pong_by = None;
        self.next_ping = limits.ping_interval.map(|interval| now + interval);
    }

    /// Called after each flush. Bytes that the peer takes start `send_timeout` anew.
    pub(super) fn flushed(&mut self, now: Instant, leg: &Leg, blocked: bool) {
        self.blocked = match self.blocked {
            _ if !blocked => None,
            Some((since, written)) if written == leg.bytes_written() => Some((since, written)),
            Some(_) | None => Some((now, leg.bytes_written())),
        };
    }

    /// What is due now. A due ping is taken as sent.
    pub(super) fn due(&mut self, now: Instant, leg: &Leg, limits: &SessionLimits) -> Due {
        if self.blocked.is_some_and(|(since, _)| since + limits.send_timeout <= now) {
            return Due::SendTimeout;
        }
        if let Some((by, bytes_read)) = self.pong_by
            && by <= now
        {
            if bytes_read == leg.bytes_read() {
                return Due::PongTimeout;
            }
            self.pong_by = None;
        }
        if self.next_ping.is_some_and(|at| at <= now) {
            self.next_ping = limits.ping_interval.map(|interval| now + interval);
            self.pong_by.get_or_insert((now + limits.pong_timeout, leg.bytes_read()));
            return Due::Ping;
        }
        Due::Nothing
    }

    /// The earliest deadline.
    pub(super) fn next(&self, limits: &SessionLimits) -> Option<Instant> {
        let send_by = self.blocked.map(|(since, _)| since + limits.send_timeout);
        [self.next_ping, self.pong_by.map(|(by, _)| by), send_by].into_iter().flatten().min()
    }
}

/// The one timer of a session. It wakes the task; whether something is due is decided by the clock, so that a turn costs
/// no call into the timer wheel.
#[derive(Debug)]
pub(super) struct Timer {
    sleep: Pin<Box<Sleep>>,
    at: Option<Instant>,
}

impl Timer {
    /// Not armed.
    pub(super) fn new(now: Instant) -> Self {
        Self { sleep: Box::pin(tokio::time::sleep_until(now)), at: None }
    }

    pub(super) fn is_due(&self, now: Instant) -> bool {
        self.at.is_some_and(|at| at <= now)
    }

    /// Sets the timer unless it is set to an earlier time already: too early does no harm.
    pub(super) fn arm(&mut self, next: Option<Instant>, now: Instant, context: &mut Context<'_>) {
        let Some(next) = next else { return };
        if self.at.is_some_and(|at| at > now && at <= next) {
            return;
        }
        self.at = Some(next);
        self.sleep.as_mut().reset(next);
        // A task that has used up its turn may not even register a timer, unless it is exempt from the budget.
        if pin!(unconstrained(self.sleep.as_mut())).poll(context).is_ready() {
            context.waker().wake_by_ref();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{future::poll_fn, task::Poll};

    use tokio::{task::coop::consume_budget, time::timeout};

    use super::*;

    #[tokio::test]
    async fn a_timer_that_is_set_at_the_end_of_a_long_turn_goes_off() {
        let at = Instant::now() + Duration::from_millis(20);
        let mut timer = Timer::new(Instant::now());
        let mut first = true;
        let turns = poll_fn(|context| {
            while first && pin!(consume_budget()).poll(context).is_ready() {}
            first = false;
            if timer.is_due(Instant::now()) {
                return Poll::Ready(());
            }
            timer.arm(Some(at), Instant::now(), context);
            Poll::Pending
        });
        // Whatever else wakes the task is too late.
        timeout(Duration::from_secs(5), turns).await.unwrap();
        assert!(at.elapsed() < Duration::from_secs(4));
    }
}
