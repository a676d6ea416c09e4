//! The instances of one generation on one worker, and those of all generations.

use std::{
    cell::{Cell, RefCell},
    collections::HashMap,
    rc::{Rc, Weak},
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use tokio::time::Instant;

use super::{
    catalogue::Catalogue,
    fault::{Fault, FaultKind},
    generation::Generation,
    instance::Instance,
    live::Live,
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
}

impl Instances {
    /// Called once on each worker, inside its runtime: the first instances are made in the background.
    #[must_use]
    pub fn new(_catalogue: &Catalogue, live: Arc<Live>) -> Rc<Self> {
        let instances =
            Rc::new(Self { live: RefCell::new(live.clone()), kept: RefCell::default(), known: RefCell::default() });
        instances.publish(live);
        instances
    }

    /// What is live, as far as this worker knows.
    #[must_use]
    pub fn live(&self) -> Arc<Live> {
        self.live.borrow().clone()
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
        let pool = Rc::new(Pool::new(generation.clone()));
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
    /// Not live: nothing is kept for sessions to come.
    retired: Cell<bool>,
}

/// A session's place in an instance, given back when dropped.
pub(super) struct Place {
    pool: Rc<Pool>,
    instance: Rc<Instance>,
}

impl Pool {
    fn new(generation: Arc<Generation>) -> Self {
        Self {
            generation,
            instances: RefCell::default(),
            making: Rc::default(),
            losses: Cell::default(),
            retired: Cell::new(true),
        }
    }

    pub(super) fn generation(&self) -> &Arc<Generation> {
        &self.generation
    }

    /// A place in the least busy instance; in a new one where all are full or there is none.
    ///
    /// # Errors
    /// No instance can be made, or not yet, because too many were lost.
    pub(super) async fn place(self: &Rc<Self>) -> Result<Place, Fault> {
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

    /// An instance died.
    pub(super) fn lost(&self, instance: &Rc<Instance>) {
        let mut instances = self.instances.borrow_mut();
        if let Some(at) = instances.iter().position(|known| Rc::ptr_eq(known, instance)) {
            instances.swap_remove(at);
            self.losses.update(|losses| losses.one_more(Instant::now()));
        }
    }

    /// Makes the instances that are to be there from the start.
    async fn warm(self: Rc<Self>) {
        while !self.retired.get() && self.instances.borrow().len() < self.generation.instances_wanted() {
            let _making = self.making.take().await;
            if self.instances.borrow().len() >= self.generation.instances_wanted() {
                return;
            }
            if let Err(fault) = self.make().await {
                fault.log(&self.generation, Hook::Init, "-");
                return;
            }
        }
    }

    /// None where all are full, or where there are fewer than wanted and all are in use.
    fn choose(&self, wanted: usize) -> Option<Rc<Instance>> {
        let instances = self.instances.borrow();
        if instances.len() < wanted && instances.iter().all(|instance| instance.sessions.get() > 0) {
            return None;
        }
        let full = self.generation.limits().sessions;
        let free = instances.iter().filter(|instance| !instance.is_dead() && instance.sessions.get() < full);
        free.min_by_key(|instance| (instance.sessions.get(), instance.busy())).cloned()
    }

    /// Called in turn.
    async fn make(&self) -> Result<Rc<Instance>, Fault> {
        if let Some(at) = self.losses.get().not_before() {
            if at > Instant::now() + self.generation.limits().call.wait {
                return Err(Fault::new(FaultKind::Instance, "too many instances were lost; waiting before the next"));
            }
            tokio::time::sleep_until(at).await;
        }
        match Instance::make(&self.generation).await {
            Ok(instance) => {
                self.instances.borrow_mut().push(instance.clone());
                Ok(instance)
            }
            Err(fault) => {
                self.losses.update(|losses| losses.one_more(Instant::now()));
                Err(fault)
            }
        }
    }

    fn retire(&self) {
        self.retired.set(true);
        self.instances.borrow_mut().retain(|instance| instance.sessions.get() > 0);
    }

    /// A session left: instances beyond those that are kept go with their last one.
    fn left(&self, instance: &Rc<Instance>) {
        let mut instances = self.instances.borrow_mut();
        let keep = if self.retired.get() { 0 } else { self.generation.instances_wanted() };
        if instance.sessions.get() == 0
            && instances.len() > keep
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

/// Slows down the making of instances that keep dying.
#[derive(Clone, Copy, Default)]
struct Losses {
    recent: u32,
    last: Option<Instant>,
}

/// So many may be lost at once without a delay.
const FREE_LOSSES: u32 = 5;
const FIRST_DELAY: Duration = Duration::from_millis(5);
/// Short: whoever kills instances on purpose must not make their neighbours wait. It still bounds what making them costs.
const LAST_DELAY: Duration = Duration::from_millis(50);
/// After so long without one, losses are forgotten.
const FORGET_AFTER: Duration = Duration::from_secs(10);

impl Losses {
    fn one_more(self, now: Instant) -> Self {
        let forget = self.last.is_some_and(|last| now.duration_since(last) > FORGET_AFTER);
        Self { recent: if forget { 1 } else { self.recent.saturating_add(1) }, last: Some(now) }
    }

    fn not_before(self) -> Option<Instant> {
        let doublings = self.recent.checked_sub(FREE_LOSSES + 1)?;
        let delay = FIRST_DELAY.saturating_mul(1 << doublings.min(16)).min(LAST_DELAY);
        Some(self.last? + delay)
    }
}
