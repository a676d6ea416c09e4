//! Turns of one thread's tasks at an instance. Free when nobody else waits: a flag, no atomics.
//!
//! A turn that is given back is not handed to the first who waits: whoever is running may take it again, and the waiter
//! takes it when it runs. Handing over would let every session make one call in each of its turns, and so break up their
//! batches: with 64 connections of 32 messages in flight that cost 12 times the CPU a message. A waiter that found the
//! turn taken once more is next for certain.

use std::{
    cell::{Cell, RefCell},
    collections::VecDeque,
    future::Future,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, Waker},
};

/// Gives out one [`Guard`] at a time.
#[derive(Default)]
pub(super) struct Turn {
    taken: Cell<bool>,
    waiting: RefCell<VecDeque<Rc<Waiter>>>,
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
        self.waiting.borrow().len()
    }

    fn give_back(&self) {
        self.taken.set(false);
        self.call_next();
    }

    fn call_next(&self) {
        let Some(next) = self.waiting.borrow_mut().pop_front() else { return };
        if next.overtaken.get() {
            self.taken.set(true);
            next.state.set(State::Granted);
        } else {
            next.state.set(State::Called);
        }
        next.waker.borrow().wake_by_ref();
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
            State::Called if self.turn.taken.get() => {}
            State::Called => self.turn.call_next(),
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
