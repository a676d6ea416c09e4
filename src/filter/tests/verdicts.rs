//! Every verdict, both ways, and what a filter may not answer.

use std::sync::Arc;

use serde_json::json;

use crate::{
    config::FailurePolicy,
    filter::{
        Chain, Identity,
        test_support::{Bed, hear, say, until, words},
    },
    message::{Direction, Kind, Message},
};

/// Runs a test with a chain of two silent filters around one that obeys commands.
fn obeying(test: impl AsyncFnOnce(Chain)) {
    let bed = Bed::new()
        .always("first", "forward")
        .filter("obeys", "guest_faulty", json!({"direction": "both"}))
        .always("last", "forward")
        .route(&["first", "obeys", "last"]);
    bed.run(async |_, worker| test(worker.open().await).await);
}

#[test]
fn verdicts_to_the_upstream() {
    obeying(async |chain| {
        assert_eq!(say(&chain, "hello").await, "pass hello");
        assert_eq!(say(&chain, "forward").await, "pass forward");
        assert_eq!(say(&chain, "replace:other").await, "pass other");
        assert_eq!(say(&chain, "drop").await, "");
        assert_eq!(say(&chain, "reply:no").await, "client no");
        assert_eq!(say(&chain, "close:4000:bye").await, "close 4000 bye (obeys)");
        assert_eq!(
            say(&chain, "act:client:a|upstream:b|client:c|close:4001:d|client:e").await,
            "client a, upstream b, client c, close 4001 d (obeys)"
        );
        assert_eq!(say(&chain, "replace-binary:3").await, "pass 3 binary bytes");
    });
}

#[test]
fn verdicts_to_the_client() {
    obeying(async |chain| {
        assert_eq!(hear(&chain, "hello").await, "pass hello");
        assert_eq!(hear(&chain, "replace:other").await, "pass other");
        assert_eq!(hear(&chain, "drop").await, "");
        assert_eq!(hear(&chain, "reply:no").await, "upstream no");
        assert_eq!(hear(&chain, "close:4000:bye").await, "close 4000 bye (obeys)");
        assert_eq!(hear(&chain, "act:upstream:a|client:b").await, "upstream a, client b");
    });
}

#[test]
fn a_code_that_cannot_be_sent_is_a_fault() {
    let bed = Bed::new().filter("obeys", "guest_faulty", json!({})).route(&["obeys"]);
    bed.run(async |started, worker| {
        let chain = worker.open().await;
        for code in [0, 999, 1004, 1005, 1006, 1015, 2999, 5000] {
            assert_eq!(say(&chain, &format!("close:{code}")).await, "close 1011 filter failed (obeys fault)", "{code}");
        }
        assert_eq!(started.faults("obeys", "verdict"), 8.0);
    });
}

#[test]
fn a_reason_is_cut_at_a_character() {
    obeying(async |chain| {
        let reason = "é".repeat(100);
        let kept = "é".repeat(61);
        assert_eq!(say(&chain, &format!("close:4000:{reason}")).await, format!("close 4000 {kept} (obeys)"));
    });
}

/// A chain of one filter that may route to five upstreams, behind whose own name it obeys.
fn routing(policy: FailurePolicy) -> Bed {
    let upstreams = ["a", "b", "c", "d", "e"].map(str::to_owned).to_vec();
    Bed::new()
        .tuned("routes", "guest_faulty", json!({"direction": "both"}), |filter| {
            filter.allow.upstreams = upstreams;
            filter.failure_policy = policy;
        })
        .filter("last", "stamp", json!({}))
        .route(&["routes", "last"])
}

