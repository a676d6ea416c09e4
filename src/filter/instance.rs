//! One instance of a generation: a Store, and one call into it at a time.

use std::{
    cell::{Cell, OnceCell, RefCell},
    pin::pin,
    rc::Rc,
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant},
};

use tokio::sync::Notify;
use wasmtime::{Store, UpdateDeadline, component::ResourceAny};

use super::{
    bindings::{FilterHttp, exports::wsgate::filter::handler::Guest, wsgate::filter::types::Verdict},
    call::Metered,
    fault::{Fault, FaultKind},
    generation::Generation,
    host::Host,
    interest::Interest,
    limits::{self, Budget, Meter},
    room::Ticket,
    tally::{Ending, Hook, verdict_ending},
    turn::{Guard, Turn},
};
use crate::message::{Direction, Message};

/// An instance is not replaced sooner: one that is above its mark as soon as its sessions have come would be replaced for
/// ever, and for nothing.
const SHORTEST_LIFE: Duration = Duration::from_secs(1);

/// Lives on one worker. Dies with the first trap or spent budget.
pub(super) struct Instance {
    generation: Arc<Generation>,
    interest: Interest,
    turn: Rc<Turn>,
    /// Away while a call is made; gone for good once the instance is dead.
    body: Cell<Option<Box<Body>>>,
    dead: Cell<bool>,
    /// It is to be replaced: its sessions move to another.
    worn: Cell<bool>,
    tell_when_worn: OnceCell<Rc<Notify>>,
    calls: Cell<u64>,
    made_at: Instant,
    /// Sessions that have a place here, admitted or about to be.
    pub(super) sessions: Cell<usize>,
    /// Guest sessions whose connection ended without a word; released before the next session is made.
    abandoned: RefCell<Vec<(ResourceAny, usize)>>,
}

struct Body {
    store: Store<Host>,
    guest: FilterHttp,
    meter: Arc<Meter>,
    _census: Census,
    /// Given back after all of the above is gone.
    _ticket: Ticket,
}

/// A call that did not answer.
#[derive(Debug)]
pub(super) enum Unanswered {
    /// The instance had died before the call began: nothing happened, another instance may be asked.
    Gone,
    /// The call failed, and the instance with it.
    Fault(Fault),
}

impl Instance {
    /// Instantiates the component and calls `init`.
    pub(super) async fn make(generation: &Arc<Generation>, ticket: Ticket) -> Result<Rc<Self>, Fault> {
        let meter = Meter::new();
        let mut store = store(generation, &meter);
        let pre = generation.pre();
        let config = &generation.settings().config_json;
        let (made, took) = {
            let call = pin!(async {
                let guest = pre.instantiate_async(&mut store).await?;
                let interest = guest.wsgate_filter_handler().call_init(&mut store, config).await?;
                Ok((guest, interest))
            });
            Metered::new(call, &meter, &generation.engine().ticker, &limits::LOAD).await
        };
        let ending = match &made {
            Ok((_, Ok(_))) => Ending::Ok,
            Ok((_, Err(_))) => Ending::Error,
            Err(_) => Ending::Fault,
        };
        generation.tally().count(Hook::Init, ending, took);
        let (guest, interest) = made?;
        let interest = Interest::new(&interest.map_err(|text| Fault::new(FaultKind::Error, text))?);
        let _ = generation.interest.set(interest);
        let census = Census::new(generation);
        Ok(Rc::new(Self {
            generation: generation.clone(),
            interest,
            turn: Rc::default(),
            body: Cell::new(Some(Box::new(Body { store, guest, meter, _census: census, _ticket: ticket }))),
            dead: Cell::new(false),
            worn: Cell::new(false),
            tell_when_worn: OnceCell::new(),
            calls: Cell::new(0),
            made_at: Instant::now(),
            sessions: Cell::new(0),
            abandoned: RefCell::default(),
        }))
    }

    /// What `init` declared.
    pub(super) fn interest(&self) -> Interest {
        self.interest
    }

    pub(super) fn is_dead(&self) -> bool {
        self.dead.get()
    }

    /// Is it to be replaced?
    pub(super) fn is_worn(&self) -> bool {
        self.worn.get()
    }

    /// Whom to tell that this instance is to be replaced.
    pub(super) fn tell_when_worn(&self, whom: &Rc<Notify>) {
        let _ = self.tell_when_worn.set(whom.clone());
    }

    /// After a call: has it made too many, or did it take too much memory, which it can never give back?
    fn wear(&self, memory_bytes: usize) {
        let (calls, settings) = (self.calls.get() + 1, self.generation.settings());
        self.calls.set(calls);
        let worn = calls >= settings.recycle_after_calls || memory_bytes > settings.recycle_above_bytes;
        if worn && !self.worn.get() && self.made_at.elapsed() >= SHORTEST_LIFE {
            self.worn.set(true);
            if let Some(whom) = self.tell_when_worn.get() {
                whom.notify_one();
            }
            let (filter, generation) = (&**self.generation.label(), self.generation.digest().short());
            tracing::info!(filter, generation, calls, memory_bytes, "a filter instance is replaced");
        }
    }

    /// The call that is being made, if any, and those that wait.
    pub(super) fn busy(&self) -> usize {
        usize::from(self.turn.is_taken()) + self.turn.waiting()
    }

