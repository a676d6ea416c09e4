//! Admission: merged answers, refusals, faults, rights.

use serde_json::json;

use crate::{
    config::FailurePolicy,
    filter::{
        Closer, NotAdmitted,
        test_support::{Bed, say, until},
    },
    message::CloseFrame,
};

fn modes(modes: &[&str]) -> serde_json::Value {
    json!({ "modes": modes })
}

#[test]
fn admissions_are_merged_and_the_later_filter_wins() {
    let bed = Bed::new()
        .filter(
            "first",
            "guest_faulty",
            modes(&[
                "upstream-header:x-a:1",
                "upstream-header:x-b:1",
                "subprotocol:one",
                "tag:t:1",
                "client-header:x-c:1",
            ]),
        )
        .filter(
            "last",
            "guest_faulty",
            modes(&[
                "upstream-header:x-a:2",
                "subprotocol:two",
                "tag:t:2",
                "remove-upstream-header:x-b",
                "client-header:host:x",
            ]),
        )
        .route(&["first", "last"]);
    bed.run(async |_, worker| {
        let (_chain, admission) = worker.try_open().await.unwrap();
        assert_eq!(admission.upstream_headers.set, [("x-a".parse().unwrap(), "2".parse().unwrap())]);
        assert_eq!(admission.upstream_headers.remove, ["x-b"]);
        assert_eq!(admission.client_headers.set, [("x-c".parse().unwrap(), "1".parse().unwrap())]);
        assert_eq!(admission.subprotocol.as_deref(), Some("two"));
        assert_eq!(admission.tags, [("t".to_owned(), "2".to_owned())]);
    });
}

#[test]
fn a_refusal_releases_those_that_had_admitted() {
    let bed = Bed::new()
        .filter("first", "guest_faulty", json!({}))
        .filter("last", "guest_faulty", modes(&["refuse:403:go away"]))
        .route(&["first", "last"]);
    bed.run(async |started, worker| {
        match worker.try_open().await {
            Err(NotAdmitted::Refused { filter, status, headers, body }) => {
                assert_eq!((&*filter, status.as_u16(), body.as_slice()), ("last", 403, b"go away".as_slice()));
                assert_eq!(headers, [("x-refused-by".parse().unwrap(), "faulty".parse().unwrap())]);
            }
            other => panic!("{:?}", other.map(|_| ())),
        }
        until("the first filter is released", || {
            started.status("first").generations[0].sessions == 0 && started.status("last").generations[0].sessions == 0
        })
        .await;
        let heard = r#"wsgate_filter_calls_total{filter="first",hook="on_close",verdict="ok"}"#;
        assert_eq!(started.metric(heard), Some(1.0));
        let released = r#"wsgate_filter_calls_total{filter="first",hook="release",verdict="ok"}"#;
        assert_eq!(started.metric(released), Some(1.0));
    });
}

#[test]
fn a_refusal_status_outside_400_to_599_becomes_500() {
    let bed = Bed::new().filter("refuses", "guest_faulty", modes(&["refuse:200:ok"])).route(&["refuses"]);
    bed.run(async |_, worker| match worker.try_open().await {
        Err(NotAdmitted::Refused { status, .. }) => assert_eq!(status.as_u16(), 500),
        other => panic!("{:?}", other.map(|_| ())),
    });
}

#[test]
fn a_fault_in_open_follows_the_failure_policy() {
    for mode in ["open-trap", "open-spin"] {
        let with = |policy| {
            Bed::new()
                .tuned("faulty", "guest_faulty", modes(&[mode]), |filter| filter.failure_policy = policy)
                .route(&["faulty"])
        };
        with(FailurePolicy::FailClosed).run(async |_, worker| {
            assert!(matches!(worker.try_open().await, Err(NotAdmitted::Fault { .. })), "{mode}");
        });
        with(FailurePolicy::FailOpen).run(async |_, worker| {
            // The filter comes in with the first message, by `resume`, which this guest does not spoil.
            assert_eq!(say(&worker.open().await, "resumed").await, "client resumed cause=fault state=none", "{mode}");
        });
    }
}

