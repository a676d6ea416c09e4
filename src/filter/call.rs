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
    waited: Duration,
    waiting_since: Option<Instant>,
    timer: Option<Pin<Box<Sleep>>>,
}

impl<'a, F> Metered<'a, F> {
    pub(super) fn new(call: Pin<&'a mut F>, meter: &'a Meter, ticker: &'a Ticker, budget: &'a Budget) -> Self {
        Self { call, meter, ticker, budget, begun: None, waited: Duration::ZERO, waiting_since: None, timer: None }
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
                if let Some(since) = this.waiting_since.take() {
                    this.waited += now.saturating_duration_since(since);
                }
                this.meter.resume(now);
                begun
            }
            None => {
                this.meter.start(this.budget, now);
                *this.begun.insert(now)
            }
        };
        let polled = this.call.as_mut().poll(cx);
        let now = Instant::now();
        let took = now.saturating_duration_since(begun);
        if let Poll::Ready(result) = polled {
            return Poll::Ready((result, took));
        }
        if this.meter.pause(now) {
            return Poll::Pending;
        }
        this.waiting_since = Some(now);
        match this.budget.wait.checked_sub(this.waited) {
            Some(left) if !left.is_zero() && this.poll_timer(now + left, cx).is_pending() => Poll::Pending,
            _ => Poll::Ready((Err(Exhausted::Wait(this.budget.wait).into()), took)),
        }
    }
}

impl<F> Metered<'_, F> {
    fn poll_timer(&mut self, deadline: Instant, cx: &mut Context<'_>) -> Poll<()> {
        let timer = self.timer.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(deadline.into())));
        if timer.deadline() != deadline.into() {
            timer.as_mut().reset(deadline.into());
        }
        timer.as_mut().poll(cx)
    }
}