    /// `on-message` of a session. Waits for its turn; then it completes in one poll unless the guest waits in a host
    /// function or runs for more than a millisecond. Written out, because each layer of futures costs on this path.
    pub(super) async fn on_message(
        &self,
        session: ResourceAny,
        key: usize,
        direction: Direction,
        message: &Message,
    ) -> Result<Result<Verdict, String>, Unanswered> {
        let turn = match self.turn.try_take() {
            Some(turn) => turn,
            None => Box::pin(self.turn.take()).await,
        };
        let mut occupied = self.enter(turn, Some(key))?;
        let (result, took) = {
            let Body { store, guest, meter, .. } = occupied.body()?;
            let guest = guest.wsgate_filter_handler().session();
            let call = guest.func_on_message();
            let call = pin!(call.call_async(store, (session, direction.into(), message.into())));
            Metered::new(call, meter, &self.generation.engine().ticker, self.budget()).await
        };
        occupied.leave(Hook::OnMessage, result.map(|(answer,)| answer), took, verdict_ending)
    }

    /// Any other call, for the session with this key or for none.
    pub(super) async fn call<R>(
        &self,
        hook: Hook,
        key: Option<usize>,
        ending: impl FnOnce(&R) -> Ending,
        call: impl AsyncFnOnce(&mut Store<Host>, &Guest) -> wasmtime::Result<R>,
    ) -> Result<R, Unanswered> {
        let mut occupied = self.enter(self.turn.take().await, key)?;
        let (result, took) = {
            let Body { store, guest, meter, .. } = occupied.body()?;
            let call = pin!(call(store, guest.wsgate_filter_handler()));
            Metered::new(call, meter, &self.generation.engine().ticker, self.budget()).await
        };
        occupied.leave(hook, result, took, ending)
    }

    /// The caller's turn has come.
    fn enter(&self, turn: Guard, key: Option<usize>) -> Result<Occupied<'_>, Unanswered> {
        let mut body = self.body.take().ok_or(Unanswered::Gone)?;
        body.store.data_mut().enter(key);
        body.store.set_epoch_deadline(1);
        Ok(Occupied { instance: self, body: Some(body), _turn: turn })
    }

    /// Runs the destructor of a session. A fault ends the instance like any other.
    pub(super) async fn release(&self, session: ResourceAny, key: usize) -> Result<(), Unanswered> {
        self.call(
            Hook::Release,
            Some(key),
            |()| Ending::Ok,
            async |store, _| {
                session.resource_drop_async(&mut *store).await?;
                store.data_mut().remove_connection(key);
                Ok(())
            },
        )
        .await
    }

    /// A session ended without being released.
    pub(super) fn abandon(&self, session: ResourceAny, key: usize) {
        if !self.is_dead() {
            self.abandoned.borrow_mut().push((session, key));
        }
    }

    /// Releases what was abandoned.
    pub(super) async fn sweep(&self) -> Result<(), Unanswered> {
        loop {
            let next = self.abandoned.borrow_mut().pop();
            let Some((session, key)) = next else { return Ok(()) };
            self.release(session, key).await?;
        }
    }

    fn budget(&self) -> &Budget {
        &self.generation.limits().call
    }
}

pub(super) fn store(generation: &Arc<Generation>, meter: &Arc<Meter>) -> Store<Host> {
    let mut store = Store::new(generation.engine().wasm(), Host::new(generation, meter));
    let limits = generation.limits();
    store.limiter(|host| &mut host.limiter);
    store.set_hostcall_fuel(limits.fuel_bytes);
    store.set_max_component_handles(limits.sessions.saturating_add(limits::SPARE_HANDLES));
    let meter = meter.clone();
    store.epoch_deadline_callback(move |_| {
        meter.slice()?;
        // tokio's own yield lets the worker look at its sockets before it comes back here.
        Ok(UpdateDeadline::YieldCustom(1, Box::pin(tokio::task::yield_now())))
    });
    store.set_epoch_deadline(1);
    store
}

/// A body that is out for a call. Dropped with it, the instance is dead.
struct Occupied<'a> {
    instance: &'a Instance,
    body: Option<Box<Body>>,
    _turn: Guard,
}

impl Occupied<'_> {
    fn body(&mut self) -> Result<&mut Body, Unanswered> {
        self.body.as_deref_mut().ok_or(Unanswered::Gone)
    }

    /// The call is over: after an answer the body is given back, after a fault it goes. What the call asked of others is done
    /// after an answer, but for a refused handshake.
    fn leave<R>(
        mut self,
        hook: Hook,
        result: wasmtime::Result<R>,
        took: Duration,
        ending: impl FnOnce(&R) -> Ending,
    ) -> Result<R, Unanswered> {
        let tally = self.instance.generation.tally();
        match result {
            Ok(answer) => {
                let ending = ending(&answer);
                let mut body = self.body.take();
                if let Some(body) = &mut body {
                    let host = body.store.data_mut();
                    if ending == Ending::Refuse {
                        host.orders.discard();
                    } else {
                        host.carry_out(hook);
                    }
                    self.instance.wear(host.limiter.used_bytes());
                }
                self.instance.body.set(body);
                tally.count(hook, ending, took);
                Ok(answer)
            }
            Err(error) => {
                tally.count(hook, Ending::Fault, took);
                Err(Unanswered::Fault(error.into()))
            }
        }
    }
}

impl Drop for Occupied<'_> {
    fn drop(&mut self) {
        if self.body.is_some() {
            self.instance.dead.set(true);
            self.instance.abandoned.borrow_mut().clear();
        }
    }
}

/// Counts a live instance.
struct Census(Arc<Generation>);

impl Census {
    fn new(generation: &Arc<Generation>) -> Self {
        generation.instances.fetch_add(1, Ordering::Relaxed);
        generation.metrics().instances.inc();
        Self(generation.clone())
    }
}

impl Drop for Census {
    fn drop(&mut self) {
        self.0.instances.fetch_sub(1, Ordering::Relaxed);
        self.0.metrics().instances.dec();
    }
}
