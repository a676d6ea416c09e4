//! Which endpoint a connection goes to.

mod ring;

use std::sync::{Arc, Mutex, PoisonError};

use rand::{Rng, RngExt};
use tokio::time::Instant;

use self::ring::Ring;
use super::{choice::ChoiceInput, endpoint::Endpoint};
use crate::config;

/// Weights are compared in thousandths, so that slow start can grow them smoothly.
const WEIGHT_UNIT: f64 = 1000.0;

/// The endpoints of an upstream at one time. It never changes: other addresses make another.
pub(super) struct EndpointSet {
    pub(super) endpoints: Vec<Arc<Endpoint>>,
    /// Of `ring_hash`.
    ring: Option<Ring>,
    /// Of `round_robin`: how far each endpoint's turn has come.
    turns: Mutex<Vec<i64>>,
}

/// An endpoint that may be chosen.
#[derive(Clone, Copy, Debug)]
struct Candidate {
    index: usize,
    /// In thousandths; at least 1.
    weight: u64,
    /// Sessions and dials.
    load: u64,
}

/// What comes of choosing.
pub(super) enum Choice<'a> {
    /// This one; `affine` where the client's cookie named it.
    Endpoint { endpoint: &'a Arc<Endpoint>, affine: bool },
    /// Every endpoint that may be used was tried before.
    AllTried,
    /// None may be used.
    NoneUsable,
}

impl EndpointSet {
    pub(super) fn new(endpoints: Vec<Arc<Endpoint>>, config: &config::Upstream) -> Self {
        let ring = match &config.balance {
            config::Balance::RingHash(_) => {
                Some(Ring::new(endpoints.iter().map(|endpoint| (&*endpoint.label, endpoint.weight))))
            }
            config::Balance::LeastConn | config::Balance::RoundRobin | config::Balance::Random => None,
        };
        let turns = Mutex::new(vec![0; endpoints.len()]);
        Self { endpoints, ring, turns }
    }

