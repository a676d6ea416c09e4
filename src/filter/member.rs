//! One filter of one connection: its session in an instance, and what happens when that instance is lost.

mod faults;
mod late;
mod seat;
mod shadowed;

use std::{
    cell::{Cell, RefCell},
    rc::Rc,
    time::Duration,
};

use tokio::time::Instant;
use wasmtime::{Store, component::ResourceAny};

use faults::tried;
use seat::Seat;

use super::{
    Closer, OpeningRequest,
    bindings::{
        exports::wsgate::filter::handler::{Admission as Admitted, Guest, Rejection, ResumeCause},
        wsgate::filter::types::{CloseInfoParam, CloseInfoResult, Refusal, Verdict},
    },
    client::ClientKey,
    fault::{Fault, FaultKind, Occasion},
    host::Host,
    instance::Unanswered,
    interest::Interest,
    pool::{Claim, Pool},
    request::with_handshake,
    room::Ticket,
    shadow::Shadow,
    tally::{Ending, Hook},
    turn::Turn,
};
use crate::message::{CloseFrame, Direction, Message};

/// One filter of one connection.
pub(super) struct Member {
    pool: Rc<Pool>,
    request: Rc<OpeningRequest>,
    seat: RefCell<Seat>,
    interest: Cell<Interest>,
    next_tick: Cell<Option<Instant>>,
    /// One task at a time finds a new seat.
    seating: Rc<Turn>,
    /// It was never asked about the connection.
    late: Cell<bool>,
    /// Another generation that is asked after it, and never obeyed.
    shadow: RefCell<Option<Shadow>>,
    client: ClientKey,
    /// For reports of faults.
    last_message: Cell<Option<(Direction, usize)>>,
    /// The client's messages ended too many instances: its session ends whatever `failure_policy` says.
    refused: Cell<bool>,
    /// The session cannot leave its instance, although that is to be replaced.
    stays: Cell<bool>,
}

/// Why there is no answer.
pub(super) enum NoAnswer {
    Fault(Fault),
    /// Resumed after its instance was lost, the filter wants the connection closed.
    Close(CloseInfoResult),
    /// The connection is over: nothing matters any more.
    Left,
}

/// What `open` came to.
pub(super) enum Opened {
    Admitted(Member, Box<Admitted>),
    Refused(Refusal),
    /// `open` failed. The member has no session yet: its first call resumes it.
    Failed(Member, Fault),
    /// There is no instance for it.
    NoRoom(Fault),
    /// The breaker is open, and nobody was asked. The member has no session yet.
    Broken(Member, Fault),
    /// The client is refused for so long.
    ClientRefused(Duration),
}

/// What `resume` came to, in a chain that moves.
pub(super) enum Resumed {
    Member(Member),
    Rejected(Rejection),
    Fault(Fault),
}

impl Member {
    fn new(pool: Rc<Pool>, request: Rc<OpeningRequest>) -> Self {
        let client = request.client.ip().into();
        Self {
            pool,
            request,
            seat: RefCell::new(Seat::Lost),
            interest: Cell::default(),
            next_tick: Cell::default(),
            seating: Rc::default(),
            late: Cell::new(false),
            shadow: RefCell::default(),
            client,
            last_message: Cell::default(),
            refused: Cell::default(),
            stays: Cell::default(),
        }
    }

    /// Asks the filter whether the connection may open.
    pub(super) async fn open(pool: Rc<Pool>, request: Rc<OpeningRequest>) -> Opened {
        let member = Self::new(pool, request);
        if let Some(left) = member.generation().clients().refused_for(member.client, std::time::Instant::now()) {
            return Opened::ClientRefused(left);
        }
        let attempt = match member.enter() {
            Ok(attempt) => attempt,
            Err(fault) => {
                let declared = member.generation().interest.get().copied();
                member.interest.set(declared.unwrap_or_default());
                return Opened::Broken(member, fault);
            }
        };
        let ending = |answer: &Result<Admitted, Refusal>| match answer {
            Ok(_) => Ending::Admit,
            Err(_) => Ending::Refuse,
        };
        loop {
            let place = match member.pool.place(Claim::Open).await {
                Ok(place) => place,
                Err(fault) => return Opened::NoRoom(fault),
            };
            member.take_interest(&place, None);
            let answer = member.begin(&place, Hook::Open, ending, async |store, guest, request| {
                with_handshake(request, async |handshake| guest.call_open(store, handshake).await).await
            });
            let answer = answer.await;
            if let Err(Unanswered::Gone) = &answer {
                continue;
            }
            if let Some(attempt) = attempt {
                if answer.is_ok() { attempt.succeeded() } else { attempt.failed() }
            }
            return match answer {
                Ok((key, Ok(admitted))) => {
                    member.take_seat(place, admitted.session, key, admitted.interest.as_ref());
                    Opened::Admitted(member, Box::new(admitted))
                }
                Ok((_, Err(refusal))) => Opened::Refused(refusal),
                Err(Unanswered::Fault(fault)) => Opened::Failed(member, fault),
                Err(Unanswered::Gone) => Opened::NoRoom(Fault::new(FaultKind::Instance, "its instance is gone")),
            };
        }
    }

