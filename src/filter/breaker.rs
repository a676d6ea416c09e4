//! The breaker of one generation: a filter that ends its instances whoever calls it is not called for a while. Then one
//! call may try. Shared by the workers.

use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use prometheus::IntGauge;
use serde::Serialize;

use super::client::{ClientKey, WINDOW};

/// For how long nobody is let through at first; doubled each time that the call which may try fails.
const FIRST_REST: Duration = Duration::from_secs(1);
const LONGEST_REST: Duration = Duration::from_secs(60);
/// A breaker that opens again after so long begins anew.
const FORGET_AFTER: Duration = Duration::from_secs(120);

/// Clients that are remembered: as many as `breaker_clients` may ask for.
const MOST_CLIENTS: usize = 64;

/// See the module.
pub(super) struct Breaker {
    filter: Arc<str>,
    /// `breaker_clients`
    clients: Option<usize>,
    /// Does each call have to ask? All that a call looks at while the filter is well.
    tripped: AtomicBool,
    state: Mutex<State>,
    gauge: IntGauge,
}

struct State {
    phase: Phase,
    /// The last fault of each client, the oldest first.
    faults: Vec<(ClientKey, Instant)>,
    /// How often it opened without having been well in between.
    openings: u32,
    closed_at: Option<Instant>,
}

enum Phase {
    Closed,
    Open {
        until: Instant,
    },
    /// A call is trying.
    Trying,
}

/// How the breaker is, for the admin API.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum BreakerState {
    /// Calls are made.
    Closed,
    /// No call is made.
    Open,
    /// One call is making, or may make, the attempt.
    HalfOpen,
}

/// May a call be made?
pub(super) enum Entry {
    /// As usual.
    Free,
    /// It is the one that tries.
    Try(Attempt),
    /// No.
    Refused,
}

/// The call that tries. Dropped without a result, the next one may.
pub(super) struct Attempt {
    breaker: Arc<Breaker>,
    over: bool,
}

impl Breaker {
    pub(super) fn new(filter: Arc<str>, clients: Option<usize>, gauge: IntGauge) -> Arc<Self> {
        let state = State { phase: Phase::Closed, faults: Vec::new(), openings: 0, closed_at: None };
        Arc::new(Self { filter, clients, tripped: AtomicBool::new(false), state: Mutex::new(state), gauge })
    }

    /// Are calls made?
    pub(super) fn is_closed(&self) -> bool {
        !self.tripped.load(Ordering::Relaxed)
    }

    /// Asked before each call.
    pub(super) fn enter(self: &Arc<Self>) -> Entry {
        if self.is_closed() {
            return Entry::Free;
        }
        self.enter_at(Instant::now())
    }

    fn enter_at(self: &Arc<Self>, now: Instant) -> Entry {
        let mut state = self.lock();
        match state.phase {
            Phase::Closed => Entry::Free,
            Phase::Open { until } if now >= until => {
                state.phase = Phase::Trying;
                Entry::Try(Attempt { breaker: self.clone(), over: false })
            }
            Phase::Open { .. } | Phase::Trying => Entry::Refused,
        }
    }

    /// A call for this client ended its instance.
    pub(super) fn fault(&self, client: ClientKey, now: Instant) {
        let Some(clients) = self.clients else { return };
        let mut state = self.lock();
        let recent = |at: Instant| now.saturating_duration_since(at) <= WINDOW;
        state.faults.retain(|(known, at)| *known != client && recent(*at));
        state.faults.push((client, now));
        if state.faults.len() > MOST_CLIENTS {
            state.faults.remove(0);
        }
        if state.faults.len() >= clients && matches!(state.phase, Phase::Closed) {
            if state.closed_at.is_some_and(|at| now.saturating_duration_since(at) > FORGET_AFTER) {
                state.openings = 0;
            }
            self.open(&mut state, now);
        }
    }

    pub(super) fn state(&self) -> BreakerState {
        match self.lock().phase {
            Phase::Closed => BreakerState::Closed,
            Phase::Open { until } if Instant::now() < until => BreakerState::Open,
            Phase::Open { .. } | Phase::Trying => BreakerState::HalfOpen,
        }
    }

    fn open(&self, state: &mut State, now: Instant) {
        let rest = FIRST_REST.saturating_mul(1 << state.openings.min(16)).min(LONGEST_REST);
        state.openings += 1;
        state.faults.clear();
        if matches!(state.phase, Phase::Closed) {
            self.gauge.inc();
        }
        state.phase = Phase::Open { until: now + rest };
        self.tripped.store(true, Ordering::Relaxed);
        let (filter, rest_ms, openings) = (&*self.filter, rest.as_millis(), state.openings);
        tracing::error!(
            filter,
            rest_ms,
            openings,
            "the breaker of a filter is open: it keeps failing and is not called"
        );
    }

