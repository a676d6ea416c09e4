//! Instances and sessions: an instance for each, thousands on a few, and instances that are replaced while sessions are open.

use std::time::{Duration, Instant};

use futures_util::{SinkExt, StreamExt};
use tokio_tungstenite::tungstenite::Message;

use crate::support::{
    Gateway, Setup, guest,
    load::{self, Socket},
    until,
    upstream::ECHO,
    wire::{self, Wire},
};

const STAMP: &str = "filters = [\"stamp\"]\n[filters.stamp]\nconfig = { show_version = true }\n";

fn stamp(keys: &str) -> Gateway {
    Setup::new().guest("filters/stamp.wasm", "stamp").start(&format!("{ECHO}\n{STAMP}{keys}"))
}

fn sessions_and_instances(gateway: &Gateway, serving: bool) -> (u64, u64) {
    let filter = gateway.filter("stamp");
    let generations = filter["generations"].as_array().unwrap();
    let these = || generations.iter().filter(|generation| generation["serving"] == serving);
    let sum = |key: &str| these().map(|generation| generation[key].as_u64().unwrap()).sum();
    (sum("sessions"), sum("instances"))
}

async fn open_all(gateway: &Gateway, sockets: usize) -> Vec<Socket> {
    let mut all = Vec::with_capacity(sockets);
    while all.len() < sockets {
        let some = (all.len()..sockets).take(64).map(|_| load::open(gateway.address(), "/echo"));
        all.extend(futures_util::future::join_all(some).await);
    }
    all
}

/// Each says something and is answered with its own count.
async fn say_all(sockets: &mut [Socket], expected: &str) {
    for some in sockets.chunks_mut(64) {
        for socket in &mut *some {
            socket.send(Message::text("m")).await.unwrap();
        }
        for socket in some {
            let answer = loop {
                match socket.next().await.unwrap().unwrap() {
                    Message::Text(text) => break text,
                    Message::Ping(_) => {}
                    other => panic!("{other:?}"),
                }
            };
            assert_eq!(&*answer, expected);
        }
    }
}

#[test]
fn the_gateway_says_how_many_instances_of_their_own_it_holds() {
    let gateway = stamp("isolation = \"connection\"");
    let filter = gateway.filter("stamp");
    assert_eq!(filter["isolation"], "connection");
    let sessions = filter["max_sessions"].as_u64().unwrap();
    assert!(sessions > 100);
    assert!(gateway.announced().contains(&format!("(an instance for each of at most {sessions} connections)")));
    gateway.wait_log(&["each connection has an instance of its own", &format!("max_sessions={sessions}")]);
    assert!(stamp("").filter("stamp")["max_sessions"].is_null());
}

/// Opens so many, replaces the filter under them, and looks that nobody lost anything.
fn reload_under(gateway: &Gateway, connections: usize) {
    let alone = (gateway.pss_kib(), gateway.maps());
    load::run(async {
        let began = Instant::now();
        let mut sockets = open_all(gateway, connections).await;
        say_all(&mut sockets, "m #1 v1").await;
        let opened = began.elapsed();
        let full = (gateway.pss_kib(), gateway.maps());
        assert_eq!(sessions_and_instances(gateway, true), (connections as u64, connections as u64));
        let began = Instant::now();
        gateway.folder().publish("filters/stamp.wasm", &guest("stamp-v2"));
        let moved = || {
            let (old, new) = (sessions_and_instances(gateway, false), sessions_and_instances(gateway, true));
            old == (0, 0) && new.0 == connections as u64
        };
        until("the filter is replaced", Duration::from_secs(30), || {
            gateway.metrics().sum("wsgate_filter_generation", &[]) == 2.0
        });
        until("every session has moved", Duration::from_secs(60), moved);
        let moved = began.elapsed();
        say_all(&mut sockets, "m #2 v2").await;
        let after = (gateway.pss_kib(), gateway.maps());
        let each = |kib: u64| (kib.saturating_sub(alone.0)) as f64 / connections as f64;
        println!(
            "figure: {connections} connections with an instance each, opened in {opened:.1?}, moved in {moved:.1?}"
        );
        println!("figure: KiB a connection: {:.1}, after the reload {:.1}", each(full.0), each(after.0));
        println!("figure: memory maps: {} alone, {} with all, {} after the reload", alone.1, full.1, after.1);
        assert_eq!(gateway.metrics().sum("wsgate_filter_faults_total", &[]), 0.0);
    });
    gateway.wait_empty();
    until("every instance is gone", Duration::from_secs(20), || sessions_and_instances(gateway, true) == (0, 0));
}

