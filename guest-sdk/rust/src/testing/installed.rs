//! Which host answers this thread's calls, and what it knows.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::{Rc, Weak};
use std::time::Duration;

use super::messaging::Messaging;
use super::record::Record;
use super::store::Store;
use super::web::Web;

thread_local! {
    /// The hosts of this thread that still live; the last one answers.
    static INSTALLED: RefCell<Vec<Weak<RefCell<State>>>> = const { RefCell::new(Vec::new()) };
}

/// What a host knows.
#[derive(Default)]
pub(crate) struct State {
    pub(crate) clock: Clock,
    pub(crate) stores: BTreeMap<String, Store>,
    pub(crate) messaging: Messaging,
    pub(crate) web: Web,
    pub(crate) record: Record,
}

/// A clock that stands still until it is set.
pub(crate) struct Clock {
    pub(crate) unix_ms: u64,
    /// Since the host was made.
    pub(crate) elapsed: Duration,
}

impl Default for Clock {
    /// The first moment of 2026.
    fn default() -> Self {
        Self { unix_ms: 1_767_225_600_000, elapsed: Duration::ZERO }
    }
}

pub(super) fn install() -> Rc<RefCell<State>> {
    let state = Rc::new(RefCell::new(State::default()));
    INSTALLED.with_borrow_mut(|hosts| {
        hosts.retain(|host| host.strong_count() > 0);
        hosts.push(Rc::downgrade(&state));
    });
    state
}

/// Asks the host of this thread. None where there is none.
pub(crate) fn with<T>(ask: impl FnOnce(&mut State) -> T) -> Option<T> {
    let state = INSTALLED.with_borrow(|hosts| hosts.iter().rev().find_map(Weak::upgrade))?;
    let answer = ask(&mut state.borrow_mut());
    Some(answer)
}