#[test]
fn a_routed_message_passes_the_filters_that_follow() {
    routing(FailurePolicy::FailClosed).run(async |_, worker| {
        let chain = worker.open().await;
        assert_eq!(say(&chain, "route:a").await, "route a route:a");
        let commands = "act:client:x|upstream:y";
        assert_eq!(say(&chain, commands).await, "client x, upstream y");
        assert_eq!(say(&chain, "hello").await, "pass hello");
    });
    let bed = Bed::new()
        .tuned("first", "guest_faulty", json!({"mode": "always:route:a"}), |filter| {
            filter.allow.upstreams = vec!["a".to_owned()];
        })
        .filter("middle", "redact", json!({"patterns": ["[0-9]{4}"]}))
        .tuned("last", "guest_router", json!({}), |filter| filter.allow.upstreams = vec!["b".to_owned()])
        .route(&["first", "middle", "last"]);
    bed.run(async |_, worker| {
        let chain = worker.open().await;
        assert_eq!(say(&chain, "card 1234").await, "route a card [redacted]");
        assert_eq!(say(&chain, r#"{"to":"b"}"#).await, r#"route b {"to":"b"}"#, "the later filter wins");
    });
}

#[test]
fn a_filter_routes_only_where_it_may() {
    routing(FailurePolicy::FailClosed).run(async |started, worker| {
        let refused = "close 1011 filter failed (routes fault)";
        assert_eq!(say(&worker.open().await, "route:other").await, refused);
        assert_eq!(hear(&worker.open().await, "route:a").await, refused);
        assert_eq!(started.faults("routes", "verdict"), 2.0);
    });
    routing(FailurePolicy::FailOpen).run(async |_, worker| {
        assert_eq!(say(&worker.open().await, "route:other").await, "pass route:other");
    });
}

#[test]
fn a_connection_is_routed_to_four_upstreams_also_over_a_reload() {
    routing(FailurePolicy::FailClosed).run(async |started, worker| {
        let mut chain = worker.open().await;
        for upstream in ["a", "b", "a", "c"] {
            assert_eq!(say(&chain, &format!("route:{upstream}")).await, format!("route {upstream} route:{upstream}"));
        }
        started.replace("last.wasm", "guest_router");
        let old = worker.instances.live();
        until("the other filter is live", || !Arc::ptr_eq(&old, &worker.instances.live())).await;
        assert!(worker.migrate(&mut chain).await);
        assert_eq!(say(&chain, "route:d").await, "route d route:d");
        assert_eq!(say(&chain, "route:a").await, "route a route:a");
        assert_eq!(say(&chain, "route:e").await, "close 1011 filter failed (routes fault)");
    });
}

#[test]
fn a_million_actions_are_capped() {
    let bed = Bed::new()
        .tuned("obeys", "guest_faulty", json!({}), |filter| filter.failure_policy = FailurePolicy::FailOpen)
        .route(&["obeys"]);
    bed.run(async |started, worker| {
        let chain = worker.open().await;
        assert_eq!(say(&chain, "million:1000").await.matches("client x").count(), 1000);
        assert_eq!(say(&chain, "million:1001").await, "close 1011 filter failed (obeys fault)");
        assert_eq!(started.faults("obeys", "verdict"), 1.0);
        assert_eq!(say(&chain, "count").await, "client count 3");
    });
}

#[test]
fn replies_to_replies_end() {
    let bed = Bed::new().always("first", "reply:a").always("last", "reply:b").route(&["first", "last"]);
    bed.run(async |_, worker| {
        let chain = worker.open().await;
        // From the upstream: the last filter replies at once.
        assert_eq!(hear(&chain, "hello").await, "upstream b");
    });
    let bed = Bed::new()
        .filter("first", "guest_faulty", json!({"mode": "always:reply:a", "direction": "to_client"}))
        .filter("last", "guest_faulty", json!({"mode": "always:reply:b"}))
        .route(&["first", "last"]);
    bed.run(async |started, worker| {
        let chain = worker.open().await;
        let end = say(&chain, "hello").await;
        assert!(end.starts_with("close 1011 filter failed"), "{end}");
        assert_eq!(started.faults("first", "verdict") + started.faults("last", "verdict"), 1.0);
    });
}

#[test]
fn a_message_may_be_as_large_as_one_from_the_other_side() {
    obeying(async |chain| {
        assert_eq!(say(&chain, &format!("replace-size:{}", 1 << 20)).await, format!("pass {} bytes", 1 << 20));
        assert_eq!(
            say(&chain, &format!("replace-size:{}", (1 << 20) + 1)).await,
            "close 1011 filter failed (obeys fault)"
        );
        assert_eq!(say(&chain, &format!("reply-size:{}", 4 << 20)).await, format!("client {} bytes", 4 << 20));
        assert_eq!(
            say(&chain, &format!("reply-size:{}", (4 << 20) + 1)).await,
            "close 1011 filter failed (obeys fault)"
        );
    });
}

#[test]
fn what_no_filter_asked_for_passes_unseen() {
    let bed = Bed::new()
        .filter("redact", "redact", json!({"patterns": ["secret"], "direction": "to_client"}))
        .route(&["redact"]);
    bed.run(async |started, worker| {
        let chain = worker.open().await;
        assert!(chain.wants(Direction::ToClient, Kind::Text));
        assert!(!chain.wants(Direction::ToUpstream, Kind::Text));
        assert!(!chain.wants(Direction::ToClient, Kind::Binary));
        assert_eq!(say(&chain, "secret").await, "pass secret");
        let binary = Message::binary(b"secret".to_vec());
        assert_eq!(words(chain.on_message(Direction::ToClient, binary).await), "pass 6 binary bytes");
        assert_eq!(hear(&chain, "a secret").await, "pass a [redacted]");
        let calls = r#"wsgate_filter_duration_seconds_count{filter="redact",hook="on_message"}"#;
        assert_eq!(started.metric(calls), Some(1.0));
        let replaced = r#"wsgate_filter_calls_total{filter="redact",hook="on_message",verdict="replace"}"#;
        assert_eq!(started.metric(replaced), Some(1.0));
    });
}

#[test]
fn an_admission_narrows_the_interest_of_its_connection() {
    let bed = Bed::new().filter("narrow", "guest_faulty", json!({"mode": "narrow"})).route(&["narrow"]);
    bed.run(async |_, worker| {
        let chain = worker.open().await;
        assert!(!chain.wants(Direction::ToUpstream, Kind::Text));
        assert_eq!(say(&chain, "drop").await, "pass drop");
    });
}

#[test]
fn ticks_push_through_the_filters_before() {
    let bed = Bed::new()
        .filter("redact", "redact", json!({"patterns": ["tick"], "replacement": "tock"}))
        .filter("ticks", "guest_faulty", json!({"mode": "tick:20"}))
        .route(&["redact", "ticks"]);
    bed.run(async |_, worker| {
        let chain = worker.open().await;
        let due = chain.next_tick().unwrap();
        assert_eq!(words(chain.on_tick(due - std::time::Duration::from_millis(1)).await), "");
        assert_eq!(words(chain.on_tick(due).await), "client tock 1");
        assert_eq!(chain.next_tick(), Some(due + std::time::Duration::from_millis(20)));
    });
}

#[test]
fn deliveries_are_asked_for_and_pass_the_chain_to_the_client() {
    let bed = Bed::new()
        .filter("redact", "redact", json!({"patterns": ["secret"]}))
        .filter("topics", "guest_faulty", json!({"mode": "delivery"}))
        .route(&["redact", "topics"]);
    bed.run(async |_, worker| {
        let chain = worker.open().await;
        let delivered = chain.on_delivery("room", Message::text("a secret")).await;
        assert_eq!(words(delivered), "pass delivery room: a [redacted]");
    });
}

#[test]
fn a_refreshed_identity_reaches_those_who_ask() {
    let bed = Bed::new()
        .filter("redact", "redact", json!({"patterns": ["alice"]}))
        .filter("knows", "guest_faulty", json!({"mode": "identity"}))
        .filter("other", "guest_faulty", json!({}))
        .route(&["redact", "knows", "other"]);
    bed.run(async |started, worker| {
        let chain = worker.open().await;
        let identity = Identity {
            subject: Some("alice".to_owned()),
            scopes: vec!["a".to_owned(), "b".to_owned()],
            expires_at: Some(9),
            claims: "{}".to_owned(),
            ..Identity::default()
        };
        let told = words(chain.on_identity(identity.into()).await);
        assert_eq!(told, "client identity subject=[redacted] scopes=a,b expires=9");
        let calls = r#"wsgate_filter_duration_seconds_count{filter="other",hook="on_identity"}"#;
        assert_eq!(started.metric(calls), None);
    });
}