#[test]
fn four_thousand_connections_have_an_instance_each_and_survive_a_reload() {
    reload_under(&stamp("isolation = \"connection\""), 4_000);
}

/// Slow: as many connections as there are instances.
#[test]
#[ignore = "takes a minute and most of the machine"]
fn a_full_gateway_survives_a_reload_and_turns_away_the_next() {
    let gateway = stamp("isolation = \"connection\"");
    let connections = gateway.filter("stamp")["max_sessions"].as_u64().unwrap();
    reload_under(&gateway, usize::try_from(connections).unwrap());
    load::run(async {
        let sockets = open_all(&gateway, usize::try_from(connections).unwrap()).await;
        let refused = Wire::connect(gateway.address()).ask(&wire::request("localhost", "/echo"));
        assert_eq!(refused.status, 503);
        assert!(refused.header("retry-after").is_some());
        drop(sockets);
    });
}

#[test]
fn nine_thousand_connections_share_a_few_instances() {
    const CONNECTIONS: usize = 9_000;
    let gateway = stamp("");
    let alone = (gateway.pss_kib(), gateway.maps());
    load::run(async {
        let mut sockets = open_all(&gateway, CONNECTIONS).await;
        say_all(&mut sockets, "m #1 v1").await;
        let (sessions, instances) = sessions_and_instances(&gateway, true);
        let (kib, maps) = (gateway.pss_kib() - alone.0, gateway.maps() - alone.1);
        println!("figure: | connections | instances | KiB a connection | memory maps more |");
        println!("figure: | {sessions} | {instances} | {:.1} | {maps} |", kib as f64 / CONNECTIONS as f64);
        assert_eq!(sessions, CONNECTIONS as u64);
        assert!((9..=20).contains(&instances), "{instances}");
        assert!(maps < 2_000, "{maps} memory maps for {instances} instances");
        assert_eq!(gateway.metrics().sum("wsgate_filter_faults_total", &[]), 0.0);
    });
}

#[test]
fn an_instance_that_took_much_memory_is_replaced_under_sessions_that_say_nothing() {
    let keys = "config = { mode = \"save:3\" }\ncpu_timeout = \"5s\"\nrecycle_above_memory = \"8MiB\"";
    let setup = Setup::new().guest("filters/faulty.wasm", "guest_faulty");
    let gateway =
        setup.start(&format!("[server]\nworkers = 1\n{ECHO}\nfilters = [\"faulty\"]\n[filters.faulty]\n{keys}"));
    let mut silent: Vec<Wire> = (0..100).map(|_| Wire::open(gateway.address(), "/echo")).collect();
    let mut busy = Wire::open(gateway.address(), "/echo");
    let say = |wire: &mut Wire, text: &str| {
        wire.text(text);
        wire.next_text()
    };
    assert_eq!(say(&mut busy, "hold:20"), "held");
    let bytes = || gateway.metrics().sum("wsgate_filter_memory_bytes", &[]);
    assert!(bytes() > 20e6);
    until("the memory is given back", Duration::from_secs(20), || {
        say(&mut busy, "hello");
        bytes() < 8e6
    });
    gateway.wait_log(&["a filter instance is replaced", "faulty"]);
    assert_eq!(say(&mut busy, "resumed"), "resumed cause=reload state=3");
    for wire in &mut silent {
        assert_eq!(say(wire, "resumed"), "resumed cause=reload state=3");
    }
    assert_eq!(gateway.filter("faulty")["generations"][0]["instances"], 1);
    assert_eq!(gateway.metrics().sum("wsgate_filter_faults_total", &[]), 0.0);
}

#[test]
fn an_instance_is_replaced_after_its_calls_while_messages_flow() {
    let gateway = Setup::new()
        .guest("filters/stamp.wasm", "stamp")
        .start(&format!("[server]\nworkers = 1\n{ECHO}\n{STAMP}recycle_after_calls = 1000\n"));
    let mut wires: Vec<Wire> = (0..4).map(|_| Wire::open(gateway.address(), "/echo")).collect();
    let (end, mut count) = (Instant::now() + Duration::from_secs(4), 0);
    while Instant::now() < end {
        count += 1;
        for wire in &mut wires {
            wire.text("m");
        }
        for wire in &mut wires {
            assert_eq!(wire.next_text(), format!("m #{count} v1"));
        }
    }
    let replaced = gateway.log().lines().filter(|line| line.contains("a filter instance is replaced")).count();
    println!("figure: {count} messages on each of 4 connections, {replaced} instances replaced, each counted");
    assert!((2..=5).contains(&replaced), "{replaced} times");
    until("the old ones are gone", Duration::from_secs(10), || sessions_and_instances(&gateway, true).1 == 1);
}
