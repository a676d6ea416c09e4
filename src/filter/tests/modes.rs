//! What an operator sets for a filter while it runs.

use serde_json::json;

use crate::{
    config::FailurePolicy,
    filter::{
        FilterState, Mode, NotAdmitted, OrderError,
        test_support::{Bed, Started, hear, say, words},
    },
    message::{Direction, Kind, Message},
};

fn mode_metric(started: &Started, filter: &str) -> Vec<&'static str> {
    let line = |mode: &Mode| format!(r#"wsgate_filter_mode{{filter="{filter}",mode="{mode}"}}"#);
    let is_set = |mode: &&Mode| started.metric(&line(mode)) == Some(1.0);
    Mode::ALL.iter().filter(is_set).map(|mode| mode.label()).collect()
}

#[test]
fn a_bypassed_filter_is_out_at_once_and_comes_back_with_what_it_had() {
    let bed = Bed::new().filter("stamp", "stamp", json!({})).filter("other", "guest_faulty", json!({}));
    bed.route(&["stamp", "other"]).run(async |started, worker| {
        let chain = worker.open().await;
        assert_eq!(hear(&chain, "m").await, "pass m #1");
        assert_eq!(started.catalogue.set_mode("stamp", Mode::Bypass).unwrap(), Mode::Serve);
        assert_eq!(hear(&chain, "m").await, "pass m");
        assert_eq!(say(&chain, "count").await, "client count 1", "its neighbours go on");
        assert_eq!((started.status("stamp").mode, started.status("stamp").state), (Mode::Bypass, FilterState::Serving));
        assert_eq!((mode_metric(started, "stamp"), mode_metric(started, "other")), (vec!["bypass"], vec!["serve"]));
        assert_eq!(started.catalogue.set_mode("stamp", Mode::Serve).unwrap(), Mode::Bypass);
        assert_eq!(hear(&chain, "m").await, "pass m #2");
        let unknown = started.catalogue.set_mode("unknown", Mode::Bypass);
        assert!(matches!(unknown, Err(OrderError::UnknownFilter)), "{unknown:?}");
    });
}

#[test]
fn a_connection_that_opened_meanwhile_is_taken_over_with_its_next_message() {
    Bed::new().filter("faulty", "guest_faulty", json!({})).route(&["faulty"]).run(async |started, worker| {
        started.catalogue.set_mode("faulty", Mode::Bypass).unwrap();
        let chain = worker.open().await;
        assert_eq!(say(&chain, "resumed").await, "pass resumed");
        assert!(!chain.wants(Direction::ToUpstream, Kind::Text));
        started.catalogue.set_mode("faulty", Mode::Serve).unwrap();
        assert!(chain.wants(Direction::ToUpstream, Kind::Text));
        assert_eq!(say(&chain, "resumed").await, "client resumed cause=added state=none");
        assert_eq!(say(&chain, "count").await, "client count 2");
    });
}

#[test]
fn it_may_close_a_connection_that_it_takes_over_and_hears_only_what_it_asked_for() {
    let bed = Bed::new().filter("closing", "guest_faulty", json!({"modes": ["resume-close:4003:not you"]})).filter(
        "narrow",
        "guest_faulty",
        json!({"modes": ["narrow"]}),
    );
    bed.route(&["closing", "narrow"]).run(async |started, worker| {
        for filter in ["closing", "narrow"] {
            started.catalogue.set_mode(filter, Mode::Bypass).unwrap();
        }
        let chain = worker.open().await;
        started.catalogue.set_mode("narrow", Mode::Serve).unwrap();
        assert_eq!(say(&chain, "replace:x").await, "pass replace:x");
        started.catalogue.set_mode("closing", Mode::Serve).unwrap();
        assert_eq!(say(&chain, "m").await, "close 4003 not you (closing)");
    });
}

#[test]
fn a_take_over_that_fails_is_a_fault_of_the_message() {
    for (policy, expected) in [
        (FailurePolicy::FailClosed, "close 1011 filter failed (faulty fault)"),
        (FailurePolicy::FailOpen, "pass replace:x"),
    ] {
        let modes = json!({"modes": ["resume-trap"]});
        let bed = Bed::new().tuned("faulty", "guest_faulty", modes, |filter| filter.failure_policy = policy);
        bed.route(&["faulty"]).run(async |started, worker| {
            started.catalogue.set_mode("faulty", Mode::Bypass).unwrap();
            let chain = worker.open().await;
            started.catalogue.set_mode("faulty", Mode::Serve).unwrap();
            assert_eq!(say(&chain, "replace:x").await, expected);
            assert_eq!(started.faults("faulty", "trap"), 1.0);
        });
    }
}

#[test]
fn a_refusing_filter_keeps_new_connections_out_and_closes_nothing() {
    Bed::new().filter("stamp", "stamp", json!({})).route(&["stamp"]).run(async |started, worker| {
        let chain = worker.open().await;
        started.catalogue.set_mode("stamp", Mode::Refuse).unwrap();
        match worker.try_open().await {
            Err(NotAdmitted::Closed { filter }) => assert_eq!(&*filter, "stamp"),
            other => panic!("{:?}", other.map(|_| ())),
        }
        assert_eq!(hear(&chain, "m").await, "pass m #1");
        started.catalogue.set_mode("stamp", Mode::Serve).unwrap();
        assert_eq!(hear(&worker.open().await, "m").await, "pass m #1");
    });
}

#[test]
fn deliveries_pass_a_bypassed_filter() {
    let bed = Bed::new().filter("faulty", "guest_faulty", json!({"modes": ["delivery"]})).route(&["faulty"]);
    bed.run(async |started, worker| {
        let chain = worker.open().await;
        let deliver = async || words(chain.on_delivery("news", Message::text("m")).await);
        assert_eq!(deliver().await, "pass delivery news: m");
        started.catalogue.set_mode("faulty", Mode::Bypass).unwrap();
        assert_eq!(deliver().await, "pass m");
    });
}

#[test]
fn ticks_stand_still_while_a_filter_is_bypassed() {
    let bed = Bed::new().filter("faulty", "guest_faulty", json!({"modes": ["tick:10"]})).route(&["faulty"]);
    bed.run(async |started, worker| {
        let chain = worker.open().await;
        assert!(chain.next_tick().is_some());
        started.catalogue.set_mode("faulty", Mode::Bypass).unwrap();
        assert!(chain.next_tick().is_none());
        started.catalogue.set_mode("faulty", Mode::Serve).unwrap();
        assert!(chain.next_tick().is_some());
    });
}
