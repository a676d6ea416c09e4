//! Turns of one thread's tasks at an instance. Free when nobody else waits: a flag, no atomics.
//!
//! A turn that is given back is not handed to the first who waits: whoever is running may take it again, and the waiter
//! takes it when it runs. Handing over would let every session make one call in each of its turns, and so break up their
//! batches: with 64 connections of 32 messages in flight that cost 12 times the CPU a message. A waiter that found the
//! turn taken once more is next for certain, but for the batch of the one before it: a call that yields to the other
//! sessions makes them all find the turn taken, and if each then made one call in turn, what many publish would pile up
//! before those who listen: they have many calls to make for one of a publisher.

use std::{
    cell::{Cell, RefCell},
    collections::VecDeque,
    future::Future,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, Waker},
};

/// Calls that whoever was given the turn for certain may make before the next one is. About what a session relays in its
/// turn.
const CALLS_A_GRANT: u32 = 32;

/// Gives out one [`Guard`] at a time.
#[derive(Default)]
pub(super) struct Turn {
    taken: Cell<bool>,
    waiting: RefCell<VecDeque<Rc<Waiter>>>,
    /// The waiter that may take the turn if nobody is faster, and has not run yet.
    called: RefCell<Option<Rc<Waiter>>>,
    /// Calls before a waiter is given the turn for certain.
    calls_left: Cell<u32>,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum State {
    Queued,
    /// May take the turn if nobody is faster.
    Called,
    /// Has the turn.
    Granted,
}

struct Waiter {
    state: Cell<State>,
    /// Somebody was faster once.
    overtaken: Cell<bool>,
    waker: RefCell<Waker>,
}

/// Gives the turn back when dropped.
pub(super) struct Guard(Rc<Turn>);

/// The future of [`Turn::take`]. Giving up is done by dropping it.
pub(super) struct Take {
    turn: Rc<Turn>,
    waiter: Option<Rc<Waiter>>,
}

impl Turn {
    /// The turn, where nobody has it.
    pub(super) fn try_take(self: &Rc<Self>) -> Option<Guard> {
        (!self.taken.replace(true)).then(|| Guard(self.clone()))
    }

    /// Waits for the turn.
    pub(super) fn take(self: &Rc<Self>) -> Take {
        Take { turn: self.clone(), waiter: None }
    }

    /// Does anybody have it?
    pub(super) fn is_taken(&self) -> bool {
        self.taken.get()
    }

    /// How many wait for it.
    pub(super) fn waiting(&self) -> usize {
        self.waiting.borrow().len() + usize::from(self.called.borrow().is_some())
    }

    fn give_back(&self) {
        self.taken.set(false);
        self.call_next();
    }

    fn call_next(&self) {
        let called = self.called.take();
        let Some(next) = called.or_else(|| self.waiting.borrow_mut().pop_front()) else { return };
        let was_called = next.state.get() == State::Called;
        let left = self.calls_left.get();
        self.calls_left.set(left.saturating_sub(1));
        if next.overtaken.get() && left == 0 {
            self.taken.set(true);
            self.calls_left.set(CALLS_A_GRANT);
            next.state.set(State::Granted);
        } else {
            next.state.set(State::Called);
            self.called.replace(Some(next.clone()));
        }
        if !was_called {
            next.waker.borrow().wake_by_ref();
        }
    }

