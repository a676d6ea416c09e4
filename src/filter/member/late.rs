//! A filter that was bypassed when its connection opened, or came into the chain: it takes the connection over with the
//! first message after it serves again.

use std::{rc::Rc, sync::Arc};

use tokio::time::Instant;

use super::{Member, NoAnswer, faults::tried};
use crate::{
    filter::{OpeningRequest, generation::Generation, interest::Interest, pool::Pool},
    message::{Direction, Kind},
};

impl Member {
    /// It was never asked about the connection. Its first call is `resume`, with the cause `added`.
    pub(in crate::filter) fn late(pool: Rc<Pool>, request: Rc<OpeningRequest>) -> Self {
        let member = Self::new(pool, request);
        member.late.set(true);
        member
    }

    /// Was it never asked about the connection?
    pub(in crate::filter) fn is_late(&self) -> bool {
        self.late.get()
    }

    /// Takes the connection over.
    pub(in crate::filter) async fn arrive(&self) -> Result<(), NoAnswer> {
        let attempt = self.enter().map_err(NoAnswer::Fault)?;
        let result = self.find_seat().await.map(|_| ());
        tried(attempt, &result);
        result
    }

    /// Is the filter to be asked about such a message? What a late one wants is not known yet.
    pub(in crate::filter) fn hears(&self, direction: Direction, kind: Kind) -> bool {
        (self.interest.get().message(direction, kind) || self.late.get()) && !self.generation().is_bypassed()
    }

    /// What it wants to be called for at present.
    pub(in crate::filter) fn interest(&self) -> Interest {
        if self.generation().is_bypassed() { Interest::default() } else { self.interest.get() }
    }

    pub(in crate::filter) fn generation(&self) -> &Arc<Generation> {
        self.pool.generation()
    }

    pub(in crate::filter) fn next_tick(&self) -> Option<Instant> {
        self.next_tick.get().filter(|_| !self.generation().is_bypassed())
    }

    /// The tick of now is being made.
    pub(in crate::filter) fn ticked(&self, now: Instant) {
        self.next_tick.set(self.interest.get().tick().map(|every| now + every));
    }
}
