//! The session of a member in an instance: found, lost, found again, and left.

use std::{cell::Cell, rc::Rc};

use tokio::time::Instant;
use wasmtime::{Store, component::ResourceAny};

use super::{Member, NoAnswer};
use crate::{
    config::OnStateLoss,
    filter::{
        OpeningRequest,
        bindings::exports::wsgate::filter::handler::{Guest, Interest as Declared, Rejection, ResumeCause},
        fault::{Fault, FaultKind},
        host::Host,
        instance::Unanswered,
        interest::Interest,
        pool::{Claim, Place},
        request::with_handshake,
        room::Ticket,
        tally::{Ending, Hook},
    },
};

pub(super) enum Seat {
    Taken(Rc<Session>),
    /// Its instance died: the next call resumes it in another.
    Lost,
    /// The connection is over.
    Left,
}

/// A guest session. Abandoned, not leaked, when dropped without [`Session::release`].
pub(super) struct Session {
    pub(super) place: Place,
    pub(super) handle: ResourceAny,
    pub(super) key: usize,
    pub(super) released: Cell<bool>,
}

impl Member {
    pub(super) fn session(&self) -> Option<Rc<Session>> {
        match &*self.seat.borrow() {
            Seat::Taken(session) => Some(session.clone()),
            Seat::Lost | Seat::Left => None,
        }
    }

    pub(super) fn leave(&self) -> Option<Rc<Session>> {
        match self.seat.replace(Seat::Left) {
            Seat::Taken(session) => Some(session),
            Seat::Lost | Seat::Left => None,
        }
    }

    pub(super) async fn release(&self, session: &Session) {
        session.released.set(true);
        let instance = session.place.instance();
        if let Err(Unanswered::Fault(fault)) = instance.release(session.handle, session.key).await {
            self.log(&fault, Hook::Release);
            self.ended(instance, false);
        }
    }

    /// The instance of this session died.
    pub(super) fn lose(&self, session: &Rc<Session>) {
        let mut seat = self.seat.borrow_mut();
        if matches!(&*seat, Seat::Taken(known) if Rc::ptr_eq(known, session)) {
            *seat = Seat::Lost;
        }
    }

    pub(super) async fn find_seat(&self) -> Result<Rc<Session>, NoAnswer> {
        let _seating = self.seating.take().await;
        if let Some(session) = self.session() {
            return Ok(session);
        }
        if matches!(&*self.seat.borrow(), Seat::Left) {
            return Err(NoAnswer::Left);
        }
        let cause = if self.late.get() {
            ResumeCause::Added
        } else {
            self.state_may_be_lost().map_err(NoAnswer::Fault)?;
            ResumeCause::Fault
        };
        match self.resume_seat(None, cause, None).await {
            Ok(Ok(())) => self.session().ok_or(NoAnswer::Left),
            Ok(Err(Rejection::Close(info))) => Err(NoAnswer::Close(info)),
            Ok(Err(Rejection::KeepOld(text))) => {
                let cause = format!("keep-old is no answer where there is nothing old: {text}");
                Err(NoAnswer::Fault(Fault::new(FaultKind::Verdict, cause)))
            }
            Err(fault) => Err(NoAnswer::Fault(fault)),
        }
    }

    pub(super) fn state_may_be_lost(&self) -> Result<(), Fault> {
        match self.generation().settings().on_state_loss {
            OnStateLoss::Resume => Ok(()),
            OnStateLoss::Close => {
                let cause = "the instance of this session was lost with its state";
                Err(Fault::new(FaultKind::StateLoss, cause))
            }
        }
    }

    pub(super) async fn resume_seat(
        &self,
        state: Option<&[u8]>,
        cause: ResumeCause,
        mut ticket: Option<Ticket>,
    ) -> Result<Result<(), Rejection>, Fault> {
        let ending = |answer: &Result<_, Rejection>| match answer {
            Ok(_) => Ending::Ok,
            Err(Rejection::Close(_)) => Ending::Close,
            Err(Rejection::KeepOld(_)) => Ending::KeepOld,
        };
        loop {
            let place = self.pool.place(ticket.take().map_or(Claim::Keep, Claim::Room)).await?;
            let answer = self.begin(&place, Hook::Resume, ending, async |store, guest, request| {
                with_handshake(request, async |handshake| guest.call_resume(store, handshake, state, cause).await).await
            });
            match answer.await {
                Ok((key, Ok(resumed))) => {
                    self.take_seat(place, resumed.session, key, resumed.interest.as_ref());
                    return Ok(Ok(()));
                }
                Ok((_, Err(rejection))) => return Ok(Err(rejection)),
                Err(Unanswered::Fault(fault)) => return Err(fault),
                Err(Unanswered::Gone) => {}
            }
        }
    }

    /// A call that may make a session: `open` or `resume`. Answers the key that the session has from then on.
    pub(super) async fn begin<R, E>(
        &self,
        place: &Place,
        hook: Hook,
        ending: impl FnOnce(&Result<R, E>) -> Ending,
        call: impl AsyncFnOnce(&mut Store<Host>, &Guest, &OpeningRequest) -> wasmtime::Result<Result<R, E>>,
    ) -> Result<(usize, Result<R, E>), Unanswered> {
        let instance = place.instance();
        if let Err(unanswered) = instance.sweep().await {
            // The destructor of a session that is gone failed: not this call's fault, and no matter for another instance.
            if let Unanswered::Fault(fault) = &unanswered {
                self.log(fault, Hook::Release);
            }
            self.pool.lost(instance, true);
            return Err(Unanswered::Gone);
        }
        let made = instance.call(
            hook,
            None,
            |(_, answer)| ending(answer),
            async |store, guest| {
                let key = store.data_mut().add_connection(&self.request);
                store.data_mut().enter(Some(key));
                let answer = call(store, guest, &self.request).await?;
                if answer.is_err() {
                    store.data_mut().remove_connection(key);
                }
                Ok((key, answer))
            },
        );
        made.await.inspect_err(|unanswered| match unanswered {
            Unanswered::Gone => self.pool.lost(instance, true),
            Unanswered::Fault(_) => self.ended(instance, hook == Hook::Open),
        })
    }

    pub(super) fn take_interest(&self, place: &Place, declared: Option<&Declared>) {
        let interest = declared.map_or_else(|| place.instance().interest(), Interest::new);
        self.interest.set(interest);
        self.ticked(Instant::now());
    }

    pub(super) fn take_seat(&self, place: Place, handle: ResourceAny, key: usize, declared: Option<&Declared>) {
        self.take_interest(&place, declared);
        self.late.set(false);
        self.stays.set(false);
        let session = Session { place, handle, key, released: Cell::new(false) };
        // A connection that ended meanwhile keeps its empty seat; the session is then abandoned.
        let mut seat = self.seat.borrow_mut();
        if !matches!(&*seat, Seat::Left) {
            *seat = Seat::Taken(Rc::new(session));
        }
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        if !self.released.get() {
            self.place.instance().abandon(self.handle, self.key);
        }
    }
}
