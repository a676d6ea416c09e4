//! What filters send to others: when it counts, when it does not, and what they may not do.

use std::{rc::Rc, sync::Arc};

use serde_json::{Value, json};

use crate::{
    config::{Allow, FailurePolicy, SessionLimits},
    filter::{
        Chain, Closer, NotAdmitted,
        test_support::{Bed, Started, Worker, opening_request, say, words},
    },
    message::{CloseFrame, Message},
    topic::{Doorbell, Hub, Mail, Postbox},
};

/// `guest-room` with rights to `room.*` and to send.
fn room(config: Value) -> Bed {
    allowed(config, Allow { topics: vec!["room.*".parse().unwrap()], send: true, ..Allow::default() })
}

fn allowed(config: Value, allow: Allow) -> Bed {
    Bed::new().tuned("room", "guest_room", config, |filter| filter.allow = allow).route(&["room"])
}

/// One connection, as the handshake makes it.
async fn open(started: &Started, worker: &Worker, id: &str, query: &str) -> (Postbox, Result<Chain, NotAdmitted>) {
    let limits = SessionLimits { upstream_max_payload_bytes: 1 << 10, ..SessionLimits::default() };
    let postbox = started.hub.enter(id, &limits, &Doorbell::new());
    let mut request = opening_request();
    request.connection = id.to_owned();
    request.parameters.clear();
    request.query = Some(query.to_owned());
    let spec = worker.instances.live().chain("main");
    let opened = Chain::open(worker.instances.clone(), spec, Rc::new(request)).await;
    (postbox, opened.map(|(chain, _)| chain))
}

/// Somebody who hears what is said in the lobby, and the chain of somebody who speaks there.
async fn two(started: &Started, worker: &Worker) -> (Postbox, Chain, Postbox) {
    let (hears, _) = open(started, worker, "hears", "").await;
    let (own, chain) = open(started, worker, "speaks", "alone").await;
    (hears, chain.unwrap(), own)
}

/// What waits, in words.
fn mail(postbox: &Postbox) -> Vec<String> {
    let text = |message: &Message| match message {
        Message::Text(text) => text.to_string(),
        Message::Binary(bytes) => format!("{} bytes", bytes.len()),
    };
    std::iter::from_fn(|| postbox.take())
        .map(|mail| match mail {
            Mail::Delivery { topic, message } => format!("{topic} {}", text(&message)),
            Mail::Push(message) => format!("push {}", text(&message)),
            Mail::Close(closed) => {
                format!("close {} {} {}", closed.frame.code_or_1005(), closed.frame.reason, closed.fault)
            }
            Mail::Overflow => "overflow".to_owned(),
        })
        .collect()
}

fn nothing() -> Vec<String> {
    Vec::new()
}

#[test]
fn what_a_call_sends_arrives_in_its_order() {
    room(json!({})).run(async |started, worker| {
        let (hears, chain, _own) = two(started, &worker).await;
        assert_eq!(say(&chain, "!send hears 1").await, "client ok");
        assert_eq!(say(&chain, "2").await, "");
        assert_eq!(say(&chain, "!close hears 4000 3").await, "client ok");
        assert_eq!(mail(&hears), ["push 1", "room.lobby 2", "close 4000 3 false"]);
    });
}

#[test]
fn a_trap_discards_what_its_call_sent_and_an_error_does_not() {
    room(json!({})).run(async |started, worker| {
        let (hears, chain, _own) = two(started, &worker).await;
        assert_eq!(say(&chain, "!trap room.lobby lost").await, "close 1011 filter failed (room fault)");
        assert_eq!(mail(&hears), nothing());
        assert_eq!(say(&chain, "!fail room.lobby kept").await, "close 1011 filter failed (room fault)");
        assert_eq!(mail(&hears), ["room.lobby kept"]);
    });
}

#[test]
fn a_refused_or_failed_handshake_sends_nothing() {
    room(json!({})).run(async |started, worker| {
        let (hears, _) = open(started, &worker, "hears", "").await;
        for query in ["refuse", "fault"] {
            let (postbox, opened) = open(started, &worker, "comes", query).await;
            assert!(opened.is_err());
            assert_eq!(mail(&hears), nothing(), "{query}");
            drop(postbox);
        }
        let (own, opened) = open(started, &worker, "comes", "greet").await;
        assert!(opened.is_ok());
        assert_eq!((mail(&hears), mail(&own)), (vec!["room.lobby joined".to_owned()], vec!["push welcome".to_owned()]));
    });
}

#[test]
fn a_handshake_whose_fault_is_open_sends_nothing_either() {
    let allow = Allow { topics: vec!["*".parse().unwrap()], send: true, ..Allow::default() };
    let bed = Bed::new().tuned("room", "guest_room", json!({}), |filter| {
        filter.allow = allow;
        filter.failure_policy = FailurePolicy::FailOpen;
    });
    bed.route(&["room"]).run(async |started, worker| {
        let (hears, _) = open(started, &worker, "hears", "").await;
        let (_own, opened) = open(started, &worker, "comes", "fault").await;
        assert!(opened.is_ok());
        assert_eq!(mail(&hears), nothing());
    });
}

#[test]
fn what_the_end_of_a_connection_sends_counts() {
    room(json!({ "leave": true })).run(async |started, worker| {
        let (hears, chain, own) = two(started, &worker).await;
        drop(own);
        chain.close(Closer::Client, CloseFrame::new(1000, "")).await;
        assert_eq!(mail(&hears), ["room.lobby left"]);
    });
}

