//! How upstreams are dialled: TLS with certificates from files, Unix sockets, connections dialled ahead.

use std::{
    fs,
    net::{SocketAddr, TcpListener},
    os::{
        linux::net::SocketAddrExt,
        unix::net::{SocketAddr as UnixAddress, UnixListener, UnixStream},
    },
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use crate::support::{
    Gateway, SOON, Setup,
    served::{self, Served, TlsConfig},
    tls::{Authority, Pair},
    until,
    wire::{CLOSE, Wire, header, request},
};

const SPARES: &str = "wsgate_upstream_spare_connections";
const SPARES_ENDED: &str = "wsgate_upstream_spare_connections_ended_total";
const RELOADS: &str = "wsgate_upstream_certificate_reloads_total";

/// One route to one endpoint; keys of the upstream.
fn to(endpoint: &str, keys: &str) -> String {
    format!(
        "[upstreams.main]\nendpoints = [\"{endpoint}\"]\n{keys}\n[[routes]]\nname = \"main\"\npath = \"/*\"\nupstream = \"main\"\n"
    )
}

fn ws(address: SocketAddr) -> String {
    format!("ws://{address}")
}

fn put(setup: &Setup, authority: &Authority, own: &Pair) {
    setup.publish("tls/ca.pem", authority.pem().as_bytes());
    setup.publish("tls/client.pem", own.certificate.as_bytes());
    setup.publish("tls/client.key", own.key.as_bytes());
}

const CA: &str = "tls = { ca = \"tls/ca.pem\" }";
const MUTUAL: &str =
    "tls = { ca = \"tls/ca.pem\", certificate = \"tls/client.pem\", private_key = \"tls/client.key\" }";

/// A gateway before `treat`, over each kind of way.
fn over_each_way(keys: &str, treat: impl Fn(Served) + Send + Sync + Clone + 'static) -> [(&'static str, Gateway); 3] {
    let authority = Authority::new();
    let setup = || {
        let setup = Setup::new();
        put(&setup, &authority, &authority.issue("gateway"));
        setup
    };
    let plain = ws(served::tcp(treat.clone()));
    let secure = served::tls(&TlsConfig::new(&authority.issue("server"), None), treat.clone());
    let local = setup();
    served::unix(&local.path("app.sock"), treat);
    let socket = format!("unix:{}", local.path("app.sock").display());
    [
        ("TCP", setup().start(&to(&plain, keys))),
        ("TLS", setup().start(&to(&format!("wss://{secure}"), &format!("{CA}\n{keys}")))),
        ("Unix", local.start(&to(&socket, keys))),
    ]
}

fn status(gateway: &Gateway, path: &str) -> u16 {
    Wire::connect(gateway.address()).ask(&request("client.example", path)).status
}

#[test]
fn messages_pass_and_the_host_is_shown_as_configured_over_each_way() {
    for (keys, shown) in
        [("", "client.example"), ("host_header = \"inner\"", "inner"), ("host_header = \"endpoint\"", "")]
    {
        for (way, gateway) in over_each_way(keys, Served::echo) {
            let (mut client, _) = Wire::open_with(gateway.address(), &request("client.example", "/room?x=1"));
            let head = client.next_text();
            assert!(head.starts_with("GET /room?x=1 HTTP/1.1\r\n"), "{way}: {head}");
            let host = head.lines().find_map(|line| line.strip_prefix("host: ")).unwrap();
            match (shown, way) {
                ("", "Unix") => assert_eq!(host, "localhost"),
                ("", _) => assert!(host.starts_with("127.0.0.1:"), "{way}: {host}"),
                _ => assert_eq!(host, shown, "{way}"),
            }
            let long = "x".repeat(300_000);
            for text in ["hello", &long] {
                client.text(text);
                assert_eq!(client.next_text(), text, "{way}");
            }
            client.close(1000, "");
            assert_eq!(client.next_close().0, 1000, "{way}");
            drop(client);
            gateway.wait_empty();
            gateway.wait_metric("wsgate_upstream_connections", &[], 0.0);
        }
    }
}

