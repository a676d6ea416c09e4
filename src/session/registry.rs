//! The sessions of one worker, as everything outside a session may see and steer them.

use std::{
    cell::{Cell, RefCell},
    rc::{Rc, Weak},
    sync::Arc,
    task::{Context, Waker},
};

use slab::Slab;
use tokio::sync::watch;

use super::{SessionEnd, token::Bearer};
use crate::{
    auth::Authenticator,
    filter::{Instances, Live},
};

/// What a session is told from outside.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Order {
    None,
    Drain,
    Retire(Retired),
    /// As to drain, and to wait for nobody any more.
    Leave,
}

/// Why a connection that was admitted is closed by another configuration.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Retired {
    /// Its route is gone, or would treat it differently from the opening on.
    RouteChanged,
    /// It would be refused now.
    NoLongerAllowed,
}

/// The part of a session that the registry holds.
#[derive(Debug)]
pub(super) struct Control {
    order: Cell<Order>,
    waker: RefCell<Option<Waker>>,
    /// Who the client is by its latest token.
    bearer: RefCell<Option<Bearer>>,
    /// The bearer's table is another one than the session knows.
    is_news: Cell<bool>,
}

impl Control {
    /// Remembers whom to wake; called by the session in each turn.
    pub(super) fn register(&self, context: &Context<'_>) {
        let mut waker = self.waker.borrow_mut();
        if !waker.as_ref().is_some_and(|waker| waker.will_wake(context.waker())) {
            *waker = Some(context.waker().clone());
        }
    }

    /// How the session is to end, if it is.
    pub(super) fn ordered_end(&self) -> Option<SessionEnd> {
        match self.order.get() {
            Order::None => None,
            Order::Drain | Order::Leave => Some(SessionEnd::Drained),
            Order::Retire(Retired::RouteChanged) => Some(SessionEnd::RouteChanged),
            Order::Retire(Retired::NoLongerAllowed) => Some(SessionEnd::NoLongerAllowed),
        }
    }

    /// Should it wait for nobody any more?
    pub(super) fn leave_ordered(&self) -> bool {
        self.order.get() == Order::Leave
    }

    /// The table that verifies the client's tokens from now on, where that is another one.
    pub(super) fn new_authenticator(&self) -> Option<Arc<Authenticator>> {
        self.is_news.take().then(|| self.bearer.borrow().as_ref().map(|bearer| Arc::clone(&bearer.authenticator)))?
    }

    /// Tells others who the client is now.
    pub(super) fn identified(&self, bearer: &Bearer) {
        *self.bearer.borrow_mut() = Some(bearer.clone());
    }

    fn is_ordered(&self) -> bool {
        self.order.get() != Order::None
    }

    fn wake(&self) {
        if let Some(waker) = self.waker.borrow().as_ref() {
            waker.wake_by_ref();
        }
    }
}

/// The open sessions of a worker.
pub struct Registry {
    sessions: RefCell<Slab<Rc<Control>>>,
    live: RefCell<watch::Receiver<Arc<Live>>>,
    instances: Rc<Instances>,
    /// Counts up with each published change of the filters; sessions compare it between two messages.
    revision: Cell<u64>,
}

impl Registry {
    /// No sessions yet. `live` is what filters are published through.
    #[must_use]
    pub fn new(live: watch::Receiver<Arc<Live>>, instances: Rc<Instances>) -> Self {
        Self { sessions: RefCell::default(), live: RefCell::new(live), instances, revision: Cell::new(0) }
    }

    /// The worker's filter instances.
    #[must_use]
    pub fn instances(&self) -> &Rc<Instances> {
        &self.instances
    }

    /// Adds a session for as long as the entry lives.
    pub fn enter(self: &Rc<Self>) -> Entry {
        let control = Rc::new(Control {
            order: Cell::new(Order::None),
            waker: RefCell::new(None),
            bearer: RefCell::new(None),
            is_news: Cell::new(false),
        });
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

    /// The current revision of the filters. Whoever asks first after a publication brings the worker's instances up to
    /// date, so that the very next message meets the new filters, whether or not the worker has been told yet.
    #[must_use]
    pub fn revision(&self) -> u64 {
        let mut live = self.live.borrow_mut();
        if live.has_changed().unwrap_or(false) {
            self.instances.publish(live.borrow_and_update().clone());
            self.revision.set(self.revision.get() + 1);
        }
        self.revision.get()
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
        let open = sessions.iter().map(|(_, control)| control).filter(|control| !control.is_ordered());
        let told = open.take(count).map(|control| {
            control.order.set(Order::Drain);
            control.wake();
        });
        told.count()
    }

    /// Ends all sessions at once. Who takes what waits for them still gets it.
    pub fn cut_off(&self) {
        for (_, control) in self.sessions.borrow().iter() {
            control.order.set(Order::Leave);
            control.wake();
        }
    }

    /// Sessions that were not told to close yet.
    #[must_use]
    pub fn undrained(&self) -> usize {
        self.sessions.borrow().iter().filter(|(_, control)| !control.is_ordered()).count()
    }
}

/// Steers one session.
#[derive(Debug)]
pub struct Remote(Rc<Control>);

impl Remote {
    /// Who the client is by its latest token.
    #[must_use]
    pub fn bearer(&self) -> Option<Bearer> {
        self.0.bearer.borrow().clone()
    }

    /// Says who the client is, before the session begins.
    pub fn identified(&self, bearer: &Bearer) {
        self.0.identified(bearer);
    }

    /// From now on this table verifies the client's tokens and says what happens when they run out.
    pub fn authenticate_with(&self, authenticator: &Arc<Authenticator>) {
        if let Some(bearer) = self.0.bearer.borrow_mut().as_mut() {
            bearer.authenticator = Arc::clone(authenticator);
            self.0.is_news.set(true);
        }
        self.0.wake();
    }

    /// Was the session told to end?
    #[must_use]
    pub fn is_leaving(&self) -> bool {
        self.0.is_ordered()
    }

    /// Ends the session.
    pub fn retire(&self, why: Retired) {
        if self.0.order.get() == Order::None {
            self.0.order.set(Order::Retire(why));
            self.0.wake();
        }
    }
}

/// A session's place in the registry; leaving happens on drop.
pub struct Entry {
    pub(super) control: Rc<Control>,
    key: usize,
    registry: Weak<Registry>,
}

impl Entry {
    /// What others steer the session by.
    #[must_use]
    pub fn remote(&self) -> Remote {
        Remote(Rc::clone(&self.control))
    }

    /// What [`Registry::wake`] knows the session by.
    pub(super) fn key(&self) -> usize {
        self.key
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        if let Some(registry) = self.registry.upgrade() {
            registry.sessions.borrow_mut().remove(self.key);
        }
    }
}
