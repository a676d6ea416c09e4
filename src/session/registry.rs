//! The sessions of one worker, as everything outside a session may see and steer them.

use std::{
    cell::{Cell, RefCell},
    rc::{Rc, Weak},
    task::{Context, Waker},
};

use slab::Slab;

/// What a session is told from outside.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Order {
    None,
    Drain,
}

/// The part of a session that the registry holds.
#[derive(Debug)]
pub(super) struct Control {
    order: Cell<Order>,
    waker: RefCell<Option<Waker>>,
}

impl Control {
    /// Remembers whom to wake; called by the session in each turn.
    pub(super) fn register(&self, context: &Context<'_>) {
        let mut waker = self.waker.borrow_mut();
        if !waker.as_ref().is_some_and(|waker| waker.will_wake(context.waker())) {
            *waker = Some(context.waker().clone());
        }
    }

    pub(super) fn drain_ordered(&self) -> bool {
        self.order.get() == Order::Drain
    }

    fn wake(&self) {
        if let Some(waker) = self.waker.borrow().as_ref() {
            waker.wake_by_ref();
        }
    }
}

/// The open sessions of a worker.
#[derive(Debug, Default)]
pub struct Registry {
    sessions: RefCell<Slab<Rc<Control>>>,
    /// Counts up with each published change of the filters; sessions compare it between two messages.
    revision: Cell<u64>,
}

impl Registry {
    /// Adds a session for as long as the entry lives.
    pub fn enter(self: &Rc<Self>) -> Entry {
        let control = Rc::new(Control { order: Cell::new(Order::None), waker: RefCell::new(None) });
        let key = self.sessions.borrow_mut().insert(Rc::clone(&control));
        Entry { control, key, registry: Rc::downgrade(self) }
    }

    /// How many sessions are open.
    #[must_use]
    pub fn len(&self) -> usize {
        self.sessions.borrow().len()
    }

    /// True where no session is open.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.sessions.borrow().is_empty()
    }

    /// The current revision of the filters.
    #[must_use]
    pub fn revision(&self) -> u64 {
        self.revision.get()
    }

    /// Says that filters changed. Busy sessions notice at their next message, silent ones when [`Registry::wake`] comes by.
    pub fn revise(&self) {
        self.revision.set(self.revision.get() + 1);
    }

    /// The keys of all sessions that are open now.
    #[must_use]
    pub fn keys(&self) -> Vec<usize> {
        self.sessions.borrow().iter().map(|(key, _)| key).collect()
    }

    /// Lets a session take a turn.
    pub fn wake(&self, key: usize) {
        if let Some(control) = self.sessions.borrow().get(key) {
            control.wake();
        }
    }

    /// Tells up to `count` sessions to close with 1001; returns how many were told.
    pub fn drain(&self, count: usize) -> usize {
        let sessions = self.sessions.borrow();
        let open = sessions.iter().map(|(_, control)| control).filter(|control| !control.drain_ordered());
        let told = open.take(count).map(|control| {
            control.order.set(Order::Drain);
            control.wake();
        });
        told.count()
    }

    /// Sessions that were not told to close yet.
    #[must_use]
    pub fn undrained(&self) -> usize {
        self.sessions.borrow().iter().filter(|(_, control)| !control.drain_ordered()).count()
    }
}

/// A session's place in the registry; leaving happens on drop.
#[derive(Debug)]
pub struct Entry {
    pub(super) control: Rc<Control>,
    key: usize,
    registry: Weak<Registry>,
}

impl Drop for Entry {
    fn drop(&mut self) {
        if let Some(registry) = self.registry.upgrade() {
            registry.sessions.borrow_mut().remove(self.key);
        }
    }
}
