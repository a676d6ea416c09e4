//! Another version of a filter for a share of the connections: as a canary it serves them, as a shadow it only watches.

use std::{
    collections::BTreeMap,
    fs,
    time::{Duration, Instant},
};

use futures_util::{SinkExt, StreamExt, stream};
use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::Message;

use crate::support::{Gateway, SOON, Setup, load, until, upstream::ECHO, wire::Wire};

const CONNECTIONS: usize = 2_000;

fn with_candidate(from: &str, candidate: &str, kind: &str, percent: usize, config: &str) -> Gateway {
    let setup = Setup::new().guest("filters/main.wasm", from).guest("next/main.wasm", candidate);
    let table = format!(
        "[filters.main]\nconfig = {{ {config} }}\n{kind} = {{ file = \"next/main.wasm\", percent = {percent} }}"
    );
    setup.start(&format!("{ECHO}\nfilters = [\"main\"]\n{table}\n"))
}

/// What one message on each of so many connections, one after the other, comes to.
fn answers(gateway: &Gateway, connections: usize) -> BTreeMap<String, usize> {
    let address = gateway.address();
    let answers = load::run(async move {
        let one = async |_| {
            let mut socket = load::open(address, "/echo").await;
            socket.send(Message::text("m")).await.unwrap();
            let answer = socket.next().await.unwrap().unwrap().into_text().unwrap().to_string();
            socket.close(None).await.unwrap();
            answer
        };
        stream::iter(0..connections).map(one).buffer_unordered(32).collect::<Vec<_>>().await
    });
    let mut counts = BTreeMap::new();
    for answer in answers {
        *counts.entry(answer).or_default() += 1;
    }
    counts
}

fn say(wire: &mut Wire, text: &str) -> String {
    wire.text(text);
    wire.next_text()
}

#[test]
fn a_canary_gets_its_share_of_two_thousand_connections() {
    let gateway = with_candidate("stamp", "stamp-v2", "canary", 5, "show_version = true");
    let counts = answers(&gateway, CONNECTIONS);
    let canary = counts["m #1 v2"];
    assert_eq!(canary + counts["m #1 v1"], CONNECTIONS, "{counts:?}");
    assert!((97..=103).contains(&canary), "{canary} of {CONNECTIONS}");
    let main = gateway.filter("main");
    assert_eq!((&main["canary"]["percent"], &main["canary"]["state"]), (&json!(5), &json!("serving")), "{main}");
    let role = |role: &str| main["generations"].as_array().unwrap().iter().find(|one| one["role"] == role).cloned();
    assert_ne!(role("canary").unwrap()["sha256"], role("serving").unwrap()["sha256"]);
    let opened = |filter: &str| {
        gateway
            .metrics()
            .sum("wsgate_filter_calls_total", &[("filter", filter), ("hook", "open"), ("verdict", "admit")])
    };
    assert_eq!((opened("main@canary") as usize, opened("main") as usize), (canary, CONNECTIONS - canary));

    // Without its file, its share goes back to the filter.
    fs::remove_file(gateway.folder().path("next/main.wasm")).unwrap();
    until("the canary is missing", SOON, || gateway.filter("main")["canary"]["state"] == "missing");
    assert_eq!(answers(&gateway, 100), BTreeMap::from([("m #1 v1".to_owned(), 100)]));
}

#[test]
fn a_canarys_connections_stay_with_it_over_reloads_of_the_filter() {
    let gateway = with_candidate("stamp", "stamp-v2", "canary", 50, "show_version = true");
    let mut open: Vec<_> = (0..10).map(|_| Wire::open(gateway.address(), "/echo")).collect();
    let first: Vec<_> = open.iter_mut().map(|wire| say(wire, "m")).collect();
    assert!((4..=6).contains(&first.iter().filter(|said| said.ends_with("v2")).count()), "{first:?}");
    let before = gateway.filter("main")["generation"].clone();
    let mut other = crate::support::guest("stamp");
    other.extend([0, 2, 1, b'x']);
    gateway.folder().publish("filters/main.wasm", &other);
    until("the filter is another one", SOON, || gateway.filter("main")["generation"] != before);
    for (wire, first) in open.iter_mut().zip(first) {
        assert_eq!(say(wire, "m"), first.replace("#1", "#2"));
    }
}

