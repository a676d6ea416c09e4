//! How long an answer may go on: one that streams events lives as long as a WebSocket, and ends for the same reasons.

use std::{
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use tokio::time::{Instant, Sleep, sleep_until};

use super::record::HttpEnd;
use crate::{
    config::SessionLimits,
    session::{Bearer, Token},
};

/// Revocations are looked at this often while nothing is sent.
const LOOK_AT_REVOCATIONS: Duration = Duration::from_secs(1);

/// See the module.
pub(super) struct Lifetime {
    idle_timeout: Option<Duration>,
    active: Instant,
    ends: Option<Instant>,
    token: Option<Token>,
    timer: Option<Pin<Box<Sleep>>>,
}

impl Lifetime {
    pub(super) fn new(limits: &SessionLimits, bearer: Option<Bearer>, started: Instant) -> Self {
        let now = Instant::now();
        Self {
            idle_timeout: limits.idle_timeout,
            active: now,
            ends: limits.max_connection_duration.and_then(|most| started.checked_add(most)),
            token: bearer.map(|bearer| Token::new(bearer, now)),
            timer: None,
        }
    }

    /// Something was sent. Is it over all the same?
    pub(super) fn sent(&mut self) -> Option<HttpEnd> {
        self.active = Instant::now();
        self.timer = None;
        self.over(self.active)
    }

    /// Ready when it is over. Asked while nothing is sent.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<HttpEnd> {
        loop {
            let now = Instant::now();
            if let Some(end) = self.over(now) {
                return Poll::Ready(end);
            }
            let looked = self.token.as_ref().map(|_| now + LOOK_AT_REVOCATIONS);
            let expires = self.token.as_ref().and_then(Token::next);
            let Some(next) = [self.idle_ends(), self.ends, looked, expires].into_iter().flatten().min() else {
                return Poll::Pending;
            };
            let timer = self.timer.get_or_insert_with(|| Box::pin(sleep_until(next)));
            if timer.is_elapsed() {
                timer.as_mut().reset(next);
            }
            if timer.as_mut().poll(cx).is_pending() {
                return Poll::Pending;
            }
        }
    }

    fn idle_ends(&self) -> Option<Instant> {
        self.active.checked_add(self.idle_timeout?)
    }

    fn over(&mut self, now: Instant) -> Option<HttpEnd> {
        let is_past = |end: Option<Instant>| end.is_some_and(|end| end <= now);
        if is_past(self.ends) {
            return Some(HttpEnd::TooOld);
        }
        if is_past(self.idle_ends()) {
            return Some(HttpEnd::Idle);
        }
        let token = self.token.as_mut()?;
        if token.is_over(now) {
            return Some(HttpEnd::TokenOver);
        }
        token.is_revoked().then_some(HttpEnd::TokenRevoked)
    }
}
