//! Turns of one thread's tasks, first come, first served. Free when nobody else waits: a flag, no atomics.

use std::{
    cell::{Cell, RefCell},
    collections::VecDeque,
    rc::Rc,
};

use tokio::sync::oneshot;

/// Hands out one [`Guard`] at a time.
#[derive(Default)]
pub(super) struct Turn {
    taken: Cell<bool>,
    waiting: RefCell<VecDeque<oneshot::Sender<Guard>>>,
}

/// Passes the turn on when dropped.
pub(super) struct Guard(Option<Rc<Turn>>);

impl Turn {
    /// The turn, where nobody has it.
    pub(super) fn try_take(self: &Rc<Self>) -> Option<Guard> {
        (!self.taken.replace(true)).then(|| Guard(Some(self.clone())))
    }

    /// Waits for the turn. Giving up is done by dropping the future.
    pub(super) async fn take(self: &Rc<Self>) -> Guard {
        loop {
            if let Some(guard) = self.try_take() {
                return guard;
            }
            let (sender, receiver) = oneshot::channel();
            self.waiting.borrow_mut().push_back(sender);
            // The turn travels through the channel: if this future is dropped, it passes on from there.
            if let Ok(guard) = receiver.await {
                return guard;
            }
        }
    }

    /// Does anybody have it?
    pub(super) fn is_taken(&self) -> bool {
        self.taken.get()
    }

    /// How many wait for it.
    pub(super) fn waiting(&self) -> usize {
        self.waiting.borrow().len()
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        let Some(turn) = self.0.take() else { return };
        loop {
            let next = turn.waiting.borrow_mut().pop_front();
            let Some(next) = next else { break };
            match next.send(Self(Some(turn.clone()))) {
                Ok(()) => return,
                // Whoever waited is gone. The guard that came back must not pass the turn on by itself.
                Err(mut back) => back.0 = None,
            }
        }
        turn.taken.set(false);
    }
}

#[cfg(test)]
mod tests {
    use std::{
        future::Future,
        pin::{Pin, pin},
        task::{Context, Poll, Waker},
    };

    use super::*;

    fn poll<F: Future>(future: Pin<&mut F>) -> Option<F::Output> {
        match future.poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(output) => Some(output),
            Poll::Pending => None,
        }
    }

    #[test]
    fn waiters_are_served_in_order_and_may_give_up() {
        let turn = Rc::new(Turn::default());
        let first = poll(pin!(turn.take())).unwrap();
        let mut second = Box::pin(turn.take());
        let mut third = Box::pin(turn.take());
        let mut fourth = Box::pin(turn.take());
        for waiter in [&mut second, &mut third, &mut fourth] {
            assert!(poll(waiter.as_mut()).is_none());
        }
        drop(second);
        drop(first);
        assert!(poll(fourth.as_mut()).is_none());
        // The turn was given to the third, which gives up without having seen it.
        drop(third);
        let guard = poll(fourth.as_mut()).unwrap();
        assert!(turn.is_taken());
        drop(guard);
        assert!(!turn.is_taken());
        assert_eq!(turn.waiting(), 0);
    }
}
