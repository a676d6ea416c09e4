//! Names, with a DNS server of our own.

use std::{
    net::{Ipv4Addr, SocketAddr},
    sync::{Arc, Mutex},
    time::Duration,
};

use simple_dns::{
    CLASS, Name, Packet, PacketFlag, RCODE, ResourceRecord,
    rdata::{A, RData, SRV},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, UdpSocket},
    runtime::Handle,
    time::{Instant, sleep},
};

use super::{
    super::{ConnectError, DialError, Upstreams},
    fake::{PLENTY, configured, good_101, plain, request, run, serve, soon},
};
use crate::config::{self, Balance};

/// What the server says, by name.
type Zone = Arc<Mutex<Vec<(&'static str, RData<'static>)>>>;

fn a(address: [u8; 4]) -> RData<'static> {
    RData::A(A { address: Ipv4Addr::from(address).into() })
}

fn srv(priority: u16, weight: u16, port: u16, target: &'static str) -> RData<'static> {
    RData::SRV(SRV { priority, weight, port, target: Name::new_unchecked(target) })
}

/// A server that knows a zone; `cut`: by UDP it answers that there is more than fits. An empty zone is one that is away.
async fn dns(zone: &Zone, cut: bool) -> SocketAddr {
    let (udp, tcp) = loop {
        let udp = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        // Somebody may have the port for TCP.
        if let Ok(tcp) = TcpListener::bind(udp.local_addr().unwrap()).await {
            break (udp, tcp);
        }
    };
    let address = udp.local_addr().unwrap();
    let by_tcp = Arc::clone(zone);
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = tcp.accept().await.unwrap();
            let mut asked = vec![0; stream.read_u16().await.unwrap().into()];
            stream.read_exact(&mut asked).await.unwrap();
            let answer = answer(&asked, &by_tcp, false).unwrap();
            stream.write_u16(u16::try_from(answer.len()).unwrap()).await.unwrap();
            stream.write_all(&answer).await.unwrap();
        }
    });
    let zone = Arc::clone(zone);
    tokio::spawn(async move {
        let mut asked = [0; 512];
        loop {
            let (length, from) = udp.recv_from(&mut asked).await.unwrap();
            if let Some(answer) = answer(&asked[..length], &zone, cut) {
                udp.send_to(&answer, from).await.unwrap();
            }
        }
    });
    address
}

fn answer(asked: &[u8], zone: &Zone, cut: bool) -> Option<Vec<u8>> {
    let asked = Packet::parse(asked).unwrap();
    let question = asked.questions[0].clone();
    let mut answer = Packet::new_reply(asked.id());
    answer.questions.push(question.clone());
    let zone = zone.lock().unwrap();
    if zone.is_empty() {
        return None;
    }
    let name = question.qname.to_string();
    let named = || zone.iter().filter(|(known, _)| *known == name);
    if named().next().is_none() {
        *answer.rcode_mut() = RCODE::NameError;
    }
    if cut {
        answer.set_flags(PacketFlag::TRUNCATION);
        return answer.build_bytes_vec().ok();
    }
    for (known, data) in named().filter(|(_, data)| simple_dns::QTYPE::TYPE(data.type_code()) == question.qtype) {
        answer.answers.push(ResourceRecord::new(Name::new_unchecked(known), CLASS::IN, 1, data.clone()));
    }
    answer.build_bytes_vec().ok()
}

fn of(host: &str, port: u16, resolver: SocketAddr) -> config::Upstream {
    let endpoint = config::Endpoint::new(false, host.to_owned(), port);
    let srv = host.starts_with('_');
    let upstream = configured(vec![config::Endpoint { srv, ..endpoint }]);
    config::Upstream {
        resolver: Some(resolver),
        dns_interval: Duration::from_secs(1),
        connect_timeout: PLENTY,
        ..upstream
    }
}

fn labels(upstreams: &Upstreams) -> Vec<String> {
    upstreams.status()[0].endpoints.iter().map(|endpoint| endpoint.endpoint.clone()).collect()
}

async fn until(what: &str, condition: impl Fn() -> bool) {
    let deadline = Instant::now() + PLENTY;
    while !condition() {
        assert!(Instant::now() < deadline, "not in time: {what}");
        sleep(Duration::from_millis(10)).await;
    }
}

