//! Taking a gateway out of service, and back: not ready first, then closes that are spread out, then nobody is left.
//! A signal leads to the end of the process; an order of the admin API leaves the process there, and can be taken back.

use std::{sync::Arc, time::Duration};

use futures_util::future::join_all;
use serde::Serialize;
use tokio::{
    sync::{Notify, watch},
    time::Instant,
};

use crate::worker::Worker;

/// Who wants what.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Wanted {
    /// Serve.
    Serve,
    /// Drain until told otherwise.
    Drain,
    /// Drain, and leave.
    Leave,
}

/// How far it is.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// In service.
    Serving,
    /// Not ready, and still accepting.
    Delay,
    /// New requests are answered 503; sessions are closed evenly.
    Closing,
    /// Nobody is left, or the time is over.
    Drained,
}

/// What operators see.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub struct DrainStatus {
    /// How far it is.
    pub phase: Phase,
    /// Does the process end afterwards?
    pub leaving: bool,
    /// Clients that are connected or in a handshake.
    pub connections: usize,
    /// To the end of the phase, where it has one.
    pub remaining_ms: Option<u64>,
}

/// The process is on its way down: that is not taken back.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("the process was told to stop, which cannot be taken back")]
pub struct Leaving;

/// `drain_delay` and `drain_timeout`, as they are now.
pub type Times = Box<dyn Fn() -> (Duration, Duration) + Send + Sync>;

/// The drain of one gateway. Share it in an `Arc`.
pub struct Drain {
    times: Times,
    workers: Arc<[Worker]>,
    wanted: watch::Sender<Wanted>,
    phase: watch::Sender<(Phase, Option<Instant>)>,
    skip_delay: Notify,
}

impl Drain {
    /// In service.
    #[must_use]
    pub fn new(times: Times, workers: Arc<[Worker]>) -> Self {
        let (wanted, _) = watch::channel(Wanted::Serve);
        let (phase, _) = watch::channel((Phase::Serving, None));
        Self { times, workers, wanted, phase, skip_delay: Notify::new() }
    }

    /// Who is drained.
    #[must_use]
    pub fn workers(&self) -> &Arc<[Worker]> {
        &self.workers
    }

    /// Is it out of service, or on the way there? Readiness asks this.
    #[must_use]
    pub fn is_draining(&self) -> bool {
        *self.wanted.borrow() != Wanted::Serve
    }

    /// How far it is.
    #[must_use]
    pub fn status(&self) -> DrainStatus {
        let (wanted, (phase, until)) = (*self.wanted.borrow(), *self.phase.borrow());
        // An order counts from when it is given.
        let phase = if phase == Phase::Serving && wanted != Wanted::Serve { Phase::Delay } else { phase };
        let remaining = until.map(|until| until.saturating_duration_since(Instant::now()).as_millis());
        DrainStatus {
            phase,
            leaving: wanted == Wanted::Leave,
            connections: self.workers.iter().map(Worker::load).sum(),
            remaining_ms: remaining.map(|remaining| u64::try_from(remaining).unwrap_or(u64::MAX)),
        }
    }

    /// Takes the gateway out of service; the process stays.
    pub fn start(&self) {
        self.wanted.send_if_modified(|wanted| std::mem::replace(wanted, (*wanted).max_drain()) == Wanted::Serve);
    }

    /// Takes it back into service.
    ///
    /// # Errors
    /// The process ends.
    pub fn call_off(&self) -> Result<(), Leaving> {
        let mut leaving = false;
        self.wanted.send_if_modified(|wanted| {
            leaving = *wanted == Wanted::Leave;
            !leaving && std::mem::replace(wanted, Wanted::Serve) == Wanted::Drain
        });
        if leaving { Err(Leaving) } else { Ok(()) }
    }

    /// From now on the process is on its way down.
    pub fn leave(&self) {
        self.wanted.send_replace(Wanted::Leave);
    }

    /// Closes at once what would wait for `drain_delay`.
    pub fn skip_delay(&self) {
        self.skip_delay.notify_one();
    }

    /// Returns when closing has begun; by when it is over.
    pub async fn closing(&self) -> Instant {
        let until = self.reached(&[Phase::Closing, Phase::Drained]).await;
        until.unwrap_or_else(|| Instant::now() + (self.times)().1)
    }

    /// Returns when nobody is left, or the time is over.
    pub async fn drained(&self) {
        self.reached(&[Phase::Drained]).await;
    }

    async fn reached(&self, phases: &[Phase]) -> Option<Instant> {
        // The sender is `self`, so that there is one.
        self.phase.subscribe().wait_for(|(phase, _)| phases.contains(phase)).await.ok()?.1
    }

    /// Does what is wanted, for as long as it is polled.
    pub async fn run(&self) {
        let mut wanted = self.wanted.subscribe();
        loop {
            let _ = wanted.wait_for(|wanted| *wanted != Wanted::Serve).await;
            tokio::select! {
                () = self.go_out_of_service() => {}
                () = called_off(wanted.clone()) => {}
            }
            called_off(wanted.clone()).await;
            join_all(self.workers.iter().map(Worker::resume)).await;
            self.phase.send_replace((Phase::Serving, None));
            tracing::info!("the drain was taken back");
        }
    }

    async fn go_out_of_service(&self) {
        let (delay, timeout) = (self.times)();
        if !delay.is_zero() {
            let closing = Instant::now() + delay;
            self.phase.send_replace((Phase::Delay, Some(closing)));
            tracing::info!(delay_ms = delay.as_millis(), "draining: not ready, still accepting");
            tokio::select! {
                () = tokio::time::sleep_until(closing) => {}
                () = self.skip_delay.notified() => {}
            }
        }
        let end = Instant::now() + timeout;
        self.phase.send_replace((Phase::Closing, Some(end)));
        tracing::info!(over_ms = timeout.as_millis(), "closing connections");
        self.close_all(end).await;
        self.phase.send_replace((Phase::Drained, None));
        tracing::info!(connections = self.status().connections, "drained");
    }

    /// Returns when nobody is left, also nobody in a handshake, or at the deadline.
    pub async fn close_all(&self, until: Instant) {
        join_all(self.workers.iter().map(|worker| worker.drain(until))).await;
    }
}

impl Wanted {
    /// At least a drain.
    fn max_drain(self) -> Self {
        match self {
            Self::Serve | Self::Drain => Self::Drain,
            Self::Leave => Self::Leave,
        }
    }
}

async fn called_off(mut wanted: watch::Receiver<Wanted>) {
    let _ = wanted.wait_for(|wanted| *wanted == Wanted::Serve).await;
}

#[cfg(test)]
mod tests;
