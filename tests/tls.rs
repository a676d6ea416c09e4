//! TLS on listeners: who gets in, who does not, and certificates that are replaced under open connections.

use std::{
    fs,
    io::{Read, Write},
    net::TcpStream,
    os::unix::fs::symlink,
    process::Command,
    sync::Arc,
    time::{Duration, Instant},
};

use rustls::ClientConfig;

use crate::support::{
    Gateway, SOON, Setup, http,
    peer::{LIBRARIES, PeerClient},
    tls::{Authority, Pair, TlsClient, VERSIONS},
    until,
    upstream::{ECHO, HandMade, route_to},
    wire::{BINARY, Wire, request},
};

const LISTENER: &str = "[[listeners]]\naddress = \"127.0.0.1:0\"\n";
const TLS: &str = "tls = { certificate = \"tls/cert.pem\", private_key = \"tls/key.pem\" }\n";
const MUTUAL: &str =
    "tls = { certificate = \"tls/cert.pem\", private_key = \"tls/key.pem\", client_ca = \"tls/ca.pem\" }\n";
const FAILURES: &str = "wsgate_listener_failures_total";
const RELOADS: &str = "wsgate_certificate_reloads_total";

fn put(setup: &Setup, pair: &Pair) {
    setup.publish("tls/cert.pem", pair.certificate.as_bytes());
    setup.publish("tls/key.pem", pair.key.as_bytes());
}

fn start(authority: &Authority) -> Gateway {
    let setup = Setup::new();
    put(&setup, &authority.issue("gateway"));
    setup.start(&format!("{LISTENER}{TLS}{ECHO}[log]\nlevel = \"debug\""))
}

/// The certificate that a new connection is shown.
fn shown(gateway: &Gateway, authority: &Authority) -> Vec<u8> {
    let config = authority.trusting(VERSIONS[1], None);
    let client = TlsClient::connect(TcpStream::connect(gateway.address()).unwrap(), config, "localhost").unwrap();
    client.tls.conn.peer_certificates().unwrap()[0].to_vec()
}

fn der(pair: &Pair) -> Vec<u8> {
    use rustls::pki_types::{CertificateDer, pem::PemObject};
    CertificateDer::from_pem_slice(pair.certificate.as_bytes()).unwrap().to_vec()
}

#[test]
fn clients_are_served_over_tls_1_2_and_1_3_and_the_end_is_said() {
    let authority = Authority::new();
    let gateway = start(&authority);
    for version in VERSIONS {
        let mut client = TlsClient::open(gateway.address(), authority.trusting(version, None), "/echo").unwrap();
        assert_eq!(client.tls.conn.alpn_protocol(), Some(&b"http/1.1"[..]));
        client.echoes("hello");
        client.echoes(&"x".repeat(300_000));
        client.close();
    }
    gateway.wait_empty();
    assert!(gateway.announced().contains("wss://127.0.0.1:"), "{}", gateway.announced());
    let expiry = gateway.metrics().sum("wsgate_certificate_expiry_timestamp_seconds", &[]);
    assert!(expiry > 1e9, "{expiry}");
}

#[test]
fn third_party_clients_are_served_over_tls() {
    let authority = Authority::new();
    let gateway = start(&authority);
    let ca = gateway.folder().path("ca.pem");
    fs::write(&ca, authority.pem()).unwrap();
    for library in LIBRARIES {
        let client = PeerClient::start_trusting(library, &ca);
        let url = format!("wss://localhost:{}/echo", gateway.address().port());
        let answer = client.connect(serde_json::json!({ "url": url }));
        assert_eq!(answer["status"], 101, "{answer}");
        client.roundtrips("text", 500, 100, 32);
        client.roundtrips("binary", 2, 1 << 20, 1);
        assert_eq!(client.close(Some((4999, "farewell"))), (4999, "farewell".to_owned()));
    }
}

