//! The host answers as the gateway does.

use std::time::Duration;

use super::{Effect, Host, handshake, identity};
use crate::http::{Request, Response};
use crate::log::Level;
use crate::prelude::*;

const SECOND: Option<Duration> = Some(Duration::from_secs(1));

#[test]
fn what_is_not_granted_is_denied() {
    let _host = Host::new().with_store("other").with_topic("other.*").with_response(
        "GET",
        "https://other.internal/",
        Ok(Response::new(204)),
    );
    assert_eq!(key_value::get("sessions", "a"), Err(key_value::Error::Denied));
    assert_eq!(messaging::publish("room.a", &"x".into(), None), Err(messaging::Error::Denied));
    assert_eq!(messaging::send("c", &"x".into()), Err(messaging::Error::Denied));
    for url in ["https://authz.internal/", "http://other.internal/", "https://other.internal:8443/", "nonsense"] {
        let expected = match url {
            "nonsense" => Err(http::Error::Invalid(
                "the URL begins neither with https:// nor with http://, or has no valid host".to_owned(),
            )),
            _ => Err(http::Error::Denied),
        };
        assert_eq!(http::send(&Request::get(url)), expected, "{url}");
    }
}

#[test]
fn without_a_host_nothing_answers() {
    drop(Host::new().with_store("s").with_topic("*"));
    assert_eq!(key_value::get("s", "a"), Err(key_value::Error::Unavailable("outside the gateway".to_owned())));
    assert_eq!(messaging::publish("t", &"x".into(), None), Err(messaging::Error::Denied));
    assert!(clock::now_ms() > 1_600_000_000_000);
}

#[test]
fn the_last_host_answers_whatever_the_order_of_their_ends() {
    let first = Host::new().with_entry("s", "k", "first");
    let second = Host::new().with_entry("s", "k", "second");
    assert_eq!(key_value::get("s", "k").unwrap().unwrap().value, b"second");
    drop(first);
    assert_eq!(key_value::get("s", "k").unwrap().unwrap().value, b"second");
    drop(second);
    assert!(key_value::get("s", "k").is_err());
}

#[test]
fn versions_grow_over_removals() {
    let host = Host::new().with_store("s");
    let first = key_value::set("s", "k", b"1", None).unwrap();
    key_value::delete("s", "k").unwrap();
    let second = key_value::set("s", "k", b"2", None).unwrap();
    assert!(second > first);
    assert_eq!(key_value::compare_and_set("s", "k", Some(first), b"3", None), Ok(false));
    assert_eq!(key_value::compare_and_set("s", "k", None, b"3", None), Ok(false));
    assert_eq!(key_value::compare_and_set("s", "k", Some(second), b"3", None), Ok(true));
    assert_eq!(key_value::compare_and_set("s", "new", Some(1), b"4", None), Ok(false));
    assert_eq!(key_value::compare_and_set("s", "new", None, b"4", None), Ok(true));
    assert_eq!(host.text("s", "k").as_deref(), Some("3"));
    assert_eq!(host.keys("s"), ["k", "new"]);
}

#[test]
fn entries_end_with_their_time() {
    let host = Host::new().with_store("s");
    key_value::set("s", "k", b"1", SECOND).unwrap();
    host.advance(Duration::from_millis(999));
    assert_eq!(host.ttl("s", "k"), Some(Duration::from_millis(1)));
    assert!(key_value::get("s", "k").unwrap().is_some());
    host.advance(Duration::from_millis(1));
    assert_eq!(key_value::get("s", "k"), Ok(None));
}

#[test]
fn a_counter_ends_that_long_after_its_first_increment() {
    let host = Host::new().with_store("s");
    assert_eq!(key_value::increment("s", "n", 2, SECOND), Ok(2));
    host.advance(Duration::from_millis(600));
    assert_eq!(key_value::increment("s", "n", -5, SECOND), Ok(-3));
    assert_eq!(host.text("s", "n").as_deref(), Some("-3"));
    host.advance(Duration::from_millis(600));
    assert_eq!(key_value::increment("s", "n", 1, None), Ok(1));
}

