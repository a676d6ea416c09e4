//! Rooms of many: everybody hears everybody once and in order, whatever happens beside them.

use std::{
    cell::Cell,
    collections::HashMap,
    rc::Rc,
    time::{Duration, Instant},
};

use futures_util::{SinkExt, StreamExt, future::join_all};
use tokio_tungstenite::tungstenite::{Message, protocol::frame::coding::CloseCode};

use crate::support::{
    Gateway, SOON, Setup, guest, guests,
    load::{self, Socket, Times},
    until,
};

/// A run on a busy machine, with a gateway that was built for debugging.
const PATIENCE: Duration = Duration::from_secs(90);

fn gateway(more: &str) -> Gateway {
    let setup = Setup::new().guest("filters/room.wasm", "guest_room");
    setup.start(&format!(
        "[server]\nworkers = 2\n[[routes]]\nname = \"chat\"\npath = \"/chat/{{room}}\"\ntarget = \"filters\"\n\
         filters = [\"room\"]\n{more}\n\
         [filters.room]\nallow = {{ topics = [\"room.*\"], send = true }}"
    ))
}

/// What a client heard: the numbers of each speaker, in the order in which they came.
type Heard = HashMap<usize, Vec<usize>>;

fn parse(text: &str) -> (usize, usize) {
    let (speaker, number) = text.split_once(' ').unwrap_or_else(|| panic!("{text:?}"));
    (speaker.parse().unwrap(), number.split(' ').next().unwrap().parse().unwrap())
}

/// Says so many messages while it listens, until it has heard `expected`.
async fn talk(me: usize, socket: Socket, count: usize, expected: usize, pace: Duration) -> Heard {
    let (mut send, mut receive) = socket.split();
    let speak = async {
        for number in 0..count {
            send.send(Message::text(format!("{me} {number}"))).await.unwrap();
            if !pace.is_zero() {
                tokio::time::sleep(pace).await;
            }
        }
    };
    let listen = async {
        let mut heard = Heard::new();
        for _ in 0..expected {
            let message = receive.next().await.expect("the room goes on").unwrap();
            assert!(message.is_text(), "client {me} got {message:?} after {heard:?}");
            let (speaker, number) = parse(message.to_text().unwrap());
            heard.entry(speaker).or_default().push(number);
        }
        heard
    };
    let ((), heard) = tokio::time::timeout(PATIENCE, async { tokio::join!(speak, listen) }).await.expect("in time");
    heard
}

/// Everybody else, all of them, once and in order.
fn check(me: usize, heard: &Heard, clients: usize, count: usize) {
    assert_eq!(heard.len(), clients - 1, "client {me} heard {:?}", heard.keys());
    assert!(!heard.contains_key(&me), "client {me} heard itself");
    let all: Vec<usize> = (0..count).collect();
    for (speaker, numbers) in heard {
        assert_eq!(numbers, &all, "what client {me} heard of {speaker}");
    }
}

async fn join(gateway: &Gateway, room: &str, clients: usize) -> Vec<Socket> {
    let path = format!("/chat/{room}");
    let sockets = join_all((0..clients).map(|_| load::open(gateway.address(), &path))).await;
    gateway.wait_metric("wsgate_topic_subscriptions", &[], clients as f64);
    sockets
}

#[test]
fn fifty_clients_hear_everybody_elses_messages_once_and_in_order() {
    const CLIENTS: usize = 50;
    const EACH: usize = 200;
    let gateway = gateway("");
    load::run(async {
        let sockets = join(&gateway, "fifty", CLIENTS).await;
        assert_eq!(gateway.metrics().sum("wsgate_topics", &[]), 1.0);
        let began = Instant::now();
        let talks = sockets
            .into_iter()
            .enumerate()
            .map(|(me, socket)| talk(me, socket, EACH, (CLIENTS - 1) * EACH, Duration::ZERO));
        let heard = join_all(talks).await;
        let took = began.elapsed();
        for (me, heard) in heard.iter().enumerate() {
            check(me, heard, CLIENTS, EACH);
        }
        let deliveries = CLIENTS * (CLIENTS - 1) * EACH;
        eprintln!("{deliveries} deliveries in {took:.1?}: {:.0} a second", deliveries as f64 / took.as_secs_f64());
        gateway.wait_metric("wsgate_deliveries_total", &[("result", "delivered")], deliveries as f64);
        gateway.wait_metric("wsgate_deliveries_total", &[("result", "dropped")], 0.0);
    });
    gateway.wait_metric("wsgate_topic_subscriptions", &[], 0.0);
    gateway.wait_metric("wsgate_topics", &[], 0.0);
}