#[test]
fn many_messages_in_one_record_are_all_seen() {
    let authority = Authority::new();
    let gateway = start(&authority);
    let mut client = TlsClient::open(gateway.address(), authority.trusting(VERSIONS[1], None), "/echo").unwrap();
    let texts: Vec<String> = (0..1000).map(|number| format!("m{number}")).collect();
    let frames: Vec<(u8, &[u8])> = texts.iter().map(|text| (0x81, text.as_bytes())).collect();
    for _ in 0..20 {
        client.frames(&frames);
        for text in &texts {
            assert_eq!(client.next_text(), *text);
        }
    }
}

#[test]
fn messages_right_behind_the_request_in_its_record_are_seen() {
    let authority = Authority::new();
    let gateway = start(&authority);
    let config = authority.trusting(VERSIONS[1], None);
    let mut client = TlsClient::connect(TcpStream::connect(gateway.address()).unwrap(), config, "localhost").unwrap();
    let early: Vec<u8> =
        ["one", "two"].iter().flat_map(|text| crate::support::wire::encode(0x81, text.as_bytes(), true)).collect();
    let head = format!("{}\r\n\r\n", request("localhost", "/echo").join("\r\n"));
    client.tls.write_all(&[head.as_bytes(), &early].concat()).unwrap();
    assert_eq!(client.answer().unwrap().status, 101);
    assert_eq!([client.next_text(), client.next_text()], ["one", "two"]);
}

#[test]
fn a_client_that_is_cut_off_ends_its_session() {
    let authority = Authority::new();
    let gateway = start(&authority);
    let mut client = TlsClient::open(gateway.address(), authority.trusting(VERSIONS[1], None), "/echo").unwrap();
    client.echoes("hello");
    client.cut();
    gateway.wait_empty();
    let mut client = TlsClient::open(gateway.address(), authority.trusting(VERSIONS[1], None), "/echo").unwrap();
    client.tls.conn.send_close_notify();
    client.tls.flush().unwrap();
    gateway.wait_empty();
}

#[test]
fn a_client_certificate_is_asked_for_checked_and_shown_to_filters() {
    let (authority, stranger) = (Authority::new(), Authority::new());
    let setup = Setup::new().guest("filters/faulty.wasm", "guest_faulty");
    put(&setup, &authority.issue("gateway"));
    setup.publish("tls/ca.pem", authority.pem().as_bytes());
    let gateway = setup.start(&format!("{LISTENER}{MUTUAL}{ECHO}filters = [\"faulty\"]"));
    for version in VERSIONS {
        let known = authority.trusting(version, Some(&authority.issue("device 7")));
        let mut client = TlsClient::open(gateway.address(), known, "/echo").unwrap();
        client.text("handshake");
        let seen: serde_json::Value = serde_json::from_str(&client.next_text()).unwrap();
        assert_eq!(seen["client_certificate"], "CN=device 7,O=Example", "{seen}");
        assert_eq!(seen["secure"], true);
        let foreign = authority.trusting(version, Some(&stranger.issue("device 7")));
        for config in [foreign, authority.trusting(version, None)] {
            assert!(TlsClient::open(gateway.address(), config, "/echo").is_err());
        }
    }
    gateway.wait_metric(FAILURES, &[("reason", "client_certificate")], 2.0);
    gateway.wait_metric(FAILURES, &[("reason", "client_certificate_missing")], 2.0);
}

/// A ClientHello of TLS 1.1 or less: no `supported_versions`.
fn old_hello(minor: u8) -> Vec<u8> {
    let body = [&[3, minor][..], &[7; 32], &[0], &[0, 4, 0xC0, 0x13, 0x00, 0x2F], &[1, 0]].concat();
    let length = u8::try_from(body.len()).unwrap();
    let handshake = [&[1, 0, 0, length][..], &body].concat();
    [&[22, 3, 1, 0, length + 4][..], &handshake].concat()
}

