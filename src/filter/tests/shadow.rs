//! A candidate that is asked and never obeyed.

use std::{fs, time::Duration};

use serde_json::{Value, json};

use crate::{
    config::{Allow, Candidate},
    filter::{
        Closer, ShadowStatus,
        test_support::{Bed, Started, guest, hear, say, until},
    },
    message::CloseFrame,
};

/// `main` from this guest, with a shadow from another.
fn with_shadow(from: &str, shadow: &str, percent: u8, config: Value) -> Bed {
    let bed = Bed::new();
    let file = bed.folder.path().join("main-v3.wasm");
    fs::copy(guest(shadow), &file).unwrap();
    let tune = |filter: &mut crate::config::Filter| {
        filter.shadow = Some(Candidate { file, percent });
        filter.cpu_timeout = Duration::from_millis(20);
    };
    bed.tuned("main", from, config, tune).route(&["main"])
}

fn shadow(started: &Started) -> ShadowStatus {
    started.status("main").shadow.unwrap()
}

async fn until_compared(started: &Started, count: u64) -> ShadowStatus {
    let compared = || {
        let shadow = shadow(started);
        shadow.same + shadow.different + shadow.fault + shadow.skipped
    };
    until("it is compared", || compared() >= count).await;
    assert_eq!(compared(), count);
    shadow(started)
}

#[test]
fn a_planted_difference_is_found_and_applied_to_nobody() {
    with_shadow("stamp", "stamp-v2", 100, json!({"show_version": true})).run(async |started, worker| {
        let chain = worker.open().await;
        for n in 1..=3 {
            assert_eq!(hear(&chain, "hello").await, format!("pass hello #{n} v1"));
        }
        let found = until_compared(started, 4).await;
        assert_eq!((found.same, found.different, found.fault, found.skipped), (1, 3, 0, 0), "the open is the same");
        let last = &found.differences[0];
        assert_eq!((last.connection.as_str(), last.hook, last.direction), ("c1", "on_message", Some("to_client")));
        assert_eq!((last.serving.verdict, last.serving.bytes), ("replace", 11));
        assert_eq!((last.shadow.verdict, last.first_differing_byte, last.missed), ("replace", Some(10), 0));
        let text = serde_json::to_string(&found).unwrap();
        assert!(!text.contains("hello"), "{text}");
        let counted = r#"wsgate_filter_shadow_total{filter="main",result="different"}"#;
        assert_eq!(started.metric(counted), Some(3.0));
        let calls = r#"wsgate_filter_calls_total{filter="main@shadow",hook="on_message",verdict="replace"}"#;
        assert_eq!(started.metric(calls), Some(3.0));
    });
}

#[test]
fn the_same_code_does_the_same_and_counts_as_such() {
    with_shadow("stamp", "stamp", 100, json!({})).run(async |started, worker| {
        let chain = worker.open().await;
        for n in 1..=20 {
            assert_eq!(hear(&chain, "m").await, format!("pass m #{n}"));
        }
        // Neither of the two is asked about these.
        assert_eq!(say(&chain, "m").await, "pass m");
        let found = until_compared(started, 21).await;
        assert_eq!(found.same, 21, "{found:?}");
    });
}

#[test]
fn a_shadow_hears_what_the_filter_did_not_ask_for() {
    // stamp asks for what goes to the client, guest-faulty for what goes to the upstream.
    with_shadow("stamp", "guest_faulty", 100, json!({})).run(async |started, worker| {
        let chain = worker.open().await;
        assert_eq!(say(&chain, "forward").await, "pass forward");
        assert_eq!(say(&chain, "replace:x").await, "pass replace:x");
        assert_eq!(hear(&chain, "m").await, "pass m #1");
        let found = until_compared(started, 4).await;
        // What they ask for differs, and so their answers to the opening request.
        let differences: Vec<_> =
            found.differences.iter().map(|found| (found.serving.verdict, found.shadow.verdict)).collect();
        assert_eq!(differences, [("replace", "forward"), ("forward", "replace")]);
        assert_eq!(found.same, 2);
    });
}

#[test]
fn its_share_is_of_the_connections_beside_the_canarys() {
    let mut bed = with_shadow("stamp", "stamp", 20, json!({}));
    let file = bed.folder.path().join("main-v2.wasm");
    fs::copy(guest("stamp-v2"), &file).unwrap();
    bed.config.filters.get_mut("main").unwrap().canary = Some(Candidate { file, percent: 50 });
    bed.run(async |started, worker| {
        let mut open = Vec::new();
        for _ in 0..100 {
            open.push(worker.open().await);
        }
        let opened = || shadow(started).same;
        until("the shadows are opened", || opened() >= 19).await;
        assert!((19..=21).contains(&opened()), "{}", opened());
    });
}

#[test]
fn a_shadow_that_traps_or_spins_changes_nothing() {
    let config = json!({"direction": "both"});
    for command in ["trap", "spin", "grow", "exit", "error"] {
        // The shadow obeys the commands, stamp does not.
        let bed = with_shadow("stamp", "guest_faulty", 100, config.clone());
        bed.run(async |started, worker| {
            let chain = worker.open().await;
            let neighbour = worker.open().await;
            for n in 1..=5 {
                assert_eq!(hear(&chain, command).await, format!("pass {command} #{n}"));
                assert_eq!(hear(&neighbour, "m").await, format!("pass m #{n}"));
            }
            let found = until_compared(started, 12).await;
            let failed = if command == "error" { found.different } else { found.fault };
            assert!(failed >= 5, "{command}: {found:?}");
            assert_eq!(started.status("main").generations[0].instances, 1);
            let faults = |name| {
                ["trap", "cpu_timeout", "memory", "stack"].map(|kind| started.faults(name, kind)).iter().sum::<f64>()
            };
            assert_eq!(faults("main"), 0.0, "{command}");
            assert_eq!(faults("main@shadow"), found.fault as f64, "{command}");
        });
    }
}

