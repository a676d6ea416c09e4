//! What is on record of a fault.

use serde_json::json;

use crate::filter::test_support::{Bed, say};

#[test]
fn a_fault_is_on_record_with_its_place_in_the_guest_and_without_the_message() {
    let bed = Bed::new().filter("faulty", "guest_faulty", json!({})).route(&["faulty"]);
    bed.run(async |started, worker| {
        let (chain, other) = (worker.open().await, worker.open().await);
        say(&chain, "recurse").await;
        say(&other, "error:no such room").await;
        let status = started.status("faulty");
        let [error, stack] = &status.faults[..] else { panic!("{:?}", status.faults) };
        assert_eq!((stack.hook, stack.kind, &*stack.connection), ("on_message", "stack", "c1"));
        assert_eq!((stack.direction, stack.message_bytes), (Some("to_upstream"), Some("recurse".len())));
        assert_eq!(Some(&stack.generation), status.generation.as_ref());
        assert!(stack.trace.iter().any(|frame| frame == "guest_faulty::fault::recurse"), "{:?}", stack.trace);
        assert!(stack.at_unix_ms > 1_700_000_000_000);
        assert_eq!((error.kind, &*error.cause, error.trace.len()), ("error", "no such room", 0));
        assert!(error.at_unix_ms >= stack.at_unix_ms);
    });
}

#[test]
fn a_panic_shows_where_it_came_from() {
    let bed = Bed::new().filter("faulty", "guest_faulty", json!({})).route(&["faulty"]);
    bed.run(async |started, worker| {
        say(&worker.open().await, "panic:told to").await;
        let trace = &started.status("faulty").faults[0].trace;
        assert!(trace.iter().any(|frame| frame.contains("guest_faulty::")), "{trace:?}");
        assert!(!trace.iter().any(|frame| frame.starts_with("_R") || frame.starts_with("_ZN")), "{trace:?}");
    });
}

#[test]
fn only_the_last_faults_are_kept_and_a_reload_keeps_them() {
    let bed = Bed::new().filter("faulty", "guest_faulty", json!({})).route(&["faulty"]);
    bed.run(async |started, worker| {
        let chain = worker.open().await;
        for n in 0..50 {
            say(&chain, &format!("error:{n}")).await;
        }
        let causes: Vec<_> = started.status("faulty").faults.into_iter().map(|fault| fault.cause).collect();
        assert_eq!(causes, (34..50).rev().map(|n| n.to_string()).collect::<Vec<_>>());
        started.replace("faulty.wasm", "stamp");
        crate::filter::test_support::until("another generation serves", || {
            started.status("faulty").generations.len() == 2
        })
        .await;
        assert_eq!(started.status("faulty").faults.len(), 16);
    });
}