#[test]
fn an_upstream_follows_the_addresses_of_its_name_and_keeps_them_while_dns_is_away() {
    run(async {
        let zone: Zone = Arc::new(Mutex::new(vec![("chat.test", a([127, 0, 0, 1])), ("chat.test", a([127, 0, 0, 2]))]));
        let upstreams = plain(of("chat.test", 9001, dns(&zone, false).await));
        upstreams.start(None, &Handle::current());
        let two = ["chat.test:9001@127.0.0.1", "chat.test:9001@127.0.0.2"];
        until("two addresses", || labels(&upstreams) == two).await;
        zone.lock().unwrap()[0].1 = a([127, 0, 0, 3]);
        let others = ["chat.test:9001@127.0.0.2", "chat.test:9001@127.0.0.3"];
        until("another address", || labels(&upstreams) == others).await;
        // A name that is gone, and a server that is.
        for away in [vec![("other.test", a([127, 0, 0, 9]))], Vec::new()] {
            *zone.lock().unwrap() = away;
            let failed = || upstreams.by_name["chat"].metrics.not_resolved.get();
            let before = failed();
            until("a look-up that fails", || failed() > before).await;
            assert_eq!(labels(&upstreams), others);
        }
    });
}

#[test]
fn a_name_is_resolved_when_it_is_first_used_also_by_tcp() {
    run(async {
        for cut in [false, true] {
            let (address, _served) = serve(|head| good_101(head).into()).await;
            let zone: Zone = Arc::new(Mutex::new(vec![("chat.test", a([127, 0, 0, 1]))]));
            let upstreams = plain(of("chat.test", address.port(), dns(&zone, cut).await));
            upstreams.dial("chat", request(&[]), soon()).await.unwrap();
            assert_eq!(upstreams.status()[0].endpoints[0].addresses, ["127.0.0.1"]);
        }
    });
}

#[test]
fn srv_records_say_where_how_much_and_who_only_if_nobody_else() {
    run(async {
        let zone: Zone = Arc::new(Mutex::new(vec![
            ("_chat._tcp.test", srv(1, 10, 9001, "one.test")),
            ("_chat._tcp.test", srv(1, 30, 9002, "two.test")),
            ("_chat._tcp.test", srv(2, 5, 9003, "spare.test")),
            ("_chat._tcp.test", srv(1, 10, 9004, "gone.test")),
            ("one.test", a([127, 0, 0, 1])),
            ("two.test", a([127, 0, 0, 2])),
            ("spare.test", a([127, 0, 0, 3])),
        ]));
        let mut config = of("_chat._tcp.test", 80, dns(&zone, false).await);
        config.balance = Balance::RoundRobin;
        let mut chooser = super::balance::Chooser::new(config);
        chooser.upstream.endpoints(soon()).await.unwrap();
        let endpoints = chooser.upstream.set.load_full();
        let shown: Vec<_> =
            endpoints.endpoints.iter().map(|endpoint| (&*endpoint.label, endpoint.weight, endpoint.priority)).collect();
        let expected =
            [("one.test:9001@127.0.0.1", 2, 1), ("two.test:9002@127.0.0.2", 6, 1), ("spare.test:9003@127.0.0.3", 1, 2)];
        assert_eq!(shown, expected);
        assert_eq!(chooser.shares(80), [20, 60, 0]);
        chooser.set_healthy(0, false);
        chooser.set_healthy(1, false);
        assert_eq!(chooser.shares(80), [0, 0, 80]);
    });
}

#[test]
fn a_look_up_that_fails_is_told_at_once_for_a_second() {
    run(async {
        let zone: Zone = Arc::new(Mutex::new(vec![("other.test", a([127, 0, 0, 1]))]));
        let upstreams = plain(of("chat.test", 1, dns(&zone, false).await));
        for _ in 0..3 {
            let result = upstreams.dial("chat", request(&[]), soon()).await;
            assert!(matches!(result, Err(DialError::Connect { source: ConnectError::Resolve(_), .. })), "{result:?}");
        }
        assert_eq!(upstreams.by_name["chat"].metrics.not_resolved.get(), 1);
    });
}