#[test]
fn what_is_no_modern_tls_is_refused() {
    let authority = Authority::new();
    let gateway = start(&authority);
    for minor in [1, 2] {
        let mut stream = TcpStream::connect(gateway.address()).unwrap();
        stream.write_all(&old_hello(minor)).unwrap();
        let mut answer = Vec::new();
        stream.set_read_timeout(Some(SOON)).unwrap();
        let _ = stream.read_to_end(&mut answer);
        // A fatal alert and nothing else.
        assert_eq!((answer.first(), answer.len(), answer.get(5)), (Some(&21), 7, Some(&2)), "{answer:?}");
    }
    gateway.wait_metric(FAILURES, &[("reason", "tls_incompatible")], 2.0);
    let mut plain = Wire::connect(gateway.address());
    plain.write(b"GET /echo HTTP/1.1\r\nHost: localhost\r\n\r\n");
    assert!(plain.ends(SOON));
    gateway.wait_metric(FAILURES, &[("reason", "not_tls")], 1.0);
    gateway.wait_log(&["closed before any request", "not_tls"]);
    let other = TcpStream::connect(gateway.address()).unwrap();
    assert!(TlsClient::connect(other, authority.trusting(VERSIONS[1], None), "example.com").is_err());
    gateway.wait_metric(FAILURES, &[("reason", "server_name")], 1.0);
    let by_address = TcpStream::connect(gateway.address()).unwrap();
    assert!(TlsClient::connect(by_address, authority.trusting(VERSIONS[1], None), "127.0.0.1").is_ok());
}

#[test]
fn a_stalled_handshake_is_closed_within_ten_seconds() {
    let authority = Authority::new();
    let gateway = start(&authority);
    let before = gateway.settled_fds();
    let begun = Instant::now();
    let mut stalled: Vec<Wire> = (0..20).map(|_| Wire::connect(gateway.address())).collect();
    for (index, wire) in stalled.iter_mut().enumerate() {
        wire.write(&old_hello(3)[..index]);
    }
    TlsClient::open(gateway.address(), authority.trusting(VERSIONS[1], None), "/echo").unwrap().close();
    for wire in &mut stalled {
        assert!(wire.ends(Duration::from_secs(15)));
    }
    let took = begun.elapsed();
    assert!((Duration::from_secs(9)..Duration::from_secs(20)).contains(&took), "{took:?}");
    gateway.wait_metric(FAILURES, &[("reason", "timeout")], 20.0);
    gateway.wait_fds("after the stalls", before);
}

#[test]
fn a_new_certificate_serves_new_connections_and_open_ones_go_on() {
    let authority = Authority::new();
    let gateway = start(&authority);
    let mut old: Vec<TlsClient> = (0..10)
        .map(|_| TlsClient::open(gateway.address(), authority.trusting(VERSIONS[1], None), "/echo").unwrap())
        .collect();
    for round in 1..=3 {
        let new = authority.issue("gateway");
        put(gateway.folder(), &new);
        until("the new certificate serves", SOON, || shown(&gateway, &authority) == der(&new));
        gateway.wait_metric(RELOADS, &[("result", "ok")], f64::from(round));
        old.iter_mut().for_each(|client| client.echoes("still here"));
    }
    assert_eq!(gateway.metrics().sum("wsgate_closes_total", &[]), 0.0);
    assert_eq!(gateway.metrics().sum(RELOADS, &[("result", "error")]), 0.0);
    old.into_iter().for_each(TlsClient::close);
}

#[test]
fn a_bad_pair_keeps_the_old_one_loudly() {
    let authority = Authority::new();
    let gateway = start(&authority);
    let before = shown(&gateway, &authority);
    // The certificate alone: it never fits the old key.
    gateway.folder().publish("tls/cert.pem", authority.issue("gateway").certificate.as_bytes());
    gateway.wait_log(&["ERROR", "not replaced", "key.pem: the key is not that of"]);
    gateway.folder().publish("tls/cert.pem", b"garbage");
    gateway.wait_log(&["not replaced", "cert.pem: there is no certificate in it"]);
    fs::remove_file(gateway.folder().path("tls/key.pem")).unwrap();
    gateway.wait_log(&["not replaced", "cannot read", "key.pem"]);
    gateway.wait_metric(RELOADS, &[("result", "error")], 3.0);
    assert_eq!(shown(&gateway, &authority), before);
    assert_eq!(http::get(gateway.admin(), "/readyz").status, 200);
    let new = authority.issue("gateway");
    put(gateway.folder(), &new);
    until("a good pair is taken again", SOON, || shown(&gateway, &authority) == der(&new));
}

