//! The clock of guest time: a thread that advances the engine's epoch each millisecond while calls are made, and sleeps
//! without waking when none are.

use std::{
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, Thread},
    time::Duration,
};

/// How far apart two epochs are.
pub(super) const TICK: Duration = Duration::from_millis(1);

/// After so many ticks without a call the thread parks.
const IDLE_TICKS: u32 = 100;

/// Wakes and stops the thread. Stopped when dropped.
pub(super) struct Ticker {
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    /// A call began, or ran on, since the last tick.
    active: AtomicBool,
    parked: AtomicBool,
    stopped: AtomicBool,
    thread: OnceLock<Thread>,
}

impl Ticker {
    /// Starts the thread.
    pub(super) fn start(engine: &wasmtime::Engine) -> std::io::Result<Self> {
        let shared = Arc::new(Shared::default());
        let thread = thread::Builder::new().name("wsgate-epoch".to_owned()).spawn({
            let (shared, engine) = (shared.clone(), engine.clone());
            move || tick(&shared, &engine)
        })?;
        // The thread may park only after this is set, which takes it at least IDLE_TICKS.
        let _ = shared.thread.set(thread.thread().clone());
        Ok(Self { shared })
    }

    /// Guest code is about to run, or is still running: keeps the epochs coming for at least as long as it takes to
    /// reach the next one, where the running call says so again.
    pub(super) fn touch(&self) {
        let shared = &*self.shared;
        if shared.active.load(Ordering::Relaxed) {
            return;
        }
        shared.active.store(true, Ordering::SeqCst);
        if shared.parked.load(Ordering::SeqCst) {
            shared.unpark();
        }
    }
}

impl Drop for Ticker {
    fn drop(&mut self) {
        self.shared.stopped.store(true, Ordering::SeqCst);
        self.shared.unpark();
    }
}

impl Shared {
    fn unpark(&self) {
        if let Some(thread) = self.thread.get() {
            thread.unpark();
        }
    }
}

fn tick(shared: &Shared, engine: &wasmtime::Engine) {
    let mut idle = 0;
    while !shared.stopped.load(Ordering::SeqCst) {
        thread::sleep(TICK);
        engine.increment_epoch();
        idle = if shared.active.swap(false, Ordering::SeqCst) { 0 } else { idle + 1 };
        if idle < IDLE_TICKS {
            continue;
        }
        // `touch` sets `active` and then reads `parked`; here it is the other way round, so one of the two sees the other.
        shared.parked.store(true, Ordering::SeqCst);
        while !shared.active.load(Ordering::SeqCst) && !shared.stopped.load(Ordering::SeqCst) {
            thread::park();
        }
        shared.parked.store(false, Ordering::SeqCst);
        idle = 0;
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;

    fn wait_for(condition: impl Fn() -> bool) {
        let end = Instant::now() + Duration::from_secs(5);
        while !condition() {
            assert!(Instant::now() < end, "the condition never came true");
            thread::sleep(Duration::from_millis(1));
        }
    }

    #[test]
    fn parks_when_idle_and_wakes_for_a_call() {
        let ticker = Ticker::start(&wasmtime::Engine::default()).unwrap();
        wait_for(|| ticker.shared.parked.load(Ordering::SeqCst));
        ticker.touch();
        wait_for(|| !ticker.shared.active.load(Ordering::SeqCst));
        assert!(!ticker.shared.parked.load(Ordering::SeqCst));
    }

    #[test]
    fn ends_when_dropped_although_parked() {
        let ticker = Ticker::start(&wasmtime::Engine::default()).unwrap();
        let shared = ticker.shared.clone();
        wait_for(|| shared.parked.load(Ordering::SeqCst));
        drop(ticker);
        wait_for(|| Arc::strong_count(&shared) == 1);
    }
}