#[test]
fn calls_on_a_store_that_make_no_sense_are_refused() {
    let _host = Host::new().with_entry("s", "text", "x").with_entry("s", "most", i64::MAX.to_string());
    let invalid = |text: &str| key_value::Error::Invalid(text.to_owned());
    assert_eq!(key_value::get("s", ""), Err(invalid("the key is empty")));
    assert_eq!(key_value::set("s", "k", b"", Some(Duration::from_micros(9))), Err(invalid("ttl-ms is 0")));
    assert_eq!(key_value::set("s", "k", &vec![0; (1 << 20) + 1], None), Err(key_value::Error::TooLarge));
    assert_eq!(key_value::get("s", &"k".repeat(1_025)), Err(key_value::Error::TooLarge));
    let not_a_number = "the value is not a number of 64 bits in decimal digits";
    assert_eq!(key_value::increment("s", "text", 1, None), Err(invalid(not_a_number)));
    assert!(key_value::increment("s", "most", 1, None).is_err());
}

#[test]
fn a_store_fails_until_it_works_again() {
    let host = Host::new().with_entry("s", "k", "1");
    let full = key_value::Error::Unavailable("full".to_owned());
    host.fail_store("s", Some(full.clone()));
    assert_eq!(key_value::get("s", "k"), Err(full));
    assert_eq!(host.text("s", "k").as_deref(), Some("1"), "the test sees it still");
    host.fail_store("s", None);
    assert!(key_value::get("s", "k").is_ok());
}

#[test]
fn effects_are_recorded_in_their_order() {
    let host = Host::new().with_topic("room.*").with_send();
    messaging::subscribe("ann", "room.a").unwrap();
    messaging::publish("room.a", &"hello".into(), Some("ann")).unwrap();
    messaging::send("bob", &"psst".into()).unwrap();
    messaging::close("eve", &CloseInfo::new(1008, "out")).unwrap();
    let published = Effect::Publish { topic: "room.a".into(), message: "hello".into(), exclude: Some("ann".into()) };
    assert_eq!(host.effects()[1], published);
    assert_eq!(host.published("room.a"), ["hello".into()]);
    assert_eq!(host.published("room.b"), []);
    assert_eq!(host.sent("bob"), ["psst".into()]);
    assert_eq!(host.closed("eve"), Some(CloseInfo::new(1008, "out")));
    assert_eq!(host.take_effects().len(), 4);
    assert_eq!(host.effects(), []);
    assert_eq!(host.subscriptions("ann"), ["room.a"]);
    messaging::unsubscribe("ann", "room.a").unwrap();
    assert!(host.subscriptions("ann").is_empty());
}

#[test]
fn what_the_gateway_would_not_carry_out_fails() {
    let host = Host::new().with_topic("*").with_send().without_connection("gone");
    assert_eq!(messaging::send("gone", &"x".into()), Err(messaging::Error::NotFound));
    messaging::close("eve", &CloseInfo::new(1000, "")).unwrap();
    assert_eq!(messaging::send("eve", &"x".into()), Err(messaging::Error::NotFound));
    for topic in ["", "a b", "a*", "a\n", "x".repeat(257).as_str()] {
        assert_eq!(messaging::subscribe("ann", topic), Err(messaging::Error::Denied), "{topic}");
    }
    for number in 0..128 {
        messaging::subscribe("ann", &format!("t{number}")).unwrap();
    }
    assert_eq!(messaging::subscribe("ann", "t0"), Ok(()));
    assert_eq!(messaging::subscribe("ann", "more"), Err(messaging::Error::QueueFull));
    host.fail_messaging(Some(messaging::Error::QueueFull));
    assert_eq!(messaging::publish("t", &"x".into(), None), Err(messaging::Error::QueueFull));
}

#[test]
fn nobody_is_messaged_while_the_configuration_is_read() {
    struct Early;
    impl Filter for Early {
        type Config = ();
        fn interest(_config: &()) -> Result<Interest, Error> {
            assert_eq!(messaging::publish("t", &"x".into(), None), Err(messaging::Error::Denied));
            Ok(Interest::none())
        }
        fn open(_config: &Rc<()>, handshake: &Handshake) -> Result<Admission<Self>, Refusal> {
            messaging::subscribe(&handshake.connection, "t").map_err(|error| Refusal::fault(format!("{error:?}")))?;
            Ok(Admission::new(Self))
        }
    }
    let host = Host::new().with_topic("t");
    super::open::<Early>("{}");
    assert_eq!(host.subscriptions(&handshake("/").connection), ["t"]);
}

