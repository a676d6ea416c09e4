//! One filter of one connection: its session in an instance, and what happens when that instance is lost.

mod late;
mod shadowed;

use std::{
    cell::{Cell, RefCell},
    rc::Rc,
};

use tokio::time::Instant;
use wasmtime::{Store, component::ResourceAny};

use super::{
    Closer, OpeningRequest,
    bindings::{
        exports::wsgate::filter::handler::{
            Admission as Admitted, Guest, Interest as Declared, Rejection, ResumeCause,
        },
        wsgate::filter::types::{CloseInfoParam, CloseInfoResult, Refusal, Verdict},
    },
    fault::{Fault, FaultKind},
    host::Host,
    instance::Unanswered,
    interest::Interest,
    pool::{Place, Pool},
    request::with_handshake,
    shadow::Shadow,
    tally::{Ending, Hook},
    turn::Turn,
};
use crate::{
    config::OnStateLoss,
    message::{CloseFrame, Direction, Message},
};

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
}

enum Seat {
    Taken(Rc<Session>),
    /// Its instance died: the next call resumes it in another.
    Lost,
    /// The connection is over.
    Left,
}

/// A guest session. Abandoned, not leaked, when dropped without [`Session::release`].
struct Session {
    place: Place,
    handle: ResourceAny,
    key: usize,
    released: Cell<bool>,
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
}

/// What `resume` came to, in a chain that moves.
pub(super) enum Resumed {
    Member(Member),
    Rejected(Rejection),
    Fault(Fault),
}

impl Member {
    fn new(pool: Rc<Pool>, request: Rc<OpeningRequest>) -> Self {
        Self {
            pool,
            request,
            seat: RefCell::new(Seat::Lost),
            interest: Cell::default(),
            next_tick: Cell::default(),
            seating: Rc::default(),
            late: Cell::new(false),
            shadow: RefCell::default(),
        }
    }

    /// Asks the filter whether the connection may open.
    pub(super) async fn open(pool: Rc<Pool>, request: Rc<OpeningRequest>) -> Opened {
        let member = Self::new(pool, request);
        let ending = |answer: &Result<Admitted, Refusal>| match answer {
            Ok(_) => Ending::Admit,
            Err(_) => Ending::Refuse,
        };
        loop {
            let place = match member.pool.place().await {
                Ok(place) => place,
                Err(fault) => return Opened::NoRoom(fault),
            };
            member.take_interest(&place, None);
            let answer = member.begin(&place, Hook::Open, ending, async |store, guest, request| {
                with_handshake(request, async |handshake| guest.call_open(store, handshake).await).await
            });
            match answer.await {
                Ok((key, Ok(admitted))) => {
                    member.take_seat(place, admitted.session, key, admitted.interest.as_ref());
                    return Opened::Admitted(member, Box::new(admitted));
                }
                Ok((_, Err(refusal))) => return Opened::Refused(refusal),
                Err(Unanswered::Fault(fault)) => return Opened::Failed(member, fault),
                Err(Unanswered::Gone) => {}
            }
        }
    }

    /// Takes over a connection that is open already.
    pub(super) async fn resume(
        pool: Rc<Pool>,
        request: Rc<OpeningRequest>,
        state: Option<Vec<u8>>,
        cause: ResumeCause,
    ) -> Resumed {
        let member = Self::new(pool, request);
        match member.resume_seat(state.as_deref(), cause).await {
            Ok(Ok(())) => Resumed::Member(member),
            Ok(Err(rejection)) => Resumed::Rejected(rejection),
            Err(fault) => Resumed::Fault(fault),
        }
    }

    /// `on-message`, in a fresh instance where the session's own is lost.
    pub(super) async fn on_message(
        &self,
        direction: Direction,
        message: &Message,
    ) -> Result<Result<Verdict, String>, NoAnswer> {
        loop {
            let session = match self.session() {
                Some(session) => session,
                // Boxed: it is rare, and large.
                None => Box::pin(self.find_seat()).await?,
            };
            let instance = session.place.instance();
            match instance.on_message(session.handle, session.key, direction, message).await {
                Ok(answer) => return Ok(answer),
                Err(unanswered) => self.unanswered(&session, unanswered)?,
            }
        }
    }

    /// Makes another call, in a fresh instance where the session's own is lost.
    pub(super) async fn call<R>(
        &self,
        hook: Hook,
        ending: impl Fn(&R) -> Ending,
        call: impl AsyncFn(&mut Store<Host>, &Guest, ResourceAny) -> wasmtime::Result<R>,
    ) -> Result<R, NoAnswer> {
        loop {
            let session = match self.session() {
                Some(session) => session,
                // Boxed: it is rare, and large.
                None => self.find_seat().await?,
            };
            let made = session
                .place
                .instance()
                .call(hook, Some(session.key), &ending, async |store, guest| call(store, guest, session.handle).await)
                .await;
            match made {
                Ok(answer) => return Ok(answer),
                Err(unanswered) => self.unanswered(&session, unanswered)?,
            }
        }
    }

