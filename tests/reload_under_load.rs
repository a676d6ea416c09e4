//! Filters are replaced while fifty connections are open: no message is lost, doubled or reordered, nothing is closed,
//! and nobody waits for it.
//!
//! What is called a pause here: how long a message took through the gateway in one direction, from the moment at which
//! its sender handed it over until its receiver had it. Both ends live in this process and share its clock. Times with
//! a replacement and times without one take turns and are equally long. The worst time of a message without one is the
//! machine's and this program's own; what the replacements add to it is the gateway's.

use std::{
    cell::Cell,
    collections::VecDeque,
    rc::Rc,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use futures_util::{SinkExt, StreamExt};
use tokio::time::{sleep, timeout_at};
use tokio_tungstenite::tungstenite::Message;

use crate::support::{
    Gateway, Setup, guest, http,
    load::{self, Socket},
    upstream::route_to,
};

const BUSY: usize = 25;
const PUSHED_TO: usize = 12;
const SILENT: usize = 13;
const IN_FLIGHT: usize = 32;
const REPLACEMENTS: usize = 20;
const BROKEN: usize = 5;
/// The upstream collects messages for this long before it answers, so that 32 are really under way all the time.
const HOLD: Duration = Duration::from_millis(40);
const PUSH_EVERY: Duration = Duration::from_millis(10);
/// After a file is published, sessions move: this belongs to the replacement.
const SETTLING: Duration = Duration::from_millis(200);
/// What replacements may add to the worst time of a message: three of four, since a machine that is shared stops now and
/// then for longer than that without any of them. What a replacement does, each of them does.
const PAUSE: Duration = Duration::from_millis(20);
/// Whoever waited longer has been forgotten.
const FORGOTTEN: Duration = Duration::from_secs(1);
const SWEPT_WITHIN: Duration = Duration::from_secs(10);

/// The worst time of a message through the gateway, in each direction, since it was last asked.
#[derive(Default)]
struct Worst {
    to_upstream: AtomicU64,
    to_client: AtomicU64,
}

impl Worst {
    fn note(slot: &AtomicU64, began: Instant, sent_ns: &str) {
        let sent: u64 = sent_ns.parse().expect("the time that the sender wrote");
        slot.fetch_max(now(began) - sent, Ordering::Relaxed);
    }

    fn take(&self) -> Duration {
        let take = |slot: &AtomicU64| Duration::from_nanos(slot.swap(0, Ordering::Relaxed));
        take(&self.to_upstream).max(take(&self.to_client))
    }
}

/// The worst time in each of the periods.
#[derive(Default)]
struct Periods {
    quiet: Vec<Duration>,
    reloading: Vec<Duration>,
}

fn sorted(periods: &[Duration]) -> Vec<Duration> {
    let mut sorted = periods.to_vec();
    sorted.sort();
    sorted
}

impl Periods {
    /// What replacements add, at the given place of the sorted periods.
    fn added(&self, place: impl Fn(&[Duration]) -> Duration) -> Duration {
        place(&sorted(&self.reloading)).saturating_sub(place(&sorted(&self.quiet)))
    }
}

fn worst(sorted: &[Duration]) -> Duration {
    sorted[sorted.len() - 1]
}

fn upper_quartile(sorted: &[Duration]) -> Duration {
    sorted[sorted.len() * 3 / 4]
}

fn median(sorted: &[Duration]) -> Duration {
    sorted[sorted.len() / 2]
}

impl std::fmt::Display for Periods {
    fn fmt(&self, to: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let describe = |periods: &[Duration]| {
            let sorted = sorted(periods);
            format!("{:.1?} (median {:.1?})", worst(&sorted), median(&sorted))
        };
        write!(to, "{} quiet, {} reloading", describe(&self.quiet), describe(&self.reloading))
    }
}

#[expect(clippy::cast_possible_truncation, reason = "nanoseconds of a test that takes seconds")]
fn now(began: Instant) -> u64 {
    began.elapsed().as_nanos() as u64
}

/// What every connection shares.
#[derive(Clone)]
struct Clock {
    began: Instant,
    worst: Arc<Worst>,
}

/// `/busy`: holds messages for a moment, then answers all in order. `/push`: sends by itself. Else: only listens.
async fn serve(clock: Clock, path: String, mut socket: Socket) {
    match path.as_str() {
        "/push" => {
            for number in 0_u64.. {
                let text = format!("push {number} @{}", now(clock.began));
                if socket.send(Message::text(text)).await.is_err() {
                    return;
                }
                // Answers the closing handshake, when it comes to that.
                let next = tokio::time::Instant::now() + PUSH_EVERY;
                while let Ok(Some(received)) = timeout_at(next, socket.next()).await {
                    if received.is_err() {
                        return;
                    }
                }
            }
        }
        _ => hold_and_answer(clock, socket).await,
    }
}

/// Messages: `m NUMBER SENT_NS …`, as the to-upstream chain left them.
async fn hold_and_answer(clock: Clock, mut socket: Socket) {
    let mut held = VecDeque::new();
    loop {
        let answer_at = tokio::time::Instant::now() + HOLD;
        loop {
            match timeout_at(answer_at, socket.next()).await {
                Ok(Some(Ok(Message::Text(text)))) => {
                    let sent = text.split(' ').nth(2).expect("a time");
                    Worst::note(&clock.worst.to_upstream, clock.began, sent);
                    held.push_back(text);
                }
                Ok(Some(Ok(_))) => {}
                Ok(Some(Err(_)) | None) => return,
                Err(_) => break,
            }
        }
        for text in held.drain(..) {
            let answer = format!("{text} @{}", now(clock.began));
            if socket.feed(Message::text(answer)).await.is_err() {
                return;
            }
        }
        if socket.flush().await.is_err() {
            return;
        }
    }
}

/// One word of what came through the chain, in order.
struct Words<'a>(std::str::Split<'a, char>);

