//! Reloads while messages flow, and several workers at once.

use std::{
    cell::Cell,
    fs,
    rc::Rc,
    sync::{Arc, Barrier},
    thread,
    time::{Duration, Instant},
};

use serde_json::json;

use crate::filter::{
    Closer,
    test_support::{Bed, guest, hear, keep_compiled, say, until},
};
use crate::message::CloseFrame;

/// Builds of one filter that differ in nothing but their hash.
fn builds(of: &str, count: usize) -> Vec<Vec<u8>> {
    let bytes = fs::read(guest(of)).unwrap();
    (0..count)
        .map(|n| {
            let mut build = bytes.clone();
            // A custom section with a name of one byte.
            build.extend([0, 2, 1, b'a' + u8::try_from(n).unwrap()]);
            build
        })
        .collect()
}

#[test]
fn no_message_and_no_count_is_lost_over_many_reloads() {
    let bed = Bed::new()
        .filter("first", "guest_faulty", json!({}))
        .filter("stamp", "stamp", json!({}))
        .route(&["first", "stamp"]);
    let builds = builds("stamp", 2);
    bed.run(async |started, worker| {
        let (stop, worker) = (Rc::new(Cell::new(false)), Rc::new(worker));
        let mut sessions = Vec::new();
        for session in 0..50 {
            let (stop, worker) = (stop.clone(), worker.clone());
            sessions.push(tokio::task::spawn_local(async move {
                let mut chain = worker.open().await;
                let (mut sent, mut moves, mut worst) = (0_u64, 0, Duration::ZERO);
                while !stop.get() || !chain.is_settled(&worker.instances.live().chain("main")) {
                    if !chain.is_settled(&worker.instances.live().chain("main")) {
                        let begin = Instant::now();
                        moves += u32::from(worker.migrate(&mut chain).await);
                        worst = worst.max(begin.elapsed());
                    }
                    sent += 1;
                    assert_eq!(hear(&chain, "m").await, format!("pass m #{sent}"));
                    // A few flood, most speak now and then.
                    if session < 5 {
                        tokio::task::yield_now().await;
                    } else {
                        tokio::time::sleep(Duration::from_millis(session)).await;
                    }
                }
                assert_eq!(say(&chain, "resumed").await, "client opened");
                chain.close(Closer::Client, CloseFrame::new(1000, "")).await;
                (moves, worst)
            }));
        }
        for round in 0..20 {
            let before = worker.instances.live();
            if round % 4 == 3 {
                fs::write(started.path("stamp.wasm"), "broken").unwrap();
                until("it is refused", || started.status("stamp").error.is_some()).await;
            }
            fs::write(started.path(".new"), &builds[round % 2]).unwrap();
            fs::rename(started.path(".new"), started.path("stamp.wasm")).unwrap();
            until("it is live", || !Arc::ptr_eq(&before, &worker.instances.live())).await;
            keep_compiled(&worker.instances.live());
        }
        stop.set(true);
        let mut worst = Duration::ZERO;
        for session in sessions {
            let (moves, longest) = session.await.unwrap();
            assert!((15..=20).contains(&moves), "{moves}");
            worst = worst.max(longest);
        }
        println!("worst move: {worst:?}");
        until("only one generation is left", || started.status("stamp").generations.len() == 1).await;
        assert_eq!(started.faults("stamp", "error") + started.faults("stamp", "trap"), 0.0);
        let instances = started.status("stamp").generations[0].instances;
        assert_eq!((instances, started.status("first").generations[0].instances), (1, 1));
    });
}

#[test]
fn workers_do_not_disturb_each_other() {
    let bed = Bed::new().tuned("faulty", "guest_faulty", json!({}), |filter| {
        filter.cpu_timeout = Duration::from_millis(20);
        // Each loop comes from another client.
        filter.breaker_clients = None;
    });
    let started = bed.route(&["faulty"]).start();
    let together = Barrier::new(3);
    thread::scope(|scope| {
        for worker in 0..3 {
            let (started, together) = (&started, &together);
            scope.spawn(move || {
                started.run(async |_, it| {
                    let chain = it.open().await;
                    assert_eq!(say(&chain, "instance").await, "client instance opens=1 messages=1");
                    together.wait();
                    for count in 2..50_u8 {
                        if worker == 0 {
                            let chain = it.open_from([192, 0, 2, count]).await;
                            assert!(say(&chain, "spin").await.starts_with("close 1011"));
                        } else {
                            assert_eq!(say(&chain, "count").await, format!("client count {count}"));
                        }
                    }
                    together.wait();
                    // The worker's own, and one for the session of the first that has not spoken since.
                    let generation = &started.status("faulty").generations[0];
                    assert!((2..=3).contains(&generation.instances), "{generation:?}");
                    together.wait();
                });
            });
        }
    });
    assert_eq!(started.status("faulty").generations[0].instances, 0);
    assert_eq!(started.faults("faulty", "cpu_timeout"), 48.0);
}