#[test]
fn a_reset_in_the_middle_of_a_message_is_1011_and_no_part_of_it_arrives() {
    // A frame that ends too early, and a message whose last frame never comes.
    for first_byte in [0x81, 0x01] {
        let gateways = over_each_way("", move |mut served| {
            let Some(head) = served.head() else { return };
            served.switch(&head);
            let declared = if first_byte == 0x81 { 1000 } else { 500 };
            served.write(&[&header(first_byte, declared, false)[..], &[b'x'; 500]].concat());
            // Closing a socket with something unread in it resets the connection.
            served.stream.wait_readable();
        });
        for (way, gateway) in gateways {
            let mut client = Wire::open(gateway.address(), "/");
            client.text("go");
            let frame = client.next().expect("a Close frame");
            assert_eq!(frame.opcode(), CLOSE, "{way}: half a message arrived: {frame:?}");
            assert_eq!(frame.close().0, 1011, "{way}");
            gateway.wait_empty();
        }
    }
}

#[test]
fn an_endpoint_that_refuses_is_502_and_one_that_says_nothing_504() {
    let silent = over_each_way("connect_timeout = \"300ms\"", |mut served| while served.next().is_some() {});
    for (way, gateway) in silent {
        let folder = gateway.kill();
        let config = fs::read_to_string(folder.path("wsgate.toml")).unwrap();
        let gateway = folder.start(&config.replace("path = \"/*\"", "path = \"/*\"\nhandshake_timeout = \"500ms\""));
        assert_eq!(status(&gateway, "/"), 504, "{way}");
    }
    let nobody = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let setup = Setup::new();
    let authority = Authority::new();
    put(&setup, &authority, &authority.issue("gateway"));
    drop(UnixListener::bind(setup.path("left.sock")).unwrap());
    let (left, none) = (setup.path("left.sock"), setup.path("none.sock"));
    let stranger = served::tls(&TlsConfig::new(&Authority::new().issue("server"), None), Served::echo);
    for (endpoint, keys) in [
        (ws(nobody), ""),
        (format!("wss://{nobody}"), CA),
        (format!("wss://{stranger}"), CA),
        (format!("unix:{}", left.display()), ""),
        (format!("unix:{}", none.display()), ""),
    ] {
        let folder = Setup::new();
        put(&folder, &authority, &authority.issue("gateway"));
        assert_eq!(status(&folder.start(&to(&endpoint, keys)), "/"), 502, "{endpoint}");
    }
    // A server that accepts TCP and never answers a ClientHello.
    let deaf = TcpListener::bind("127.0.0.1:0").unwrap();
    let keys = format!("{CA}\nconnect_timeout = \"300ms\"");
    let gateway = setup.start(&to(&format!("wss://{}", deaf.local_addr().unwrap()), &keys));
    assert_eq!(status(&gateway, "/"), 504);
}

#[test]
fn an_endpoint_asks_for_a_certificate_and_gets_the_configured_one_by_the_configured_name() {
    let authority = Authority::new();
    let server = TlsConfig::new(&authority.issue("server"), Some(&authority));
    let address = served::tls(&server, |served| {
        assert_eq!(served.asked_for.as_deref(), Some("localhost"));
        served.echo();
    });
    let started = |keys: &str| {
        let setup = Setup::new();
        put(&setup, &authority, &authority.issue("gateway"));
        setup.start(&to(&format!("wss://{address}"), keys))
    };
    let mutual = MUTUAL.replace(" }", ", server_name = \"localhost\" }");
    let gateway = started(&mutual);
    assert_eq!(status(&gateway, "/"), 101);
    assert!(gateway.metrics().sum("wsgate_upstream_certificate_expiry_timestamp_seconds", &[]) > 1e9);
    assert_ne!(status(&started(&CA.replace(" }", ", server_name = \"localhost\" }")), "/"), 101);
    assert_eq!(status(&started(&mutual.replace("localhost", "elsewhere.example")), "/"), 502);
}

#[test]
fn files_that_change_count_for_new_connections_and_bad_ones_change_nothing() {
    let (old, new) = (Authority::new(), Authority::new());
    let server = TlsConfig::new(&old.issue("server"), Some(&old));
    let address = served::tls(&server, Served::echo);
    let setup = Setup::new();
    put(&setup, &old, &old.issue("gateway"));
    let gateway = setup.start(&to(&format!("wss://{address}"), &format!("{MUTUAL}\nspare_connections = 2")));
    let (mut open, _) = Wire::open_with(gateway.address(), &request("localhost", "/"));
    open.next_text();
    gateway.wait_metric(SPARES, &[], 2.0);
    server.replace(&new.issue("server"), Some(&new));
    put(gateway.folder(), &new, &new.issue("gateway"));
    gateway.wait_metric(RELOADS, &[("upstream", "main"), ("result", "ok")], 1.0);
    // Spare connections that were made with the old files are not used.
    assert_eq!(status(&gateway, "/"), 101);
    assert!(gateway.metrics().sum(SPARES_ENDED, &[("result", "expired")]) >= 1.0);
    gateway.folder().publish("tls/ca.pem", b"garbage");
    gateway.wait_log(&["ERROR", "not replaced", "main", "ca.pem: there is no certificate in it"]);
    gateway.folder().publish("tls/ca.pem", new.pem().as_bytes());
    gateway.folder().publish("tls/client.key", old.issue("other").key.as_bytes());
    gateway.wait_log(&["ERROR", "not replaced", "client.key: the key is not that of"]);
    gateway.wait_metric(RELOADS, &[("result", "error")], 2.0);
    assert_eq!(status(&gateway, "/"), 101);
    open.text("still here");
    assert_eq!(open.next_text(), "still here");
}