    /// The waiter that was called has run, or gives up.
    fn answered(&self, waiter: &Rc<Waiter>) {
        self.called.borrow_mut().take_if(|called| Rc::ptr_eq(called, waiter));
    }
}

impl Future for Take {
    type Output = Guard;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Guard> {
        let this = &mut *self;
        let turn = &this.turn;
        let state = this.waiter.as_ref().map(|waiter| waiter.state.get());
        let free = match state {
            Some(State::Granted) => true,
            Some(State::Queued) => false,
            Some(State::Called) | None => !turn.taken.replace(true),
        };
        if state == Some(State::Called)
            && let Some(waiter) = &this.waiter
        {
            turn.answered(waiter);
        }
        if free {
            this.waiter = None;
            return Poll::Ready(Guard(turn.clone()));
        }
        match &this.waiter {
            None => {
                let waker = RefCell::new(cx.waker().clone());
                let waiter = Rc::new(Waiter { state: Cell::new(State::Queued), overtaken: Cell::new(false), waker });
                turn.waiting.borrow_mut().push_back(waiter.clone());
                this.waiter = Some(waiter);
            }
            Some(waiter) => {
                waiter.waker.borrow_mut().clone_from(cx.waker());
                if state == Some(State::Called) {
                    waiter.overtaken.set(true);
                    waiter.state.set(State::Queued);
                    turn.waiting.borrow_mut().push_front(waiter.clone());
                }
            }
        }
        Poll::Pending
    }
}

impl Drop for Take {
    fn drop(&mut self) {
        let Some(waiter) = self.waiter.take() else { return };
        match waiter.state.get() {
            State::Queued => self.turn.waiting.borrow_mut().retain(|other| !Rc::ptr_eq(other, &waiter)),
            State::Called => {
                self.turn.answered(&waiter);
                if !self.turn.taken.get() {
                    self.turn.call_next();
                }
            }
            State::Granted => self.turn.give_back(),
        }
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        self.0.give_back();
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;

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
        // The third was called and gives up without having run.
        assert!(poll(fourth.as_mut()).is_none());
        drop(third);
        let guard = poll(fourth.as_mut()).unwrap();
        assert!(turn.is_taken());
        drop(guard);
        assert!(!turn.is_taken());
        assert_eq!(turn.waiting(), 0);
    }

    #[test]
    fn who_runs_goes_on_but_overtakes_a_waiter_only_once() {
        let turn = Rc::new(Turn::default());
        let first = poll(pin!(turn.take())).unwrap();
        let mut waiter = Box::pin(turn.take());
        assert!(poll(waiter.as_mut()).is_none());
        drop(first);
        // A batch goes on within one poll.
        drop(poll(pin!(turn.take())).unwrap());
        let overtaking = poll(pin!(turn.take())).unwrap();
        assert!(poll(waiter.as_mut()).is_none());
        drop(overtaking);
        assert!(poll(pin!(turn.take())).is_none(), "the turn is the waiter's");
        drop(poll(waiter.as_mut()).unwrap());
        assert!(poll(pin!(turn.take())).is_some());
    }

    #[test]
    fn who_was_given_the_turn_makes_a_batch_of_calls_before_the_next_is() {
        let turn = Rc::new(Turn::default());
        let first = poll(pin!(turn.take())).unwrap();
        let mut waiters = [Box::pin(turn.take()), Box::pin(turn.take())];
        // The call of the first yields: both others find the turn taken, once called and once more.
        for waiter in &mut waiters {
            assert!(poll(waiter.as_mut()).is_none());
        }
        drop(first);
        let first = poll(pin!(turn.take())).unwrap();
        assert!(poll(waiters[0].as_mut()).is_none());
        drop(first);
        let [second, third] = &mut waiters;
        drop(poll(second.as_mut()).unwrap());
        let mut calls = 1;
        while let Some(guard) = poll(pin!(turn.take())) {
            calls += 1;
            // The third is called, and finds the turn taken.
            assert!(poll(third.as_mut()).is_none());
            drop(guard);
            assert!(calls < 1000);
        }
        assert_eq!(calls, CALLS_A_GRANT + 1);
        assert!(poll(third.as_mut()).is_some());
    }

    #[test]
    fn a_granted_turn_that_nobody_wants_goes_on() {
        let turn = Rc::new(Turn::default());
        let first = poll(pin!(turn.take())).unwrap();
        let mut waiter = Box::pin(turn.take());
        assert!(poll(waiter.as_mut()).is_none());
        drop(first);
        let overtaking = poll(pin!(turn.take())).unwrap();
        assert!(poll(waiter.as_mut()).is_none());
        drop(overtaking);
        drop(waiter);
        assert!(!turn.is_taken());
    }
}
