//! Calls that end instances: who is to blame, and who is called no more.

use std::{rc::Rc, time::Instant};

use super::{Member, NoAnswer, seat::Session};
use crate::filter::{
    breaker::{Attempt, Entry},
    fault::{Fault, FaultKind},
    instance::{Instance, Unanswered},
};

impl Member {
    /// May a call be made, and is it the one that tries whether the filter is well again?
    pub(super) fn enter(&self) -> Result<Option<Attempt>, Fault> {
        match self.generation().breaker().enter() {
            Entry::Free => Ok(None),
            Entry::Try(attempt) => Ok(Some(attempt)),
            Entry::Refused => Err(Fault::breaker()),
        }
    }

    /// The session is lost. Unless it was the call itself that failed, it may be made again elsewhere.
    pub(super) fn unanswered(
        &self,
        session: &Rc<Session>,
        unanswered: Unanswered,
        by_client: bool,
    ) -> Result<(), NoAnswer> {
        let instance = session.place.instance();
        let answer = match unanswered {
            Unanswered::Gone => {
                self.pool.lost(instance, true);
                Ok(())
            }
            Unanswered::Fault(fault) => {
                self.ended(instance, by_client);
                Err(NoAnswer::Fault(fault))
            }
        };
        self.lose(session);
        answer
    }

    /// A call for this connection ended the instance. `by_client`: what the client sent was in it.
    pub(super) fn ended(&self, instance: &Rc<Instance>, by_client: bool) {
        let (generation, now) = (self.generation(), Instant::now());
        generation.breaker().fault(self.client, now);
        let refused = if by_client { generation.clients().fault(self.client, now) } else { None };
        if let Some(time) = refused {
            self.refused.set(true);
            let (filter, client, refused_ms) = (&**generation.label(), self.request.client, time.as_millis());
            let connection = &*self.request.connection;
            tracing::warn!(filter, %client, connection, refused_ms, "a client whose messages keep ending filter instances is refused");
        }
        // Such a client is stopped otherwise; its neighbours are not to wait for their next instance.
        self.pool.lost(instance, !(by_client && generation.clients().is_on()));
    }
}

/// What became of a call that may have been the one that tries.
pub(super) fn tried<T>(attempt: Option<Attempt>, result: &Result<T, NoAnswer>) {
    let Some(attempt) = attempt else { return };
    match result {
        Ok(_) | Err(NoAnswer::Close(_)) => attempt.succeeded(),
        // It never came to a call.
        Err(NoAnswer::Left) => {}
        Err(NoAnswer::Fault(fault)) if fault.kind == FaultKind::StateLoss => {}
        Err(NoAnswer::Fault(_)) => attempt.failed(),
    }
}
