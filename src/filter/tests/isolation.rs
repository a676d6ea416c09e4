//! The walls of the sandbox: WASI without rights, floods that are no faults.

use serde_json::json;

use crate::filter::test_support::{Bed, say};

#[test]
fn wasi_grants_nothing() {
    let bed = Bed::new().filter("probe", "guest_probe", json!({})).route(&["probe"]);
    bed.run(async |_, worker| {
        let chain = worker.open().await;
        assert_eq!(say(&chain, "all").await, "client fs:denied env:0 args:0 net:denied stdin:0");
    });
}

#[test]
fn a_gigabyte_of_random_is_a_fault() {
    let bed = Bed::new().filter("probe", "guest_probe", json!({})).route(&["probe"]);
    bed.run(async |started, worker| {
        let chain = worker.open().await;
        assert_eq!(say(&chain, "random:65536").await, "client random:65536");
        assert_eq!(say(&chain, "random").await, "close 1011 filter failed (probe fault)");
        assert_eq!(started.faults("probe", "trap"), 1.0);
    });
}

#[test]
fn wasi_resources_are_bounded() {
    let bed = Bed::new().filter("probe", "guest_probe", json!({})).route(&["probe"]);
    bed.run(async |started, worker| {
        let chain = worker.open().await;
        assert_eq!(say(&chain, "pollables:10").await, "client pollables:10");
        assert_eq!(say(&chain, "pollables").await, "close 1011 filter failed (probe fault)");
        assert_eq!(started.faults("probe", "handles"), 1.0);
    });
}

#[test]
fn floods_of_lines_and_metrics_are_no_faults() {
    let bed = Bed::new()
        .tuned("floods", "guest_faulty", json!({}), |filter| {
            filter.cpu_timeout = std::time::Duration::from_secs(20);
        })
        .route(&["floods"]);
    bed.run(async |started, worker| {
        let chain = worker.open().await;
        for flood in
            ["log-flood", "log-fields:1000", "stdout-flood", "stderr-flood", "stdout-big", "metric-flood:10000"]
        {
            assert_eq!(say(&chain, flood).await, format!("pass {flood}"));
        }
        assert_eq!(say(&chain, "resumed").await, "client opened");
        let refused = started.metric(r#"wsgate_filter_custom_refused_total{filter="floods"}"#).unwrap();
        assert!(refused > 9_000.0, "{refused}");
    });
}

#[test]
fn reasons_and_metrics_are_exported() {
    let bed = Bed::new()
        .filter("reasons", "guest_faulty", json!({}))
        .filter("redact", "redact", json!({"patterns": ["a"]}))
        .route(&["reasons", "redact"]);
    bed.run(async |started, worker| {
        let chain = worker.open().await;
        assert_eq!(say(&chain, "reason:bad_word").await, "pass re[redacted]son:b[redacted]d_word");
        let reason = r#"wsgate_filter_reasons_total{filter="reasons",reason="bad_word"}"#;
        assert_eq!(started.metric(reason), Some(1.0));
        let redactions = r#"wsgate_filter_custom_redactions_total{filter="redact",direction="to_upstream"}"#;
        assert_eq!(started.metric(redactions), Some(2.0));
    });
}

#[test]
fn memory_and_instances_are_counted() {
    let bed = Bed::new().filter("holds", "guest_faulty", json!({})).route(&["holds"]);
    bed.run(async |started, worker| {
        let chain = worker.open().await;
        let bytes = || started.metric(r#"wsgate_filter_memory_bytes{filter="holds"}"#).unwrap();
        let before = bytes();
        assert_eq!(say(&chain, "hold:10").await, "client held");
        assert!((10 << 20..12 << 20).contains(&((bytes() - before) as usize)));
        assert_eq!(started.metric(r#"wsgate_filter_instances{filter="holds"}"#), Some(1.0));
        assert_eq!(say(&chain, "trap").await, "close 1011 filter failed (holds fault)");
        assert_eq!(bytes(), 0.0);
        assert_eq!(started.metric(r#"wsgate_filter_instances{filter="holds"}"#), Some(0.0));
    });
}

#[test]
fn the_opening_request_reaches_the_guest_whole() {
    let bed = Bed::new().filter("tells", "guest_faulty", json!({})).route(&["tells"]);
    bed.run(async |_, worker| {
        let chain = worker.open().await;
        let outcome =
            chain.on_message(crate::message::Direction::ToUpstream, crate::message::Message::text("handshake"));
        let crate::filter::Outcome::Effects(effects) = outcome.await else { panic!() };
        let [crate::filter::Effect::Send(_, crate::message::Message::Text(text))] = &effects[..] else { panic!() };
        let told: serde_json::Value = serde_json::from_str(text).unwrap();
        let expected = json!({
            "connection": "c1", "route": "main", "host": "localhost", "path": "/", "parameters": {"room": "lobby"},
            "query": "a=b", "headers": [["x-test", "1"]], "subprotocols": ["chat"], "client": "192.0.2.1:1234",
            "secure": false, "client_certificate": null, "identity": null,
        });
        assert_eq!(told, expected);
    });
}
