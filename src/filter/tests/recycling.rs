//! Instances that are replaced because they made many calls, or took much memory.

use std::time::{Duration, Instant};

use serde_json::json;

use crate::{
    config::{Filter, Isolation},
    filter::{
        Chain, Closer,
        test_support::{Bed, Started, Worker, hear, say, until},
    },
    message::CloseFrame,
};

const PATIENCE: Duration = Duration::from_secs(20);

/// Speaks until its instance is to be replaced; answers how often.
async fn wear(chain: &Chain) -> usize {
    let mut said = 0;
    let deadline = Instant::now() + PATIENCE;
    while !chain.is_worn() {
        assert!(Instant::now() < deadline, "it is never replaced");
        said += 1;
        assert!(hear(chain, "m").await.starts_with(&format!("pass m #{said} ")));
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    said
}

async fn renew(chain: &mut Chain) -> bool {
    match chain.migrate(chain.spec().clone()).await {
        crate::filter::Migration::Moved(new) => {
            *chain = new;
            true
        }
        crate::filter::Migration::Kept => false,
        crate::filter::Migration::Close { frame, .. } => panic!("closed with {frame:?}"),
    }
}

fn instances(started: &Started, filter: &str) -> usize {
    started.status(filter).generations[0].instances
}

fn stamp(tune: impl FnOnce(&mut Filter)) -> Bed {
    let tune = |filter: &mut Filter| {
        filter.recycle_after_calls = Some(20);
        tune(filter);
    };
    Bed::new().tuned("stamp", "stamp", json!({"version": "v1", "show_version": true}), tune).route(&["stamp"])
}

#[test]
fn after_its_calls_an_instance_is_replaced_and_its_sessions_keep_their_state() {
    stamp(|_| {}).run(async |started, worker| {
        let (mut busy, mut silent) = (worker.open().await, worker.open().await);
        assert_eq!(hear(&silent, "m").await, "pass m #1 v1");
        let said = wear(&busy).await;
        assert!(said >= 10);
        assert!(silent.is_worn(), "it concerns all of its sessions");
        worker.instances.worn().await;
        // New sessions come into a fresh one.
        let newcomer = worker.open().await;
        assert!(!newcomer.is_worn());
        assert!(renew(&mut busy).await);
        assert_eq!(hear(&busy, "m").await, format!("pass m #{} v1", said + 1));
        assert_eq!(instances(started, "stamp"), 2, "one session is still there");
        assert!(renew(&mut silent).await);
        assert_eq!(hear(&silent, "m").await, "pass m #2 v1");
        until("the old instance is gone", || instances(started, "stamp") == 1).await;
        assert!(![&busy, &silent, &newcomer].iter().any(|chain| chain.is_worn()));
    });
}

#[test]
fn an_instance_of_a_single_session_is_replaced_too() {
    stamp(|filter| filter.isolation = Isolation::Connection).run(async |started, worker| {
        let (mut busy, other) = (worker.open().await, worker.open().await);
        let said = wear(&busy).await;
        assert!(!other.is_worn());
        assert!(renew(&mut busy).await);
        assert_eq!(hear(&busy, "m").await, format!("pass m #{} v1", said + 1));
        until("the old instance is gone", || instances(started, "stamp") == 2).await;
    });
}

fn holding(modes: &[&str]) -> Bed {
    let tune = |filter: &mut Filter| {
        filter.recycle_above_bytes = Some(8 << 20);
        filter.cpu_timeout = Duration::from_secs(10);
    };
    Bed::new().tuned("holds", "guest_faulty", json!({"modes": modes}), tune).route(&["holds"])
}

fn bytes(started: &Started) -> f64 {
    started.metric(r#"wsgate_filter_memory_bytes{filter="holds"}"#).unwrap()
}

/// Takes memory until the instance is to be replaced.
async fn grow(worker: &Worker) -> Chain {
    let chain = worker.open().await;
    assert_eq!(say(&chain, "hold:10").await, "client held");
    let deadline = Instant::now() + PATIENCE;
    while !chain.is_worn() {
        assert!(Instant::now() < deadline, "it is never replaced");
        tokio::time::sleep(Duration::from_millis(20)).await;
        assert_eq!(say(&chain, "log:more").await, "pass log:more");
    }
    chain
}

#[test]
fn memory_that_a_guest_once_took_is_given_back() {
    holding(&["save:3"]).run(async |started, worker| {
        let mut chain = grow(&worker).await;
        assert!(bytes(started) > 10e6);
        assert!(renew(&mut chain).await);
        assert_eq!(say(&chain, "resumed").await, "client resumed cause=reload state=3");
        until("its memory is given back", || bytes(started) < 8e6).await;
        assert!(!chain.is_worn());
    });
}

#[test]
fn a_session_that_cannot_leave_stays_and_is_not_asked_again() {
    for mode in ["resume-keep", "resume-trap"] {
        holding(&[mode]).run(async |started, worker| {
            let mut chain = grow(&worker).await;
            assert!(!renew(&mut chain).await, "{mode}");
            assert!(!chain.is_worn(), "{mode}");
            assert_eq!(say(&chain, "resumed").await, "client opened", "{mode}");
            assert!(bytes(started) > 10e6);
            chain.close(Closer::Client, CloseFrame::new(1000, "")).await;
            until("with its last session the instance goes", || bytes(started) < 8e6).await;
        });
    }
}
