//! The instances of one generation on one worker, and those of all generations.

use std::{
    cell::{Cell, RefCell},
    collections::HashMap,
    rc::{Rc, Weak},
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use tokio::{sync::Notify, time::Instant};

use super::{
    fault::{Fault, FaultKind, Occasion},
    generation::{Generation, Role},
    instance::Instance,
    live::Live,
    room::{NoRoom, Purpose, Ticket},
    tally::Hook,
    turn::Turn,
};

/// The filter instances of one worker.
pub struct Instances {
    live: RefCell<Arc<Live>>,
    /// Of the generations that are live.
    kept: RefCell<Vec<Rc<Pool>>>,
    /// Also those whose last sessions are still here, by serial number.
    known: RefCell<HashMap<u64, Weak<Pool>>>,
    /// A shared instance is to be replaced.
    worn: Rc<Notify>,
}

impl Instances {
    /// Called once on each worker, inside its runtime: the first instances are made in the background.
    #[must_use]
    pub fn new(live: Arc<Live>) -> Rc<Self> {
        let instances = Rc::new(Self {
            live: RefCell::new(live.clone()),
            kept: RefCell::default(),
            known: RefCell::default(),
            worn: Rc::default(),
        });
        instances.publish(live);
        instances
    }

    /// What is live, as far as this worker knows.
    #[must_use]
    pub fn live(&self) -> Arc<Live> {
        self.live.borrow().clone()
    }

    /// Waits until an instance is to be replaced, and its sessions are to be woken so that they move to another. Those that
    /// speak find it out by themselves, see [`super::Chain::is_worn`].
    pub async fn worn(&self) {
        self.worn.notified().await;
    }

    /// Something else is live from now on. Instances of new generations are made in the background, those of old ones
    /// are dropped with their last session.
    pub fn publish(&self, live: Arc<Live>) {
        let kept: Vec<_> = live.generations().map(|generation| self.pool(generation)).collect();
        for pool in &kept {
            if pool.retired.replace(false) {
                let pool = pool.clone();
                tokio::task::spawn_local(async move { pool.warm().await });
            }
        }
        let old = self.kept.replace(kept.clone());
        for pool in old {
            if !kept.iter().any(|kept| Rc::ptr_eq(kept, &pool)) {
                pool.retire();
            }
        }
        self.live.replace(live);
        self.known.borrow_mut().retain(|_, pool| pool.strong_count() > 0);
    }

    /// The pool of a generation, which may be one that is no longer live.
    pub(super) fn pool(&self, generation: &Arc<Generation>) -> Rc<Pool> {
        let mut known = self.known.borrow_mut();
        if let Some(pool) = known.get(&generation.serial()).and_then(Weak::upgrade) {
            return pool;
        }
        let pool = Rc::new(Pool::new(generation.clone(), self.worn.clone()));
        known.insert(generation.serial(), Rc::downgrade(&pool));
        pool
    }
}

/// The instances of one generation on one worker.
pub(super) struct Pool {
    generation: Arc<Generation>,
    instances: RefCell<Vec<Rc<Instance>>>,
    /// Instances are made one after the other.
    making: Rc<Turn>,
    losses: Cell<Losses>,
    worn: Rc<Notify>,
    /// Not live: nothing is kept for sessions to come.
    retired: Cell<bool>,
}

/// By what right a session asks for an instance.
pub(super) enum Claim {
    /// It is new, and may be turned away.
    Open,
    /// It is open already.
    Keep,
    /// It has the room for an instance of its own.
    Room(Ticket),
}

/// A session's place in an instance, given back when dropped.
pub(super) struct Place {
    pool: Rc<Pool>,
    instance: Rc<Instance>,
}

impl Pool {
    fn new(generation: Arc<Generation>, worn: Rc<Notify>) -> Self {
        Self {
            generation,
            worn,
            instances: RefCell::default(),
            making: Rc::default(),
            losses: Cell::default(),
            retired: Cell::new(true),
        }
    }

    pub(super) fn generation(&self) -> &Arc<Generation> {
        &self.generation
    }

    /// A place in the least busy instance; in a new one where all are full or there is none. Where instances are not
    /// shared, always in a new one, that nobody else finds.
    ///
    /// # Errors
    /// No instance can be made, or not yet, because too many were lost.
    pub(super) async fn place(self: &Rc<Self>, claim: Claim) -> Result<Place, Fault> {
        if self.generation.is_isolated() {
            let (room, maps) = (&self.generation.engine().room, self.generation.maps());
            let ticket = match claim {
                Claim::Open | Claim::Keep if self.generation.role() == Role::Shadow => {
                    room.try_take(maps, Purpose::Shadow)?
                }
                Claim::Open => room.try_take(maps, Purpose::Open)?,
                Claim::Keep => room.take(maps).await?,
                Claim::Room(ticket) => ticket,
            };
            return Ok(Place::new(self, self.instantiate(ticket).await?));
        }
        if let Some(instance) = self.choose(self.generation.instances_wanted()) {
            return Ok(Place::new(self, instance));
        }
        let _making = self.making.take().await;
        let wanted = if self.losses.get().not_before().is_some() { 0 } else { self.generation.instances_wanted() };
        if let Some(instance) = self.choose(wanted) {
            return Ok(Place::new(self, instance));
        }
        Ok(Place::new(self, self.make().await?))
    }

    /// An instance died. `slow` is to be true unless something else keeps whoever is to blame from doing it again: then
    /// the next ones are made ever later, and the sessions of those wait.
    pub(super) fn lost(&self, instance: &Rc<Instance>, slow: bool) {
        let mut instances = self.instances.borrow_mut();
        if let Some(at) = instances.iter().position(|known| Rc::ptr_eq(known, instance)) {
            instances.swap_remove(at);
            if slow {
                self.losses.update(|losses| losses.one_more(Instant::now()));
            }
        }
    }

    /// Makes the instances that are to be there from the start.
    async fn warm(self: Rc<Self>) {
        if self.generation.is_isolated() {
            return;
        }
        while !self.retired.get() && self.instances.borrow().len() < self.generation.instances_wanted() {
            let _making = self.making.take().await;
            if self.instances.borrow().len() >= self.generation.instances_wanted() {
                return;
            }
            if let Err(fault) = self.make().await {
                let occasion = Occasion { hook: Hook::Init, connection: "-", last_message: None };
                fault.log(&self.generation, occasion);
                return;
            }
        }
    }

    /// None where all are full, or where there are fewer than wanted and all are in use.
    fn choose(&self, wanted: usize) -> Option<Rc<Instance>> {
        let instances = self.instances.borrow();
        let good = || instances.iter().filter(|instance| !instance.is_dead() && !instance.is_worn());
        if good().count() < wanted && good().all(|instance| instance.sessions.get() > 0) {
            return None;
        }
        let full = self.generation.limits().sessions;
        let free = good().filter(|instance| instance.sessions.get() < full);
        free.min_by_key(|instance| (instance.sessions.get(), instance.busy())).cloned()
    }

    /// A shared instance. Called in turn.
    async fn make(&self) -> Result<Rc<Instance>, Fault> {
        let ticket = self.generation.engine().room.try_take(self.generation.maps(), Purpose::Keep)?;
        let instance = self.instantiate(ticket).await?;
        instance.tell_when_worn(&self.worn);
        self.instances.borrow_mut().push(instance.clone());
        Ok(instance)
    }

    async fn instantiate(&self, ticket: Ticket) -> Result<Rc<Instance>, Fault> {
        if let Some(at) = self.losses.get().not_before() {
            if at > Instant::now() + self.generation.limits().call.wait {
                return Err(Fault::new(FaultKind::Instance, "too many instances were lost; waiting before the next"));
            }
            tokio::time::sleep_until(at).await;
        }
        let made = Instance::make(&self.generation, ticket).await;
        made.inspect_err(|_| self.losses.update(|losses| losses.one_more(Instant::now())))
    }

    fn retire(&self) {
        self.retired.set(true);
        self.instances.borrow_mut().retain(|instance| instance.sessions.get() > 0);
    }

    /// A session left: instances beyond those that are kept go with their last one, and so do those that are replaced.
    fn left(&self, instance: &Rc<Instance>) {
        let mut instances = self.instances.borrow_mut();
        let keep = if self.retired.get() { 0 } else { self.generation.instances_wanted() };
        if instance.sessions.get() == 0
            && (instances.len() > keep || instance.is_worn())
            && let Some(at) = instances.iter().position(|known| Rc::ptr_eq(known, instance))
        {
            instances.swap_remove(at);
        }
    }
}

impl Place {
    fn new(pool: &Rc<Pool>, instance: Rc<Instance>) -> Self {
        instance.sessions.update(|sessions| sessions + 1);
        pool.generation.sessions.fetch_add(1, Ordering::Relaxed);
        Self { pool: pool.clone(), instance }
    }

    pub(super) fn instance(&self) -> &Rc<Instance> {
        &self.instance
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.instance.sessions.update(|sessions| sessions - 1);
        self.pool.generation.sessions.fetch_sub(1, Ordering::Relaxed);
        self.pool.left(&self.instance);
    }
}

impl From<NoRoom> for Fault {
    fn from(error: NoRoom) -> Self {
        Self::new(FaultKind::Instance, error.to_string())
    }
}

/// Slows down the making of instances that keep dying: so many may be lost at once, and then so many a second. That
/// bounds what making them costs, and one client that ends ten a second delays nobody.
#[derive(Clone, Copy, Default)]
struct Losses {
    /// When the last loss is paid for, at one each [`BETWEEN_LOSSES`].
    paid: Option<Instant>,
}

const BETWEEN_LOSSES: Duration = Duration::from_millis(50);
/// Losses that are not paid for yet and delay nothing, as time.
const FREE_LOSSES: Duration = Duration::from_secs(1);

impl Losses {
    fn one_more(self, now: Instant) -> Self {
        Self { paid: Some(self.paid.map_or(now, |paid| paid.max(now)) + BETWEEN_LOSSES) }
    }

    /// Where the next instance has to wait.
    fn not_before(self) -> Option<Instant> {
        let at = self.paid?.checked_sub(FREE_LOSSES)?;
        (at > Instant::now()).then_some(at)
    }
}
