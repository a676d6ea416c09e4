//! `isolation = "connection"`: an instance for each session, as many as the process holds.

use std::{
    rc::Rc,
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant},
};

use futures_util::future::join_all;
use serde_json::json;

use crate::{
    config::{FailurePolicy, Filter, Isolation, OnStateLoss},
    filter::{
        Chain, Closer, Migration, NotAdmitted,
        instance::Instance,
        live::ChainSpec,
        room::{Purpose, maps_in_use},
        test_support::{Bed, Started, Worker, hear, opening_request, say, until},
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

#[test]
fn a_reload_at_full_capacity_loses_no_session() {
    let bed = Bed::new().tuned("first", "stamp", json!({"direction": "both"}), own).route(&["first"]);
    bed.holding(16).run(async |started, worker| {
        let chains = open_all(&worker, 14).await;
        assert!(worker.try_open().await.is_err(), "it is full");
        for chain in &chains {
            hear(chain, "m").await;
            assert!(hear(chain, "m").await.contains("#2"));
        }
        let before = worker.instances.live();
        started.replace("first.wasm", "stamp-v2");
        until("it is live", || !Arc::ptr_eq(&before, &worker.instances.live())).await;
        drop(before);
        let moved = move_all(chains, &worker.instances.live().chain("main"), "#3").await;
        until("the old generation is gone", || started.status("first").generations.len() == 1).await;
        assert_eq!(counts(started, "first"), (14, 14));
        assert!(worker.try_open().await.is_err(), "it is full again");
        drop(moved);
    });
}

/// All at the same time; each keeps its state.
async fn move_all(chains: Vec<Chain>, to: &Arc<ChainSpec>, then: &'static str) -> Vec<Chain> {
    let moving = chains.into_iter().map(|chain| {
        let to = to.clone();
        tokio::task::spawn_local(async move {
            let Migration::Moved(chain) = chain.migrate(to).await else { panic!("it stayed") };
            assert!(hear(&chain, "m").await.contains(then), "with its state");
            chain
        })
    });
    join_all(moving.collect::<Vec<_>>()).await.into_iter().map(Result::unwrap).collect()
}

/// Each needs two new instances, and the room that is left is for two: if each of two sessions had one of them, both would
/// wait for ever.
#[test]
fn sessions_with_several_instances_do_not_block_each_other() {
    let waits = json!({"direction": "to_client", "modes": ["save:1", "resume-sleep:5"]});
    let counts = json!({"direction": "both"});
    let bed = Bed::new()
        .tuned("f0", "guest_faulty", waits.clone(), own)
        .tuned("f1", "stamp", counts.clone(), own)
        .tuned("f2", "guest_faulty", waits, own)
        .tuned("f3", "stamp", counts, own);
    bed.route(&["f0", "f1", "f2", "f3"]).holding(16).run(async |_, worker| {
        let limits = Bed::new().route(&[]).config.routes[0].limits;
        let live = worker.instances.live().chain("main");
        let spec = |from: usize| {
            let (first, second) = (&live.filters()[from], &live.filters()[from + 1]);
            let slots = vec![first.renamed("first").into(), second.renamed("second").into()];
            Arc::new(ChainSpec::new(slots, Vec::new(), &limits))
        };
        let (old, new) = (spec(0), spec(2));
        let mut chains = Vec::new();
        for _ in 0..7 {
            let request = Rc::new(opening_request());
            chains.push(Chain::open(worker.instances.clone(), old.clone(), request).await.unwrap().0);
        }
        let begin = Instant::now();
        move_all(chains, &new, "#1").await;
        assert!(begin.elapsed() < Duration::from_secs(5), "{:?}", begin.elapsed());
    });
}

#[test]
fn an_instance_takes_no_more_maps_than_are_counted_for_it() {
    for guest in ["redact", "guest_faulty"] {
        Bed::new().filter("counted", guest, json!({})).route(&["counted"]).run(async |_, worker| {
            let live = worker.instances.live().chain("main");
            let generation = &live.filters()[0];
            until("the first is made", || generation.instances.load(Ordering::Relaxed) == 1).await;
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
