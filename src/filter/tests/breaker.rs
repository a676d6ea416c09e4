//! The breaker of a filter, and clients that are refused.

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use serde_json::json;

use crate::{
    config::{FailurePolicy, Filter},
    filter::{
        BreakerState, NotAdmitted,
        test_support::{Bed, Started, Worker, say, until},
    },
};

const FAULT: &str = "close 1011 filter failed (faulty fault)";

fn faulty(tune: impl FnOnce(&mut Filter)) -> Bed {
    Bed::new().tuned("faulty", "guest_faulty", json!({}), tune).route(&["faulty"])
}

fn address(last: u8) -> SocketAddr {
    ([192, 0, 2, last], 1234).into()
}

fn state(started: &Started) -> BreakerState {
    started.status("faulty").generations[0].breaker
}

fn open_gauge(started: &Started) -> f64 {
    started.metric(r#"wsgate_filter_breaker_open{filter="faulty"}"#).unwrap()
}

fn calls(started: &Started) -> f64 {
    let calls = |verdict| {
        let line = format!(r#"wsgate_filter_calls_total{{filter="faulty",hook="on_message",verdict="{verdict}"}}"#);
        started.metric(&line).unwrap_or(0.0)
    };
    calls("forward") + calls("reply") + calls("fault")
}

async fn trip(worker: &Worker) {
    for client in 1..=3 {
        let chain = worker.open_from([192, 0, 2, client]).await;
        say(&chain, "trap").await;
    }
}

#[test]
fn faults_of_three_clients_open_it_and_a_call_that_is_answered_closes_it() {
    faulty(|_| {}).run(async |started, worker| {
        let bystander = worker.open_from([192, 0, 2, 9]).await;
        assert_eq!(say(&bystander, "hello").await, "pass hello");
        trip(&worker).await;
        assert_eq!((state(started), open_gauge(started)), (BreakerState::Open, 1.0));
        let before = calls(started);
        assert_eq!(say(&bystander, "hello").await, FAULT);
        let refused = worker.try_open_from(address(8)).await;
        assert!(matches!(refused, Err(NotAdmitted::Capacity { .. })), "{:?}", refused.map(|_| ()));
        assert_eq!(calls(started), before, "nobody was called");
        assert_eq!(started.faults("faulty", "breaker"), 2.0);
        until("one call may try", || state(started) == BreakerState::HalfOpen).await;
        // It was closed by the policy, but that is the session's business: here it may speak again.
        assert_eq!(say(&bystander, "hello").await, "pass hello");
        assert_eq!((state(started), open_gauge(started)), (BreakerState::Closed, 0.0));
        assert_eq!(say(&worker.open_from([192, 0, 2, 8]).await, "hello").await, "pass hello");
    });
}

#[test]
fn under_fail_open_everything_passes_while_it_is_open() {
    faulty(|filter| filter.failure_policy = FailurePolicy::FailOpen).run(async |started, worker| {
        trip(&worker).await;
        let newcomer = worker.open_from([192, 0, 2, 8]).await;
        let before = calls(started);
        assert_eq!(say(&newcomer, "count").await, "pass count");
        assert_eq!(calls(started), before);
        until("one call may try", || state(started) == BreakerState::HalfOpen).await;
        assert_eq!(say(&newcomer, "count").await, "client count 1", "it has a session now");
    });
}

#[test]
fn a_call_that_tries_and_fails_makes_the_rest_longer() {
    faulty(|_| {}).run(async |started, worker| {
        let (first, second) = (worker.open_from([192, 0, 2, 8]).await, worker.open_from([192, 0, 2, 9]).await);
        trip(&worker).await;
        until("one call may try", || state(started) == BreakerState::HalfOpen).await;
        let begin = Instant::now();
        assert_eq!(say(&first, "trap").await, FAULT);
        assert_eq!(state(started), BreakerState::Open);
        assert_eq!(say(&second, "hello").await, FAULT, "not called");
        until("one call may try", || state(started) == BreakerState::HalfOpen).await;
        assert!(begin.elapsed() > Duration::from_millis(1900), "{:?}", begin.elapsed());
        assert_eq!(say(&second, "resumed").await, "client resumed cause=fault state=none");
        assert_eq!(state(started), BreakerState::Closed);
    });
}

#[test]
fn one_client_never_opens_it_whatever_it_does() {
    let unguarded = |filter: &mut Filter| filter.max_client_faults = None;
    faulty(unguarded).run(async |started, worker| {
        for _ in 0..20 {
            assert_eq!(say(&worker.open().await, "trap").await, FAULT);
        }
        assert_eq!((state(started), open_gauge(started)), (BreakerState::Closed, 0.0));
    });
}

#[test]
fn a_client_whose_messages_keep_trapping_is_refused_and_nobody_else() {
    faulty(|filter| filter.max_client_faults = Some(3)).run(async |started, worker| {
        let neighbour = worker.open_from([192, 0, 2, 9]).await;
        let mut attempts = 0;
        let retry_after = loop {
            match worker.try_open_from(address(1)).await {
                Ok((chain, _)) => assert_eq!(say(&chain, "trap").await, FAULT),
                Err(NotAdmitted::Client { retry_after, .. }) => break retry_after,
                Err(other) => panic!("{other:?}"),
            }
            assert_eq!(say(&neighbour, "resumed").await, "client resumed cause=fault state=none");
            attempts += 1;
            assert!(attempts < 10, "it is never refused");
        };
        assert_eq!(attempts, 3);
        assert!((1..=2).contains(&(retry_after.as_secs() + 1)), "{retry_after:?}");
        assert_eq!(state(started), BreakerState::Closed);
        assert_eq!(say(&worker.open_from([192, 0, 2, 8]).await, "hello").await, "pass hello");
        tokio::time::sleep(retry_after).await;
        let again = worker.open_from([192, 0, 2, 1]).await;
        assert_eq!(say(&again, "trap").await, FAULT);
        let Err(NotAdmitted::Client { retry_after, .. }) = worker.try_open_from(address(1)).await else { panic!() };
        assert!(retry_after > Duration::from_secs(3), "one more fault, twice the time: {retry_after:?}");
    });
}

#[test]
fn under_fail_open_too_a_client_that_goes_on_is_closed() {
    let tune = |filter: &mut Filter| {
        filter.failure_policy = FailurePolicy::FailOpen;
        filter.max_client_faults = Some(3);
    };
    faulty(tune).run(async |_, worker| {
        let (chain, neighbour) = (worker.open_from([192, 0, 2, 1]).await, worker.open_from([192, 0, 2, 9]).await);
        assert_eq!(say(&chain, "trap").await, "pass trap");
        assert_eq!(say(&chain, "trap").await, "pass trap");
        assert_eq!(say(&chain, "trap").await, "close 1008 too many faults (faulty)");
        assert_eq!(say(&neighbour, "resumed").await, "client resumed cause=fault state=none");
    });
}

#[test]
fn what_the_upstream_sends_is_not_held_against_the_client() {
    let tune = |filter: &mut Filter| filter.max_client_faults = Some(1);
    let bed = Bed::new().tuned("faulty", "guest_faulty", json!({"direction": "both"}), tune).route(&["faulty"]);
    bed.run(async |_, worker| {
        for _ in 0..3 {
            let chain = worker.open().await;
            assert_eq!(crate::filter::test_support::hear(&chain, "trap").await, FAULT);
        }
        assert!(worker.try_open().await.is_ok());
    });
}