#[test]
fn requests_are_answered_and_recorded() {
    let users = "https://authz.internal/users/";
    let host = Host::new()
        .with_http("https://authz.internal", |request| Ok(Response::new(200).with_body(request.url.as_bytes())))
        .with_response("GET", "https://authz.internal:443/users/7", Ok(Response::new(404)))
        .with_response("GET", "https://authz.internal/down", Err(http::Error::Timeout));
    let get = |url: &str| http::send(&Request::get(url));
    assert_eq!(get(&format!("{users}8")).unwrap().body, format!("{users}8").into_bytes());
    assert_eq!(get("https://authz.internal:443/users/7").unwrap().status, 404);
    assert_eq!(get("https://authz.internal/down"), Err(http::Error::Timeout));
    assert_eq!(host.requests().len(), 3);
    let reserved = Request::get(users).with_header("Host", "x");
    let why = http::Error::Invalid("the header host is not the filter's to set".to_owned());
    assert_eq!(http::send(&reserved), Err(why));
    let hasty = Request::get(users).with_timeout(Duration::ZERO);
    assert_eq!(http::send(&hasty), Err(http::Error::Invalid("timeout-ms is 0".to_owned())));
}

#[test]
fn an_answer_may_take_time() {
    let host = Rc::new(Host::new());
    let clock = Rc::downgrade(&host);
    let slow = move |_: &Request| {
        clock.upgrade().unwrap().advance(Duration::from_millis(300));
        Ok(Response::new(200))
    };
    host.answer_http("https://*.example.com", slow);
    let before = clock::monotonic_ns();
    http::send(&Request::get("https://a.b.example.com/x")).unwrap();
    assert_eq!(clock::monotonic_ns() - before, 300_000_000);
    assert_eq!(http::send(&Request::get("https://example.com/")), Err(http::Error::Denied));
}

#[test]
fn an_origin_without_an_answer_is_not_reached() {
    let _host = Host::new().with_response("GET", "http://a:8080/x", Ok(Response::new(200)));
    let why = http::Error::Unavailable("the test has no answer to POST http://a:8080/x".to_owned());
    assert_eq!(http::send(&Request::post("http://a:8080/x", "")), Err(why));
}

#[test]
fn the_clock_stands_still_until_it_is_set() {
    let host = Host::new().with_time(5_000);
    assert_eq!((clock::now_ms(), clock::now_ms()), (5_000, 5_000));
    host.advance(Duration::from_secs(1));
    assert_eq!((clock::now_ms(), clock::monotonic_ns()), (6_000, 1_000_000_000));
    host.set_time(1);
    assert_eq!((clock::now_ms(), clock::monotonic_ns()), (1, 1_000_000_000));
}

#[test]
fn lines_reasons_and_figures_are_recorded() {
    let host = Host::new().with_log_level(Level::Info);
    log::info!(user = 7; "too {}", "many");
    log::debug!("unseen");
    log::reason("quota");
    log::reason("");
    metrics::add("refused", &[("a", "1"), ("b", "2")], 2);
    metrics::add("refused", &[("b", "2"), ("a", "1")], 1);
    metrics::observe("size", &[], 1.5);
    metrics::observe("size", &[], f64::NAN);
    let lines = host.log();
    assert_eq!(lines.len(), 1);
    assert_eq!((lines[0].level, lines[0].message.as_str()), (Level::Info, "too many"));
    assert_eq!(lines[0].fields, [("user".to_owned(), "7".to_owned())]);
    assert_eq!(host.take_reasons(), ["quota"]);
    assert!(host.reasons().is_empty());
    assert_eq!(host.counter("refused", &[("a", "1"), ("b", "2")]), 3);
    assert_eq!(host.counter("refused", &[]), 0);
    assert_eq!(host.observed("size", &[]), [1.5]);
}

#[test]
fn an_identity_is_what_the_gateway_makes_of_claims() {
    let ann = identity("ann").with_scope("a").with_scope("b").with_claim("exp", 7).with_claim("iss", "idp");
    assert_eq!((ann.subject.as_deref(), ann.issuer.as_deref()), (Some("ann"), Some("idp")));
    assert_eq!((ann.scopes.as_slice(), ann.expires_at), (["a".to_owned(), "b".to_owned()].as_slice(), Some(7)));
    assert_eq!(ann.claims, r#"{"exp":7,"iss":"idp","scope":"a b","sub":"ann"}"#);
}
