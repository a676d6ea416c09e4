//! One call into a guest, under its budget.

use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll},
    time::{Duration, Instant},
};

use tokio::time::Sleep;

use super::{
    limits::{Budget, Exhausted, Meter},
    ticker::Ticker,
};

/// Polls a call and keeps its two clocks: guest time runs while it is polled, waiting time while it waits for a host
/// function, neither while it has only yielded to the worker's other sessions.
pub(super) struct Metered<'a, F> {
    call: Pin<&'a mut F>,
    meter: &'a Meter,
    ticker: &'a Ticker,
    budget: &'a Budget,
    begun: Option<Instant>,
    /// Boxed, because most calls do not wait.
    waiting: Option<Box<Waiting>>,
}

/// The waiting of a call that did so at least once.
struct Waiting {
    since: Option<Instant>,
    timer: Pin<Box<Sleep>>,
}

impl<'a, F> Metered<'a, F> {
    pub(super) fn new(call: Pin<&'a mut F>, meter: &'a Meter, ticker: &'a Ticker, budget: &'a Budget) -> Self {
        Self { call, meter, ticker, budget, begun: None, waiting: None }
    }
}

impl<T, F: Future<Output = wasmtime::Result<T>>> Future for Metered<'_, F> {
    /// The result and the time since the first poll.
    type Output = (wasmtime::Result<T>, Duration);

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = &mut *self;
        let now = Instant::now();
        this.ticker.touch();
        let begun = match this.begun {
            Some(begun) => {
                if let Some(waiting) = &mut this.waiting {
                    waiting.end(now, this.meter);
                }
                this.meter.resume();
                begun
            }
            None => {
                this.meter.start(this.budget);
                *this.begun.insert(now)
            }
        };
        let polled = this.call.as_mut().poll(cx);
        let now = Instant::now();
        let took = now.saturating_duration_since(begun);
        if let Poll::Ready(result) = polled {
            return Poll::Ready((result, took));
        }
        // A guest that only yielded is polled again by itself.
        if this.meter.pause() || this.waiting.get_or_insert_with(Box::default).begin(now, this.meter, cx) {
            return Poll::Pending;
        }
        Poll::Ready((Err(Exhausted::Wait(this.budget.wait).into()), took))
    }
}

impl Default for Waiting {
    fn default() -> Self {
        Self { since: None, timer: Box::pin(tokio::time::sleep(Duration::ZERO)) }
    }
}

impl Waiting {
    /// False where the budget is spent. Else the task is woken when it will be.
    fn begin(&mut self, now: Instant, meter: &Meter, cx: &mut Context<'_>) -> bool {
        self.since = Some(now);
        let left = meter.wait_left();
        self.timer.as_mut().reset((now + left).into());
        !left.is_zero() && self.timer.as_mut().poll(cx).is_pending()
    }

    fn end(&mut self, now: Instant, meter: &Meter) {
        if let Some(since) = self.since.take() {
            meter.waited(now.saturating_duration_since(since));
        }
    }
}