#[test]
fn a_config_map_that_is_swapped_is_followed() {
    let authority = Authority::new();
    let (first, second) = (authority.issue("gateway"), authority.issue("gateway"));
    let setup = Setup::new();
    for (version, pair) in [("..1", &first), ("..2", &second)] {
        setup.publish(&format!("tls/{version}/cert.pem"), pair.certificate.as_bytes());
        setup.publish(&format!("tls/{version}/key.pem"), pair.key.as_bytes());
    }
    symlink("..1", setup.path("tls/..data")).unwrap();
    for file in ["cert.pem", "key.pem"] {
        symlink(format!("..data/{file}"), setup.path(&format!("tls/{file}"))).unwrap();
    }
    let gateway = setup.start(&format!("{LISTENER}{TLS}{ECHO}"));
    assert_eq!(shown(&gateway, &authority), der(&first));
    symlink("..2", gateway.folder().path("tls/..tmp")).unwrap();
    fs::rename(gateway.folder().path("tls/..tmp"), gateway.folder().path("tls/..data")).unwrap();
    until("the second certificate serves", SOON, || shown(&gateway, &authority) == der(&second));
    assert_eq!(gateway.metrics().sum(RELOADS, &[("result", "error")]), 0.0);
}

#[test]
fn what_is_wrong_with_the_files_is_said_with_exit_78() {
    let authority = Authority::new();
    let (pair, other) = (authority.issue("gateway"), authority.issue("gateway"));
    let encrypted = pair.key.replace("PRIVATE KEY", "ENCRYPTED PRIVATE KEY");
    let cases: [(&str, &str, &str, &[&str]); 6] = [
        (&pair.key, &pair.key, "", &["cert.pem", "no certificate in it"]),
        (&pair.certificate, &pair.certificate, "", &["key.pem", "no private key in it"]),
        (&pair.certificate, &other.key, "", &["key.pem", "not that of", "cert.pem"]),
        (&pair.certificate, &encrypted, "", &["key.pem", "encrypted", "passphrase"]),
        ("-----BEGIN CERTIFICATE-----\n%\n-----END CERTIFICATE-----\n", &pair.key, "", &["cert.pem", "PEM"]),
        (&pair.certificate, &pair.key, "nobody", &["ca.pem", "no certificate in it"]),
    ];
    for (certificate, key, ca, words) in cases {
        let setup = Setup::new();
        put(&setup, &Pair { certificate: certificate.to_owned(), key: key.to_owned() });
        setup.publish("tls/ca.pem", ca.as_bytes());
        let tls = if ca.is_empty() { TLS } else { MUTUAL };
        expect_78(&setup, &format!("{LISTENER}{tls}[admin]\naddress = \"127.0.0.1:0\"\n{ECHO}"), words);
    }
    let config = format!("{LISTENER}{TLS}[admin]\naddress = \"127.0.0.1:0\"\n{ECHO}");
    expect_78(&Setup::new(), &config, &["cannot read", "cert.pem", "No such file"]);
}

/// `run` and `check` say the same.
fn expect_78(setup: &Setup, config: &str, words: &[&str]) {
    let failure = setup.fails(config);
    let mut check = Command::new(env!("CARGO_BIN_EXE_wsgate"));
    let check = check.args(["check", "--config"]).arg(setup.path("wsgate.toml")).output().unwrap();
    let checked = String::from_utf8_lossy(&check.stderr).into_owned();
    for (code, said) in [(failure.status.code(), &failure.stderr), (check.status.code(), &checked)] {
        assert_eq!(code, Some(78), "{said}");
        assert!(words.iter().all(|word| said.contains(word)), "{words:?} not all in\n{said}");
    }
}