impl Words<'_> {
    fn next(&mut self) -> &str {
        self.0.next().expect("another word")
    }

    fn expect(&mut self, word: &str, message: &str) {
        let found = self.next();
        assert_eq!(found, word, "in {message:?}");
    }

    /// `v1` or `v2`.
    fn version(&mut self) {
        let found = self.next();
        assert!(matches!(found, "v1" | "v2"), "{found}");
    }
}

/// How far a connection is, and when it has to stop.
#[derive(Default)]
struct Progress {
    stop: Cell<bool>,
    answered: Cell<u64>,
    pushed: Cell<u64>,
}

fn question(number: u64, began: Instant) -> Message {
    Message::text(format!("m {number} {} secret-4711", now(began)))
}

/// `stamp` counts in both directions; the number that it gives must be the message's own plus one, before and after.
fn check_answer(number: u64, text: &str, clock: &Clock) {
    let count = format!("#{}", number + 1);
    let mut words = Words(text.split(' '));
    words.expect("m", text);
    words.expect(&number.to_string(), text);
    words.next();
    words.expect("[redacted]", text);
    words.expect(&count, text);
    words.version();
    let answered = words.next().strip_prefix('@').expect("the upstream's time").to_owned();
    Worst::note(&clock.worst.to_client, clock.began, &answered);
    words.expect(&count, text);
    words.version();
    assert_eq!(words.0.next(), None, "in {text:?}");
}

async fn next_text(socket: &mut Socket) -> String {
    loop {
        match socket.next().await.expect("the connection stays open").expect("no error") {
            Message::Text(text) => return text.to_string(),
            // Answered by the library.
            Message::Ping(_) => {}
            other => panic!("not a text message: {other:?}"),
        }
    }
}

/// Keeps 32 messages under way; stops once told to, with every answer received.
async fn busy(mut socket: Socket, clock: Clock, progress: Rc<Progress>) -> Socket {
    let mut sent = 0;
    let mut answered = 0;
    loop {
        while sent < answered + IN_FLIGHT as u64 && !progress.stop.get() {
            socket.send(question(sent, clock.began)).await.unwrap();
            sent += 1;
        }
        if answered == sent {
            return socket;
        }
        check_answer(answered, &next_text(&mut socket).await, &clock);
        answered += 1;
        progress.answered.set(progress.answered.get() + 1);
    }
}

