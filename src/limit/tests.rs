use std::thread;

use proptest::prelude::{any, proptest};

use super::*;
use crate::{config::LimitAction, message::Message};

fn limits() -> Limits {
    Limits::new(&Arc::new(Metrics::new().unwrap()))
}

fn limiter(limits: RouteLimits) -> Arc<RouteLimiter> {
    self::limits().route("r", &limits)
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn rate(amount: u64, burst: u64, by: LimitBy, action: LimitAction) -> RateLimit {
    RateLimit { amount, per: Duration::from_secs(1), burst, by, action, code: 4429 }
}

fn user(issuer: &str, subject: Option<&str>) -> Identity {
    Identity {
        subject: subject.map(str::to_owned),
        issuer: Some(issuer.to_owned()),
        scopes: Vec::new(),
        expires_at: None,
        claims: "{}".to_owned(),
        token_id: None,
        session_id: None,
        signed_by: None,
    }
}

#[test]
fn a_thousand_addresses_of_one_64_meet_one_limit() {
    let most = ConnectionLimits { connections_per_ip: Some(20), ..ConnectionLimits::default() };
    let limiter = limiter(RouteLimits { connections: most, ..RouteLimits::default() });
    let mut places = Vec::new();
    for host in 0..1_000 {
        let mut place = Places::default();
        let address = ip(&format!("2001:db8:0:7:{:x}::{host:x}", host * 7 % 65_536));
        if limiter.enter(address, &mut place).is_ok() {
            places.push(place);
        }
    }
    assert_eq!(places.len(), 20);
    assert_eq!(limiter.enter(ip("2001:db8:0:8::1"), &mut Places::default()), Ok(()));
    places.clear();
    assert_eq!(limiter.open(), (0, 0), "nothing is kept of who left");
}

#[test]
fn addresses_of_ipv4_are_counted_each_by_itself_in_either_spelling() {
    let most = ConnectionLimits { connections_per_ip: Some(1), ..ConnectionLimits::default() };
    let limiter = limiter(RouteLimits { connections: most, ..RouteLimits::default() });
    let (mut first, mut second) = (Places::default(), Places::default());
    limiter.enter(ip("192.0.2.1"), &mut first).unwrap();
    assert_eq!(limiter.enter(ip("::ffff:192.0.2.1"), &mut second), Err(Limit::ConnectionsPerIp));
    limiter.enter(ip("192.0.2.2"), &mut second).unwrap();
}

#[test]
fn a_refused_connection_holds_no_place() {
    let most = ConnectionLimits { connections: Some(1), connections_per_ip: Some(5), ..ConnectionLimits::default() };
    let limiter = limiter(RouteLimits { connections: most, ..RouteLimits::default() });
    let mut held = Places::default();
    limiter.enter(ip("192.0.2.1"), &mut held).unwrap();
    for _ in 0..10 {
        assert_eq!(limiter.enter(ip("192.0.2.2"), &mut Places::default()), Err(Limit::Connections));
    }
    assert_eq!(limiter.open(), (1, 1));
    drop(held);
    assert_eq!(limiter.open(), (0, 0));
    limiter.enter(ip("192.0.2.2"), &mut Places::default()).unwrap();
}

#[test]
fn users_are_told_apart_by_issuer_and_subject() {
    let most = ConnectionLimits { connections_per_user: Some(1), ..ConnectionLimits::default() };
    let limiter = limiter(RouteLimits { connections: most, ..RouteLimits::default() });
    let mut places = Places::default();
    let mut enter = |identity: &Identity, from: &str| limiter.enter_user(identity, ip(from), &mut places);
    enter(&user("a", Some("bc")), "192.0.2.1").unwrap();
    enter(&user("ab", Some("c")), "192.0.2.1").unwrap();
    assert_eq!(enter(&user("a", Some("bc")), "192.0.2.9"), Err(Limit::ConnectionsPerUser));
    enter(&user("a", None), "192.0.2.1").unwrap();
    assert_eq!(enter(&user("b", None), "192.0.2.1"), Err(Limit::ConnectionsPerUser), "its address is all it has");
}

#[test]
fn handshakes_of_one_address_take_nothing_from_the_others() {
    let most = ConnectionLimits {
        handshakes_per_second: Some(10),
        handshakes_per_second_per_ip: Some(3),
        ..ConnectionLimits::default()
    };
    let limiter = limiter(RouteLimits { connections: most, ..RouteLimits::default() });
    let asked = |address: &str, times: usize| (0..times).filter(|_| limiter.handshake(ip(address)).is_ok()).count();
    assert_eq!(asked("192.0.2.1", 100), 3);
    assert_eq!(asked("192.0.2.2", 100), 3);
    assert_eq!(asked("192.0.2.3", 100), 3);
    assert_eq!(limiter.handshake(ip("192.0.2.4")), Ok(()));
    assert_eq!(limiter.handshake(ip("192.0.2.4")), Err(Limit::Handshakes));
}

#[test]
fn a_configuration_that_names_the_route_again_finds_its_counts() {
    let all = limits();
    let own = RouteLimits { messages: Some(rate(1, 3, LimitBy::Ip, LimitAction::Drop)), ..RouteLimits::default() };
    let passed = |limiter: &Arc<RouteLimiter>| {
        let mut rates = limiter.message_rates(ip("192.0.2.1"), None).unwrap();
        (0..10).filter(|_| matches!(rates.pass(Message::text("x")), Passed::Now(_))).count()
    };
    let first = all.route("r", &own);
    assert_eq!(passed(&first), 3);
    assert_eq!(passed(&all.route("r", &own)), 0, "the burst is not refilled");
    assert_eq!(passed(&all.route("another", &own)), 3);
}

#[test]
fn open_connections_count_against_other_figures_and_leave_these() {
    let all = limits();
    let figures = |ip: Option<usize>, user: Option<usize>| RouteLimits {
        connections: ConnectionLimits {
            connections: Some(10),
            connections_per_ip: ip,
            connections_per_user: user,
            ..ConnectionLimits::default()
        },
        ..RouteLimits::default()
    };
    let (before, after) = (all.route("r", &figures(None, None)), all.route("r", &figures(Some(1), Some(1))));
    let everything = all.all(&ConnectionLimits::default());
    let (client, ann) = (ip("192.0.2.1"), user("https://id.example.com", Some("ann")));
    let mut places = [Places::default(), Places::default()];
    for places in &mut places {
        before.enter(client, places).unwrap();
        before.enter_user(&ann, client, places).unwrap();
    }
    assert_eq!((before.open().0, after.open().0), (2, 0));
    // Two where one is allowed: they stay, and nobody else gets in.
    places.iter_mut().for_each(|places| places.move_to(&after, &everything, client, Some(&ann)));
    assert_eq!((before.open().0, after.open()), (0, (2, 1)));
    assert_eq!(after.enter(client, &mut Places::default()), Err(Limit::ConnectionsPerIp));
    assert_eq!(after.enter_user(&ann, ip("192.0.2.2"), &mut Places::default()), Err(Limit::ConnectionsPerUser));
    drop(places);
    assert_eq!(after.open(), (0, 0));
    after.enter(client, &mut Places::default()).unwrap();
}

#[test]
fn a_message_waits_until_there_is_room_for_it_and_is_counted_once() {
    let limit = RouteLimits {
        messages: Some(rate(100, 1, LimitBy::Connection, LimitAction::Delay)),
        bytes: Some(rate(1_000, 10, LimitBy::Connection, LimitAction::Delay)),
        ..RouteLimits::default()
    };
    let mut rates = limiter(limit).message_rates(ip("192.0.2.1"), None).unwrap();
    let ten = || Message::text("0123456789");
    let began = std::time::Instant::now();
    assert_eq!(rates.pass(ten()), Passed::Now(ten()));
    for _ in 0..5 {
        let mut passed = rates.pass(ten());
        while passed == Passed::Delayed {
            let until = rates.waits_until().unwrap();
            thread::sleep(until.saturating_duration_since(std::time::Instant::now()));
            passed = rates.retry().unwrap();
        }
        assert_eq!(passed, Passed::Now(ten()));
        assert_eq!(rates.waits_until(), None);
    }
    assert!(began.elapsed() >= Duration::from_millis(49), "{:?}", began.elapsed());
}

#[test]
fn what_exceeds_a_rate_is_dropped_or_ends_the_connection_as_configured() {
    let limit =
        |action| RouteLimits { bytes: Some(rate(1, 10, LimitBy::Connection, action)), ..RouteLimits::default() };
    let mut rates = limiter(limit(LimitAction::Drop)).message_rates(ip("192.0.2.1"), None).unwrap();
    assert_eq!(rates.pass(Message::text("01234567")), Passed::Now(Message::text("01234567")));
    assert_eq!(rates.pass(Message::text("01234567")), Passed::Dropped);
    assert_eq!(rates.pass(Message::text("0")), Passed::Now(Message::text("0")), "what fits still passes");
    let mut rates = limiter(limit(LimitAction::Close)).message_rates(ip("192.0.2.1"), None).unwrap();
    assert_eq!(rates.pass(Message::text("0123456789")), Passed::Now(Message::text("0123456789")));
    assert_eq!(rates.pass(Message::text("0")), Passed::Close { limit: Limit::Bytes, code: 4429 });
}

#[test]
fn a_crowd_shares_what_it_is_given_and_memory_stays_flat() {
    let rate = Rate::new(1, Duration::from_secs(3600), 1, 1).unwrap().with_max_keys(100_000);
    let client = |n: u32| rate.key(key::address(IpAddr::from(n.to_be_bytes())));
    for n in 0..300_000 {
        rate.take(&client(n));
        if n % 10_000 == 0 {
            rate.sweep();
        }
    }
    // Those that were told apart until then, those that came until the next sweep, and the shared ones.
    assert!(rate.keys() <= 100_000 + 10_000 + 65_536, "{}", rate.keys());
    assert!(!rate.take(&client(5)) || !rate.take(&client(5)), "one limit in an hour still holds");
}

#[test]
fn who_has_not_been_seen_for_a_while_is_forgotten() {
    let rate = Rate::new(1_000, Duration::from_secs(1), 1, 1).unwrap();
    for n in 0..10_000_u32 {
        rate.take(&key::address(IpAddr::from(n.to_be_bytes())));
    }
    thread::sleep(Duration::from_millis(5));
    rate.sweep();
    assert_eq!(rate.keys(), 0);
}

proptest! {
    /// To a tenth of a percent, and to one more cell at the end.
    #[test]
    fn rates_of_bytes_are_exact(amount in 1..(100u64 << 30), minutes: bool) {
        let per = if minutes { Duration::from_secs(60) } else { Duration::from_secs(1) };
        let limit = RateLimit { amount, per, burst: amount, by: LimitBy::Ip, action: LimitAction::Drop, code: 4429 };
        let rate = Rate::new(amount, per, amount, rate::unit_bytes(&limit)).unwrap();
        let granted = rate.granted(per);
        let (least, most) = (amount as f64 * 0.9989, amount as f64 * 1.0011 + 1.0);
        assert!(granted >= least && granted <= most, "{amount} in {per:?}: {granted}");
    }

    #[test]
    fn keys_of_addresses_are_those_of_their_network(high: u64, a: u64, b: u64) {
        let address = |low: u64| IpAddr::from(((u128::from(high) << 64) | u128::from(low)).to_be_bytes());
        if high != 0 {
            assert_eq!(key::address(address(a)), key::address(address(b)));
        }
    }

    #[test]
    fn folded_keys_are_few(key in any::<[u8; 16]>()) {
        assert!(key::folded(&key)[2..].iter().all(|byte| *byte == 0xff));
    }
}