#[test]
fn a_shadow_that_is_too_slow_misses_messages_and_says_so() {
    with_shadow("stamp", "guest_faulty", 100, json!({"direction": "both"})).run(async |started, worker| {
        let chain = worker.open().await;
        until_compared(started, 1).await;
        // stamp numbers it, its shadow obeys.
        assert_eq!(hear(&chain, "sleep:1000").await, "pass sleep:1000 #1");
        for n in 2..=401 {
            assert_eq!(hear(&chain, "m").await, format!("pass m #{n}"));
        }
        let found = until_compared(started, 402).await;
        // The first may be under way or wait with the others.
        assert!((144..=145).contains(&found.skipped), "{found:?}");
        assert_eq!(found.differences[0].missed, found.skipped);
    });
}

#[test]
fn what_waits_for_a_slow_shadow_is_bounded_by_its_bytes() {
    with_shadow("stamp", "guest_faulty", 100, json!({"direction": "both"})).run(async |started, worker| {
        let chain = worker.open().await;
        assert_eq!(hear(&chain, "sleep:1000").await, "pass sleep:1000 #1");
        let big = "x".repeat(600 << 10);
        for _ in 0..4 {
            // With the answer it is more than the mark.
            assert_eq!(hear(&chain, &big).await, format!("pass {} bytes", big.len() + 3));
        }
        let found = until_compared(started, 6).await;
        assert_eq!(found.skipped, 3, "{found:?}");
    });
}

#[test]
fn what_it_keeps_for_a_session_moves_to_its_next_version() {
    with_shadow("stamp", "stamp", 100, json!({})).run(async |started, worker| {
        let mut chain = worker.open().await;
        for n in 1..=3 {
            assert_eq!(hear(&chain, "m").await, format!("pass m #{n}"));
        }
        until_compared(started, 4).await;
        for (file, letter) in [("main-v3.wasm", b'x'), ("main.wasm", b'y')] {
            let before = worker.instances.live();
            let mut bytes = fs::read(started.path(file)).unwrap();
            bytes.extend([0, 2, 1, letter]);
            started.write(file, &bytes);
            until("it is live", || !std::ptr::eq(&*before, &*worker.instances.live())).await;
            assert!(worker.migrate(&mut chain).await, "{file}");
        }
        for n in 4..=6 {
            assert_eq!(hear(&chain, "m").await, format!("pass m #{n}"));
        }
        assert_eq!(until_compared(started, 7).await.same, 7);
        until("the older ones are gone", || started.status("main").generations.len() == 2).await;
        // Taken away, it is asked no more.
        let before = worker.instances.live();
        fs::remove_file(started.path("main-v3.wasm")).unwrap();
        until("it is live", || !std::ptr::eq(&*before, &*worker.instances.live())).await;
        assert!(worker.migrate(&mut chain).await);
        assert_eq!(hear(&chain, "m").await, "pass m #7");
        assert_eq!(until_compared(started, 7).await.same, 7);
    });
}

#[test]
fn it_has_no_rights_and_what_it_reports_is_marked_or_dropped() {
    let mut bed = with_shadow("stamp", "guest_faulty", 100, json!({"direction": "both"}));
    bed.config.filters.get_mut("main").unwrap().allow.upstreams = vec!["billing".to_owned()];
    bed.run(async |started, worker| {
        let live = worker.instances.live().chain("main");
        let slot = &live.slots()[0];
        assert_eq!(slot.main.settings().allow.upstreams, ["billing"]);
        assert_eq!(slot.shadow.as_ref().unwrap().generation.settings().allow, Allow::default());
        let chain = worker.open().await;
        for command in ["reason:why", "metric-flood:1"] {
            assert!(hear(&chain, command).await.starts_with("pass "));
        }
        until_compared(started, 3).await;
        let families = started.families();
        let of = |part: &str, filter: &str| {
            let filter = format!("filter=\"{filter}\"");
            families.lines().any(|line| line.contains(part) && line.contains(&filter))
        };
        assert!(of("filter_custom", "main@shadow") && !of("filter_custom", "main"), "{families}");
        assert!(!of("filter_reasons", "main@shadow") && !of("filter_reasons", "main"), "{families}");
    });
}

#[test]
fn a_refusal_is_compared_and_the_end_is_heard() {
    let bed = with_shadow("guest_faulty", "guest_faulty", 100, json!({"mode": "refuse:403:not you"}));
    bed.run(async |started, worker| {
        assert!(worker.try_open().await.is_err());
        assert_eq!(until_compared(started, 1).await.same, 1);
    });
    with_shadow("guest_faulty", "guest_faulty", 100, json!({})).run(async |started, worker| {
        let chain = worker.open().await;
        assert_eq!(say(&chain, "forward").await, "pass forward");
        chain.close(Closer::Client, CloseFrame::new(1000, "")).await;
        let heard = r#"wsgate_filter_calls_total{filter="main@shadow",hook="on_close",verdict="ok"}"#;
        until("the shadow heard of the end", || started.metric(heard) == Some(1.0)).await;
        let released =
            || started.status("main").generations.iter().map(|generation| generation.sessions).sum::<usize>();
        until("nothing is left of it", || released() == 0).await;
        assert_eq!(until_compared(started, 2).await.same, 2);
    });
}
