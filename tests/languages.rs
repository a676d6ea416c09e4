//! The same filter in Rust, JavaScript, Python and C does the same, and each takes over the open connections of another.
//! `tests/languages/` has three of them, `tests/guests/four-rust` the one in Rust; `make guests` builds all.

use std::{net::SocketAddr, time::Duration};

use crate::support::{
    Gateway, Setup, guest, http, language, until,
    wire::{self, BINARY, Wire},
};

/// A filter and a route each.
const LANGUAGES: [&str; 4] = ["rust", "js", "python", "c"];
/// A Python interpreter takes 13 s of a processor's time to compile.
const COMPILED: Duration = Duration::from_secs(240);

fn bytes(name: &str) -> Vec<u8> {
    if name == "rust" { guest("guest_four_rust") } else { language(&format!("four-{name}")) }
}

/// A filter and a route for each language. A client of these tests answers no pings.
fn config(settings: &str) -> String {
    let mut config =
        String::from("[server]\nworkers = 1\nstate_dir = \"state\"\n[stores.shared]\nmax_size = \"64KiB\"\n");
    for name in LANGUAGES {
        config += &format!(
            "[[routes]]\nname = \"{name}\"\npath = \"/{name}\"\ntarget = \"echo\"\nfilters = [\"{name}\"]\nping_interval = \"off\"\n"
        );
        config += &format!("[filters.{name}]\nconfig = {{ {settings} }}\nallow = {{ key_value = [\"shared\"] }}\n");
    }
    config
}

/// Replaces the file of a filter and waits until the new generation serves.
fn publish(gateway: &Gateway, name: &str, bytes: &[u8]) {
    let before = gateway.filter(name)["generation"].clone();
    gateway.folder().publish(&format!("filters/{name}.wasm"), bytes);
    until(&format!("{name} is published"), COMPILED, || gateway.filter(name)["generation"] != before);
}

fn say(wire: &mut Wire, text: &str) -> String {
    wire.text(text);
    wire.next_text()
}

#[test]
fn one_filter_in_four_languages() {
    let mut setup = Setup::new();
    for name in LANGUAGES {
        setup = setup.guest(&format!("filters/{name}.wasm"), "guest_four_rust");
    }
    let gateway = setup.start(&config("greeting = \"grüß dich 😀\", first_count = 10"));
    for name in LANGUAGES {
        let mut open = Wire::open(gateway.address(), &format!("/{name}"));
        assert_eq!(say(&mut open, "count"), "11", "{name}");
        if name != "rust" {
            // From Rust to this language, and below back again.
            publish(&gateway, name, &bytes(name));
        }
        assert_eq!(say(&mut open, "count"), "12", "{name} takes over the state");
        does_what_the_filter_does(&gateway, name, &mut open);
        refuses(gateway.address(), name);
        shares_a_store(&gateway, name, &mut open);
        assert_eq!(say(&mut open, "count"), "25", "{name}");
        if name != "rust" {
            publish(&gateway, name, &guest("guest_four_rust"));
            assert_eq!(say(&mut open, "count"), "26", "{name} gives its state away");
            publish(&gateway, name, &bytes(name));
            assert_eq!(say(&mut open, "count"), "27", "{name} takes it back");
        }
        fails(&gateway, name, &mut open);
    }
    names_the_key(&gateway.kill());
}

