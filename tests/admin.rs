//! What operators look at: health, metrics, filters.

use std::{collections::BTreeSet, fs};

use crate::support::{
    Gateway, SOON, Setup, http, until,
    upstream::ECHO,
    wire::{self, Wire},
};

#[test]
fn health_and_metrics_answer_on_the_admin_address() {
    let gateway = Gateway::start(ECHO);
    for (path, status) in [("/livez", 200), ("/healthz", 200), ("/readyz", 200), ("/metrics", 200), ("/nowhere", 404)] {
        assert_eq!(http::get(gateway.admin(), path).status, status, "{path}");
    }
    let metrics = http::get(gateway.admin(), "/metrics");
    assert!(metrics.header("content-type").unwrap().starts_with("text/plain"), "{metrics:?}");
}

#[test]
fn the_admin_api_is_not_on_the_data_listener() {
    let gateway = Gateway::start(ECHO);
    for path in ["/livez", "/readyz", "/metrics", "/v1/filters"] {
        assert_eq!(http::get(gateway.address(), path).status, 426, "{path}");
    }
}

#[test]
fn a_health_address_has_health_and_metrics_only() {
    let gateway = Gateway::start(&format!("[health]\naddress = \"127.0.0.1:0\"\n{ECHO}"));
    let announced = gateway.announced();
    let url = announced.lines().find_map(|line| line.strip_prefix("health")).unwrap().trim().to_owned();
    let health = url.strip_prefix("http://").unwrap().parse().unwrap();
    for (path, status) in [("/livez", 200), ("/readyz", 200), ("/metrics", 200), ("/v1/filters", 404)] {
        assert_eq!(http::get(health, path).status, status, "{path}");
    }
}

#[test]
fn requests_that_a_browser_was_tricked_into_are_refused() {
    let gateway = Gateway::start(ECHO);
    let ask = |lines: &str| {
        let request = format!("GET /v1/filters HTTP/1.1\r\n{lines}\r\nConnection: close\r\n\r\n");
        http::request(gateway.admin(), &request).unwrap().status
    };
    assert_eq!(ask(&format!("Host: {}", gateway.admin())), 200);
    assert_eq!(ask(&format!("Host: localhost:{}", gateway.admin().port())), 200);
    for foreign in ["Host: evil.example", "Host: 127.0.0.1.evil.example"] {
        assert!(matches!(ask(foreign), 400 | 403 | 421), "{foreign}");
    }
    let foreign_site = format!("Host: {}\r\nOrigin: http://evil.example", gateway.admin());
    assert_eq!(ask(&foreign_site), 403);
}

#[test]
fn filters_are_listed_with_their_generation_and_routes() {
    let gateway = Setup::new().guest("filters/stamp.wasm", "stamp").start(&format!("{ECHO}\nfilters = [\"stamp\"]"));
    let stamp = gateway.filter("stamp");
    assert_eq!(stamp["state"], "serving", "{stamp}");
    assert_eq!(stamp["routes"], serde_json::json!(["echo"]));
    assert_eq!(stamp["generations"].as_array().unwrap().len(), 1, "{stamp}");
    assert_eq!(stamp["generations"][0]["generation"], stamp["generation"]);
    let _wire = Wire::open(gateway.address(), "/echo");
    assert_eq!(gateway.filter("stamp")["generations"][0]["sessions"], 1);
}

#[test]
fn every_listener_serves_every_route() {
    let two = "[[listeners]]\naddress = \"127.0.0.1:0\"\n".repeat(2);
    let gateway = Gateway::start(&format!("{two}{ECHO}"));
    assert_eq!(gateway.listeners().len(), 2);
    for &address in gateway.listeners() {
        let mut wire = Wire::open(address, "/echo");
        wire.text("here");
        assert_eq!(wire.next_text(), "here");
    }
}

#[test]
fn messages_are_counted_by_direction_and_kind() {
    let gateway = Gateway::start(ECHO);
    let mut wire = Wire::open(gateway.address(), "/echo");
    for _ in 0..3 {
        wire.text("12345");
        wire.next_text();
    }
    wire.send(2, b"123");
    wire.next().unwrap();
    let labels =
        |direction: &'static str, kind: &'static str| [("route", "echo"), ("direction", direction), ("kind", kind)];
    gateway.wait_metric("wsgate_messages_total", &labels("to_upstream", "binary"), 1.0);
    gateway.wait_metric("wsgate_messages_total", &labels("to_upstream", "text"), 3.0);
    gateway.wait_metric("wsgate_message_bytes_total", &[("direction", "to_upstream")], 18.0);
}

/// Names are a promise: dashboards are built on them. The list is `tests/snapshots/metrics.txt`; a new family is added
/// there on purpose.
#[test]
fn the_metrics_have_the_names_that_were_promised() {
    let rights = "[filters.store]\nallow = { key_value = [\"s\"] }\n[filters.fetch]\nallow = { http = [\"http://127.0.0.1:9\"] }";
    let filters = "filters = [\"because\", \"store\", \"fetch\", \"faulty\"]";
    let tiny = "[[routes]]\npath = \"/tiny\"\ntarget = \"echo\"\nlimits = { handshakes_per_second = 1 }";
    let config =
        format!("{ECHO}\n{filters}\n{rights}\n{tiny}\n{}", crate::support::upstream::route_to("ws://127.0.0.1:9"));
    let guests = [("because", "reason"), ("store", "store"), ("fetch", "fetch"), ("faulty", "faulty")];
    let setup = guests.into_iter().fold(Setup::new(), |setup, (name, guest)| {
        setup.guest(&format!("filters/{name}.wasm"), &format!("guest_{guest}"))
    });
    let gateway = setup.start(&config);
    let mut wire = Wire::open(gateway.address(), "/echo");
    for text in ["one of each", "because it is so", "get other key", "get s key", "GET http://127.0.0.1:9/"] {
        wire.text(text);
        wire.next_text();
    }
    wire.text("error:and a fault");
    wire.next_close();
    drop(wire);
    let ask = || Wire::connect(gateway.address()).ask(&wire::request(gateway.address(), "/tiny")).status;
    until("a limit is met", SOON, || ask() == 429);
    gateway.wait_empty();
    gateway.folder().publish("filters/faulty.wasm", b"broken");
    gateway.wait_metric("wsgate_filter_reloads_total", &[("result", "error")], 1.0);
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/snapshots/metrics.txt");
    let promised: BTreeSet<String> = fs::read_to_string(file).unwrap().lines().map(str::to_owned).collect();
    let found = gateway.metrics().families();
    let listed: Vec<&str> = found.iter().map(String::as_str).collect();
    assert_eq!(found, promised, "the families are now\n{}", listed.join("\n"));
}
