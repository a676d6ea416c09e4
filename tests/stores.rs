//! Stores and reasons: what filters share, and what they say of their decisions.

use crate::support::{
    Setup, http,
    upstream::ECHO,
    wire::{self, Wire},
};

fn say(wire: &mut Wire, text: &str) -> String {
    wire.text(text);
    wire.next_text()
}

#[test]
fn connections_of_all_workers_share_a_store_and_no_other() {
    let setup = Setup::new().guest("filters/store.wasm", "guest_store");
    let filter = "[filters.store]\nallow = { key_value = [\"shared\"] }\n[stores.shared]\nmax_size = \"64KiB\"";
    let gateway = setup.start(&format!("[server]\nworkers = 2\n{ECHO}\nfilters = [\"store\"]\n{filter}"));
    let mut clients: Vec<Wire> = (0..8).map(|_| Wire::open(gateway.address(), "/echo")).collect();
    for round in 0..50 {
        for (number, client) in clients.iter_mut().enumerate() {
            assert_eq!(say(client, "add shared visits 1"), (round * 8 + number + 1).to_string());
        }
    }
    assert_eq!(say(&mut clients[0], "get other visits"), "denied");
    gateway.wait_log(&["denied", "filter=\"store\"", "import=\"key-value\"", "asked=\"other\""]);
    assert!(say(&mut clients[1], "fill shared big 65536").starts_with("unavailable: the store is full"));
    // A new generation finds what the old one left.
    gateway.folder().publish("filters/store.wasm", &crate::support::guest("guest_reason"));
    gateway.wait_metric("wsgate_filter_generation", &[("filter", "store")], 2.0);
    gateway.folder().publish("filters/store.wasm", &crate::support::guest("guest_store"));
    gateway.wait_metric("wsgate_filter_generation", &[("filter", "store")], 3.0);
    crate::support::until("the first is back", crate::support::SOON, || {
        say(&mut Wire::open(gateway.address(), "/echo"), "add shared visits 0") == "400"
    });
    let labels = [("store", "shared"), ("operation", "increment"), ("result", "ok")];
    assert!(gateway.metrics().sum("wsgate_store_operations_total", &labels) >= 401.0);
    assert_eq!(gateway.metrics().sum("wsgate_store_entries", &[("store", "shared")]), 1.0);
}

#[test]
fn reasons_are_in_the_access_log_and_in_a_bounded_metric() {
    let setup = Setup::new().guest("filters/because.wasm", "guest_reason");
    let gateway = setup.start(&format!("[server]\nworkers = 1\n{ECHO}\nfilters = [\"because\"]"));
    let reasons =
        |label: &str| gateway.metrics().sum("wsgate_filter_reasons_total", &[("filter", "because"), ("reason", label)]);

    let mut closed = Wire::open(gateway.address(), "/echo");
    assert_eq!(say(&mut closed, "because early"), "because early");
    closed.text("close banned_word");
    assert_eq!(closed.next_close().0, 4000);
    closed.close(4000, "");
    gateway.wait_log(&["closed", "filter_reason=because:banned_word", "code=4000"]);
    assert_eq!((reasons("early"), reasons("banned_word")), (1.0, 1.0));

    let mut silent = Wire::open(gateway.address(), "/echo");
    assert_eq!(say(&mut silent, "nothing"), "nothing");
    silent.close(1000, "");
    let line = gateway.wait_log(&["closed", "code=1000"]);
    assert!(!line.contains("filter_reason"), "{line}");

    let refused = wire::request(gateway.address(), "/echo?refuse=not%20you").join("\r\n");
    assert_eq!(http::request(gateway.address(), &format!("{refused}\r\n\r\n")).unwrap().status, 403);
    gateway.wait_log(&["refused", "status=403", "filter_reason=because:not%20you"]);

    let mut flood = Wire::open(gateway.address(), "/echo");
    assert_eq!(say(&mut flood, "flood 1000"), "flood 1000");
    assert!(reasons("other") > 900.0);
    let families = http::get(gateway.admin(), "/metrics").body;
    assert_eq!(families.lines().filter(|line| line.starts_with("wsgate_filter_reasons_total{")).count(), 65);
}
