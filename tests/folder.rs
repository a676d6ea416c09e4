//! Files dropped, replaced, removed and broken while connections stay open.

use std::{
    fs, thread,
    time::{Duration, Instant},
};

use crate::support::{Gateway, SOON, Setup, guest, until, upstream::ECHO, wire::Wire};

const FOLDER: &str = "filters_folder = \"chat.d\"\nremoval_grace = \"1s\"";

fn say(wire: &mut Wire, text: &str) -> String {
    wire.text(text);
    wire.next_text()
}

/// Waits until this filter serves another generation than before.
fn published(gateway: &Gateway, filter: &str, before: &serde_json::Value) {
    let what = format!("{filter} is published");
    until(&what, SOON, || {
        let now = gateway.filter(filter);
        now["state"] == "serving" && now["generation"] != *before
    });
}

#[test]
fn a_file_dropped_into_the_folder_joins_open_connections() {
    let setup = Setup::new();
    fs::create_dir(setup.path("chat.d")).unwrap();
    let gateway = setup.start(&format!("{ECHO}\n{FOLDER}"));
    let mut wire = Wire::open(gateway.address(), "/echo");
    assert_eq!(say(&mut wire, "card 4111111111111111"), "card 4111111111111111");
    gateway.folder().publish("chat.d/20-redact.wasm", &guest("redact"));
    until("redact serves", SOON, || {
        let filters = gateway.filters();
        filters.as_array().unwrap().iter().any(|filter| filter["name"] == "redact" && filter["state"] == "serving")
    });
    assert_eq!(say(&mut wire, "card 4111111111111111"), "card [redacted]");
}

#[test]
fn files_of_a_folder_run_in_the_order_of_their_names() {
    let setup = Setup::new().guest("chat.d/20-faulty.wasm", "guest_faulty").guest("chat.d/10-stamp.wasm", "stamp");
    let stamp = "[filters.stamp]\nconfig = { direction = \"to_upstream\" }";
    let gateway = setup.start(&format!("{ECHO}\n{FOLDER}\n{stamp}"));
    let mut wire = Wire::open(gateway.address(), "/echo");
    // First stamped, so that it is no command any more.
    assert_eq!(say(&mut wire, "drop"), "drop #1");
}

#[test]
fn a_removed_file_is_taken_out_after_removal_grace() {
    let setup = Setup::new().guest("chat.d/10-redact.wasm", "redact").guest("chat.d/20-stamp.wasm", "stamp");
    let gateway = setup.start(&format!("{ECHO}\n{FOLDER}"));
    let mut wire = Wire::open(gateway.address(), "/echo");
    assert_eq!(say(&mut wire, "card 4111111111111111"), "card [redacted] #1");
    fs::remove_file(gateway.folder().path("chat.d/10-redact.wasm")).unwrap();
    let removed = Instant::now();
    let mut number = 1;
    until("redact is taken out", SOON, || {
        number += 1;
        let answer = say(&mut wire, "card 4111111111111111");
        assert!(answer.ends_with(&format!("#{number}")), "stamp keeps counting: {answer}");
        !answer.contains("[redacted]")
    });
    let after = removed.elapsed();
    assert!(after >= Duration::from_millis(900), "taken out after {after:?} already");
}