#[test]
fn idle_connections_over_tls_cost_little_memory() {
    const CONNECTIONS: usize = 1000;
    let authority = Authority::new();
    let gateway = start(&authority);
    let config = authority.trusting(VERSIONS[1], None);
    let open = || TlsClient::open(gateway.address(), config.clone(), "/echo").unwrap();
    drop((0..20).map(|_| open()).collect::<Vec<_>>());
    gateway.wait_empty();
    let before = gateway.pss_kib();
    let clients: Vec<TlsClient> = (0..CONNECTIONS).map(|_| open()).collect();
    gateway.wait_metric("wsgate_connections", &[], 1000.0);
    let each = (gateway.pss_kib() - before) as f64 / CONNECTIONS as f64;
    eprintln!("figure: {each:.1} KiB of the gateway's memory for each of {CONNECTIONS} idle connections over TLS");
    assert!(each < 64.0, "{each} KiB");
    drop(clients);
    gateway.wait_empty();
}

#[test]
fn another_client_ca_alone_decides_about_new_connections() {
    let (first, second) = (Authority::new(), Authority::new());
    let setup = Setup::new();
    put(&setup, &first.issue("gateway"));
    setup.publish("tls/ca.pem", first.pem().as_bytes());
    let gateway = setup.start(&format!("{LISTENER}{MUTUAL}{ECHO}"));
    for version in VERSIONS {
        let (of_first, of_second) = (first.issue("device"), second.issue("device"));
        // One configuration has its session tickets: what was let in once must not come back by one.
        let (old, new) = (first.trusting(version, Some(&of_first)), first.trusting(version, Some(&of_second)));
        let gets_in = |config: &Arc<ClientConfig>| TlsClient::open(gateway.address(), Arc::clone(config), "/echo");
        gateway.folder().publish("tls/ca.pem", first.pem().as_bytes());
        until("the first authority counts", SOON, || gets_in(&old).is_ok());
        let mut open = gets_in(&old).unwrap();
        assert!(gets_in(&new).is_err());
        gateway.folder().publish("tls/ca.pem", second.pem().as_bytes());
        until("the second authority counts", SOON, || gets_in(&new).is_ok());
        assert!(gets_in(&old).is_err());
        open.echoes("still here");
    }
    assert_eq!(gateway.metrics().sum(RELOADS, &[("result", "error")]), 0.0);
}

#[test]
fn a_client_behind_tls_that_takes_nothing_is_closed_at_send_timeout_and_holds_no_more_than_its_queue() {
    let upstream = HandMade::start(|mut wire| {
        wire.accept("");
        while wire.send(BINARY, &[0; 65_536]) {}
    });
    let authority = Authority::new();
    let setup = Setup::new();
    put(&setup, &authority.issue("gateway"));
    let limits = "send_timeout = \"2s\"\nupstream_max_payload = \"1MiB\"\nqueue_max_size = \"1MiB\"";
    let gateway = setup.start(&format!("{LISTENER}{TLS}{}\n{limits}", route_to(&upstream.url())));
    for version in VERSIONS {
        let (before, closed) = (gateway.rss_kib(), gateway.metrics().sum("wsgate_closes_total", &[]));
        let clients: Vec<TlsClient> = (0..20)
            .map(|_| TlsClient::open(gateway.address(), authority.trusting(version, None), "/").unwrap())
            .collect();
        let opened = Instant::now();
        let mut most = before;
        until("all are closed", SOON, || {
            most = most.max(gateway.rss_kib());
            gateway.metrics().sum("wsgate_closes_total", &[]) >= closed + 20.0
        });
        assert!(opened.elapsed() > Duration::from_millis(1500), "closed after {:?}", opened.elapsed());
        // The queue, one message above it, and buffers of the sockets' and of TLS: 2 MiB each at the most.
        assert!(most - before < 20 * 2048, "{} KiB more than before", most - before);
        drop(clients);
    }
    assert_eq!(gateway.metrics().sum("wsgate_closes_total", &[("code", "1008"), ("by", "gateway")]), 40.0);
    gateway.wait_metric("wsgate_upstream_connections", &[], 0.0);
}
