//! What is live: every route's chain, as an immutable list of generations.

use std::{
    collections::{BTreeMap, HashSet},
    fmt,
    sync::Arc,
};

use super::{
    control::{Control, Mode},
    generation::{Generation, Role},
};
use crate::{config::SessionLimits, message::Direction};

/// The filters of one route at one moment: an immutable list of generations.
#[derive(Debug, Default)]
pub struct ChainSpec {
    slots: Vec<Slot>,
    /// Filters of the route of which there is no generation: it must not serve without them.
    lacking: Vec<Lacking>,
    to_upstream_max_bytes: usize,
    to_client_max_bytes: usize,
}

/// One filter of a chain.
#[derive(Clone, Debug)]
pub(super) struct Slot {
    /// The generation that serves.
    pub(super) main: Arc<Generation>,
    /// The one that serves a share of the new connections instead.
    pub(super) canary: Option<Share>,
    /// The one that is asked about a share of the new connections and never obeyed.
    pub(super) shadow: Option<Share>,
}

/// A generation and its share of the new connections.
#[derive(Clone, Debug)]
pub(super) struct Share {
    pub(super) generation: Arc<Generation>,
    /// 0 to 100
    pub(super) percent: u8,
}

/// A filter without a generation.
#[derive(Clone)]
pub(super) struct Lacking {
    pub(super) filter: Arc<str>,
    pub(super) control: Arc<Control>,
}

/// Who treats a new connection.
#[derive(Debug)]
pub(super) struct Drawn<'a> {
    pub(super) serving: &'a Arc<Generation>,
    pub(super) shadow: Option<&'a Arc<Generation>>,
}

impl ChainSpec {
    pub(super) fn new(slots: Vec<Slot>, lacking: Vec<Lacking>, limits: &SessionLimits) -> Self {
        Self {
            slots,
            lacking,
            to_upstream_max_bytes: limits.client_max_payload_bytes,
            to_client_max_bytes: limits.upstream_max_payload_bytes,
        }
    }

    /// True where the route has no filters.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.slots.is_empty() && self.lacking.is_empty()
    }

    /// The filters' names in order, for logs and the admin API.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.slots.iter().map(|slot| &**slot.main.filter())
    }

    pub(super) fn slots(&self) -> &[Slot] {
        &self.slots
    }

    /// Is every filter of the route there?
    pub(super) fn is_complete(&self) -> bool {
        self.lacking.is_empty()
    }

    /// The first filter that keeps new connections out: by its mode, or because it is not there.
    pub(super) fn closed_by(&self) -> Option<&Arc<str>> {
        let refusing = |control: &Control| control.mode() == Mode::Refuse;
        let mut slots = self.slots.iter().filter(|slot| refusing(slot.main.control())).map(|slot| slot.main.filter());
        let mut lacking = self.lacking.iter().filter(|lacking| lacking.control.mode() != Mode::Bypass);
        slots.next().or_else(|| lacking.next().map(|lacking| &lacking.filter))
    }

    #[cfg(test)]
    pub(super) fn filters(&self) -> Vec<Arc<Generation>> {
        self.slots.iter().map(|slot| slot.main.clone()).collect()
    }

    /// The largest message that a filter may send in a direction: what the peer on the other side may send in it.
    pub(super) fn max_bytes(&self, direction: Direction) -> usize {
        match direction {
            Direction::ToUpstream => self.to_upstream_max_bytes,
            Direction::ToClient => self.to_client_max_bytes,
        }
    }

    /// Is there nothing to move to?
    pub(super) fn same(&self, other: &Self) -> bool {
        let same_slots =
            self.slots.len() == other.slots.len() && self.slots.iter().zip(&other.slots).all(|(a, b)| a.same(b));
        same_slots
            && self
                .lacking
                .iter()
                .map(|lacking| &lacking.filter)
                .eq(other.lacking.iter().map(|lacking| &lacking.filter))
            && self.to_upstream_max_bytes == other.to_upstream_max_bytes
            && self.to_client_max_bytes == other.to_client_max_bytes
    }
}