#[test]
fn a_file_that_comes_back_within_the_grace_was_never_away() {
    let setup = Setup::new().guest("chat.d/10-redact.wasm", "redact").guest("chat.d/20-stamp.wasm", "stamp");
    let gateway = setup.start(&format!("{ECHO}\n{FOLDER}"));
    let mut wire = Wire::open(gateway.address(), "/echo");
    let file = gateway.folder().path("chat.d/10-redact.wasm");
    let away = gateway.folder().path("away.wasm");
    fs::rename(&file, &away).unwrap();
    thread::sleep(Duration::from_millis(300));
    fs::rename(&away, &file).unwrap();
    let back = Instant::now();
    while back.elapsed() < Duration::from_secs(2) {
        assert!(say(&mut wire, "card 4111111111111111").contains("[redacted]"));
        thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn an_emptied_folder_changes_nothing() {
    let setup = Setup::new().guest("chat.d/10-redact.wasm", "redact");
    let gateway = setup.start(&format!("{ECHO}\n{FOLDER}"));
    let mut wire = Wire::open(gateway.address(), "/echo");
    fs::remove_file(gateway.folder().path("chat.d/10-redact.wasm")).unwrap();
    let removed = Instant::now();
    while removed.elapsed() < Duration::from_secs(3) {
        assert_eq!(say(&mut wire, "card 4111111111111111"), "card [redacted]");
        thread::sleep(Duration::from_millis(20));
    }
    let mut fresh = Wire::open(gateway.address(), "/echo");
    assert_eq!(say(&mut fresh, "card 4111111111111111"), "card [redacted]");
}

#[test]
fn a_required_filter_cannot_be_removed() {
    let setup = Setup::new().guest("chat.d/10-redact.wasm", "redact").guest("chat.d/20-stamp.wasm", "stamp");
    let gateway = setup.start(&format!("{ECHO}\n{FOLDER}\nrequired_filters = [\"redact\"]"));
    let mut wire = Wire::open(gateway.address(), "/echo");
    fs::remove_file(gateway.folder().path("chat.d/10-redact.wasm")).unwrap();
    gateway.wait_metric("wsgate_filter_missing", &[("filter", "redact")], 1.0);
    thread::sleep(Duration::from_millis(1500));
    assert!(say(&mut wire, "card 4111111111111111").contains("[redacted]"));
}

#[test]
fn the_very_next_message_of_an_open_connection_meets_the_new_code() {
    let setup = Setup::new().guest("filters/stamp.wasm", "stamp");
    let stamp = "[filters.stamp]\nconfig = { show_version = true }";
    let gateway = setup.start(&format!("{ECHO}\nfilters = [\"stamp\"]\n{stamp}"));
    let mut open: Vec<Wire> = (0..4).map(|_| Wire::open(gateway.address(), "/echo")).collect();
    for (number, (guest_name, version)) in
        [("stamp", "v1"), ("stamp-v2", "v2"), ("stamp", "v1"), ("stamp-v2", "v2")].into_iter().enumerate()
    {
        if number > 0 {
            let before = gateway.filter("stamp")["generation"].clone();
            gateway.folder().publish("filters/stamp.wasm", &guest(guest_name));
            published(&gateway, "stamp", &before);
        }
        for wire in &mut open {
            assert_eq!(say(wire, "m"), format!("m #{} {version}", number + 1));
        }
    }
}

#[test]
fn new_patterns_in_a_replaced_filter_hold_for_open_connections() {
    let setup = Setup::new().guest("filters/redact.wasm", "guest_faulty");
    let gateway = setup.start(&format!("{ECHO}\nfilters = [\"redact\"]"));
    let mut wire = Wire::open(gateway.address(), "/echo");
    assert_eq!(say(&mut wire, "card 4111111111111111"), "card 4111111111111111");
    let before = gateway.filter("redact")["generation"].clone();
    gateway.folder().publish("filters/redact.wasm", &guest("redact"));
    published(&gateway, "redact", &before);
    assert_eq!(say(&mut wire, "card 4111111111111111"), "card [redacted]");
}

#[test]
fn a_broken_file_leaves_the_old_filter_serving_and_says_so_everywhere() {
    let setup = Setup::new().guest("filters/stamp.wasm", "stamp");
    let gateway = setup.start(&format!("{ECHO}\nfilters = [\"stamp\"]"));
    let mut wire = Wire::open(gateway.address(), "/echo");
    let before = gateway.filter("stamp")["generation"].clone();
    let half = guest("stamp-v2");
    let greeter = guest("guest_wrong_world");
    let broken: [(&str, &[u8]); 4] = [
        ("garbage", b"garbage"),
        ("half of one", &half[..half.len() / 2]),
        ("another world", &greeter),
        ("empty", b""),
    ];
    for (number, (what, bytes)) in broken.into_iter().enumerate() {
        gateway.folder().publish("filters/stamp.wasm", bytes);
        let failed = [("filter", "stamp"), ("result", "error")];
        until(what, SOON, || gateway.metrics().sum("wsgate_filter_reloads_total", &failed) > number as f64);
        let status = gateway.filter("stamp");
        assert_eq!((&status["state"], &status["generation"]), (&"failed".into(), &before), "{what}: {status}");
        assert!(status["error"].as_str().is_some_and(|error| !error.is_empty()), "{status}");
        assert_eq!(say(&mut wire, "m"), format!("m #{}", number + 1), "{what}");
    }
    gateway.wait_log(&["ERROR", "stamp", "last good one serves on"]);
    assert_eq!(crate::support::http::get(gateway.admin(), "/readyz").status, 200);
    // A good file puts it right, the counter goes on.
    gateway.folder().publish("filters/stamp.wasm", &guest("stamp-v2"));
    published(&gateway, "stamp", &before);
    assert!(gateway.filter("stamp")["error"].is_null());
    assert_eq!(say(&mut wire, "m"), "m #5");
}

#[test]
fn a_file_written_in_place_slowly_is_loaded_once_it_is_whole() {
    let setup = Setup::new().guest("filters/stamp.wasm", "stamp");
    let stamp = "[filters.stamp]\nconfig = { show_version = true }";
    let gateway = setup.start(&format!("{ECHO}\nfilters = [\"stamp\"]\n{stamp}"));
    let mut wire = Wire::open(gateway.address(), "/echo");
    let mut file = fs::File::create(gateway.folder().path("filters/stamp.wasm")).unwrap();
    let mut sent = 0;
    for part in guest("stamp-v2").chunks(40_000) {
        std::io::Write::write_all(&mut file, part).unwrap();
        sent += 1;
        assert_eq!(say(&mut wire, "m"), format!("m #{sent} v1"));
        thread::sleep(Duration::from_millis(100));
    }
    drop(file);
    until("v2 serves", SOON, || {
        sent += 1;
        let answer = say(&mut wire, "m");
        assert!(answer.starts_with(&format!("m #{sent} v")), "{answer}");
        answer.ends_with("v2")
    });
}

#[test]
fn a_named_filter_whose_file_vanishes_keeps_serving() {
    let setup = Setup::new().guest("filters/stamp.wasm", "stamp");
    let gateway = setup.start(&format!("{ECHO}\nfilters = [\"stamp\"]"));
    let mut wire = Wire::open(gateway.address(), "/echo");
    fs::remove_file(gateway.folder().path("filters/stamp.wasm")).unwrap();
    gateway.wait_metric("wsgate_filter_missing", &[("filter", "stamp")], 1.0);
    assert_eq!(say(&mut wire, "m"), "m #1");
    let mut fresh = Wire::open(gateway.address(), "/echo");
    assert_eq!(say(&mut fresh, "m"), "m #1");
    until("the filter is listed as missing", SOON, || gateway.filter("stamp")["state"] == "missing");
    gateway.folder().publish("filters/stamp.wasm", &guest("stamp"));
    gateway.wait_metric("wsgate_filter_missing", &[("filter", "stamp")], 0.0);
    assert_eq!(say(&mut wire, "m"), "m #2");
}

#[test]
fn under_pin_open_connections_stay_and_new_ones_take_the_new_code() {
    let setup = Setup::new().guest("filters/stamp.wasm", "stamp");
    let stamp = "[filters.stamp]\non_reload = \"pin\"\nconfig = { show_version = true }";
    let gateway = setup.start(&format!("{ECHO}\nfilters = [\"stamp\"]\n{stamp}"));
    let mut old = Wire::open(gateway.address(), "/echo");
    let before = gateway.filter("stamp")["generation"].clone();
    gateway.folder().publish("filters/stamp.wasm", &guest("stamp-v2"));
    published(&gateway, "stamp", &before);
    let mut new = Wire::open(gateway.address(), "/echo");
    assert_eq!([say(&mut old, "m"), say(&mut new, "m")], ["m #1 v1", "m #1 v2"]);
    // The old generation goes with its last session.
    drop(old);
    until("the old generation is freed", SOON, || {
        gateway.filter("stamp")["generations"].as_array().unwrap().len() == 1
    });
}

#[test]
fn the_new_code_is_handed_the_state_that_the_old_one_saved() {
    let setup = Setup::new().guest("filters/stamp.wasm", "stamp");
    let gateway = setup.start(&format!("{ECHO}\nfilters = [\"stamp\"]"));
    let mut wire = Wire::open(gateway.address(), "/echo");
    let before = gateway.filter("stamp")["generation"].clone();
    gateway.folder().publish("filters/stamp.wasm", &guest("guest_faulty"));
    published(&gateway, "stamp", &before);
    let saved = "1 {\"to_upstream\":0,\"to_client\":0}".len();
    assert_eq!(say(&mut wire, "resumed"), format!("resumed cause=reload state={saved}"));
}
