//! Where connections go: endpoints that flap, hang and are slow; affinity; the ring; checks.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use crate::support::{
    Gateway, SOON,
    http::{self, Response},
    until,
    upstream::HandMade,
    wire::{self, Wire},
};

/// How an endpoint treats connections.
#[derive(Clone, Copy)]
enum Manner {
    Good,
    /// Breaks every other one off.
    Flapping,
    /// Accepts and says nothing.
    Hanging,
    /// Answers after half a second.
    Slow,
}

/// An endpoint that counts.
struct Endpoint {
    server: HandMade,
    asked: Arc<AtomicUsize>,
    opened: Arc<AtomicUsize>,
    healthy: Arc<AtomicBool>,
}

impl Endpoint {
    fn start(manner: Manner) -> Self {
        let (asked, opened) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let healthy = Arc::new(AtomicBool::new(true));
        let (counts, opens, health) = (Arc::clone(&asked), Arc::clone(&opened), Arc::clone(&healthy));
        let server = HandMade::start(move |mut wire| serve(&mut wire, manner, &counts, &opens, &health));
        Self { server, asked, opened, healthy }
    }

    fn address(&self) -> SocketAddr {
        self.server.address
    }

    fn opened(&self) -> usize {
        self.opened.load(Ordering::SeqCst)
    }
}

fn serve(wire: &mut Wire, manner: Manner, asked: &AtomicUsize, opened: &AtomicUsize, healthy: &AtomicBool) {
    let turn = asked.fetch_add(1, Ordering::SeqCst);
    match manner {
        Manner::Hanging => return while wire.next().is_some() {},
        Manner::Flapping if turn.is_multiple_of(2) => return,
        Manner::Slow => thread::sleep(Duration::from_millis(500)),
        Manner::Flapping | Manner::Good => {}
    }
    // Waits for a request; its head comes in one piece.
    let mut head = [0; 11];
    let Ok(read @ 1..) = wire.stream.peek(&mut head) else { return };
    if head[..read] == *b"GET /health" {
        let status = if healthy.load(Ordering::SeqCst) { "200 OK" } else { "503 Unwell" };
        wire.head();
        wire.write(format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\n\r\n").as_bytes());
        return;
    }
    opened.fetch_add(1, Ordering::SeqCst);
    wire.accept("");
    while let Some(frame) = wire.next() {
        match frame.opcode() {
            wire::CLOSE => {
                wire.send(wire::CLOSE, &frame.payload);
                return;
            }
            wire::PING => drop(wire.send(wire::PONG, &frame.payload)),
            _ => drop(wire.send(frame.opcode(), &frame.payload)),
        }
    }
}

fn config(endpoints: &[&Endpoint], more: &str) -> String {
    let urls: Vec<_> = endpoints.iter().map(|endpoint| endpoint.server.url()).collect();
    format!(
        r#"
        [server]
        workers = 2
        [upstreams.main]
        endpoints = {urls:?}
        {more}
        [[routes]]
        name = "main"
        path = "/*"
        upstream = "main"
        "#
    )
}

/// Opens a WebSocket with these headers beside the usual ones.
fn ask(gateway: &Gateway, more: &[&str]) -> (Wire, Response) {
    let mut wire = Wire::connect(gateway.address());
    let mut request = wire::request(gateway.address(), "/room");
    request.extend(more.iter().map(|line| (*line).to_owned()));
    let response = wire.ask(&request);
    (wire, response)
}

/// Many clients, so many at once; how each request was answered.
fn crowd(gateway: &Gateway, clients: usize, at_once: usize) -> BTreeMap<u16, usize> {
    let address = gateway.address();
    let (left, answers) = (AtomicUsize::new(clients), Mutex::new(BTreeMap::new()));
    thread::scope(|scope| {
        for _ in 0..at_once {
            scope.spawn(|| {
                while left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1)).is_ok() {
                    let mut wire = Wire::connect(address);
                    let response = wire.ask(&wire::request(address, "/room"));
                    if response.status == 101 {
                        wire.text("hello");
                        assert_eq!(wire.next_text(), "hello");
                        wire.close(1000, "");
                        wire.next_close();
                    }
                    *answers.lock().unwrap().entry(response.status).or_default() += 1;
                }
            });
        }
    });
    answers.into_inner().unwrap()
}

