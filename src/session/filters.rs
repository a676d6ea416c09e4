//! The chain of a session: runs, ticks, and the move to newer filters between two messages.

use std::{
    rc::Rc,
    sync::Arc,
    task::{Context, Poll},
};

use tokio::time::Instant;

use super::{Arrival, Registry, Session, SessionEnd};
use crate::{
    filter::{self, Chain, ChainSpec, Closer, Instances, Migration, Outcome, Reason, Run},
    identity::Identity,
    message::{CloseFrame, Direction, Message},
};

/// See the module.
pub(super) struct Filters {
    chain: Option<(Chain, Rc<Instances>)>,
    registry: Rc<Registry>,
    /// The revision of the worker's filters that the chain was last compared with.
    seen_revision: u64,
    /// A newer chain, waited for until no message is in the old one.
    wanted: Option<Arc<ChainSpec>>,
    migration: Option<Run<Migration>>,
    /// A tick, or the news of a refreshed identity.
    tick: Option<Run<Outcome>>,
    /// The client's identity was refreshed, and the filters do not know it yet.
    refreshed: Option<Rc<Identity>>,
}

impl Filters {
    pub(super) fn new(chain: Option<(Chain, Rc<Instances>)>, registry: Rc<Registry>) -> Self {
        // Filters may have changed since `open`: the first turn compares.
        Self { chain, registry, seen_revision: u64::MAX, wanted: None, migration: None, tick: None, refreshed: None }
    }

    /// Starts a run, or gives the message back where no filter wants it.
    pub(super) fn run(&self, direction: Direction, message: Message) -> Result<Run<Outcome>, Message> {
        match &self.chain {
            Some((chain, _)) if chain.wants(direction, message.kind()) => Ok(chain.on_message(direction, message)),
            Some(_) | None => Err(message),
        }
    }

    /// The same for a message of a topic.
    pub(super) fn deliver(&self, topic: &str, message: Message) -> Result<Run<Outcome>, Message> {
        match &self.chain {
            Some((chain, _)) if chain.wants_delivery(message.kind()) => Ok(chain.on_delivery(topic, message)),
            Some(_) | None => Err(message),
        }
    }

    /// True while the chain is being replaced: no message may enter it.
    pub(super) fn hold(&self) -> bool {
        self.wanted.is_some() || self.migration.is_some()
    }

    /// Why a filter last decided as it did.
    pub(super) fn last_reason(&self) -> Option<Reason> {
        self.chain.as_ref().and_then(|(chain, _)| chain.last_reason())
    }

    pub(super) fn next_tick(&self) -> Option<Instant> {
        let (chain, _) = self.chain.as_ref()?;
        if self.tick.is_some() || self.hold() { None } else { chain.next_tick() }
    }

    /// The filters hear of it as soon as nothing else runs; of several refreshes they hear the last.
    pub(super) fn refreshed(&mut self, identity: Rc<Identity>) {
        self.refreshed = self.chain.is_some().then_some(identity);
    }

    /// Is there something that the filters could hear at once?
    pub(super) fn has_news(&self) -> bool {
        self.refreshed.is_some() && self.tick.is_none() && !self.hold()
    }

    /// Compares the chain with what is live.
    fn look(&mut self, route: &str) {
        let Some((chain, instances)) = &self.chain else { return };
        let revision = self.registry.revision();
        let worn = chain.is_worn();
        if self.migration.is_some() || (self.seen_revision == revision && !worn) {
            return;
        }
        self.seen_revision = revision;
        let live = instances.live().chain_of(route).unwrap_or_else(|| chain.spec().clone());
        if !chain.is_settled(&live) {
            self.wanted = Some(live);
        } else {
            // To other instances of the same filters.
            self.wanted = worn.then(|| chain.spec().clone());
        }
    }

    /// Tells the filters of the end. What is under way in them is polled to its end first, by the worker.
    pub(super) fn release(self, runs: [Option<Run<Outcome>>; 2], by: Closer, frame: CloseFrame) {
        let Some((chain, _)) = self.chain else { return };
        let (tick, migration) = (self.tick, self.migration);
        filter::finish(Box::pin(async move {
            for run in runs.into_iter().chain([tick]).flatten() {
                run.await;
            }
            let chain = match migration {
                None => chain,
                Some(migration) => match migration.await {
                    Migration::Moved(newer) => newer,
                    Migration::Kept | Migration::Close { .. } => chain,
                },
            };
            chain.close(by, frame).await;
        }));
    }
}

impl Session {
    /// Moves to newer filters once no message is in the old ones, and runs ticks that are due.
    pub(super) fn follow_filters(&mut self, context: &mut Context<'_>) {
        self.filters.look(&self.route.name);
        self.run_tick(context);
        if self.can_move()
            && let Some((chain, _)) = &self.filters.chain
            && let Some(wanted) = self.filters.wanted.take()
        {
            self.filters.migration = Some(chain.migrate(wanted));
        }
        let Some(migration) = &mut self.filters.migration else { return };
        let Poll::Ready(migration) = migration.as_mut().poll(context) else { return };
        self.filters.migration = None;
        match migration {
            Migration::Moved(newer) => {
                if let Some((chain, _)) = &mut self.filters.chain {
                    *chain = newer;
                }
            }
            Migration::Kept => {}
            Migration::Close { frame, filter } => self.begin_end(SessionEnd::FilterClosed { filter, frame }),
        }
    }

    /// True once the last message has left a chain that is to be replaced. When that happens within a turn, the turn has
    /// to go on: nothing else would wake the session.
    pub(super) fn can_move(&self) -> bool {
        let idle = !self.to_upstream.is_running() && !self.to_client.is_running() && self.filters.tick.is_none();
        idle && self.filters.wanted.is_some()
    }

    fn run_tick(&mut self, context: &mut Context<'_>) {
        if let Some((chain, _)) = &self.filters.chain
            && self.filters.has_news()
            && let Some(identity) = self.filters.refreshed.take()
        {
            self.filters.tick = Some(chain.on_identity(identity));
        }
        if let Some((chain, _)) = &self.filters.chain
            && self.filters.next_tick().is_some_and(|at| at <= self.now)
        {
            self.filters.tick = Some(chain.on_tick(self.now));
        }
        let Some(tick) = &mut self.filters.tick else { return };
        let Poll::Ready(outcome) = tick.as_mut().poll(context) else { return };
        self.filters.tick = None;
        self.apply(Direction::ToClient, outcome, Arrival::Pushed);
    }
}
