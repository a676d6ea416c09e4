//! What a request is chosen by.

use std::{rc::Rc, time::Duration};

use http::{HeaderMap, HeaderName, HeaderValue};

use super::{
    super::{ChoiceInput, Client, choice::set_cookie},
    balance::{Chooser, weights},
};
use crate::{
    config::{self, AffinityCookie, Balance, HashOn},
    identity::Identity,
};

fn client(cookies: &[&'static str]) -> Client {
    Client { cookies: cookies.iter().map(|value| HeaderValue::from_static(value)).collect(), ..Client::default() }
}

#[test]
fn each_place_of_a_hash_value_is_found() {
    let mut client = client(&["a=1; room = x", "room=7; other=2"]);
    client.address = Some("::ffff:192.0.2.1".parse().unwrap());
    let claims = r#"{"sub":"ann","level":3,"none":null}"#.to_owned();
    client.identity = Some(Rc::new(Identity { claims, ..Identity::default() }));
    let headers = HeaderMap::from_iter([(HeaderName::from_static("x-user-id"), HeaderValue::from_static("ann"))]);
    let input = ChoiceInput { client: &client, headers: &headers, query: Some("a=1&room=ann&room=bob&empty=") };
    let hash = |on: &HashOn| input.hash(on);
    let ann = hash(&HashOn::Header(HeaderName::from_static("x-user-id")));
    assert!(ann.is_some());
    assert_eq!(hash(&HashOn::Query("room".to_owned())), ann);
    assert_eq!(hash(&HashOn::Claim("sub".to_owned())), ann);
    for on in [HashOn::ClientIp, HashOn::Cookie("room".to_owned()), HashOn::Claim("level".to_owned())] {
        assert!(hash(&on).is_some_and(|value| Some(value) != ann), "{on:?}");
    }
    for on in [
        HashOn::Header(HeaderName::from_static("x-other")),
        HashOn::Query("empty".to_owned()),
        HashOn::Query("oom".to_owned()),
        HashOn::Cookie("oom".to_owned()),
        HashOn::Claim("none".to_owned()),
        HashOn::Claim("missing".to_owned()),
    ] {
        assert_eq!(hash(&on), None, "{on:?}");
    }
}

#[test]
fn an_ipv4_address_is_the_same_over_ipv6() {
    let headers = HeaderMap::new();
    let hash = |address: &str| {
        let client = Client { address: Some(address.parse().unwrap()), ..Client::default() };
        ChoiceInput { client: &client, headers: &headers, query: None }.hash(&HashOn::ClientIp)
    };
    assert_eq!(hash("192.0.2.1"), hash("::ffff:192.0.2.1"));
    // The place on the ring is the same in every version: gateways of different ones stand beside each other.
    assert_eq!(hash("192.0.2.1"), Some(9_888_359_440_354_998_090));
}

#[test]
fn the_cookie_leads_back_while_its_endpoint_is_usable() {
    let affinity_cookie = Some(AffinityCookie { name: "wsgate".to_owned(), max_age: None });
    let mut chooser =
        Chooser::new(config::Upstream { balance: Balance::LeastConn, affinity_cookie, ..weights(&[1, 1, 0]) });
    for index in [1, 2] {
        let value = chooser.upstream.set.load().endpoints[index].affinity.clone();
        assert!(!value.contains("127") && value.len() == 16, "{value}");
        chooser.client = Client {
            cookies: vec![HeaderValue::try_from(format!("a=b; wsgate={value}")).unwrap()],
            ..Client::default()
        };
        // Others would be less loaded, and one has no weight for new clients.
        let _busy: Vec<_> = (0..10).map(|_| chooser.open_on(index)).collect();
        assert_eq!(chooser.shares(10)[index], 10);
        chooser.set_healthy(index, false);
        assert_eq!(chooser.shares(10)[index], 0);
        chooser.set_healthy(index, true);
    }
    chooser.client = client(&["wsgate=AAAAAAAAAAAAAAAA"]);
    assert!(chooser.choose().is_some());
}

#[test]
fn the_cookie_is_for_the_gateway_alone() {
    let mut cookie = AffinityCookie { name: "node".to_owned(), max_age: Some(Duration::from_secs(3600)) };
    let shown = |cookie: &AffinityCookie, secure| set_cookie(cookie, "x", secure).unwrap().to_str().unwrap().to_owned();
    assert_eq!(shown(&cookie, true), "node=x; Path=/; Max-Age=3600; HttpOnly; SameSite=Lax; Secure");
    cookie.max_age = None;
    assert_eq!(shown(&cookie, false), "node=x; Path=/; HttpOnly; SameSite=Lax");
}
