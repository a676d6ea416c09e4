//! Every verdict, both ways, and what a filter may not answer.

use serde_json::json;

use crate::{
    config::FailurePolicy,
    filter::{
        Chain, Identity,
        test_support::{Bed, hear, say, words},
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

#[test]
fn routing_is_not_supported_and_says_so() {
    let tuned = |policy| {
        Bed::new().tuned("obeys", "guest_faulty", json!({}), |filter| filter.failure_policy = policy).route(&["obeys"])
    };
    tuned(FailurePolicy::FailClosed).run(async |started, worker| {
        assert_eq!(say(&worker.open().await, "route:other").await, "close 1011 filter failed (obeys fault)");
        assert_eq!(started.faults("obeys", "verdict"), 1.0);
    });
    tuned(FailurePolicy::FailOpen).run(async |_, worker| {
        assert_eq!(say(&worker.open().await, "route:other").await, "pass route:other");
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