#[test]
fn nothing_is_granted_by_itself() {
    allowed(json!({ "early": true }), Allow::default()).run(async |started, worker| {
        let (_own, opened) = open(started, &worker, "c", "alone").await;
        let chain = opened.unwrap();
        for call in [
            "!send c hello",
            "!close c 1000",
            "!publish room.lobby x",
            "!subscribe room.lobby",
            "!unsubscribe room.lobby",
        ] {
            assert_eq!(say(&chain, call).await, "client denied", "{call}");
        }
        // The canary and the worker's instance called `publish` in `init` before.
        let denied = r#"wsgate_filter_denied_total{filter="room",import="messaging"}"#;
        assert_eq!(started.metric(denied), Some(7.0));
    });
}

#[test]
fn a_right_is_for_its_topics_alone() {
    room(json!({ "early": true })).run(async |started, worker| {
        let (_hears, chain, _own) = two(started, &worker).await;
        for (call, answer) in [
            ("!publish room.x text", "ok"),
            ("!publish rooms text", "denied"),
            ("!subscribe room.x", "ok"),
            ("!subscribe other", "denied"),
            ("!unsubscribe other", "denied"),
            // No topic's name.
            ("!publish room.* text", "denied"),
            ("!subscribe room.\u{7f}", "denied"),
        ] {
            assert_eq!(say(&chain, call).await, format!("client {answer}"), "{call}");
        }
        assert_eq!(say(&chain, &format!("!subscribe room.{}", "x".repeat(260))).await, "client denied");
        // In `init` even a right that is granted is of no use.
        let denied = r#"wsgate_filter_denied_total{filter="room",import="messaging"}"#;
        assert_eq!(started.metric(denied), Some(8.0));
    });
}

#[test]
fn errors_are_told_at_once() {
    room(json!({})).run(async |started, worker| {
        let (hears, chain, _own) = two(started, &worker).await;
        for (call, answer) in [
            ("!send nobody hello", "not-found"),
            ("!close nobody 1000", "not-found"),
            ("!subscribe-other nobody room.x", "not-found"),
            ("!send-bytes hears 1024", "ok"),
            ("!send-bytes hears 1025", "too-large"),
            ("!publish-bytes room.lobby 1048576", "ok"),
            ("!publish-bytes room.lobby 1048577", "too-large"),
        ] {
            assert_eq!(say(&chain, call).await, format!("client {answer}"), "{call}");
        }
        assert_eq!(mail(&hears), ["push 1024 bytes"], "what is beyond the route's limit is not delivered");
        assert_eq!(started.metric(r#"wsgate_deliveries_total{result="too_large"}"#), Some(1.0));
        drop(hears);
        assert_eq!(say(&chain, "!send hears hello").await, "client not-found");
    });
}

#[test]
fn a_call_sends_only_so_much() {
    room(json!({})).run(async |started, worker| {
        let (hears, chain, _own) = two(started, &worker).await;
        assert_eq!(say(&chain, "!many 1000 room.lobby").await, "client ok 1000");
        assert_eq!(say(&chain, "!many 1001 room.lobby").await, "client queue-full 1000");
        let all = mail(&hears);
        assert_eq!((all.len(), all[1999].as_str()), (2000, "room.lobby 999"));
    });
}

#[test]
fn a_full_mailbox_is_told_to_who_sends() {
    room(json!({})).run(async |started, worker| {
        let (hears, chain, _own) = two(started, &worker).await;
        for _ in 0..5 {
            say(&chain, "!many 1000 room.lobby").await;
        }
        assert_eq!(say(&chain, "!send hears hello").await, "client queue-full");
        assert_eq!(mail(&hears).last().map(String::as_str), Some("overflow"));
    });
}

#[test]
fn subscriptions_of_a_connection_are_bounded() {
    room(json!({})).run(async |started, worker| {
        let (_own, opened) = open(started, &worker, "c", "alone").await;
        let chain = opened.unwrap();
        for number in 0..128 {
            assert_eq!(say(&chain, &format!("!subscribe room.{number}")).await, "client ok");
        }
        assert_eq!(say(&chain, "!subscribe room.128").await, "client queue-full");
        assert_eq!(say(&chain, "!subscribe room.5").await, "client ok", "it is subscribed already");
        assert_eq!(started.metric("wsgate_topic_subscriptions"), Some(128.0));
    });
}

#[test]
fn a_close_code_that_cannot_be_sent_is_a_fault_and_closes_with_1011() {
    room(json!({})).run(async |started, worker| {
        let (hears, chain, _own) = two(started, &worker).await;
        assert_eq!(say(&chain, "!close hears 1005 x").await, "client ok");
        assert_eq!(mail(&hears), ["close 1011 filter failed true"]);
        assert_eq!(started.faults("room", "verdict"), 1.0);
    });
}

#[test]
fn a_delivery_is_shown_to_those_who_asked_for_it_and_then_to_the_chain() {
    let allow = Allow { topics: vec!["*".parse().unwrap()], send: true, ..Allow::default() };
    let bed = Bed::new()
        .filter("first", "stamp", json!({ "key": "n" }))
        .tuned("room", "guest_room", json!({ "mark": "> " }), |filter| filter.allow = allow)
        .route(&["first", "room"]);
    bed.run(async |started, worker| {
        let (_own, opened) = open(started, &worker, "c", "").await;
        let chain = opened.unwrap();
        let delivered = chain.on_delivery("room.lobby", Message::text("hello")).await;
        assert_eq!(words(delivered), "pass > hello #1");
    });
}

#[test]
fn the_hub_forgets_connections_that_never_opened() {
    room(json!({})).run(async |started, worker| {
        let (postbox, opened) = open(started, &worker, "c", "refuse").await;
        assert!(opened.is_err());
        drop(postbox);
        let hub: &Arc<Hub> = &started.hub;
        assert!(hub.find("c").is_none());
        assert_eq!(started.metric("wsgate_topics"), Some(0.0));
    });
}