fn does_what_the_filter_does(gateway: &Gateway, name: &str, wire: &mut Wire) {
    assert_eq!(say(wire, "characters"), "grüße 😀 𝄞", "{name}");
    assert_eq!(say(wire, "𝄞 unchanged"), "𝄞 unchanged", "{name}");
    assert_eq!(say(wire, "greet 👩‍👩‍👧"), "grüß dich 😀, 👩‍👩‍👧", "{name}");
    let object = say(wire, r#"{"a":[1,"😀"]}"#);
    let object: serde_json::Value =
        serde_json::from_str(&object).unwrap_or_else(|error| panic!("{name}: {error}: {object}"));
    assert_eq!(object, serde_json::json!({ "a": [1, "😀"], "seen": true }), "{name}");

    wire.send(BINARY, &[0, 1, 0xff, 0xfe]);
    assert_eq!(wire.next().unwrap().payload, [0xfe, 0xff, 1, 0], "{name}");
    wire.send(BINARY, &[]);
    assert!(wire.next().unwrap().payload.is_empty(), "{name}");

    // Two for the client at once, and one that comes back from the upstream.
    wire.text("several");
    let mut answers = [wire.next_text(), wire.next_text(), wire.next_text()];
    assert!(answers.iter().position(|it| it == "one") < answers.iter().position(|it| it == "three 😀"), "{answers:?}");
    answers.sort();
    assert_eq!(answers, ["one", "three 😀", "two"], "{name}");
    wire.text("drop");
    assert_eq!(say(wire, "after"), "after", "{name}: a dropped message does not come back");

    let mut other = Wire::open(gateway.address(), &format!("/{name}"));
    other.text("bye");
    assert_eq!(other.next_close(), (4001, "auf Wiedersehen 👋".to_owned()), "{name}");
}

fn refuses(address: SocketAddr, name: &str) {
    let mut request = wire::request(address, &format!("/{name}"));
    let (_, admitted) = Wire::open_with(address, &request);
    assert_eq!(admitted.header("x-four"), Some("yes"), "{name}");
    request.push("X-Refuse: 1".to_owned());
    let answer = http::request(address, &format!("{}\r\n\r\n", request.join("\r\n"))).unwrap();
    assert_eq!((answer.status, answer.header("x-why")), (403, Some("four")), "{name}");
    assert_eq!(answer.body, "not today 😀", "{name}");
}

/// The filters share it: each adds one.
fn shares_a_store(gateway: &Gateway, name: &str, wire: &mut Wire) {
    let hits: u64 = say(wire, "hits").parse().unwrap();
    let mut other = Wire::open(gateway.address(), &format!("/{name}"));
    assert_eq!(say(&mut other, "hits"), (hits + 1).to_string(), "{name}");
    wire.text("read");
    assert_eq!(wire.next().unwrap().payload, (hits + 1).to_string().as_bytes(), "{name}");
    assert_eq!(say(wire, "denied"), "denied", "{name}");
    gateway.wait_log(&["denied", &format!("filter=\"{name}\""), "import=\"key-value\"", "asked=\"others\""]);
}

/// An error is that connection's alone.
fn fails(gateway: &Gateway, name: &str, wire: &mut Wire) {
    let mut neighbour = Wire::open(gateway.address(), &format!("/{name}"));
    assert_eq!(say(&mut neighbour, "count"), "11", "{name}");
    wire.text("fail");
    assert_eq!(wire.next_close().0, 1011, "{name}");
    let line = gateway.wait_log(&["four failed 😀", name]);
    assert!(line.contains("kind=\"error\""), "{name}: no trap: {line}");
    assert_eq!(say(&mut neighbour, "count"), "12", "{name}: the instance lives");
}

/// What was compiled is in the state directory.
fn names_the_key(setup: &Setup) {
    for name in LANGUAGES {
        setup.publish("filters/bad.wasm", &bytes(name));
        let server = "[server]\nstate_dir = \"state\"\nfilter_dir = \"filters\"\n[[listeners]]\naddress = \"127.0.0.1:0\"\n[admin]\naddress = \"127.0.0.1:0\"\n";
        let route = "[[routes]]\nname = \"bad\"\npath = \"/bad\"\ntarget = \"echo\"\nfilters = [\"bad\"]\n";
        let failure = setup.fails(&format!("{server}{route}[filters.bad]\nconfig = {{ first_count = \"many\" }}"));
        assert!(!failure.status.success(), "{name}");
        assert!(failure.stderr.contains("first_count: "), "{name}: {}", failure.stderr);
        let failure = setup.fails(&format!("{server}{route}[filters.bad]\nconfig = {{ greating = \"hi\" }}"));
        assert!(failure.stderr.contains("greating: unknown "), "{name}: {}", failure.stderr);
    }
}
