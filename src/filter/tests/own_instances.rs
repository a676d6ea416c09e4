//! `isolation = "connection"`: an instance for each session, as many as the process holds.

use std::rc::Rc;

use futures_util::future::join_all;
use serde_json::json;

use crate::{
    config::{FailurePolicy, Filter, Isolation, OnStateLoss},
    filter::{
        Chain, Closer, NotAdmitted,
        instance::Instance,
        room::{Purpose, maps_in_use},
        test_support::{Bed, Started, Worker, hear, say, until},
    },
    message::CloseFrame,
};

const FAULT: &str = "close 1011 filter failed (faulty fault)";

fn own(filter: &mut Filter) {
    filter.isolation = Isolation::Connection;
}

fn faulty(tune: impl FnOnce(&mut Filter)) -> Bed {
    let tune = |filter: &mut Filter| {
        own(filter);
        tune(filter);
    };
    Bed::new().tuned("faulty", "guest_faulty", json!({}), tune).route(&["faulty"])
}

fn counts(started: &Started, filter: &str) -> (usize, usize) {
    let generation = &started.status(filter).generations[0];
    (generation.sessions, generation.instances)
}

async fn leave(chain: Chain) {
    chain.close(Closer::Client, CloseFrame::new(1000, "")).await;
}

#[test]
fn each_session_has_an_instance_from_its_handshake_to_its_end() {
    faulty(|_| {}).run(async |started, worker| {
        assert_eq!(counts(started, "faulty"), (0, 0));
        let (first, second) = (worker.open().await, worker.open().await);
        for chain in [&first, &second, &first] {
            assert!(say(chain, "instance").await.starts_with("client instance opens=1 "));
        }
        assert_eq!(counts(started, "faulty"), (2, 2));
        leave(first).await;
        assert_eq!(counts(started, "faulty"), (1, 1));
        leave(second).await;
        assert_eq!(counts(started, "faulty"), (0, 0));
    });
}

#[test]
fn a_connection_that_is_refused_or_fails_keeps_no_instance() {
    for mode in ["refuse:403:no", "open-trap"] {
        let bed = Bed::new().tuned("faulty", "guest_faulty", json!({"modes": [mode]}), own).route(&["faulty"]);
        bed.run(async |started, worker| {
            assert!(worker.try_open().await.is_err());
            until("its instance is gone", || counts(started, "faulty") == (0, 0)).await;
        });
    }
}

#[test]
fn a_trap_is_nobody_elses_concern() {
    faulty(|filter| filter.failure_policy = FailurePolicy::FailOpen).run(async |started, worker| {
        let (chain, neighbour) = (worker.open().await, worker.open().await);
        assert_eq!(say(&chain, "trap").await, "pass trap");
        assert_eq!(say(&neighbour, "resumed").await, "client opened");
        assert_eq!(say(&chain, "resumed").await, "client resumed cause=fault state=none");
        assert_eq!(counts(started, "faulty"), (2, 2));
    });
    faulty(|_| {}).run(async |_, worker| {
        let (chain, neighbour) = (worker.open().await, worker.open().await);
        assert_eq!(say(&chain, "trap").await, FAULT);
        assert_eq!(say(&neighbour, "resumed").await, "client opened");
    });
}

#[test]
fn lost_state_closes_where_so_configured() {
    let close = |filter: &mut Filter| {
        filter.failure_policy = FailurePolicy::FailOpen;
        filter.on_state_loss = OnStateLoss::Close;
    };
    faulty(close).run(async |started, worker| {
        let (chain, neighbour) = (worker.open().await, worker.open().await);
        assert_eq!(say(&chain, "trap").await, "pass trap");
        assert_eq!(say(&chain, "hello").await, FAULT);
        assert_eq!(say(&neighbour, "resumed").await, "client opened");
        assert_eq!(started.faults("faulty", "state_loss"), 1.0);
    });
}

async fn open_all(worker: &Worker, sessions: usize) -> Vec<Chain> {
    let mut chains = Vec::new();
    for _ in 0..sessions {
        chains.push(worker.open().await);
    }
    chains
}

