//! One gateway, every attack on its door in turn, twenty at a time. After each: it was counted under its reason, a new
//! connection is served within a second, descriptors and memory are where they were, and a bystander has noticed nothing.
//!
//! The numbers are those of docs/reliability.md, which names the tests that look closer. Four lines need gateways of
//! their own: 1 (whole suites), 10 (what the upstream sees), 16 (an issuer) and 22 (few descriptors).

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use serde_json::json;

use crate::{
    support::{
        SOON, Setup,
        tls::Authority,
        until,
        upstream::HandMade,
        wire::{self, BINARY, CONTINUATION, PING, PONG, TEXT, Wire},
    },
    tokens::{SECRET, now, token},
};

const ATTACKERS: u64 = 20;
/// Between two messages of the bystander.
const PACE: Duration = Duration::from_millis(20);
/// The longest that one of its echoes may take: attackers, gateway and tests share two cores.
const UNNOTICED: Duration = Duration::from_secs(1);
/// What allocators keep; an attack that leaves something behind twenty times does so in every round.
const ROOM_KIB: u64 = 8 << 10;
/// Slow heads and stalled handshakes have ten seconds.
const CUT_OFF: Duration = Duration::from_secs(15);

fn config(upstream: SocketAddr) -> String {
    let routes = [
        ("echo", ""),
        ("small", "client_max_payload = \"1KiB\""),
        ("pinged", "ping_interval = \"100ms\"\npong_timeout = \"200ms\""),
        ("slow", "send_timeout = \"500ms\"\nupstream_max_payload = \"1MiB\"\nqueue_max_size = \"1MiB\""),
        ("token", "auth = \"main\""),
        ("full", "limits = { connections = 1 }"),
        ("rated", "limits = { messages = { rate = \"1/m\", burst = 2, action = \"close\" } }"),
    ];
    let route = |(name, keys): &(&str, &str)| {
        format!("[[routes]]\nname = \"{name}\"\npath = \"/{name}\"\ntarget = \"echo\"\n{keys}\n")
    };
    let routes: String = routes.iter().map(route).collect();
    format!(
        r#"
        [[listeners]]
        address = "127.0.0.1:0"
        [[listeners]]
        address = "127.0.0.1:0"
        tls = {{ certificate = "cert.pem", private_key = "key.pem" }}
        [[listeners]]
        address = "127.0.0.1:0"
        proxy_protocol = true

        [jwt.main]
        issuer = "https://id.example.com"
        audience = ["chat"]
        secret_file = "secret"
        algorithms = ["HS256"]
        leeway = "0s"

        [upstreams.bad]
        endpoints = ["ws://{upstream}"]
        outlier_detection = {{ consecutive_failures = "off" }}
        retries = 0
        [[routes]]
        name = "bad"
        path = "/bad/*"
        upstream = "bad"
        {routes}
        "#
    )
}