impl Slot {
    /// Draws for a new connection. The canary's share is at one end of the line, the shadow's at the other: they meet
    /// only where both together are more than all, and then the canary is not shadowed.
    pub(super) fn draw(&self) -> Drawn<'_> {
        if self.canary.is_none() && self.shadow.is_none() {
            return Drawn { serving: &self.main, shadow: None };
        }
        let lot = self.main.control().lot();
        match &self.canary {
            Some(canary) if canary.has(lot) => Drawn { serving: &canary.generation, shadow: None },
            Some(_) | None => {
                let shadow = self.shadow.as_ref().filter(|shadow| shadow.has(!lot));
                Drawn { serving: &self.main, shadow: shadow.map(|shadow| &shadow.generation) }
            }
        }
    }

    /// The generation for a session that has one of this role: each stays with what it opened with, also where there is
    /// no canary any more, unless that was withdrawn.
    pub(super) fn for_session_of(&self, before: &Arc<Generation>) -> Arc<Generation> {
        match before.role() {
            Role::Main | Role::Shadow => self.main.clone(),
            Role::Canary if self.canary.is_none() && before.is_withdrawn() => self.main.clone(),
            Role::Canary => self.canary.as_ref().map_or_else(|| before.clone(), |canary| canary.generation.clone()),
        }
    }

    fn generations(&self) -> impl Iterator<Item = &Arc<Generation>> {
        let shares = [&self.canary, &self.shadow].into_iter().flatten().map(|share| &share.generation);
        std::iter::once(&self.main).chain(shares)
    }

    fn same(&self, other: &Self) -> bool {
        let same = |a: &Option<Share>, b: &Option<Share>| match (a, b) {
            (None, None) => true,
            (Some(a), Some(b)) => Arc::ptr_eq(&a.generation, &b.generation) && a.percent == b.percent,
            (Some(_), None) | (None, Some(_)) => false,
        };
        Arc::ptr_eq(&self.main, &other.main) && same(&self.canary, &other.canary) && same(&self.shadow, &other.shadow)
    }
}

impl From<Arc<Generation>> for Slot {
    fn from(main: Arc<Generation>) -> Self {
        Self { main, canary: None, shadow: None }
    }
}

impl Share {
    /// Is a lot within the first `percent` of the line?
    fn has(&self, lot: u64) -> bool {
        (u128::from(lot) * 100) >> u64::BITS < u128::from(self.percent)
    }
}

impl fmt::Debug for Lacking {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.filter)
    }
}

/// Every route's chain at one moment, swapped whole.
#[derive(Clone, Debug, Default)]
pub struct Live {
    chains: BTreeMap<String, Arc<ChainSpec>>,
}

impl Live {
    /// Chains that did not change stay the same object, so that their sessions see that there is nothing to do.
    pub(super) fn new(chains: BTreeMap<String, ChainSpec>, before: &Self) -> Self {
        let chains = chains.into_iter().map(|(route, chain)| {
            let kept = before.chains.get(&route).filter(|before| before.same(&chain)).cloned();
            (route, kept.unwrap_or_else(|| Arc::new(chain)))
        });
        Self { chains: chains.collect() }
    }

    /// The chain of a route, empty where it has no filters; `None` where it is not a route any more. That is no reason
    /// to go on without the filters that it had.
    #[must_use]
    pub fn chain_of(&self, route: &str) -> Option<Arc<ChainSpec>> {
        self.chains.get(route).cloned()
    }

    /// The same where the route is known to be there.
    pub(super) fn chain(&self, route: &str) -> Arc<ChainSpec> {
        self.chain_of(route).unwrap_or_default()
    }

    /// Every generation that some chain has, once.
    pub(super) fn generations(&self) -> impl Iterator<Item = &Arc<Generation>> {
        let mut seen = HashSet::new();
        self.chains
            .values()
            .flat_map(|chain| chain.slots())
            .flat_map(Slot::generations)
            .filter(move |generation| seen.insert(generation.serial()))
    }

    /// The chains that are not as they were.
    pub(super) fn changed<'a>(&'a self, before: &'a Self) -> impl Iterator<Item = (&'a str, &'a Arc<ChainSpec>)> {
        let same = |route: &str, chain| before.chains.get(route).is_some_and(|before| Arc::ptr_eq(before, chain));
        self.chains.iter().filter(move |(route, chain)| !same(route, chain)).map(|(route, chain)| (&**route, chain))
    }

    /// Does every route have all its filters?
    pub(super) fn is_complete(&self) -> bool {
        self.chains.values().all(|chain| chain.is_complete())
    }

    pub(super) fn same(&self, other: &Self) -> bool {
        self.chains.len() == other.chains.len()
            && self.chains.iter().zip(&other.chains).all(|(a, b)| a.0 == b.0 && Arc::ptr_eq(a.1, b.1))
    }
}