#[test]
fn more_connections_than_the_process_holds_are_turned_away_and_harm_nobody() {
    let open = |filter: &mut Filter| filter.failure_policy = FailurePolicy::FailOpen;
    faulty(open).holding(16).run(async |started, worker| {
        assert_eq!(started.status("faulty").max_sessions, Some(14));
        let mut chains = open_all(&worker, 14).await;
        for _ in 0..50 {
            assert!(matches!(worker.try_open().await, Err(NotAdmitted::Capacity { .. })));
        }
        // Who is here already gets another instance when its own is lost.
        assert_eq!(say(&chains[3], "trap").await, "pass trap");
        assert_eq!(say(&chains[3], "resumed").await, "client resumed cause=fault state=none");
        assert_eq!(say(&chains[4], "count").await, "client count 1");
        leave(chains.pop().unwrap()).await;
        let newcomer = worker.open().await;
        assert_eq!(say(&newcomer, "resumed").await, "client opened");
        assert!(worker.try_open().await.is_err());
        assert_eq!(counts(started, "faulty"), (14, 14));
    });
}

/// Every session speaks, the filters are replaced, every session moves at the same time, and speaks again.
async fn survive_a_reload(started: &Started, worker: Worker, sessions: usize) {
    let chains = open_all(&worker, sessions).await;
    assert!(worker.try_open().await.is_err(), "it is full");
    for chain in &chains {
        hear(chain, "m").await;
        assert!(hear(chain, "m").await.contains("#2"));
    }
    let before = worker.instances.live();
    started.replace("first.wasm", "stamp-v2");
    until("it is live", || !std::sync::Arc::ptr_eq(&before, &worker.instances.live())).await;
    drop(before);
    let worker = Rc::new(worker);
    let moving = chains.into_iter().map(|mut chain| {
        let worker = worker.clone();
        tokio::task::spawn_local(async move {
            assert!(worker.migrate(&mut chain).await, "it moves");
            assert!(hear(&chain, "m").await.contains("#3"), "with its state");
            chain
        })
    });
    let moved: Vec<_> = join_all(moving.collect::<Vec<_>>()).await.into_iter().map(Result::unwrap).collect();
    until("the old generation is gone", || started.status("first").generations.len() == 1).await;
    assert_eq!(counts(started, "first"), (sessions, sessions));
    assert!(worker.try_open().await.is_err(), "it is full again");
    drop(moved);
}

#[test]
fn a_reload_at_full_capacity_loses_no_session() {
    let bed = Bed::new().tuned("first", "stamp", json!({"direction": "both"}), own).route(&["first"]);
    bed.holding(16).run(async |started, worker| survive_a_reload(started, worker, 14).await);
}

/// Each session needs two new instances at once, and there is room for those of one session: if each of two had one, both
/// would wait for ever.
#[test]
fn sessions_with_several_instances_do_not_block_each_other() {
    let bed = Bed::new()
        .tuned("first", "stamp", json!({"direction": "both"}), own)
        .tuned("second", "guest_faulty", json!({"direction": "to_client"}), own)
        .route(&["first", "second"]);
    bed.holding(16).run(async |started, worker| survive_a_reload(started, worker, 7).await);
}

#[test]
fn an_instance_takes_no_more_maps_than_are_counted_for_it() {
    for guest in ["redact", "guest_faulty"] {
        Bed::new().filter("counted", guest, json!({})).route(&["counted"]).run(async |_, worker| {
            let live = worker.instances.live().chain("main");
            let generation = &live.filters()[0];
            until("the first is made", || generation.instances.load(std::sync::atomic::Ordering::Relaxed) == 1).await;
            let (before, mut kept) = (maps_in_use(), Vec::new());
            for _ in 0..300 {
                let ticket = generation.engine().room.try_take(generation.maps(), Purpose::Keep).unwrap();
                kept.push(Instance::make(generation, ticket).await.unwrap());
            }
            // The pool mapped its stacks at the start.
            let (used, counted) = (maps_in_use() - before, 300 * (generation.maps() - 2));
            println!("{guest}: {used} maps, {counted} counted");
            assert!(used <= counted + 50, "{used} maps, {counted} counted");
        });
    }
}