#[test]
fn files_that_do_not_do_are_refused_with_exit_78() {
    let authority = Authority::new();
    for (file, bytes, words) in [
        ("ca.pem", "nobody", ["upstream main", "ca.pem: there is no certificate in it"]),
        ("client.key", "", ["upstream main", "client.key: there is no private key in it"]),
        ("client.pem", "-", ["upstream main", "client.pem: there is no certificate in it"]),
    ] {
        let setup = Setup::new();
        put(&setup, &authority, &authority.issue("gateway"));
        setup.publish(&format!("tls/{file}"), bytes.as_bytes());
        let listen = "[[listeners]]\naddress = \"127.0.0.1:0\"\n[admin]\naddress = \"127.0.0.1:0\"\n";
        let failure = setup.fails(&format!("{listen}{}", to("wss://localhost", MUTUAL)));
        assert_eq!(failure.status.code(), Some(78), "{}", failure.stderr);
        assert!(words.iter().all(|word| failure.stderr.contains(word)), "{words:?} not in {}", failure.stderr);
    }
}

#[test]
fn a_unix_socket_may_have_an_abstract_name_and_requests_a_path_before_their_own() {
    let name = format!("wsgate-test-{}", std::process::id());
    let address = UnixAddress::from_abstract_name(&name).unwrap();
    served::serve_unix(UnixListener::bind_addr(&address).unwrap(), Served::echo);
    let gateway = Gateway::start(&to(&format!("unix:@{name}:/base/"), ""));
    let mut client = Wire::open(gateway.address(), "/room");
    assert!(client.next_text().starts_with("GET /base/room HTTP/1.1\r\n"));
}

#[test]
fn a_unix_socket_whose_backlog_is_full_is_waited_for() {
    let setup = Setup::new();
    let path = setup.path("app.sock");
    let listener = super::support::load::run(async {
        let socket = tokio::net::UnixSocket::new_stream()?;
        socket.bind(&path)?;
        socket.listen(1)?.into_std()
    });
    let listener = listener.unwrap();
    listener.set_nonblocking(false).unwrap();
    // One more than it has room for would wait.
    let waiting = [UnixStream::connect(&path).unwrap(), UnixStream::connect(&path).unwrap()];
    let gateway = setup.start(&to(&format!("unix:{}", path.display()), ""));
    let address = gateway.address();
    let asked = thread::spawn(move || Wire::connect(address).ask(&request("localhost", "/")).status);
    thread::sleep(Duration::from_millis(200));
    assert!(!asked.is_finished(), "refused where it could have waited");
    drop(waiting);
    served::serve_unix(listener, Served::echo);
    assert_eq!(asked.join().unwrap(), 101);
}

/// The median of how long 100 handshakes take, four at a time.
fn median_handshake(gateway: &Gateway) -> Duration {
    let address = gateway.address();
    let ask = move || {
        let measure = |_| {
            let mut wire = Wire::connect(address);
            let begun = Instant::now();
            assert_eq!(wire.ask(&request("localhost", "/")).status, 101);
            begun.elapsed()
        };
        (0..25).map(measure).collect::<Vec<_>>()
    };
    let asking: Vec<_> = (0..4).map(|_| thread::spawn(ask)).collect();
    let mut took: Vec<Duration> = asking.into_iter().flat_map(|asked| asked.join().unwrap()).collect();
    took.sort();
    took[took.len() / 2]
}