    /// The session is lost. Unless it was the call itself that failed, it may be made again elsewhere.
    fn unanswered(&self, session: &Rc<Session>, unanswered: Unanswered) -> Result<(), NoAnswer> {
        self.lose(session);
        match unanswered {
            Unanswered::Gone => Ok(()),
            Unanswered::Fault(fault) => Err(NoAnswer::Fault(fault)),
        }
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
        if self.interest.get().close() {
            let info = CloseInfoParam { code: frame.code_or_1005(), reason: &frame.reason };
            let ending = |&(): &()| Ending::Ok;
            let made = session.place.instance().call(Hook::OnClose, Some(session.key), ending, async |store, guest| {
                guest.session().call_on_close(store, session.handle, by.into(), info).await
            });
            if let Err(Unanswered::Fault(fault)) = made.await {
                self.log(&fault, Hook::OnClose);
                self.pool.lost(session.place.instance());
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
        fault.log(self.generation(), hook, &self.request.connection);
    }

    fn session(&self) -> Option<Rc<Session>> {
        match &*self.seat.borrow() {
            Seat::Taken(session) => Some(session.clone()),
            Seat::Lost | Seat::Left => None,
        }
    }

    fn leave(&self) -> Option<Rc<Session>> {
        match self.seat.replace(Seat::Left) {
            Seat::Taken(session) => Some(session),
            Seat::Lost | Seat::Left => None,
        }
    }

    async fn release(&self, session: &Session) {
        session.released.set(true);
        let instance = session.place.instance();
        if let Err(Unanswered::Fault(fault)) = instance.release(session.handle, session.key).await {
            self.log(&fault, Hook::Release);
            self.pool.lost(instance);
        }
    }

    /// The instance of this session died.
    fn lose(&self, session: &Rc<Session>) {
        self.pool.lost(session.place.instance());
        let mut seat = self.seat.borrow_mut();
        if matches!(&*seat, Seat::Taken(known) if Rc::ptr_eq(known, session)) {
            *seat = Seat::Lost;
        }
    }

    async fn find_seat(&self) -> Result<Rc<Session>, NoAnswer> {
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
        match self.resume_seat(None, cause).await {
            Ok(Ok(())) => self.session().ok_or(NoAnswer::Left),
            Ok(Err(Rejection::Close(info))) => Err(NoAnswer::Close(info)),
            Ok(Err(Rejection::KeepOld(text))) => {
                let cause = format!("keep-old is no answer where there is nothing old: {text}");
                Err(NoAnswer::Fault(Fault::new(FaultKind::Verdict, cause)))
            }
            Err(fault) => Err(NoAnswer::Fault(fault)),
        }
    }

    fn state_may_be_lost(&self) -> Result<(), Fault> {
        match self.generation().settings().on_state_loss {
            OnStateLoss::Resume => Ok(()),
            OnStateLoss::Close => {
                let cause = "the instance of this session was lost with its state";
                Err(Fault::new(FaultKind::StateLoss, cause))
            }
        }
    }

    async fn resume_seat(&self, state: Option<&[u8]>, cause: ResumeCause) -> Result<Result<(), Rejection>, Fault> {
        let ending = |answer: &Result<_, Rejection>| match answer {
            Ok(_) => Ending::Ok,
            Err(Rejection::Close(_)) => Ending::Close,
            Err(Rejection::KeepOld(_)) => Ending::KeepOld,
        };
        loop {
            let place = self.pool.place().await?;
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
    async fn begin<R, E>(
        &self,
        place: &Place,
        hook: Hook,
        ending: impl FnOnce(&Result<R, E>) -> Ending,
        call: impl AsyncFnOnce(&mut Store<Host>, &Guest, &OpeningRequest) -> wasmtime::Result<Result<R, E>>,
    ) -> Result<(usize, Result<R, E>), Unanswered> {
        let instance = place.instance();
        let made = async {
            instance.sweep().await?;
            instance
                .call(
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
                )
                .await
        };
        made.await.inspect_err(|_| self.pool.lost(instance))
    }

    fn take_interest(&self, place: &Place, declared: Option<&Declared>) {
        let interest = declared.map_or_else(|| place.instance().interest(), Interest::new);
        self.interest.set(interest);
        self.ticked(Instant::now());
    }

    fn take_seat(&self, place: Place, handle: ResourceAny, key: usize, declared: Option<&Declared>) {
        self.take_interest(&place, declared);
        self.late.set(false);
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