async fn pushed_to(mut socket: Socket, clock: Clock, progress: Rc<Progress>) -> Socket {
    let mut number = 0_u64;
    while !progress.stop.get() {
        let text = next_text(&mut socket).await;
        let mut words = Words(text.split(' '));
        words.expect("push", &text);
        words.expect(&number.to_string(), &text);
        let sent = words.next().strip_prefix('@').expect("the upstream's time").to_owned();
        Worst::note(&clock.worst.to_client, clock.began, &sent);
        words.expect(&format!("#{}", number + 1), &text);
        words.version();
        number += 1;
        progress.pushed.set(progress.pushed.get() + 1);
    }
    socket
}

/// Waits on the test's own runtime: blocking calls to the admin API are made on another thread.
async fn until(what: &str, within: Duration, gateway: &Arc<Gateway>, check: fn(&Gateway, u64) -> bool, than: u64) {
    let deadline = Instant::now() + within;
    loop {
        let asked = gateway.clone();
        if tokio::task::spawn_blocking(move || check(&asked, than)).await.unwrap() {
            return;
        }
        assert!(Instant::now() < deadline, "not within {within:?}: {what}; {}", gateway.filters());
        sleep(Duration::from_millis(20)).await;
    }
}

fn reloads(gateway: &Gateway, result: &str) -> u64 {
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a small counter")]
    let count = gateway.metrics().sum("wsgate_filter_reloads_total", &[("filter", "stamp"), ("result", result)]) as u64;
    count
}

fn has_published(gateway: &Gateway, more_than: u64) -> bool {
    reloads(gateway, "ok") > more_than
}

fn has_refused(gateway: &Gateway, more_than: u64) -> bool {
    reloads(gateway, "error") > more_than
}

/// Every session and every instance of the generation that serves; nothing of any other.
fn is_swept(gateway: &Gateway, sessions: u64) -> bool {
    ["redact", "stamp"].into_iter().all(|name| {
        let filter = gateway.filter(name);
        let sum = |serving: bool, key: &str| -> u64 {
            let generations = filter["generations"].as_array().expect("generations");
            let these = generations.iter().filter(|generation| generation["serving"] == serving);
            these.map(|generation| generation[key].as_u64().expect("a count")).sum()
        };
        sum(true, "sessions") == sessions && sum(false, "sessions") == 0 && sum(false, "instances") == 0
    })
}

/// Replaces `stamp` twenty times by its two versions in turn, with five broken files between.
async fn replace(gateway: &Arc<Gateway>, clock: &Clock) -> Periods {
    let mut periods = Periods::default();
    let versions = [guest("stamp-v2"), guest("stamp")];
    let broken: [&[u8]; BROKEN] =
        [b"", b"garbage", &versions[0][..100_000], b"\0asm\x01\0\0\0", &guest("guest_wrong_world")];
    let (loaded, refused) = (reloads_off_thread(gateway, "ok").await, reloads_off_thread(gateway, "error").await);
    for number in 0..REPLACEMENTS {
        let began = Instant::now();
        if number % (REPLACEMENTS / BROKEN) == 2 {
            let which = number / (REPLACEMENTS / BROKEN);
            gateway.folder().publish("filters/stamp.wasm", broken[which]);
            until("a broken file is refused", SWEPT_WITHIN, gateway, has_refused, refused + which as u64).await;
        }
        gateway.folder().publish("filters/stamp.wasm", &versions[number % 2]);
        until("a good file is published", SWEPT_WITHIN, gateway, has_published, loaded + number as u64).await;
        sleep(SETTLING).await;
        periods.reloading.push(clock.worst.take());
        sleep(began.elapsed()).await;
        periods.quiet.push(clock.worst.take());
    }
    periods
}

async fn reloads_off_thread(gateway: &Arc<Gateway>, result: &'static str) -> u64 {
    let asked = gateway.clone();
    tokio::task::spawn_blocking(move || reloads(&asked, result)).await.unwrap()
}