fn status(gateway: &Gateway) -> serde_json::Value {
    let answer = http::get(gateway.admin(), "/v1/upstreams");
    assert_eq!(answer.status, 200, "{}", answer.body);
    serde_json::from_str::<serde_json::Value>(&answer.body).unwrap()[0]["endpoints"].clone()
}

/// One connection in `WSGATE_CONNECTIONS` or 400.
fn clients() -> usize {
    std::env::var("WSGATE_CONNECTIONS").map_or(400, |count| count.parse().unwrap())
}

#[test]
fn one_that_flaps_one_that_hangs_and_a_slow_one_cost_few_clients_anything() {
    let (clients, at_once) = (clients(), 32);
    println!("{clients} clients, {at_once} at once");
    for balance in ["least_conn", "round_robin", "random"] {
        let manners = [Manner::Good, Manner::Flapping, Manner::Hanging, Manner::Slow];
        let endpoints = manners.map(Endpoint::start);
        let settings = format!(
            "balance = '{balance}'\nper_try_timeout = '2s'\noutlier_detection = {{ base_ejection_time = '5s' }}\n"
        );
        let gateway = Gateway::start(&config(&endpoints.each_ref(), &settings));
        let start = Instant::now();
        let answers = crowd(&gateway, clients, at_once);
        let took = start.elapsed();
        let (opened, asked) =
            (endpoints.each_ref().map(Endpoint::opened), endpoints.each_ref().map(|e| e.asked.load(Ordering::SeqCst)));
        let metrics = gateway.metrics();
        let ejections = endpoints.each_ref().map(|endpoint| {
            metrics.sum("wsgate_upstream_ejections_total", &[("endpoint", &endpoint.address().to_string())])
        });
        let retries = |result| metrics.sum("wsgate_upstream_retries_total", &[("result", result)]);
        println!(
            "{balance}: answers {answers:?} in {took:?}; good, flapping, hanging, slow: opened {opened:?}, asked {asked:?}, ejections {ejections:?}; retries {}, over budget {}",
            retries("made"),
            retries("over_budget")
        );

        let good = answers.get(&101).copied().unwrap_or_default();
        assert!(good * 100 >= clients * 90, "{balance}: {answers:?}");
        assert!(answers.keys().all(|status| [101, 502, 504].contains(status)), "{balance}: {answers:?}");
        assert!(opened.iter().sum::<usize>() >= good, "{balance}: {opened:?}");
        assert_eq!(opened[2], 0);
        assert!(ejections[2] > 0.0 && ejections[0] == 0.0, "{balance}: {ejections:?}");
        // A dying upstream is not hammered.
        assert!(retries("made") <= (asked.iter().sum::<usize>() / 2) as f64);
        gateway.wait_empty();
        let sessions =
            || status(&gateway).as_array().unwrap().iter().map(|e| e["live_sessions"].as_u64().unwrap()).sum::<u64>();
        until("every lease is given back", SOON, || sessions() == 0);
    }
}

#[test]
fn two_workers_fill_a_new_endpoint_until_all_are_even() {
    let endpoints = [Manner::Good; 3].map(Endpoint::start);
    let healthy = &endpoints[2].healthy;
    healthy.store(false, Ordering::SeqCst);
    let check = "health_check = { path = '/health', interval = '50ms', timeout = '5s', healthy_threshold = 1 }";
    let gateway = Gateway::start(&config(&endpoints.each_ref(), check));
    let third = endpoints[2].address().to_string();
    gateway.wait_metric("wsgate_upstream_healthy", &[("endpoint", &third)], 0.0);
    let mut open: Vec<_> = (0..80).map(|_| Wire::open(gateway.address(), "/")).collect();
    let opened = || endpoints.each_ref().map(Endpoint::opened);
    assert_eq!(opened()[2], 0);
    assert!(opened()[..2].iter().all(|count| (36..=44).contains(count)), "{:?}", opened());
    healthy.store(true, Ordering::SeqCst);
    gateway.wait_metric("wsgate_upstream_healthy", &[("endpoint", &third)], 1.0);
    open.extend((0..40).map(|_| Wire::open(gateway.address(), "/")));
    assert!(opened().iter().all(|count| (36..=44).contains(count)), "{:?}", opened());
    let live: Vec<_> = status(&gateway)
        .as_array()
        .unwrap()
        .iter()
        .map(|endpoint| endpoint["live_sessions"].as_u64().unwrap())
        .collect();
    assert_eq!(live, opened().map(|count| count as u64));
}