    /// Chooses by the configured rule among those that may be used and were not `tried`.
    pub(super) fn choose(
        &self,
        config: &config::Upstream,
        input: &ChoiceInput<'_>,
        tried: &[Arc<Endpoint>],
        now: Instant,
        rng: &mut impl Rng,
    ) -> Choice<'_> {
        let mut usable = false;
        let mut free = |endpoint: &Arc<Endpoint>| {
            let is_usable = endpoint.state.standing().is_usable(now);
            // One of weight 0 keeps its clients but is no choice for new ones.
            usable |= is_usable && endpoint.weight > 0;
            is_usable && !tried.iter().any(|tried| tried.label == endpoint.label)
        };
        let free: Vec<bool> = self.endpoints.iter().map(&mut free).collect();
        if let Some(value) = config.affinity_cookie.as_ref().and_then(|cookie| input.affinity(cookie)) {
            let named = |(endpoint, free): &(&Arc<Endpoint>, &bool)| **free && endpoint.affinity.as_bytes() == value;
            if let Some((endpoint, _)) = self.endpoints.iter().zip(&free).find(named) {
                return Choice::Endpoint { endpoint, affine: true };
            }
        }
        let candidates = self.candidates(&free, config, now);
        let index = match (&config.balance, &self.ring) {
            _ if candidates.is_empty() => None,
            (config::Balance::RingHash(on), Some(ring)) => match input.hash(on) {
                Some(hash) => {
                    let mut is_candidate = vec![false; self.endpoints.len()];
                    candidates.iter().for_each(|candidate| is_candidate[candidate.index] = true);
                    ring.find(hash, |index| is_candidate[index])
                }
                None => random(&candidates, rng),
            },
            (config::Balance::RoundRobin, _) => self.next_turn(&candidates),
            (config::Balance::Random, _) => random(&candidates, rng),
            (config::Balance::LeastConn | config::Balance::RingHash(_), _) => least_loaded(&candidates, rng),
        };
        match index.and_then(|index| self.endpoints.get(index)) {
            Some(endpoint) => Choice::Endpoint { endpoint, affine: false },
            None if usable => Choice::AllTried,
            None => Choice::NoneUsable,
        }
    }

    /// Those that are free, of the best priority among them.
    fn candidates(&self, free: &[bool], config: &config::Upstream, now: Instant) -> Vec<Candidate> {
        let weighted =
            || self.endpoints.iter().enumerate().filter(|(index, endpoint)| free[*index] && endpoint.weight > 0);
        let best = weighted().map(|(_, endpoint)| endpoint.priority).min();
        let of_best: Vec<_> = weighted().filter(|(_, endpoint)| Some(endpoint.priority) == best).collect();
        let mut candidates: Vec<Candidate> = Vec::with_capacity(of_best.len());
        let mut failing = Vec::new();
        let (mut well_load, mut well_weight) = (0, 0);
        for (index, endpoint) in of_best {
            let standing = endpoint.state.standing();
            let weight = f64::from(endpoint.weight) * WEIGHT_UNIT * standing.warmth(config.slow_start, now);
            #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "from 1 to 16,777,216,000")]
            let (weight, load) = (weight.max(1.0) as u64, endpoint.state.load() as u64);
            if standing.failures > 0 {
                failing.push(candidates.len());
            } else {
                (well_load, well_weight) = (well_load + load, well_weight + weight);
            }
            candidates.push(Candidate { index, weight, load });
        }
        // Whoever fails has few sessions and would be asked first each time: it counts as loaded as the others are.
        for at in failing {
            let Candidate { weight, load, .. } = &mut candidates[at];
            let like_others = u128::from(well_load) * u128::from(*weight) / u128::from(well_weight.max(1));
            *load = (*load).max(u64::try_from(like_others).unwrap_or(u64::MAX));
        }
        candidates
    }

    /// Smooth weighted round robin: each turn everyone comes closer by its weight; who is closest is chosen and goes back
    /// by the weight of all.
    fn next_turn(&self, candidates: &[Candidate]) -> Option<usize> {
        let mut turns = self.turns.lock().unwrap_or_else(PoisonError::into_inner);
        let mut total = 0;
        let mut first: Option<(usize, i64)> = None;
        for candidate in candidates {
            let weight = i64::try_from(candidate.weight).unwrap_or(i64::MAX);
            let turn = turns.get_mut(candidate.index)?;
            *turn += weight;
            total += weight;
            if first.is_none_or(|(_, best)| *turn > best) {
                first = Some((candidate.index, *turn));
            }
        }
        let (index, _) = first?;
        *turns.get_mut(index)? -= total;
        Some(index)
    }
}

/// The fewest sessions by weight, with the one that is about to come; of several, any.
fn least_loaded(candidates: &[Candidate], rng: &mut impl Rng) -> Option<usize> {
    let mut best: Option<&Candidate> = None;
    let mut ties = 0_u32;
    for candidate in candidates {
        let order = best.map(|best| compare(candidate, best));
        match order {
            None | Some(std::cmp::Ordering::Less) => (best, ties) = (Some(candidate), 1),
            Some(std::cmp::Ordering::Equal) => {
                ties += 1;
                if rng.random_range(0..ties) == 0 {
                    best = Some(candidate);
                }
            }
            Some(std::cmp::Ordering::Greater) => {}
        }
    }
    best.map(|best| best.index)
}

/// By load and weight, the next connection counted.
fn compare(one: &Candidate, other: &Candidate) -> std::cmp::Ordering {
    let scaled = |load: u64, weight: u64| u128::from(load + 1) * u128::from(weight);
    scaled(one.load, other.weight).cmp(&scaled(other.load, one.weight))
}

/// The better of two that are drawn by weight.
fn random(candidates: &[Candidate], rng: &mut impl Rng) -> Option<usize> {
    let first = draw(candidates, None, rng)?;
    let second = draw(candidates, Some(first.index), rng).unwrap_or(first);
    Some(if compare(&second, &first).is_lt() { second.index } else { first.index })
}

fn draw(candidates: &[Candidate], without: Option<usize>, rng: &mut impl Rng) -> Option<Candidate> {
    let others = || candidates.iter().filter(|candidate| Some(candidate.index) != without);
    let total: u64 = others().map(|candidate| candidate.weight).sum();
    let mut at = rng.random_range(0..total.max(1));
    for candidate in others() {
        match at.checked_sub(candidate.weight) {
            Some(rest) => at = rest,
            None => return Some(*candidate),
        }
    }
    None
}