fn shadow(gateway: &Gateway) -> Value {
    gateway.filter("main")["shadow"].clone()
}

fn compared(gateway: &Gateway, results: &[&str]) -> u64 {
    let shadow = shadow(gateway);
    results.iter().map(|result| shadow[result].as_u64().unwrap()).sum()
}

#[test]
fn a_shadow_finds_a_planted_difference_and_no_client_sees_it() {
    let gateway = with_candidate("stamp", "stamp-v2", "shadow", 100, "show_version = true");
    let mut wire = Wire::open(gateway.address(), "/echo");
    for number in 1..=50 {
        assert_eq!(say(&mut wire, "secret words"), format!("secret words #{number} v1"));
    }
    until("each answer is compared", SOON, || compared(&gateway, &["different"]) == 50);
    let found = shadow(&gateway);
    assert_eq!((&found["fault"], &found["skipped"], &found["same"]), (&json!(0), &json!(0), &json!(1)), "{found}");
    let last = &found["differences"][0];
    let expected = "secret words #50 v".len();
    assert_eq!((&last["hook"], &last["direction"]), (&json!("on_message"), &json!("to_client")), "{last}");
    assert_eq!(
        (&last["serving"]["verdict"], &last["shadow"]["bytes"]),
        (&json!("replace"), &json!(expected + 1)),
        "{last}"
    );
    assert_eq!(last["first_differing_byte"], expected, "{last}");
    assert_eq!(found["differences"].as_array().unwrap().len(), 20, "the last ones are kept");
    assert!(!found.to_string().contains("secret"), "{found}");
    let line = gateway.wait_log(&["shadow of a filter would have done another thing", "main"]);
    assert!(!line.contains("secret"), "{line}");
    gateway.wait_metric("wsgate_filter_shadow_total", &[("filter", "main"), ("result", "different")], 50.0);
    // Its session ends with the connection's.
    wire.close(1000, "");
    drop(wire);
    let sessions = || -> u64 {
        let filter = gateway.filter("main");
        filter["generations"].as_array().unwrap().iter().map(|one| one["sessions"].as_u64().unwrap()).sum()
    };
    until("nothing is left", SOON, || sessions() == 0);
}

#[test]
fn a_shadow_that_agrees_says_so_about_its_share_alone() {
    let gateway = with_candidate("stamp", "stamp", "shadow", 25, "");
    let counts = answers(&gateway, 200);
    assert_eq!(counts, BTreeMap::from([("m #1".to_owned(), 200)]));
    // Opening and one message each.
    until("all are compared", SOON, || compared(&gateway, &["same"]) >= 98);
    assert!((98..=102).contains(&compared(&gateway, &["same"])), "{}", shadow(&gateway));
    assert_eq!(compared(&gateway, &["different", "fault", "skipped"]), 0, "{}", shadow(&gateway));
}

#[test]
fn a_shadow_that_traps_or_spins_harms_no_client() {
    for command in ["trap", "spin", "grow", "sleep:60000", "panic"] {
        let gateway = with_candidate("stamp", "guest_faulty", "shadow", 100, "direction = \"both\"");
        let mut wire = Wire::open(gateway.address(), "/echo");
        let mut neighbour = Wire::open(gateway.address(), "/echo");
        let mut worst = Duration::ZERO;
        for number in 1..=20 {
            // stamp numbers it both ways, its shadow would obey.
            assert_eq!(say(&mut wire, command), format!("{command} #{number} #{number}"));
            let asked = Instant::now();
            assert_eq!(say(&mut neighbour, "m"), format!("m #{number} #{number}"));
            worst = worst.max(asked.elapsed());
        }
        println!("figure: {command}: worst round trip of the neighbour {worst:.1?}");
        assert!(worst < Duration::from_secs(1), "{command}: {worst:?}");
        until("its faults are counted", SOON, || compared(&gateway, &["fault"]) > 0);
        let faults = |filter| gateway.metrics().sum("wsgate_filter_faults_total", &[("filter", filter)]);
        assert_eq!(faults("main"), 0.0, "{command}");
        assert!(faults("main@shadow") > 0.0, "{command}");
        wire.close(1000, "");
        assert_eq!(wire.next_close().0, 1000, "{command}");
        assert_eq!(say(&mut Wire::open(gateway.address(), "/echo"), "m"), "m #1 #1", "{command}");
    }
}