#[test]
fn an_endpoint_that_a_reload_adds_is_filled_until_all_are_even() {
    let endpoints = [Manner::Good; 3].map(Endpoint::start);
    let gateway = Gateway::start(&config(&[&endpoints[0], &endpoints[1]], ""));
    let mut open: Vec<_> = (0..80).map(|_| Wire::open(gateway.address(), "/")).collect();
    gateway.reload(&config(&endpoints.each_ref(), ""));
    open.extend((0..40).map(|_| Wire::open(gateway.address(), "/")));
    let opened = endpoints.each_ref().map(Endpoint::opened);
    assert!(opened.iter().all(|count| (36..=44).contains(count)), "{opened:?}");
    // Nobody was closed for it.
    assert_eq!(gateway.metrics().sum("wsgate_connections", &[]), 120.0);
}

#[test]
fn all_unhealthy_is_503_refused_is_502_and_too_slow_is_504() {
    let endpoint = Endpoint::start(Manner::Good);
    endpoint.healthy.store(false, Ordering::SeqCst);
    let check = "health_check = { path = '/health', interval = '50ms', timeout = '5s' }";
    let gateway = Gateway::start(&config(&[&endpoint], check));
    gateway.wait_metric("wsgate_upstream_healthy", &[], 0.0);
    let response = ask(&gateway, &[]).1;
    assert_eq!(response.status, 503);
    assert!(response.header("retry-after").is_some());
    let shown = &status(&gateway)[0];
    assert_eq!((&shown["healthy"], &shown["endpoint"]), (&false.into(), &endpoint.address().to_string().into()));
    assert!(shown["last_error"]["message"].as_str().unwrap().contains("503"), "{shown}");

    let hanging = Endpoint::start(Manner::Hanging);
    let gateway = Gateway::start(&config(&[&hanging], "per_try_timeout = '100ms'"));
    assert_eq!(ask(&gateway, &[]).1.status, 504);

    let address = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let gateway = Gateway::start(&crate::support::upstream::route_to(&format!("ws://{address}")));
    assert_eq!(ask(&gateway, &[]).1.status, 502);
    assert_eq!(status(&gateway)[0]["consecutive_failures"], 1);
}

#[test]
fn a_check_by_websocket_wants_a_pong() {
    let (good, hanging) = (Endpoint::start(Manner::Good), Endpoint::start(Manner::Hanging));
    let check = "health_check = { websocket = '/ws', interval = '50ms', timeout = '500ms' }";
    let gateway = Gateway::start(&config(&[&good, &hanging], check));
    gateway.wait_metric("wsgate_upstream_healthy", &[("endpoint", &hanging.address().to_string())], 0.0);
    until("the good one is asked", SOON, || good.opened() > 2);
    gateway.wait_metric("wsgate_upstream_healthy", &[("endpoint", &good.address().to_string())], 1.0);
}

