//! Where connections go: a fixed seed, and a clock that the test moves.

use std::{sync::Arc, time::Duration};

use http::HeaderMap;
use rand::{SeedableRng, rngs::StdRng};
use tokio::time::Instant;

use super::{
    super::{ChoiceInput, Client, Lease, Upstream, balance::Choice},
    fake::{configured, plain},
};
use crate::config::{self, Balance, HashOn};

/// Endpoints with these weights, and what chooses among them.
pub(super) struct Chooser {
    pub(super) upstream: Arc<Upstream>,
    rng: StdRng,
    pub(super) now: Instant,
    pub(super) client: Client,
}

pub(super) fn weights(weights: &[u32]) -> config::Upstream {
    let endpoint = |(port, weight): (u16, &u32)| config::Endpoint {
        weight: *weight,
        ..config::Endpoint::new(false, "127.0.0.1".to_owned(), port)
    };
    configured((1..).zip(weights).map(endpoint).collect())
}

impl Chooser {
    pub(super) fn new(config: config::Upstream) -> Self {
        let upstream = Arc::clone(&plain(config).by_name["chat"]);
        Self { upstream, rng: StdRng::seed_from_u64(7), now: Instant::now(), client: Client::default() }
    }

    pub(super) fn of(balance: Balance, of_weights: &[u32]) -> Self {
        Self::new(config::Upstream { balance, ..weights(of_weights) })
    }

    /// The index of the endpoint that is chosen, or nothing.
    pub(super) fn choose(&mut self) -> Option<usize> {
        let headers = HeaderMap::new();
        let input = ChoiceInput { client: &self.client, headers: &headers, query: None };
        let set = self.upstream.set.load();
        match set.choose(&self.upstream.config, &input, &[], self.now, &mut self.rng) {
            Choice::Endpoint { endpoint, .. } => set.endpoints.iter().position(|other| Arc::ptr_eq(other, endpoint)),
            Choice::AllTried => panic!("none was tried"),
            Choice::NoneUsable => None,
        }
    }

    /// A session on the endpoint that is chosen.
    pub(super) fn open(&mut self) -> (usize, Lease) {
        let index = self.choose().unwrap();
        (index, self.open_on(index))
    }

    pub(super) fn open_on(&self, index: usize) -> Lease {
        Lease::dial(&self.upstream.set.load().endpoints[index].state).open()
    }

    /// How many of these choices each endpoint got; nothing is left open.
    pub(super) fn shares(&mut self, choices: usize) -> Vec<usize> {
        let mut shares = vec![0; self.upstream.set.load().endpoints.len()];
        (0..choices).for_each(|_| shares[self.choose().unwrap()] += 1);
        shares
    }

    pub(super) fn set_healthy(&self, index: usize, healthy: bool) {
        let endpoints = &self.upstream.set.load().endpoints;
        endpoints[index].state.change(self.now, |standing| standing.healthy = healthy);
    }
}

fn sessions(chooser: &Chooser) -> Vec<usize> {
    chooser.upstream.set.load().endpoints.iter().map(|endpoint| endpoint.state.sessions()).collect()
}

#[test]
fn least_conn_keeps_sessions_even_by_weight() {
    let mut chooser = Chooser::of(Balance::LeastConn, &[1, 2, 1]);
    let _open: Vec<_> = (0..400).map(|_| chooser.open()).collect();
    assert_eq!(sessions(&chooser), [100, 200, 100]);
}

#[test]
fn least_conn_fills_an_empty_endpoint_first() {
    let mut chooser = Chooser::of(Balance::LeastConn, &[1, 1, 1]);
    let _before: Vec<_> = (0..60).map(|n| chooser.open_on(n % 2)).collect();
    let _open: Vec<_> = (0..30).map(|_| chooser.open()).collect();
    assert_eq!(sessions(&chooser), [30, 30, 30]);
}

#[test]
fn least_conn_breaks_ties_at_random() {
    let shares = Chooser::of(Balance::LeastConn, &[1; 4]).shares(4000);
    assert!(shares.iter().all(|share| (850..1150).contains(share)), "{shares:?}");
}

