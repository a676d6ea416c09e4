//! A gateway that is killed, and clients that come and go without end.

use std::{
    net::SocketAddr,
    sync::atomic::{AtomicUsize, Ordering},
    time::{Duration, Instant},
};

use futures_util::{SinkExt, StreamExt};
use rand::random_range;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};
use tokio_tungstenite::tungstenite::Message;

use crate::support::{Gateway, SOON, Setup, load, until, upstream::ECHO, wire};

const CLIENTS: usize = 5000;
/// Connections of the short churn; `WSGATE_CHURN` makes it longer.
const CHURN: usize = 30_000;

/// Comes back as a good client does: at once, and after a refusal when it was told to. The times it was refused.
async fn come_back(address: SocketAddr) -> (load::Socket, usize) {
    let mut refused = 0;
    loop {
        let wait = match try_open(address).await {
            Some(Ok(socket)) => return (socket, refused),
            Some(Err(seconds)) => {
                refused += 1;
                Duration::from_millis(seconds * 1000)
            }
            // Nobody listens yet.
            None => Duration::from_millis(random_range(50..150)),
        };
        tokio::time::sleep(wait).await;
    }
}

/// Refused: `Retry-After`. `None`: no answer.
async fn try_open(address: SocketAddr) -> Option<Result<load::Socket, u64>> {
    let mut stream = TcpStream::connect(address).await.ok()?;
    let request = wire::request(address, "/echo").join("\r\n");
    stream.write_all(format!("{request}\r\n\r\n").as_bytes()).await.ok()?;
    let mut head = Vec::new();
    while !head.windows(4).any(|window| window == b"\r\n\r\n") {
        if stream.read_buf(&mut head).await.ok()? == 0 {
            return None;
        }
    }
    let head = String::from_utf8(head).ok()?.to_ascii_lowercase();
    if head.starts_with("http/1.1 101") {
        let role = tokio_tungstenite::tungstenite::protocol::Role::Client;
        return Some(Ok(load::Socket::from_raw_socket(stream, role, None).await));
    }
    let after = head.lines().find_map(|line| line.strip_prefix("retry-after: ")?.trim().parse().ok());
    Some(Err(after.expect("a refusal says when to come back")))
}

/// Reliability line 44. `docs/operations.md` has the time.
#[test]
fn after_a_kill_five_thousand_clients_come_back_at_the_pace_that_is_configured() {
    let config = |address: &str| {
        format!("[[listeners]]\naddress = \"{address}\"\n[server.limits]\nhandshakes_per_second = 1000\n{ECHO}")
    };
    let gateway = Gateway::start(&config("127.0.0.1:0"));
    let address = gateway.address();
    let refusals = AtomicUsize::new(0);
    let taken = load::run(async {
        let opening = (0..CLIENTS).map(|_| come_back(address));
        let sockets = futures_util::future::join_all(opening).await;
        let folder = gateway.kill();
        let killed = Instant::now();
        let returning: Vec<_> = sockets
            .into_iter()
            .map(|(mut socket, _)| {
                tokio::task::spawn_local(async move {
                    while socket.next().await.is_some_and(|next| next.is_ok()) {}
                    let (mut socket, refused) = come_back(address).await;
                    let back = killed.elapsed();
                    socket.send(Message::text("back")).await.unwrap();
                    assert_eq!(socket.next().await.unwrap().unwrap(), Message::text("back"));
                    (socket, back, refused)
                })
            })
            .collect();
        let started = tokio::task::spawn_blocking(move || folder.start(&config(&address.to_string())));
        let gateway = started.await.unwrap();
        let ready = killed.elapsed();
        let mut times = Vec::with_capacity(CLIENTS);
        let mut open = Vec::with_capacity(CLIENTS);
        for client in returning {
            let (socket, back, refused) = client.await.unwrap();
            refusals.fetch_add(refused, Ordering::Relaxed);
            times.push(back);
            open.push(socket);
        }
        eprintln!("ready after {ready:?}; back: {}", load::Times::new(times.clone()));
        assert_eq!(gateway.metrics().sum("wsgate_connections", &[]), CLIENTS as f64);
        times
    });
    eprintln!("{} refusals on the way", refusals.load(Ordering::Relaxed));
    let last = taken.iter().max().unwrap();
    // A thousand at once and a thousand a second: not all at once, and nobody is lost.
    assert!(*last >= Duration::from_secs(3), "{last:?}");
    assert!(*last <= Duration::from_secs(60), "{last:?}");
}

/// Reliability line 46.
#[test]
fn clients_that_come_and_go_leave_nothing_behind() {
    let setup = Setup::new().guest("filters/stamp.wasm", "stamp").guest("filters/redact.wasm", "redact");
    let gateway = setup.start(&format!("{ECHO}filters = [\"redact\", \"stamp\"]\n"));
    let address = gateway.address();
    let total = std::env::var("WSGATE_CHURN").map_or(CHURN, |count| count.parse().unwrap());
    let round = || {
        load::run(async {
            let clients = (0..50).map(|_| async move {
                for _ in 0..total / 500 {
                    let mut socket = load::open(address, "/echo").await;
                    socket.send(Message::text("card 4111111111111111")).await.unwrap();
                    assert!(socket.next().await.unwrap().unwrap().to_text().unwrap().starts_with("card [redacted]"));
                    // Some leave as one should, others just go.
                    if random_range(0..2) == 0 {
                        socket.close(None).await.unwrap();
                    }
                }
            });
            futures_util::future::join_all(clients).await;
        });
        until("nobody is left", SOON, || gateway.metrics().sum("wsgate_connections", &[]) == 0.0);
        (gateway.rss_kib(), gateway.fds())
    };
    let rounds: Vec<(u64, usize)> = (0..10).map(|_| round()).collect();
    eprintln!("{total} connections; resident KiB and descriptors after each tenth: {rounds:?}");
    // The first rounds warm up what is kept for the next.
    let (early, late) = (rounds[4].0, rounds[9].0);
    let grown_bytes = late.saturating_sub(early) * 1024;
    let later = (total / 2) as u64;
    assert!(grown_bytes / later < 64, "{} bytes a connection; {rounds:?}", grown_bytes / later);
    assert!(rounds[9].1 <= rounds[4].1 + 4, "{rounds:?}");
}
