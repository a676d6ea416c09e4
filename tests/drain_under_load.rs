//! A drain of thousands, and one under connects without pause.

use std::{
    thread,
    time::{Duration, Instant},
};

use futures_util::StreamExt;

use rustix::process::Signal;

use crate::support::{Gateway, SOON, http, knock::Knocking, load, until, upstream::ECHO, wire};

const CLIENTS: usize = 2000;
/// Fewer than the kernel's queue holds.
const WAITING: usize = 500;
const DRAIN: Duration = Duration::from_secs(6);

fn gateway(delay: &str, timeout: &str) -> Gateway {
    Gateway::start(&format!("[server]\ndrain_delay = \"{delay}\"\ndrain_timeout = \"{timeout}\"\n{ECHO}"))
}

/// The closes of a drain in quarters of a second; docs/operations.md shows them.
#[test]
fn two_thousand_connections_are_closed_evenly() {
    let mut gateway = gateway("0s", &format!("{}s", DRAIN.as_secs()));
    let address = gateway.address();
    let closes = load::run(async {
        let mut sockets = Vec::with_capacity(CLIENTS);
        for _ in 0..CLIENTS {
            sockets.push(load::open(address, "/echo").await);
        }
        let asked = Instant::now();
        gateway.terminate();
        let clients: Vec<_> = sockets
            .into_iter()
            .map(|mut socket| {
                tokio::task::spawn_local(async move {
                    let frame = match socket.next().await {
                        Some(Ok(tokio_tungstenite::tungstenite::Message::Close(Some(frame)))) => frame,
                        other => panic!("no close: {other:?}"),
                    };
                    assert_eq!(u16::from(frame.code), 1001);
                    let at = asked.elapsed();
                    // The answer goes out.
                    while socket.next().await.is_some_and(|next| next.is_ok()) {}
                    at
                })
            })
            .collect();
        let mut closes = Vec::with_capacity(CLIENTS);
        for client in clients {
            closes.push(client.await.unwrap());
        }
        closes
    });
    let slots = usize::try_from(DRAIN.as_millis() / 250).unwrap() + 1;
    let mut histogram = vec![0; slots];
    for close in &closes {
        histogram[usize::try_from(close.as_millis() / 250).unwrap().min(slots - 1)] += 1;
    }
    eprintln!("closes in each quarter of a second: {histogram:?}");
    // Five seconds of closes, one for the answers.
    let even = CLIENTS / 20;
    for (slot, count) in histogram[1..19].iter().enumerate() {
        assert!((even / 2..=even * 2).contains(count), "slot {}: {histogram:?}", slot + 1);
    }
    assert_eq!(histogram[21..].iter().sum::<usize>(), 0, "{histogram:?}");
    assert!(gateway.wait_exit(SOON).success());
}

#[test]
fn who_connects_without_pause_is_answered_until_nobody_listens_any_more() {
    let mut gateway = gateway("2s", "2s");
    let address = gateway.address();
    let knocking = Knocking::start(address, "/echo");
    until("some are in", SOON, || gateway.metrics().sum("wsgate_connections_total", &[]) > 100.0);
    let asked = Instant::now();
    gateway.terminate();
    until("not ready", Duration::from_secs(1), || http::get(gateway.admin(), "/readyz").status == 503);
    assert!(gateway.wait_exit(SOON).success());
    let met = knocking.stop();
    let first_refused = met.refused.iter().min().map(|at| *at - asked);
    eprintln!("{} opened, {} answered 503, the first refused after {first_refused:?}", met.switched, met.unavailable);
    assert!(met.reset.is_empty(), "{:?}", met.reset);
    assert!(met.switched > 100);
    if let Some(first) = first_refused {
        assert!(first >= Duration::from_secs(2), "refused after {first:?}");
    }
}

/// They are in the kernel's queue when accepting stops, because the process stands still meanwhile.
#[test]
fn whoever_waits_to_be_accepted_when_accepting_stops_is_answered() {
    let mut gateway = gateway("1s", "5s");
    let address = gateway.address();
    let asked = Instant::now();
    gateway.terminate();
    until("not ready", Duration::from_secs(1), || http::get(gateway.admin(), "/readyz").status == 503);
    gateway.signal(Signal::STOP);
    assert!(asked.elapsed() < Duration::from_secs(1));
    let mut waiting: Vec<_> = (0..WAITING).map(|_| wire::Wire::connect(address)).collect();
    for wire in &mut waiting {
        assert!(wire.write(format!("{}\r\n\r\n", wire::request(address, "/echo").join("\r\n")).as_bytes()));
    }
    // The delay is over when it goes on.
    thread::sleep(Duration::from_millis(1200).saturating_sub(asked.elapsed()));
    gateway.signal(Signal::CONT);
    let answers = waiting.iter_mut().map(|wire| wire.head().map(|head| head[9..12].to_owned()));
    let answers: Vec<Option<String>> = answers.collect();
    let answered = |status: &str| answers.iter().filter(|answer| answer.as_deref() == Some(status)).count();
    eprintln!(
        "{} opened, {} answered 503, {} reset",
        answered("101"),
        answered("503"),
        WAITING - answered("101") - answered("503")
    );
    assert_eq!(answered("101") + answered("503"), WAITING);
    for wire in &mut waiting {
        wire.close(1001, "");
    }
    assert!(gateway.wait_exit(SOON).success());
}