#[test]
fn an_endpoint_that_fails_is_not_the_emptiest_each_time() {
    let mut chooser = Chooser::of(Balance::LeastConn, &[1; 4]);
    let _busy: Vec<_> = (0..90).map(|n| chooser.open_on(n % 3)).collect();
    let failing = Arc::clone(&chooser.upstream.set.load().endpoints[3]);
    failing.state.change(chooser.now, |standing| standing.failures = 1);
    let mut tried = 0;
    let mut open = Vec::new();
    for _ in 0..400 {
        let (index, lease) = chooser.open();
        // The one that fails gets no session.
        if index == 3 { tried += 1 } else { open.push(lease) }
    }
    assert!((40..180).contains(&tried), "tried {tried} of 400 times");
}

#[test]
fn round_robin_is_smooth_and_by_weight() {
    let mut chooser = Chooser::of(Balance::RoundRobin, &[5, 1, 1]);
    let order: Vec<_> = (0..14).map(|_| chooser.choose().unwrap()).collect();
    // What nginx does with these weights.
    assert_eq!(order, [0, 0, 1, 0, 2, 0, 0, 0, 0, 1, 0, 2, 0, 0]);
}

#[test]
fn random_takes_the_better_of_two() {
    let mut chooser = Chooser::of(Balance::Random, &[1; 8]);
    let _open: Vec<_> = (0..800).map(|_| chooser.open()).collect();
    let sessions = sessions(&chooser);
    // With one draw each they would differ by some thirty.
    assert!(sessions.iter().all(|count| (94..=106).contains(count)), "{sessions:?}");
}

#[test]
fn random_is_by_weight() {
    let mut chooser = Chooser::of(Balance::Random, &[1, 3]);
    let _open: Vec<_> = (0..400).map(|_| chooser.open()).collect();
    let sessions = sessions(&chooser);
    assert!((280..320).contains(&sessions[1]), "{sessions:?}");
}

#[test]
fn the_same_value_gets_the_same_endpoint_and_none_is_random() {
    let mut chooser = Chooser::of(Balance::RingHash(HashOn::ClientIp), &[1; 5]);
    let mut used = [false; 5];
    for last in 0..=255 {
        chooser.client.address = Some([192, 0, 2, last].into());
        let first = chooser.choose();
        assert_eq!(chooser.choose(), first);
        used[first.unwrap()] = true;
    }
    assert_eq!(used, [true; 5]);
    chooser.client.address = None;
    let shares = chooser.shares(500);
    assert!(shares.iter().all(|share| *share > 50), "{shares:?}");
}

#[test]
fn whatever_the_rule_only_endpoints_that_are_usable_are_chosen() {
    for balance in [Balance::LeastConn, Balance::RoundRobin, Balance::Random, Balance::RingHash(HashOn::ClientIp)] {
        let mut chooser = Chooser::of(balance, &[1, 1, 1, 0]);
        chooser.client.address = Some([192, 0, 2, 1].into());
        chooser.set_healthy(0, false);
        let ejected = Arc::clone(&chooser.upstream.set.load().endpoints[1]);
        let until = chooser.now + Duration::from_secs(10);
        ejected.state.change(chooser.now, |standing| standing.ejected_until = Some(until));
        assert_eq!(chooser.shares(20), [0, 0, 20, 0]);
        chooser.set_healthy(2, false);
        assert_eq!(chooser.choose(), None);
        chooser.now = until;
        assert_eq!(chooser.shares(20), [0, 20, 0, 0]);
    }
}

#[test]
fn an_endpoint_that_comes_back_starts_slowly() {
    let slow = config::Upstream {
        slow_start: Some(Duration::from_secs(100)),
        balance: Balance::RoundRobin,
        ..weights(&[1, 1])
    };
    let mut chooser = Chooser::new(slow);
    let back = Arc::clone(&chooser.upstream.set.load().endpoints[1]);
    let start = chooser.now;
    back.state.change(start, |standing| standing.warm_from = Some(start));
    let mut share_after = |seconds| {
        chooser.now = start + Duration::from_secs(seconds);
        chooser.shares(1100)[1]
    };
    assert_eq!(share_after(0), 100);
    assert!((360..375).contains(&share_after(50)));
    assert_eq!(share_after(100), 550);
    // An ejection that is over counts like a recovery.
    chooser.now = start + Duration::from_secs(200);
    let now = chooser.now;
    back.state.change(now, |standing| standing.ejected_until = Some(now));
    assert_eq!(chooser.shares(1100)[1], 100);
}