#[test]
fn spare_connections_save_a_handshake_the_round_trips_of_tcp_and_tls() {
    let each_way = Duration::from_millis(20);
    let authority = Authority::new();
    let plain = served::long_way(served::tcp(Served::echo), each_way);
    let server = TlsConfig::new(&authority.issue("server"), None);
    let secure = served::long_way(served::tls(&server, Served::echo), each_way);
    for (endpoint, tls, saved) in [(ws(plain), "", 35), (format!("wss://{secure}"), CA, 70)] {
        let started = |spare: usize| {
            let setup = Setup::new();
            put(&setup, &authority, &authority.issue("gateway"));
            setup.start(&to(&endpoint, &format!("{tls}\nspare_connections = {spare}")))
        };
        let without = median_handshake(&started(0));
        let gateway = started(16);
        gateway.wait_metric(SPARES, &[("upstream", "main")], 16.0);
        let with = median_handshake(&gateway);
        eprintln!("figure: {endpoint}: p50 of a handshake {without:?}, with spare connections {with:?}");
        assert!(with + Duration::from_millis(saved) <= without, "{endpoint}: {with:?} against {without:?}");
        assert!(gateway.metrics().sum(SPARES_ENDED, &[("result", "used")]) >= 90.0);
    }
}

#[test]
fn a_spare_connection_that_dies_between_check_and_use_fails_no_handshake() {
    // Of what is sent on the first connections nothing is answered, or what servers say to those who are silent.
    for answer in ["", "HTTP/1.1 408 Request Timeout\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"] {
        let seen = Arc::new(AtomicUsize::new(0));
        let address = served::tcp(move |mut served| {
            if seen.fetch_add(1, Ordering::Relaxed) >= 1 {
                return served.echo();
            }
            served.head();
            served.write(answer.as_bytes());
        });
        let gateway = Gateway::start(&to(&ws(address), "spare_connections = 1"));
        gateway.wait_metric(SPARES, &[], 1.0);
        assert_eq!(status(&gateway, "/"), 101, "{answer}");
        gateway.wait_metric(SPARES_ENDED, &[("result", "lost")], 1.0);
        gateway.wait_metric(SPARES, &[], 1.0);
    }
}

#[test]
fn a_new_connection_that_is_closed_without_an_answer_is_not_tried_again() {
    let seen = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&seen);
    let address = served::tcp(move |mut served| {
        counted.fetch_add(1, Ordering::Relaxed);
        served.head();
    });
    assert_eq!(status(&Gateway::start(&to(&ws(address), "")), "/"), 502);
    assert_eq!(seen.load(Ordering::Relaxed), 1);
}

#[test]
fn spare_connections_that_the_endpoint_closes_are_dialled_anew_ever_more_slowly() {
    let seen = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&seen);
    // Closed at once, or after some unasked bytes.
    let address = served::tcp(move |mut served| {
        if counted.fetch_add(1, Ordering::Relaxed).is_multiple_of(2) {
            served.write(b"220 hello\r\n");
        }
    });
    let gateway = Gateway::start(&to(&ws(address), "spare_connections = 4"));
    until("some were closed", SOON, || gateway.metrics().sum(SPARES_ENDED, &[("result", "closed")]) >= 8.0);
    let (before, begun) = (seen.load(Ordering::Relaxed), Instant::now());
    thread::sleep(Duration::from_secs(1));
    let each_second = (seen.load(Ordering::Relaxed) - before) as f64 / begun.elapsed().as_secs_f64();
    assert!(each_second < 50.0, "{each_second} dials a second");
    gateway.wait_metric(SPARES, &[], 0.0);
}

#[test]
fn spare_connections_come_once_an_endpoint_is_there_and_go_with_their_age() {
    let reserved = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = reserved.local_addr().unwrap();
    drop(reserved);
    let gateway = Gateway::start(&to(&ws(address), "spare_connections = 3"));
    assert_eq!(gateway.metrics().sum(SPARES, &[]), 0.0);
    let listener = TcpListener::bind(address).unwrap();
    let accepted = thread::spawn(move || (0..6).map(|_| listener.accept().unwrap().0).collect::<Vec<_>>());
    gateway.wait_metric(SPARES, &[], 3.0);
    // After their age the three are replaced by three others.
    until("they were replaced", Duration::from_secs(30), || accepted.is_finished());
    until("the old ones are counted", SOON, || gateway.metrics().sum(SPARES_ENDED, &[("result", "expired")]) >= 3.0);
    drop(accepted.join().unwrap());
    assert_eq!(gateway.metrics().sum(SPARES_ENDED, &[("result", "used")]), 0.0);
}