    fn close(&self, now: Instant) {
        let mut state = self.lock();
        state.phase = Phase::Closed;
        state.faults.clear();
        state.closed_at = Some(now);
        self.tripped.store(false, Ordering::Relaxed);
        self.gauge.dec();
        tracing::warn!(filter = &*self.filter, "the breaker of a filter is closed: it answered and is called again");
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Breaker {
    fn drop(&mut self) {
        if !matches!(self.lock().phase, Phase::Closed) {
            self.gauge.dec();
        }
    }
}

impl Attempt {
    /// The filter answered.
    pub(super) fn succeeded(mut self) {
        self.over = true;
        self.breaker.close(Instant::now());
    }

    /// The call ended its instance, or no instance could be made for it.
    pub(super) fn failed(mut self) {
        self.over = true;
        let mut state = self.breaker.lock();
        self.breaker.open(&mut state, Instant::now());
    }
}

impl Drop for Attempt {
    fn drop(&mut self) {
        if !self.over {
            self.breaker.lock().phase = Phase::Open { until: Instant::now() };
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use super::*;

    fn breaker() -> (Arc<Breaker>, IntGauge) {
        let gauge = IntGauge::new("open", "open").unwrap();
        (Breaker::new("faulty".into(), Some(3), gauge.clone()), gauge)
    }

    fn client(text: &str) -> ClientKey {
        text.parse::<IpAddr>().unwrap().into()
    }

    fn trip(breaker: &Breaker, now: Instant) {
        for address in ["192.0.2.1", "192.0.2.2", "2001:db8::1"] {
            breaker.fault(client(address), now);
        }
    }

    #[test]
    fn one_client_never_opens_it_nor_do_two() {
        let (breaker, gauge) = breaker();
        for n in 0..1_000_u64 {
            let now = Instant::now() + Duration::from_millis(n);
            breaker.fault(client("192.0.2.1"), now);
            breaker.fault(client(&format!("2001:db8::{n:x}")), now);
            assert!(matches!(breaker.enter(), Entry::Free));
        }
        assert_eq!((breaker.state(), gauge.get()), (BreakerState::Closed, 0));
    }

    #[test]
    fn three_clients_open_it_within_the_window_only() {
        let (breaker, gauge) = breaker();
        let now = Instant::now();
        breaker.fault(client("192.0.2.1"), now);
        breaker.fault(client("192.0.2.2"), now + Duration::from_secs(5));
        breaker.fault(client("192.0.2.3"), now + Duration::from_secs(11));
        assert!(matches!(breaker.enter(), Entry::Free));
        breaker.fault(client("192.0.2.4"), now + Duration::from_secs(12));
        assert!(matches!(breaker.enter_at(now + Duration::from_secs(12)), Entry::Refused));
        assert_eq!((breaker.state(), gauge.get()), (BreakerState::Open, 1));
        drop(breaker);
        assert_eq!(gauge.get(), 0);
    }

    #[test]
    fn one_call_tries_and_closes_it() {
        let (breaker, gauge) = breaker();
        trip(&breaker, Instant::now() - FIRST_REST);
        assert_eq!(breaker.state(), BreakerState::HalfOpen);
        let Entry::Try(attempt) = breaker.enter() else { panic!() };
        assert!(matches!(breaker.enter(), Entry::Refused), "one only");
        drop(attempt);
        let Entry::Try(attempt) = breaker.enter() else { panic!("the first came to nothing") };
        attempt.succeeded();
        assert!(matches!(breaker.enter(), Entry::Free));
        assert_eq!((breaker.state(), gauge.get()), (BreakerState::Closed, 0));
    }

    #[test]
    fn it_rests_longer_each_time_up_to_a_minute() {
        let (breaker, gauge) = breaker();
        let mut now = Instant::now();
        trip(&breaker, now);
        for rest in [1, 2, 4, 8, 16, 32, 60, 60] {
            assert!(matches!(
                breaker.enter_at(now + Duration::from_secs(rest) - Duration::from_millis(1)),
                Entry::Refused
            ));
            now += Duration::from_secs(rest);
            let Entry::Try(mut attempt) = breaker.enter_at(now) else { panic!("{rest}") };
            attempt.over = true;
            breaker.open(&mut breaker.lock(), now);
        }
        assert_eq!(gauge.get(), 1);
        // Closed and opened again at once, it goes on where it was; after a good while it begins anew.
        breaker.close(now);
        trip(&breaker, now);
        assert!(matches!(breaker.enter_at(now + Duration::from_secs(59)), Entry::Refused));
        breaker.close(now);
        now += FORGET_AFTER + Duration::from_secs(1);
        trip(&breaker, now);
        assert!(matches!(breaker.enter_at(now + FIRST_REST), Entry::Try(_)));
    }
}