#[test]
fn twenty_reloads_under_load_lose_nothing_and_pause_nobody() {
    let clock = Clock { began: Instant::now(), worst: Arc::default() };
    let at_upstream = clock.clone();
    let upstream = load::upstream(move |path, socket| serve(at_upstream.clone(), path, socket));
    let filters = r#"
        filters = ["redact", "stamp"]
        [filters.redact]
        config = { patterns = ["secret-\\d+"] }
        [filters.stamp]
        config = { direction = "both", show_version = true }
    "#;
    let setup = Setup::new().guest("filters/redact.wasm", "redact").guest("filters/stamp.wasm", "stamp");
    let gateway = Arc::new(setup.start(&format!("{}{filters}", route_to(&upstream))));
    let before_kib = gateway.rss_kib();
    load::run(under_load(gateway.clone(), clock));
    let after_kib = gateway.rss_kib();
    println!("figure: resident memory before {before_kib} KiB, after {after_kib} KiB");
    let metrics = gateway.metrics();
    assert_eq!(metrics.sum("wsgate_connections_total", &[]), (BUSY + PUSHED_TO + SILENT) as f64);
    assert_eq!(metrics.sum("wsgate_filter_faults_total", &[]), 0.0);
}

async fn under_load(gateway: Arc<Gateway>, clock: Clock) {
    let progress = Rc::new(Progress::default());
    let address = gateway.address();
    let mut tasks = Vec::new();
    for _ in 0..BUSY {
        let socket = load::open(address, "/busy").await;
        tasks.push(tokio::task::spawn_local(busy(socket, clock.clone(), progress.clone())));
    }
    for _ in 0..PUSHED_TO {
        let socket = load::open(address, "/push").await;
        tasks.push(tokio::task::spawn_local(pushed_to(socket, clock.clone(), progress.clone())));
    }
    let mut silent = Vec::new();
    for _ in 0..SILENT {
        silent.push(load::open(address, "/silent").await);
    }

    sleep(Duration::from_secs(1)).await;
    clock.worst.take();
    let (answered, replacing) = (progress.answered.get(), Instant::now());
    let periods = replace(&gateway, &clock).await;
    let rate = (progress.answered.get() - answered) as f64 / replacing.elapsed().as_secs_f64();
    // Each replacement is older than its settling; only the last can still be under way.
    let (last, sessions) = (Instant::now(), (BUSY + PUSHED_TO + SILENT) as u64);
    until("every session is on the new generation, the old ones are gone", SWEPT_WITHIN, &gateway, is_swept, sessions)
        .await;
    let swept = last.elapsed();

    progress.stop.set(true);
    for task in tasks {
        drop(task.await.expect("this connection saw nothing wrong"));
    }
    for mut socket in silent {
        socket.send(question(0, clock.began)).await.unwrap();
        check_answer(0, &next_text(&mut socket).await, &clock);
    }

    let (longest, pause, usual) = (periods.added(worst), periods.added(upper_quartile), periods.added(median));
    println!(
        "figure: {rate:.0} round trips/s on {BUSY} connections, {REPLACEMENTS} replacements, {BROKEN} broken files"
    );
    println!(
        "figure: {} answers, {} pushes, each once, in order and counted",
        progress.answered.get(),
        progress.pushed.get()
    );
    println!("figure: worst time of a message through the gateway: {periods}");
    println!(
        "figure: pause by reloads: worst {longest:.1?}, upper quartile {pause:.1?}, median {usual:.1?} (allowed {PAUSE:?}); swept {swept:.1?} after the last had settled"
    );
    assert!(progress.answered.get() > 10_000 && progress.pushed.get() > 1000, "hardly any load");
    assert!(pause <= PAUSE, "reloads paused messages: a quarter of them for {pause:?}, half of them for {usual:?}");
    assert!(longest <= FORGOTTEN, "a reload paused a message for {longest:?}");
    let ready = tokio::task::spawn_blocking(move || http::get(gateway.admin(), "/readyz").status).await.unwrap();
    assert_eq!(ready, 200);
}
