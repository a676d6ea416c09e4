//! What is live: every route's chain, as an immutable list of generations.

use std::{
    collections::{BTreeMap, HashSet},
    sync::{Arc, LazyLock},
};

use super::generation::Generation;
use crate::{config::SessionLimits, message::Direction};

/// The filters of one route at one moment: an immutable list of generations.
#[derive(Debug, Default)]
pub struct ChainSpec {
    filters: Vec<Arc<Generation>>,
    to_upstream_max_bytes: usize,
    to_client_max_bytes: usize,
}

impl ChainSpec {
    pub(super) fn new(filters: Vec<Arc<Generation>>, limits: &SessionLimits) -> Self {
        Self {
            filters,
            to_upstream_max_bytes: limits.client_max_payload_bytes,
            to_client_max_bytes: limits.upstream_max_payload_bytes,
        }
    }

    /// True where the route has no filters.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.filters.is_empty()
    }

    /// The filters' names in order, for logs and the admin API.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.filters.iter().map(|generation| &**generation.filter())
    }

    pub(super) fn filters(&self) -> &[Arc<Generation>] {
        &self.filters
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
        let same_filters = self.filters.len() == other.filters.len()
            && self.filters.iter().zip(&other.filters).all(|(a, b)| Arc::ptr_eq(a, b));
        same_filters
            && self.to_upstream_max_bytes == other.to_upstream_max_bytes
            && self.to_client_max_bytes == other.to_client_max_bytes
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

    /// The chain of a route; an empty one where the route has no filters or is unknown.
    #[must_use]
    pub fn chain(&self, route: &str) -> Arc<ChainSpec> {
        static EMPTY: LazyLock<Arc<ChainSpec>> = LazyLock::new(Arc::default);
        self.chains.get(route).unwrap_or(&EMPTY).clone()
    }

    /// Every generation that some chain has, once.
    pub(super) fn generations(&self) -> impl Iterator<Item = &Arc<Generation>> {
        let mut seen = HashSet::new();
        self.chains
            .values()
            .flat_map(|chain| chain.filters())
            .filter(move |generation| seen.insert(generation.serial()))
    }

    /// The chains that are not as they were.
    pub(super) fn changed<'a>(&'a self, before: &'a Self) -> impl Iterator<Item = (&'a str, &'a Arc<ChainSpec>)> {
        let same = |route: &str, chain| before.chains.get(route).is_some_and(|before| Arc::ptr_eq(before, chain));
        self.chains.iter().filter(move |(route, chain)| !same(route, chain)).map(|(route, chain)| (&**route, chain))
    }

    pub(super) fn same(&self, other: &Self) -> bool {
        self.chains.len() == other.chains.len()
            && self.chains.iter().zip(&other.chains).all(|(a, b)| a.0 == b.0 && Arc::ptr_eq(a.1, b.1))
    }
}