#[test]
fn an_upstream_has_to_be_allowed() {
    let choosing = |allowed: &[&str]| {
        let allowed = allowed.iter().map(|name| (*name).to_owned()).collect();
        Bed::new()
            .tuned("chooses", "guest_faulty", modes(&["upstream:billing"]), |filter| filter.allow.upstreams = allowed)
            .route(&["chooses"])
    };
    choosing(&[]).run(async |started, worker| {
        assert!(matches!(worker.try_open().await, Err(NotAdmitted::Fault { .. })));
        assert_eq!(started.faults("chooses", "verdict"), 1.0);
    });
    choosing(&["billing"]).run(async |_, worker| {
        assert_eq!(worker.try_open().await.unwrap().1.upstream.as_deref(), Some("billing"));
    });
}

#[test]
fn a_handshake_that_is_given_up_leaves_nothing_behind() {
    let bed = Bed::new().filter("slow", "guest_faulty", modes(&["open-sleep:30"])).route(&["slow"]);
    bed.run(async |started, worker| {
        let gave_up = tokio::time::timeout(std::time::Duration::from_millis(5), worker.try_open()).await;
        assert!(gave_up.is_err());
        until("the session is released", || started.status("slow").generations[0].sessions == 0).await;
        assert_eq!(started.faults("slow", "trap"), 0.0);
        // The instance lives, and nothing of the first connection is in it.
        assert_eq!(say(&worker.open().await, "instance").await, "client instance opens=2 messages=1");
    });
}

#[test]
fn sessions_are_released_at_the_end_and_fill_further_instances() {
    let bed = Bed::new()
        .tuned("counted", "guest_faulty", json!({}), |filter| filter.max_sessions_per_instance = 10)
        .route(&["counted"]);
    bed.run(async |started, worker| {
        let generation = || started.status("counted").generations[0].clone();
        for _ in 0..3 {
            let mut chains = Vec::new();
            for _ in 0..35 {
                chains.push(worker.open().await);
            }
            assert_eq!((generation().sessions, generation().instances), (35, 4));
            for chain in chains {
                chain.close(Closer::Client, CloseFrame::new(1000, "")).await;
            }
            assert_eq!((generation().sessions, generation().instances), (0, 1));
        }
    });
}

#[test]
fn a_chain_that_is_dropped_releases_its_sessions_with_the_next_connection() {
    let bed = Bed::new()
        .tuned("counted", "guest_faulty", json!({}), |filter| filter.max_sessions_per_instance = 10)
        .route(&["counted"]);
    bed.run(async |started, worker| {
        for _ in 0..1_000 {
            drop(worker.open().await);
        }
        assert_eq!(started.status("counted").generations[0].instances, 1);
        let released = r#"wsgate_filter_calls_total{filter="counted",hook="release",verdict="ok"}"#;
        assert_eq!(started.metric(released), Some(999.0));
    });
}

#[test]
fn an_instance_serves_any_number_of_connections_one_after_the_other() {
    let bed = Bed::new()
        .tuned("served", "guest_faulty", json!({}), |filter| filter.max_sessions_per_instance = 10)
        .route(&["served"]);
    bed.run(async |started, worker| {
        // Some 140 handles are allowed: leaving must give them back.
        for round in 1..=400 {
            let chain = worker.open().await;
            if round % 100 == 0 {
                let said = say(&chain, "instance").await;
                assert_eq!(said, format!("client instance opens={round} messages={}", round / 100));
            }
            chain.close(Closer::Client, CloseFrame::new(1000, "")).await;
        }
        assert_eq!(started.faults("served", "handles"), 0.0);
        assert_eq!(started.status("served").generations[0].instances, 1);
    });
}
