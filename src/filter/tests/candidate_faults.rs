//! Faults of a canary or a shadow are its own: the filter that serves, and clients of it, are not concerned.

use std::{fs, time::Duration};

use serde_json::json;

use crate::{
    config::{Candidate, Filter, Isolation},
    filter::{
        BreakerState, GenerationRole, NotAdmitted,
        control::Mode,
        test_support::{Bed, Started, Worker, guest, hear, say, until},
    },
};

/// `main` from `stamp`, which is asked about what goes to the client, and a candidate from `guest-faulty`, which obeys
/// what goes to the upstream.
fn with(tune: impl FnOnce(&mut Filter, Candidate), percent: u8) -> Bed {
    let bed = Bed::new();
    let file = bed.folder.path().join("candidate.wasm");
    fs::copy(guest("guest_faulty"), &file).unwrap();
    bed.tuned("main", "stamp", json!({}), |filter| tune(filter, Candidate { file, percent })).route(&["main"])
}

fn breaker(started: &Started, role: GenerationRole) -> BreakerState {
    started.status("main").generations.iter().find(|generation| generation.role == role).unwrap().breaker
}

fn opened(started: &Started, label: &str) -> f64 {
    let line = format!(r#"wsgate_filter_calls_total{{filter="{label}",hook="open",verdict="admit"}}"#);
    started.metric(&line).unwrap_or(0.0)
}

async fn trap_for(worker: &Worker, clients: std::ops::RangeInclusive<u8>) {
    for client in clients {
        say(&worker.open_from([192, 0, 2, client]).await, "trap").await;
    }
}

#[test]
fn a_shadow_that_keeps_failing_opens_its_own_breaker_alone() {
    with(|filter, shadow| filter.shadow = Some(shadow), 100).run(async |started, worker| {
        for client in 1..=3 {
            let chain = worker.open_from([192, 0, 2, client]).await;
            assert_eq!(say(&chain, "trap").await, "pass trap");
            until("the shadow trapped", || started.faults("main@shadow", "trap") >= f64::from(client)).await;
        }
        assert_eq!(breaker(started, GenerationRole::Shadow), BreakerState::Open);
        assert_eq!(breaker(started, GenerationRole::Serving), BreakerState::Closed);
        assert_eq!(started.metric(r#"wsgate_filter_breaker_open{filter="main"}"#), Some(0.0));
        assert_eq!(hear(&worker.open().await, "m").await, "pass m #1");
        let status = started.status("main");
        assert_eq!(status.faults.len(), 0, "{:?}", status.faults);
        let of_shadow = status.shadow.unwrap().candidate.faults;
        assert_eq!((of_shadow.len(), of_shadow[0].kind), (3, "trap"), "{of_shadow:?}");
    });
}

#[test]
fn no_client_is_refused_for_what_it_does_to_a_shadow() {
    let tune = |filter: &mut Filter, shadow| {
        filter.shadow = Some(shadow);
        filter.max_client_faults = Some(1);
    };
    with(tune, 100).run(async |started, worker| {
        for n in 1..=4 {
            let chain = worker.open().await;
            assert_eq!(say(&chain, "trap").await, "pass trap");
            let count = f64::from(n);
            until("the shadow trapped", || started.faults("main@shadow", "trap") >= count).await;
            assert_eq!((opened(started, "main"), opened(started, "main@shadow")), (count, count));
        }
    });
}

#[test]
fn a_canary_that_keeps_failing_is_not_called_and_the_filter_is() {
    with(|filter, canary| filter.canary = Some(canary), 50).run(async |started, worker| {
        trap_for(&worker, 1..=6).await;
        assert_eq!(breaker(started, GenerationRole::Canary), BreakerState::Open);
        assert_eq!(breaker(started, GenerationRole::Serving), BreakerState::Closed);
        let mut admitted = 0;
        for client in 101..=110 {
            match worker.try_open_from(([192, 0, 2, client], 1).into()).await {
                Ok((chain, _)) => {
                    assert_eq!(hear(&chain, "m").await, "pass m #1");
                    admitted += 1;
                }
                Err(refused) => assert!(matches!(refused, NotAdmitted::Capacity { .. }), "{refused:?}"),
            }
        }
        assert_eq!(admitted, 5);
        let status = started.status("main");
        assert_eq!(status.faults.len(), 0, "{:?}", status.faults);
        assert_eq!(status.canary.unwrap().faults[0].kind, "trap");
    });
}

#[test]
fn what_a_bypassed_filter_takes_over_counts_and_waits_for_the_breaker() {
    Bed::new().filter("main", "guest_faulty", json!({"modes": ["resume-trap"]})).route(&["main"]).run(
        async |started, worker| {
            started.catalogue.set_mode("main", Mode::Bypass).unwrap();
            let mut chains = Vec::new();
            for client in 1..=4 {
                chains.push(worker.open_from([192, 0, 2, client]).await);
            }
            started.catalogue.set_mode("main", Mode::Serve).unwrap();
            for chain in &chains {
                assert_eq!(say(chain, "forward").await, "close 1011 filter failed (main fault)");
            }
            assert_eq!(breaker(started, GenerationRole::Serving), BreakerState::Open);
            assert_eq!((started.faults("main", "trap"), started.faults("main", "breaker")), (3.0, 1.0));
        },
    );
}

#[test]
fn shadows_with_instances_of_their_own_leave_half_of_the_room() {
    let tune = |filter: &mut Filter, shadow| {
        filter.shadow = Some(shadow);
        filter.isolation = Isolation::Connection;
    };
    with(tune, 100).holding(16).run(async |started, worker| {
        let mut chains = Vec::new();
        for _ in 0..10 {
            chains.push(worker.open().await);
            let wanted = chains.len() as u64;
            until("the shadow opened or failed to", || {
                let shadow = started.status("main").shadow.unwrap();
                shadow.same + shadow.different + shadow.fault + shadow.skipped >= wanted
            })
            .await;
        }
        let generations = started.status("main").generations;
        let instances = |role| generations.iter().find(|generation| generation.role == role).unwrap().instances;
        assert_eq!((instances(GenerationRole::Serving), instances(GenerationRole::Shadow)), (10, 4));
    });
}

#[test]
fn a_worn_instance_of_a_shadow_is_replaced() {
    let tune = |filter: &mut Filter, shadow| {
        filter.shadow = Some(shadow);
        filter.recycle_after_calls = Some(100);
    };
    with(tune, 100).run(async |started, worker| {
        let chain = worker.open().await;
        let made = r#"wsgate_filter_calls_total{filter="main@shadow",hook="resume",verdict="ok"}"#;
        let end = std::time::Instant::now() + Duration::from_secs(20);
        while started.metric(made).is_none_or(|count| count < 1.0) {
            assert!(std::time::Instant::now() < end, "it was never replaced");
            say(&chain, "forward").await;
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    });
}