/// An upstream that does what the path says.
fn upstream() -> HandMade {
    HandMade::start(|mut wire| {
        let head = wire.head().unwrap_or_default();
        if head.contains("/bad/answer") {
            wire.write(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n");
            return;
        }
        let accept = if head.contains("/bad/accept") {
            "bm90IHRoaXMgb25lIGF0IGFsbCE=".to_owned()
        } else {
            let key = head.lines().find_map(|line| {
                line.to_ascii_lowercase().starts_with("sec-websocket-key: ").then(|| line[19..].to_owned())
            });
            wire::accept_for(&key.unwrap_or_default())
        };
        let answer =
            "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept";
        wire.write(format!("{answer}: {accept}\r\n\r\n").as_bytes());
        // 1014 is for gateways to find, not to pass on.
        wire.frame(0x88, &1014_u16.to_be_bytes());
        while wire.next().is_some() {}
    })
}

/// Where attackers go.
struct Door {
    plain: SocketAddr,
    tls: SocketAddr,
    proxied: SocketAddr,
}

impl Door {
    fn open(&self, path: &str) -> Wire {
        Wire::open(self.plain, path)
    }

    /// Is refused with this status.
    fn refused(&self, path: &str, status: u16, change: impl Fn(&mut Vec<String>)) {
        let mut lines = wire::request(self.plain, path);
        change(&mut lines);
        assert_eq!(Wire::connect(self.plain).ask(&lines).status, status, "{lines:?}");
    }

    /// Opens, sends these bytes, and is closed with this code.
    fn closed(&self, path: &str, bytes: &[u8], code: u16) {
        let mut wire = self.open(path);
        wire.write(bytes);
        assert_eq!(wire.next_close().0, code);
        assert!(wire.ends(SOON));
    }
}

fn add(line: &str) -> impl Fn(&mut Vec<String>) {
    move |lines| lines.push(line.to_owned())
}

fn masked(first_byte: u8, payload: &[u8]) -> Vec<u8> {
    wire::encode(first_byte, payload, true)
}

fn close_code(code: &'static str) -> (&'static str, Vec<(&'static str, &'static str)>) {
    ("wsgate_closes_total", vec![("code", code)])
}

fn handshake(result: &'static str) -> (&'static str, Vec<(&'static str, &'static str)>) {
    ("wsgate_handshakes_total", vec![("result", result)])
}

fn failure(reason: &'static str) -> (&'static str, Vec<(&'static str, &'static str)>) {
    ("wsgate_listener_failures_total", vec![("reason", reason)])
}

/// Line of docs/reliability.md, what it is, what counts it, and what one attacker does.
struct Attack {
    line: u8,
    what: &'static str,
    counted: (&'static str, Vec<(&'static str, &'static str)>),
    by_one: fn(&Door),
}

/// Sends without reading until nothing goes any more, then sees its end.
fn never_reads(door: &Door) {
    let mut wire = door.open("/slow");
    wire.stream.set_write_timeout(Some(Duration::from_millis(300))).unwrap();
    while wire.send(BINARY, &[0; 65_536]) {}
    thread::sleep(Duration::from_millis(100));
    assert!(wire.ends(CUT_OFF));
}

fn attacks() -> Vec<Attack> {
    let attack = |line, what, counted, by_one| Attack { line, what, counted, by_one };
    vec![
        attack(2, "a reserved opcode", close_code("1002"), |door| door.closed("/echo", &masked(0x83, b"x"), 1002)),
        attack(2, "an unmasked frame", close_code("1002"), |door| {
            door.closed("/echo", &wire::encode(0x81, b"x", false), 1002);
        }),
        attack(3, "bad UTF-8 over fragments", close_code("1007"), |door| {
            let bytes = [masked(TEXT, b"caf\xC3"), masked(0x80 | CONTINUATION, b"\x28")].concat();
            door.closed("/echo", &bytes, 1007);
        }),
        attack(4, "a declared gigabyte", close_code("1009"), |door| {
            let bytes = [&wire::header(0x80 | BINARY, 1 << 30, true)[..], &[0; 4]].concat();
            door.closed("/small", &bytes, 1009);
        }),
        attack(5, "1014 of an upstream", close_code("1011"), |door| {
            assert_eq!(door.open("/bad/code").next_close().0, 1011);
        }),
        attack(6, "endless empty fragments", close_code("1008"), |door| {
            let bytes = [masked(TEXT, b""), masked(CONTINUATION, b"").repeat(100_000)].concat();
            door.closed("/echo", &bytes, 1008);
        }),
        attack(6, "a flood of pings", close_code("1008"), |door| {
            let mut wire = door.open("/slow");
            wire.stream.set_write_timeout(Some(Duration::from_millis(500))).unwrap();
            let pings = masked(0x80 | PING, &[0; 125]).repeat(1000);
            while wire.write(&pings) {}
            assert!(wire.ends(CUT_OFF));
        }),
        attack(7, "an offer to deflate", handshake("switched"), |door| {
            let mut lines = wire::request(door.plain, "/echo");
            lines.push("Sec-WebSocket-Extensions: permessage-deflate".to_owned());
            let (_wire, answer) = Wire::open_with(door.plain, &lines);
            assert_eq!(answer.header("sec-websocket-extensions"), None);
        }),
        attack(8, "two keys", handshake("bad_request"), |door| {
            door.refused("/echo", 400, add("Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="));
        }),
        attack(9, "both lengths", handshake("bad_request"), |door| {
            door.refused("/echo", 400, |lines| {
                lines.extend(["Transfer-Encoding: chunked".to_owned(), "Content-Length: 4".to_owned()]);
            });
        }),
        attack(11, "an upstream that refuses", handshake("upstream_answered"), |door| {
            door.refused("/bad/answer", 403, |_| {})
        }),
        attack(11, "a wrong Sec-WebSocket-Accept", handshake("upstream_bad_upgrade"), |door| {
            door.refused("/bad/accept", 502, |_| {})
        }),
        attack(12, "a page of another site", handshake("origin_refused"), |door| {
            door.refused("/echo", 403, add("Origin: https://good.com.evil"));
        }),
        attack(13, "a token that nobody signed", handshake("unauthorized"), |door| {
            let forged = format!("{}x", token(json!({})));
            door.refused("/token", 401, add(&format!("Authorization: Bearer {forged}")));
        }),
        attack(14, "a token where none counts", handshake("unauthorized"), |door| {
            door.refused("/token", 401, add(&format!("Cookie: session={}", token(json!({})))));
        }),
        attack(15, "a token that runs out", close_code("4401"), |door| {
            let mut lines = wire::request(door.plain, "/token");
            lines.push(format!("Authorization: Bearer {}", token(json!({ "exp": now() + 2 }))));
            let (mut wire, _) = Wire::open_with(door.plain, &lines);
            assert_eq!(wire.next_close().0, 4401);
        }),
        attack(17, "a PROXY header that is none", failure("proxy_header_malformed"), |door| {
            let mut wire = Wire::connect(door.proxied);
            wire.write(b"PROXY TCP4 nowhere 127.0.0.1 1 2\r\n");
            assert!(wire.ends(SOON));
        }),
        attack(18, "plain HTTP to a TLS listener", failure("not_tls"), |door| {
            let mut wire = Wire::connect(door.tls);
            wire.write(format!("{}\r\n\r\n", wire::request(door.tls, "/echo").join("\r\n")).as_bytes());
            assert!(wire.ends(SOON));
        }),
        attack(18, "a TLS handshake that stalls", failure("timeout"), |door| {
            let mut wire = Wire::connect(door.tls);
            wire.write(&[0x16, 0x03, 0x01]);
            assert!(wire.ends(CUT_OFF));
        }),
        attack(19, "headers that trickle in", failure("head_timeout"), |door| {
            let mut wire = Wire::connect(door.plain);
            let began = Instant::now();
            wire.write(b"GET /echo HTTP/1.1\r\nHost: a\r\n");
            while began.elapsed() < CUT_OFF && wire.write(b"X-More: 1\r\n") {
                thread::sleep(Duration::from_millis(500));
            }
            assert!(began.elapsed() < CUT_OFF);
        }),
        attack(20, "101 headers", failure("head_too_large"), |door| {
            door.refused("/echo", 431, |lines| lines.extend((0..101).map(|at| format!("X-{at}: 1"))));
        }),
        attack(21, "a route that is full", ("wsgate_ratelimited_total", vec![("limit", "connections")]), |door| {
            // Two of an attacker, so that one of them at least is over.
            let answers = [(); 2].map(|()| {
                let mut wire = Wire::connect(door.plain);
                let status = wire.ask(&wire::request(door.plain, "/full")).status;
                (wire, status)
            });
            assert!(answers.iter().any(|(_, status)| *status == 503));
        }),
        attack(23, "a sender that never reads", close_code("1008"), never_reads),
        attack(24, "a peer that answers no ping", close_code("1001"), |door| {
            assert_eq!(door.open("/pinged").next_close().0, 1001);
        }),
        attack(25, "a flood of messages", close_code("4429"), |door| {
            door.closed("/rated", &masked(0x81, b"x").repeat(1000), 4429);
        }),
    ]
}

/// Somebody who has nothing to do with it.
struct Bystander {
    over: Arc<AtomicBool>,
    echoed: Arc<AtomicU64>,
    worst_us: Arc<AtomicU64>,
    thread: JoinHandle<()>,
}

impl Bystander {
    fn start(address: SocketAddr) -> Self {
        let (over, echoed, worst_us) = <(Arc<AtomicBool>, Arc<AtomicU64>, Arc<AtomicU64>)>::default();
        let (until, counted, worst) = (over.clone(), echoed.clone(), worst_us.clone());
        let thread = thread::spawn(move || {
            let mut wire = Wire::open(address, "/echo");
            for count in 0_u64.. {
                if until.load(Ordering::Relaxed) {
                    return;
                }
                let (text, asked) = (count.to_string(), Instant::now());
                wire.text(&text);
                let mut frame = wire.next().unwrap();
                while frame.opcode() == PING {
                    wire.send(PONG, &frame.payload);
                    frame = wire.next().unwrap();
                }
                assert_eq!(frame.text(), text);
                counted.store(count, Ordering::Relaxed);
                worst.fetch_max(u64::try_from(asked.elapsed().as_micros()).unwrap(), Ordering::Relaxed);
                thread::sleep(PACE);
            }
        });
        Self { over, echoed, worst_us, thread }
    }

    /// The longest wait since the last time; it goes on.
    fn worst(&self) -> Duration {
        let before = self.echoed.load(Ordering::Relaxed);
        until("the bystander's messages go on", SOON, || self.echoed.load(Ordering::Relaxed) > before + 2);
        Duration::from_micros(self.worst_us.swap(0, Ordering::Relaxed))
    }
}

fn all_at_once(door: &Door, by_one: fn(&Door)) {
    thread::scope(|scope| {
        for _ in 0..ATTACKERS {
            scope.spawn(|| by_one(door));
        }
    });
}

#[test]
fn every_attack_is_counted_and_leaves_the_gateway_as_it_was() {
    let (setup, upstream, pair) = (Setup::new(), upstream(), Authority::new().issue("gateway"));
    setup.publish("secret", SECRET.as_bytes());
    setup.publish("cert.pem", pair.certificate.as_bytes());
    setup.publish("key.pem", pair.key.as_bytes());
    let gateway = setup.start(&config(upstream.address));
    let [plain, tls, proxied] = *gateway.listeners() else { panic!("three listeners") };
    let (door, bystander) = (Door { plain, tls, proxied }, Bystander::start(plain));
    // What is there once is there to stay: buffers, tables, time-zone files.
    for attack in attacks().iter().filter(|attack| ![18, 19].contains(&attack.line)) {
        all_at_once(&door, attack.by_one);
    }
    gateway.wait_metric("wsgate_connections", &[], 1.0);
    let (fds, rss_kib) = (gateway.settled_fds(), gateway.rss_kib());
    bystander.worst();
    for Attack { line, what, counted: (name, labels), by_one } in attacks() {
        let before = gateway.metrics().sum(name, &labels);
        all_at_once(&door, by_one);
        until(&format!("line {line}: {what} is counted as {name}{labels:?}"), SOON, || {
            gateway.metrics().sum(name, &labels) >= before + ATTACKERS as f64
        });
        let asked = Instant::now();
        let mut fresh = door.open("/echo");
        fresh.text("fresh");
        assert_eq!(fresh.next_text(), "fresh");
        assert!(asked.elapsed() < Duration::from_secs(1), "line {line}: {what}: served after {:?}", asked.elapsed());
        drop(fresh);
        gateway.wait_fds(&format!("line {line}: {what}"), fds);
        let worst = bystander.worst();
        println!("figure: line {line}, {what}: the bystander waited {worst:?}, {} KiB", gateway.rss_kib());
        assert!(worst < UNNOTICED, "line {line}: {what}: the bystander waited {worst:?}");
        assert!(gateway.rss_kib() < rss_kib + ROOM_KIB, "line {line}: {what}: {} KiB", gateway.rss_kib() - rss_kib);
    }
    assert_eq!(gateway.metrics().sum("wsgate_panics_total", &[]), 0.0);
    bystander.over.store(true, Ordering::Relaxed);
    bystander.thread.join().unwrap();
}
