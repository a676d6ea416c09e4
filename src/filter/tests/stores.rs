//! Stores, from a guest's side.

use std::{sync::Arc, thread};

use serde_json::json;

use crate::{
    config::Store,
    filter::{
        Chain,
        test_support::{Bed, Started, say, until},
    },
};

fn bed(filters: &[(&str, &[&str])]) -> Bed {
    let mut bed = Bed::new();
    for (name, stores) in filters {
        bed = bed.tuned(name, "guest_store", json!({}), |filter| {
            filter.allow.key_value = stores.iter().map(|store| (*store).to_owned()).collect();
        });
    }
    bed.route(&filters.iter().map(|(name, _)| *name).collect::<Vec<_>>())
}

/// What the filter answers.
async fn ask(chain: &Chain, text: &str) -> String {
    say(chain, text).await.trim_start_matches("client ").to_owned()
}

fn denied(started: &Started, filter: &str) -> Option<f64> {
    started.metric(&format!(r#"wsgate_filter_denied_total{{filter="{filter}",import="key-value"}}"#))
}

#[test]
fn a_guest_reads_what_it_wrote() {
    bed(&[("a", &["s"])]).run(async |_, worker| {
        let chain = worker.open().await;
        assert_eq!(ask(&chain, "get s k").await, "absent");
        let version = ask(&chain, "set s k one").await;
        assert_eq!(ask(&chain, "get s k").await, format!("one@{version}"));
        assert_eq!(ask(&chain, "cas s k absent two").await, "false");
        assert_eq!(ask(&chain, &format!("cas s k {version} two")).await, "true");
        assert_eq!(ask(&chain, &format!("cas s k {version} three")).await, "false");
        assert!(ask(&chain, "get s k").await.starts_with("two@"));
        assert_eq!(ask(&chain, "delete s k").await, "done");
        assert_eq!(ask(&chain, "delete s k").await, "done");
        assert_eq!(ask(&chain, "get s k").await, "absent");
        assert_eq!(ask(&chain, "add s n -2").await, "-2");
        assert_eq!(ask(&chain, "add s n 44").await, "42");
        assert!(ask(&chain, "get s n").await.starts_with("42@"));
    });
}

#[test]
fn what_is_not_allowed_is_denied_counted_and_logged() {
    let bed = bed(&[("a", &["s"])]);
    let lines = super::logs::lines(bed, async |started, worker| {
        let chain = worker.open().await;
        for call in ["get other k", "set S k v", "cas other k 1 v", "delete other k", "add other\u{1b}[31m n 1"] {
            assert_eq!(ask(&chain, call).await, "denied", "{call}");
        }
        assert_eq!(denied(started, "a"), Some(5.0));
        assert_eq!(ask(&chain, "get s k").await, "absent");
    });
    assert_eq!(lines.len(), 5, "{lines:#?}");
    for part in ["filter=\"a\"", "import=\"key-value\"", "asked=\"other\"", "connection=\"c1\""] {
        assert!(lines[0].contains(part), "{part} in {}", lines[0]);
    }
    assert!(lines[4].contains(r"other\\u{1b}[31m"), "{}", lines[4]);
}

#[test]
fn denials_without_end_do_not_flood_the_log() {
    let lines = super::logs::lines(bed(&[("a", &[])]), async |started, worker| {
        let chain = worker.open().await;
        for _ in 0..2_000 {
            assert_eq!(ask(&chain, "get s k").await, "denied");
        }
        assert_eq!(denied(started, "a"), Some(2_000.0));
    });
    assert!((100..300).contains(&lines.len()), "{}", lines.len());
}

#[test]
fn filters_share_a_store_that_both_may_use() {
    let bed = Bed::new();
    let allow = |stores: &'static [&str]| {
        move |filter: &mut crate::config::Filter| {
            filter.allow.key_value = stores.iter().map(|store| (*store).to_owned()).collect();
        }
    };
    let bed = bed.tuned("a", "guest_store", json!({}), allow(&["shared", "a"]));
    let bed = bed.tuned("b", "guest_store", json!({}), allow(&["shared"]));
    let started = bed.route(&["a"]).route_named("second", &["b"]).start();
    started.run(async |_, worker| {
        let (a, b) = (worker.open().await, worker.open_on("second").await);
        assert_eq!(ask(&a, "add shared n 1").await, "1");
        assert_eq!(ask(&b, "add shared n 1").await, "2");
        assert_eq!(ask(&b, "get a k").await, "denied");
    });
}

#[test]
fn several_workers_count_together() {
    const WORKERS: usize = 4;
    const EACH: usize = 500;
    let started = bed(&[("a", &["s"])]).start();
    thread::scope(|scope| {
        for _ in 0..WORKERS {
            scope.spawn(|| {
                started.run(async |_, worker| {
                    let chain = worker.open().await;
                    for _ in 0..EACH {
                        assert!(ask(&chain, "add s n 1").await.parse::<usize>().is_ok());
                    }
                });
            });
        }
    });
    started.run(async |_, worker| {
        assert_eq!(ask(&worker.open().await, "add s n 0").await, (WORKERS * EACH).to_string());
    });
}

#[test]
fn a_store_outlives_the_generations_of_its_filters() {
    bed(&[("a", &["s"])]).run(async |started, worker| {
        let chain = worker.open().await;
        let _ = ask(&chain, "set s k kept").await;
        drop(chain);
        let before = started.status("a").generation;
        started.replace("a.wasm", "guest_reason");
        until("another generation is live", || started.status("a").generation != before).await;
        started.replace("a.wasm", "guest_store");
        until("the first is back", || started.status("a").generation == before).await;
        let live = || started.catalogue.subscribe().borrow().clone();
        until("the worker has it", || Arc::ptr_eq(&worker.instances.live(), &live())).await;
        let chain = worker.open().await;
        assert!(ask(&chain, "get s k").await.starts_with("kept@"));
    });
}

#[test]
fn errors_are_values() {
    let mut bed = bed(&[("a", &["s"])]);
    bed.config.stores.insert("s".to_owned(), Store { max_size_bytes: 64 << 10 });
    bed.run(async |started, worker| {
        let chain = worker.open().await;
        assert_eq!(ask(&chain, "fill s k 1048577").await, "too-large");
        assert_eq!(ask(&chain, &format!("get s {}", "k".repeat(1025))).await, "too-large");
        assert_eq!(ask(&chain, "get s ").await, "invalid: the key is empty");
        assert_eq!(ask(&chain, "set s k v 0").await, "invalid: ttl-ms is 0");
        let _ = ask(&chain, "set s k v").await;
        assert!(ask(&chain, "add s k 1").await.starts_with("invalid: the value is not a number"));
        assert!(ask(&chain, "fill s big 65000").await.parse::<u64>().is_err());
        assert!(ask(&chain, "fill s big 65536").await.starts_with("unavailable: the store is full"));
        assert_eq!(started.metric("wsgate_store_entries{store=\"s\"}"), Some(1.0));
    });
}

#[test]
fn a_time_to_live_is_kept() {
    bed(&[("a", &["s"])]).run(async |started, worker| {
        let chain = worker.open().await;
        let _ = ask(&chain, "set s k v 30").await;
        assert_eq!(ask(&chain, "add s n 1 30").await, "1");
        let entries = || started.metric("wsgate_store_entries{store=\"s\"}");
        until("both are gone, without being asked for", || entries() == Some(0.0)).await;
        assert_eq!(ask(&chain, "get s k").await, "absent");
        assert_eq!(ask(&chain, "add s n 1").await, "1");
    });
}
