//! Removes entries whose time is up, so that nobody has to ask for them: a thread that sleeps while no store has any with
//! a deadline.

use std::{
    io,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread,
    time::Duration,
};

use super::embedded::Embedded;

/// Expired entries take room for at most about this long.
const SWEEP_EVERY: Duration = Duration::from_millis(250);

/// The thread. Stopped when dropped.
pub(super) struct Sweeper(Waker);

/// Wakes the thread.
#[derive(Clone, Default)]
pub(super) struct Waker(Arc<Shared>);

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    stores: Vec<std::sync::Weak<Embedded>>,
    awake: bool,
    stopped: bool,
}

impl Sweeper {
    pub(super) fn start() -> io::Result<Self> {
        let waker = Waker::default();
        let shared = waker.0.clone();
        thread::Builder::new().name("wsgate-stores".to_owned()).spawn(move || shared.sweep())?;
        Ok(Self(waker))
    }

    pub(super) fn waker(&self) -> Waker {
        self.0.clone()
    }

    pub(super) fn add(&self, store: &Arc<Embedded>) {
        self.0.0.state().stores.push(Arc::downgrade(store));
    }
}

impl Drop for Sweeper {
    fn drop(&mut self) {
        self.0.0.state().stopped = true;
        self.0.0.changed.notify_all();
    }
}

impl Waker {
    /// A store has an entry with a deadline, and had none before.
    pub(super) fn wake(&self) {
        self.0.state().awake = true;
        self.0.changed.notify_all();
    }

    /// The thread, and everybody who can wake it.
    #[cfg(test)]
    pub(super) fn users(&self) -> usize {
        Arc::strong_count(&self.0)
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn sweep(&self) {
        while let Some(stores) = self.next() {
            for store in stores {
                store.expire(store.now(), usize::MAX);
            }
        }
    }

    /// The stores to look at, when the time has come; `None` at the end.
    fn next(&self) -> Option<Vec<Arc<Embedded>>> {
        let mut state = self.state();
        // A store that has its first deadline after it was looked at here says so with `wake`.
        let expiring = state.live().any(|store| store.is_expiring());
        state.awake = expiring;
        while !state.awake && !state.stopped {
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        let stopped = |state: &mut State| !state.stopped;
        let waited = self.changed.wait_timeout_while(state, SWEEP_EVERY, stopped);
        let (state, _) = waited.unwrap_or_else(PoisonError::into_inner);
        (!state.stopped).then(|| state.live().collect())
    }
}

impl State {
    fn live(&self) -> impl Iterator<Item = Arc<Embedded>> {
        self.stores.iter().filter_map(std::sync::Weak::upgrade)
    }
}
