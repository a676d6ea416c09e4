//! Many share a worker: one that floods, or one that takes nothing, is nobody else's concern.

use std::{
    cell::Cell,
    io::Write,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use crate::support::{
    Gateway, Setup, load, until,
    upstream::{ECHO, route_to},
    wire::{self, BINARY, Wire},
};

const ONE_WORKER: &str = "[server]\nworkers = 1\n";
/// What a calm connection may wait, at the 99th percentile, while another floods.
const CALM: Duration = Duration::from_millis(5);
/// And while ten do.
const TEN_FLOODS: Duration = Duration::from_millis(25);

/// Floods from a thread of its own while `calm` runs; returns what it returns, and how many answers the flood had.
fn while_flooded<T>(address: SocketAddr, path: &'static str, floods: usize, calm: impl FnOnce() -> T) -> (T, u64) {
    let stop = Arc::new(AtomicBool::new(false));
    let answered = Arc::new(AtomicU64::new(0));
    let (stopped, count) = (stop.clone(), answered.clone());
    let flood = thread::spawn(move || {
        load::run(async {
            for _ in 1..floods {
                let socket = load::open(address, path).await;
                tokio::task::spawn_local(async move { load::flood(socket, 64, 64, &Cell::new(0)).await });
            }
            let answers = Cell::new(0);
            let socket = load::open(address, path).await;
            let flood = load::flood(socket, 64, 64, &answers);
            let mut flood = std::pin::pin!(flood);
            while !stopped.load(Ordering::Relaxed) {
                let _ = tokio::time::timeout(Duration::from_millis(5), &mut flood).await;
                count.store(answers.get(), Ordering::Relaxed);
            }
        });
    });
    until("the flood runs", Duration::from_secs(10), || answered.load(Ordering::Relaxed) > 10_000);
    let before = answered.load(Ordering::Relaxed);
    let result = calm();
    let during = answered.load(Ordering::Relaxed) - before;
    stop.store(true, Ordering::Relaxed);
    flood.join().expect("the flood was never interrupted");
    (result, during)
}

fn a_calm_connection_waits_no_longer_than(limit: Duration, gateway: &Gateway, path: &'static str, floods: usize) {
    let probe = || load::probe(gateway.address(), path, 200, Duration::from_millis(20));
    let quiet = probe();
    let ((flooded, took), answers) = while_flooded(gateway.address(), path, floods, || {
        let began = Instant::now();
        (load::best_of_three(limit, probe), began.elapsed())
    });
    println!("figure: calm connection alone:   {quiet}");
    println!("figure: calm connection flooded: {flooded}; one flood had {:.0} answers/s", rate(answers, took));
    assert!(rate(answers, took) > 2000.0, "the flood was none: {answers} answers in {took:?}");
    assert!(flooded.quantile(0.99) <= limit, "{flooded}");
}

fn rate(count: u64, time: Duration) -> f64 {
    count as f64 / time.as_secs_f64()
}

#[test]
fn a_message_a_second_arrives_while_another_connection_floods_the_echo_target() {
    let gateway = Gateway::start(&format!("{ONE_WORKER}{ECHO}"));
    a_calm_connection_waits_no_longer_than(CALM, &gateway, "/echo", 1);
}

#[test]
fn a_message_a_second_arrives_while_another_connection_floods_an_upstream() {
    let gateway = Gateway::start(&format!("{ONE_WORKER}{}", route_to(&load::upstream(load::echo))));
    a_calm_connection_waits_no_longer_than(CALM, &gateway, "/", 1);
}

#[test]
fn a_message_a_second_arrives_while_other_connections_flood_a_filter() {
    let setup = Setup::new().guest("filters/stamp.wasm", "stamp");
    let gateway = setup.start(&format!("{ONE_WORKER}{ECHO}\nfilters = [\"stamp\"]"));
    a_calm_connection_waits_no_longer_than(CALM, &gateway, "/echo", 1);
    a_calm_connection_waits_no_longer_than(TEN_FLOODS, &gateway, "/echo", 10);
}

/// Who is never paused sends this much at most.
const FILL: u64 = 128 << 20;

/// Writes these frames until the socket takes no more for half a second; returns how many bytes it took.
fn fill(wire: &mut Wire, message: &[u8]) -> u64 {
    wire.stream.set_write_timeout(Some(Duration::from_millis(500))).unwrap();
    let mut taken = 0;
    while taken < FILL {
        match wire.stream.write(&message[(taken % message.len() as u64) as usize..]) {
            Ok(written) => taken += written as u64,
            Err(_) => break,
        }
    }
    taken
}

/// The echo target has a queue of 1 MiB in each direction, beside which a connection needs little.
const STALLED: usize = 20;
const ALLOWED_KIB: u64 = STALLED as u64 * 2 * (1024 + 256);

#[test]
fn clients_that_stop_reading_pause_their_senders_and_cost_no_more_than_their_queues() {
    let limits = "send_timeout = \"6s\"\nclient_max_payload = \"1MiB\"\nupstream_max_payload = \"1MiB\"\n\
                  queue_max_size = \"1MiB\"";
    let gateway = Gateway::start(&format!("{ONE_WORKER}{ECHO}\n{limits}"));
    let probe = || load::probe(gateway.address(), "/echo", 100, Duration::from_millis(10));
    let quiet = probe();
    let before = gateway.rss_kib();
    let floods = (0..STALLED).map(|_| {
        let mut wire = Wire::open(gateway.address(), "/echo");
        let message = wire::encode(0x80 | BINARY, &[0; 65_536], true);
        thread::spawn(move || (fill(&mut wire, &message), wire))
    });
    let floods: Vec<_> = floods.collect();
    let stalled: Vec<(u64, Wire)> = floods.into_iter().map(|flood| flood.join().unwrap()).collect();
    let held = gateway.rss_kib().saturating_sub(before);
    let queued = gateway.metrics().sum("wsgate_queue_bytes", &[("route", "echo")]);
    let beside = load::best_of_three(CALM, probe);
    let most = stalled.iter().map(|(taken, _)| taken / 1024).max().unwrap();
    println!(
        "figure: {STALLED} stalled clients: {held} KiB more resident, {queued:.0} bytes queued, most taken {most} KiB"
    );
    println!("figure: calm connection alone: {quiet}; beside them: {beside}");
    assert!(held < ALLOWED_KIB, "{held} KiB more than before, {ALLOWED_KIB} allowed");
    assert!(queued <= (STALLED * 2 * (1024 + 64) * 1024) as f64, "{queued} bytes queued");
    assert!(beside.quantile(0.99) <= CALM, "{beside}");
    gateway.wait_metric("wsgate_closes_total", &[("code", "1008"), ("by", "gateway")], STALLED as f64);
    gateway.wait_log(&["client_send_timeout"]);
    gateway.wait_metric("wsgate_queue_bytes", &[("route", "echo")], 0.0);
}

#[test]
fn empty_messages_that_their_sender_does_not_take_back_pause_it_too() {
    let limits = "client_max_payload = \"64KiB\"\nupstream_max_payload = \"64KiB\"\nqueue_max_size = \"64KiB\"";
    let gateway = Gateway::start(&format!("{ONE_WORKER}{ECHO}\n{limits}"));
    let mut wire = Wire::open(gateway.address(), "/echo");
    let before = gateway.rss_kib();
    let taken = fill(&mut wire, &wire::encode(0x80 | BINARY, &[], true).repeat(10_000));
    let held = gateway.rss_kib().saturating_sub(before);
    println!("figure: {} KiB of empty messages taken, {held} KiB more resident", taken >> 10);
    assert!(taken < FILL, "never paused");
    assert!(held < 8 << 10, "{held} KiB");
}

#[test]
fn a_client_that_stops_reading_pauses_its_upstream_and_nobody_else() {
    let sent = Arc::new(AtomicU64::new(0));
    let count = sent.clone();
    let upstream = load::upstream(move |path, socket| {
        let count = count.clone();
        async move { if path == "/flood" { push_for_ever(socket, &count).await } else { load::echo(path, socket).await } }
    });
    let limits = "send_timeout = \"20s\"\nupstream_max_payload = \"1MiB\"\nqueue_max_size = \"1MiB\"";
    let gateway = Gateway::start(&format!("{ONE_WORKER}{}\n{limits}", route_to(&upstream)));
    let before = gateway.rss_kib();
    let mut stalled = Wire::open(gateway.address(), "/flood");
    // Paused: what it managed to send stays the same over a second.
    let mut last = (u64::MAX, Instant::now());
    until("the upstream is paused", Duration::from_secs(15), || {
        let now = sent.load(Ordering::Relaxed);
        if now != last.0 {
            last = (now, Instant::now());
        }
        last.1.elapsed() > Duration::from_secs(1)
    });
    let held = gateway.rss_kib().saturating_sub(before);
    let probe = || load::probe(gateway.address(), "/calm", 100, Duration::from_millis(10));
    let beside = load::best_of_three(CALM, probe);
    println!(
        "figure: one stalled client: {held} KiB more resident, upstream sent {} KiB; beside it {beside}",
        last.0 >> 10
    );
    assert!(held < 8 * 1024, "{held} KiB");
    assert!(beside.quantile(0.99) <= CALM, "{beside}");
    // And it goes on where it stopped.
    let paused_at = sent.load(Ordering::Relaxed);
    until("the upstream goes on", Duration::from_secs(10), || {
        assert_eq!(stalled.next().unwrap().payload.len(), 65_536);
        sent.load(Ordering::Relaxed) > paused_at + (4 << 20)
    });
}

async fn push_for_ever(mut socket: load::Socket, sent: &AtomicU64) {
    use futures_util::SinkExt;
    use tokio_tungstenite::tungstenite::Message;

    let message = Message::binary(vec![0; 65_536]);
    while socket.send(message.clone()).await.is_ok() {
        sent.fetch_add(65_536, Ordering::Relaxed);
    }
}