#[test]
fn a_reload_in_the_middle_of_traffic_loses_nothing() {
    const CLIENTS: usize = 12;
    const EACH: usize = 400;
    const RELOADS: usize = 4;
    let gateway = gateway("");
    let original = guest("guest_room");
    let other = guests::other(&original);
    load::run(async {
        let sockets = join(&gateway, "reloaded", CLIENTS).await;
        let pace = Duration::from_millis(15);
        let talks =
            sockets.into_iter().enumerate().map(|(me, socket)| talk(me, socket, EACH, (CLIENTS - 1) * EACH, pace));
        let talks = async { (join_all(talks).await, Instant::now()) };
        let reloads = async {
            let mut done = Vec::new();
            for round in 1..=RELOADS {
                let bytes = if round % 2 == 1 { &other } else { &original };
                gateway.folder().publish("filters/room.wasm", bytes);
                let deadline = Instant::now() + SOON;
                while gateway.metrics().sum("wsgate_filter_generation", &[]) < (round + 1) as f64 {
                    assert!(Instant::now() < deadline, "generation {round}");
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
                done.push(Instant::now());
            }
            done
        };
        let began = Instant::now();
        let ((heard, ended), reloads) = tokio::join!(talks, reloads);
        let amid = reloads.iter().filter(|at| **at < ended).count();
        eprintln!("{amid} of {RELOADS} reloads within {:.1?} of talk", ended - began);
        assert!(amid > 0);
        for (me, heard) in heard.iter().enumerate() {
            check(me, heard, CLIENTS, EACH);
        }
    });
    assert_eq!(gateway.metrics().sum("wsgate_filter_faults_total", &[]), 0.0);
    assert_eq!(gateway.metrics().sum("wsgate_filter_generation", &[]), (RELOADS + 1) as f64);
}

/// Beside a client that does not read, one speaks and the others listen, each message after the last was heard by all.
/// Returns how long that took for each, the client that did not read, and the others.
async fn talk_beside_a_sleeper(gateway: &Gateway, messages: usize) -> (Times, Socket, Vec<Socket>) {
    const LISTENERS: usize = 5;
    let mut sockets = join(gateway, "slow", LISTENERS + 2).await;
    let sleeper = sockets.swap_remove(0);
    let mut speaker = sockets.swap_remove(0);
    let mut times = Vec::with_capacity(messages);
    for number in 0..messages {
        let text = format!("0 {number} {}", "x".repeat(15_000));
        let sent = Instant::now();
        speaker.send(Message::text(text)).await.unwrap();
        for listener in &mut sockets {
            let message = listener.next().await.expect("a listener stays").unwrap();
            assert_eq!(parse(message.to_text().unwrap()), (0, number));
        }
        times.push(sent.elapsed());
    }
    sockets.push(speaker);
    (Times::new(times), sleeper, sockets)
}

fn deliveries(gateway: &Gateway, result: &str) -> f64 {
    gateway.metrics().sum("wsgate_deliveries_total", &[("result", result)])
}

/// Messages that a subscriber did not get: for want of room in its mailbox or in its queue.
fn lost(gateway: &Gateway) -> f64 {
    deliveries(gateway, "dropped") + deliveries(gateway, "discarded")
}

/// A sleeper's socket takes some megabytes before its queue fills.
const BEYOND_SOCKETS: usize = 1_500;
const SMALL: &str = "client_max_payload = \"16KiB\"\nupstream_max_payload = \"16KiB\"\nqueue_max_size = \"64KiB\"\nsend_timeout = \"60s\"";

#[test]
fn a_subscriber_that_stops_reading_is_closed_and_delays_nobody() {
    let gateway = gateway(SMALL);
    load::run(async {
        let (times, mut sleeper, _others) = talk_beside_a_sleeper(&gateway, BEYOND_SOCKETS).await;
        eprintln!("publication to five listeners beside a sleeper: {times}");
        assert!(times.quantile(0.99) < Duration::from_secs(1), "{times}");
        let metrics = gateway.metrics();
        assert_eq!(metrics.sum("wsgate_topic_subscriptions", &[]), 6.0, "the sleeper is no subscriber any more");
        // What was queued before the close is still there for it, where the five seconds of a close are not over.
        let mut next = 0;
        while let Some(Ok(message)) = sleeper.next().await {
            if let Message::Close(frame) = message {
                assert_eq!(frame.map(|frame| frame.code), Some(CloseCode::Again));
                break;
            }
            assert_eq!(parse(message.to_text().unwrap()), (0, next));
            next += 1;
        }
        assert!(next > 0);
    });
    gateway.wait_metric("wsgate_closes_total", &[("code", "1013"), ("by", "gateway")], 1.0);
    gateway.wait_log(&["client_overflow"]);
}

#[test]
fn a_subscriber_that_stops_reading_misses_the_oldest_where_the_route_says_so() {
    let gateway = gateway(&format!("{SMALL}\npush_overflow = \"drop_oldest\""));
    load::run(async {
        let (times, mut sleeper, _others) = talk_beside_a_sleeper(&gateway, BEYOND_SOCKETS).await;
        eprintln!("publication to five listeners beside a sleeper: {times}");
        let lost = lost(&gateway);
        assert!(lost > 0.0);
        let mut heard = Vec::new();
        while heard.last() != Some(&(BEYOND_SOCKETS - 1)) {
            let message = sleeper.next().await.expect("it is not closed").unwrap();
            heard.push(parse(message.to_text().unwrap()).1);
        }
        assert!(heard.is_sorted_by(|a, b| a < b));
        assert_eq!(heard.len() as f64, BEYOND_SOCKETS as f64 - lost);
    });
    assert_eq!(gateway.metrics().sum("wsgate_closes_total", &[("code", "1013")]), 0.0);
}

#[test]
fn connections_that_come_and_go_leave_no_topic_behind() {
    const AT_ONCE: usize = 40;
    const ROUNDS: usize = 50;
    let gateway = gateway("");
    let opened = Rc::new(Cell::new(0));
    load::run(async {
        let clients = (0..AT_ONCE).map(|client| {
            let (gateway, opened) = (&gateway, opened.clone());
            async move {
                for round in 0..ROUNDS {
                    let path = format!("/chat/{}", (client + round) % 7);
                    let mut socket = load::open(gateway.address(), &path).await;
                    socket.send(Message::text(format!("{client} {round}"))).await.unwrap();
                    opened.set(opened.get() + 1);
                    // Every third vanishes.
                    if round % 3 > 0 {
                        socket.close(None).await.unwrap();
                        while let Some(Ok(_)) = socket.next().await {}
                    }
                }
            }
        });
        join_all(clients).await;
    });
    assert_eq!(opened.get(), AT_ONCE * ROUNDS);
    gateway.wait_empty();
    for gauge in ["wsgate_topics", "wsgate_topic_subscriptions"] {
        gateway.wait_metric(gauge, &[], 0.0);
    }
    until("all are counted", SOON, || {
        gateway.metrics().sum("wsgate_connections_total", &[]) == (AT_ONCE * ROUNDS) as f64
    });
}

#[test]
fn what_is_relayed_is_neither_dropped_nor_starved_by_what_is_pushed() {
    const RELAYED: usize = 1_000;
    const PUSHED: usize = 3_000;
    let upstream = load::upstream(|_, mut socket| async move {
        for number in 0..RELAYED {
            let text = format!("1 {number} {}", "r".repeat(10_000));
            if socket.send(Message::text(text)).await.is_err() {
                return;
            }
        }
        while let Some(Ok(_)) = socket.next().await {}
    });
    let setup = Setup::new().guest("filters/room.wasm", "guest_room");
    let gateway = setup.start(&format!(
        "[server]\nworkers = 2\n[upstreams.u]\nendpoints = [\"{upstream}\"]\n\
         [[routes]]\nname = \"relayed\"\npath = \"/relayed/{{room}}\"\nupstream = \"u\"\nfilters = [\"room\"]\n{SMALL}\n\
         push_overflow = \"drop_oldest\"\n\
         [[routes]]\nname = \"chat\"\npath = \"/chat/{{room}}\"\ntarget = \"filters\"\nfilters = [\"room\"]\n\
         [filters.room]\nallow = {{ topics = [\"room.*\"] }}"
    ));
    load::run(async {
        let mut sleeper = load::open(gateway.address(), "/relayed/mixed").await;
        let mut speaker = load::open(gateway.address(), "/chat/mixed").await;
        for number in 0..PUSHED {
            speaker.send(Message::text(format!("0 {number} {}", "p".repeat(10_000)))).await.unwrap();
        }
        let taken = || deliveries(&gateway, "delivered") + deliveries(&gateway, "dropped");
        until("everything is taken up", PATIENCE, || taken() >= PUSHED as f64);
        let lost = lost(&gateway);
        assert!(lost > 0.0, "the client does not read");
        let (mut relayed, mut pushed) = (Vec::new(), Vec::new());
        while relayed.len() < RELAYED || pushed.last() != Some(&(PUSHED - 1)) {
            let message = sleeper.next().await.expect("it stays open").unwrap();
            match parse(message.to_text().unwrap()) {
                (1, number) => relayed.push(number),
                (_, number) => pushed.push(number),
            }
        }
        assert_eq!(relayed, (0..RELAYED).collect::<Vec<_>>());
        assert!(pushed.is_sorted_by(|a, b| a < b));
        assert_eq!(pushed.len() as f64, PUSHED as f64 - lost);
    });
}