    /// Takes over a connection that is open already; in an instance of its own if there is a ticket for one.
    pub(super) async fn resume(
        pool: Rc<Pool>,
        request: Rc<OpeningRequest>,
        state: Option<Vec<u8>>,
        cause: ResumeCause,
        ticket: Option<Ticket>,
    ) -> Resumed {
        let member = Self::new(pool, request);
        let attempt = match member.enter() {
            Ok(attempt) => attempt,
            Err(fault) => return Resumed::Fault(fault),
        };
        let resumed = member.resume_seat(state.as_deref(), cause, ticket).await;
        match (attempt, &resumed) {
            (Some(attempt), Ok(_)) => attempt.succeeded(),
            (Some(attempt), Err(_)) => attempt.failed(),
            (None, _) => {}
        }
        match resumed {
            Ok(Ok(())) => Resumed::Member(member),
            Ok(Err(rejection)) => Resumed::Rejected(rejection),
            Err(fault) => Resumed::Fault(fault),
        }
    }

    pub(super) fn pool(&self) -> &Rc<Pool> {
        &self.pool
    }

    /// Is the instance of this session to be replaced, and can the session leave it?
    pub(super) fn is_worn(&self) -> bool {
        let worn = matches!(&*self.seat.borrow(), Seat::Taken(session) if session.place.instance().is_worn());
        worn && !self.stays.get()
    }

    /// The session did not get away from its instance: it stays there.
    pub(super) fn stay(&self) {
        self.stays.set(true);
    }

    /// Does the session end because its client's messages ended too many instances?
    pub(super) fn is_refused(&self) -> bool {
        self.refused.get()
    }

    /// `on-message`, in a fresh instance where the session's own is lost.
    pub(super) async fn on_message(
        &self,
        direction: Direction,
        message: &Message,
    ) -> Result<Result<Verdict, String>, NoAnswer> {
        self.last_message.set(Some((direction, message.len())));
        let attempt = self.enter().map_err(NoAnswer::Fault)?;
        let result = loop {
            let session = match self.session() {
                Some(session) => session,
                // Boxed: it is rare, and large.
                None => match Box::pin(self.find_seat()).await {
                    Ok(session) => session,
                    Err(none) => break Err(none),
                },
            };
            let instance = session.place.instance();
            match instance.on_message(session.handle, session.key, direction, message).await {
                Ok(answer) => break Ok(answer),
                Err(unanswered) => {
                    if let Err(none) = self.unanswered(&session, unanswered, direction == Direction::ToUpstream) {
                        break Err(none);
                    }
                }
            }
        };
        tried(attempt, &result);
        result
    }

    /// Makes another call, in a fresh instance where the session's own is lost.
    pub(super) async fn call<R>(
        &self,
        hook: Hook,
        ending: impl Fn(&R) -> Ending,
        call: impl AsyncFn(&mut Store<Host>, &Guest, ResourceAny) -> wasmtime::Result<R>,
    ) -> Result<R, NoAnswer> {
        // What a session leaves behind may be had from a filter that is not called any more: the next one waits for it.
        let attempt = if hook == Hook::Save { None } else { self.enter().map_err(NoAnswer::Fault)? };
        let result = loop {
            let session = match self.session() {
                Some(session) => session,
                // Boxed: it is rare, and large.
                None => match Box::pin(self.find_seat()).await {
                    Ok(session) => session,
                    Err(none) => break Err(none),
                },
            };
            let made = session
                .place
                .instance()
                .call(hook, Some(session.key), &ending, async |store, guest| call(store, guest, session.handle).await)
                .await;
            match made {
                Ok(answer) => break Ok(answer),
                Err(unanswered) => {
                    if let Err(none) = self.unanswered(&session, unanswered, false) {
                        break Err(none);
                    }
                }
            }
        };
        tried(attempt, &result);
        result
    }

    /// State for the next generation. There is none where the instance was lost, if that may be.
    pub(super) async fn save(&self) -> Result<Option<Vec<u8>>, Fault> {
        if self.session().is_none_or(|session| session.place.instance().is_dead()) {
            return self.state_may_be_lost().map(|()| None);
        }
        let ending = |_: &_| Ending::Ok;
        let saved = self
            .call(Hook::Save, ending, async |store, guest, session| guest.session().call_save(store, session).await);
        match saved.await {
            Ok(state) => Ok(state),
            Err(NoAnswer::Fault(fault)) => Err(fault),
            Err(NoAnswer::Close(_) | NoAnswer::Left) => Ok(None),
        }
    }

    /// `on-close`, where the filter wants it, and the end of the session. Faults are logged here.
    pub(super) async fn close(&self, by: Closer, frame: &CloseFrame) {
        self.close_shadow(by, frame);
        let Some(session) = self.leave() else { return };
        if self.interest.get().close() && self.generation().breaker().is_closed() {
            let info = CloseInfoParam { code: frame.code_or_1005(), reason: &frame.reason };
            let ending = |&(): &()| Ending::Ok;
            let made = session.place.instance().call(Hook::OnClose, Some(session.key), ending, async |store, guest| {
                guest.session().call_on_close(store, session.handle, by.into(), info).await
            });
            if let Err(Unanswered::Fault(fault)) = made.await {
                self.log(&fault, Hook::OnClose);
                self.ended(session.place.instance(), false);
            }
        }
        self.release(&session).await;
    }

    /// The end of a session that went on elsewhere.
    pub(super) async fn release_moved(&self) {
        if let Some(session) = self.leave() {
            self.release(&session).await;
        }
    }

    /// Logs and counts a fault of this filter on this connection.
    pub(super) fn log(&self, fault: &Fault, hook: Hook) {
        let connection = &*self.request.connection;
        fault.log(self.generation(), Occasion { hook, connection, last_message: self.last_message.get() });
    }
}