#[test]
fn the_affinity_cookie_leads_back_and_a_new_one_comes_where_its_endpoint_is_down() {
    let endpoints = [Manner::Good; 3].map(Endpoint::start);
    let settings = "affinity_cookie = { name = 'node', max_age = '1h' }\n\
                    health_check = { path = '/health', interval = '50ms', timeout = '5s', healthy_threshold = 1 }";
    let gateway = Gateway::start(&config(&endpoints.each_ref(), settings));
    let (_first, response) = ask(&gateway, &[]);
    let cookie = response.header("set-cookie").unwrap().to_owned();
    assert!(cookie.ends_with("; Path=/; Max-Age=3600; HttpOnly; SameSite=Lax"), "{cookie}");
    let pair = cookie.split(';').next().unwrap().to_owned();
    assert!(!pair.contains("127") && !pair.contains(&endpoints[0].address().port().to_string()));
    let chosen = endpoints.iter().position(|endpoint| endpoint.opened() == 1).unwrap();
    let header = format!("Cookie: theme=dark; {pair}");
    let mut open = Vec::new();
    for count in 2..20 {
        let (wire, response) = ask(&gateway, &[&header]);
        assert_eq!((response.status, response.header("set-cookie")), (101, None));
        assert_eq!(endpoints[chosen].opened(), count);
        open.push(wire);
    }
    endpoints[chosen].healthy.store(false, Ordering::SeqCst);
    let address = endpoints[chosen].address().to_string();
    gateway.wait_metric("wsgate_upstream_healthy", &[("endpoint", &address)], 0.0);
    let (_other, response) = ask(&gateway, &[&header]);
    let other = response.header("set-cookie").unwrap();
    assert!(response.status == 101 && !other.starts_with(&pair), "{other}");
}

#[test]
fn the_ring_keeps_users_where_they_are_and_moves_only_those_of_the_one_that_went() {
    let endpoints = [Manner::Good; 4].map(Endpoint::start);
    let settings = "balance = 'ring_hash'\nhash_on = 'header:x-user-id'\n\
                    health_check = { path = '/health', interval = '50ms', timeout = '5s' }";
    let gateway = Gateway::start(&config(&endpoints.each_ref(), settings));
    let users = 120;
    // Where each user's connection goes.
    let places = || -> Vec<usize> {
        (0..users)
            .map(|user| {
                let before = endpoints.each_ref().map(Endpoint::opened);
                let (_wire, response) = ask(&gateway, &[&format!("X-User-Id: user-{user}")]);
                assert_eq!(response.status, 101);
                endpoints.iter().zip(before).position(|(endpoint, before)| endpoint.opened() > before).unwrap()
            })
            .collect()
    };
    let first = places();
    assert_eq!(places(), first);
    let gone = 2;
    endpoints[gone].healthy.store(false, Ordering::SeqCst);
    gateway.wait_metric("wsgate_upstream_healthy", &[("endpoint", &endpoints[gone].address().to_string())], 0.0);
    let second = places();
    let moved = first.iter().zip(&second).filter(|(before, after)| before != after).count();
    assert!(first.iter().zip(&second).all(|(before, after)| before == after || *before == gone));
    assert!((10..=55).contains(&moved), "{moved} of {users} moved, about a quarter expected");
}

#[test]
fn a_reload_knows_the_sessions_that_stay_and_fills_an_endpoint_that_is_added() {
    let endpoints = [Manner::Good; 3].map(Endpoint::start);
    let whole = |endpoints: &[&Endpoint]| {
        let own = "filter_dir = 'filters'\n[[listeners]]\naddress = '127.0.0.1:0'\n[admin]\naddress = '127.0.0.1:0'\n";
        config(endpoints, "").replacen("workers = 2\n", &format!("workers = 2\n{own}"), 1)
    };
    let [one, two, three] = endpoints.each_ref();
    let gateway = Gateway::start(&whole(&[one, two]));
    let mut open: Vec<_> = (0..60).map(|_| Wire::open(gateway.address(), "/")).collect();
    gateway.folder().publish("wsgate.toml", whole(&[one, two, three]).as_bytes());
    let answer = gateway.order("POST", "/v1/reload", "{}");
    assert_eq!(answer.status, 200, "{}", answer.body);
    let live = || -> Vec<u64> {
        status(&gateway).as_array().unwrap().iter().map(|e| e["live_sessions"].as_u64().unwrap()).collect()
    };
    assert_eq!((live().len(), live().iter().sum::<u64>()), (3, 60));
    open.extend((0..30).map(|_| Wire::open(gateway.address(), "/")));
    assert!(live().iter().all(|count| (27..=33).contains(count)), "{:?}", live());
    for wire in &mut open {
        wire.text("still here");
        assert_eq!(wire.next_text(), "still here");
    }
    drop(open);
    until("every session is over", SOON, || live() == [0, 0, 0]);
}
