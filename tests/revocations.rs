//! Tokens, logins and subjects that an operator revokes: open connections, new ones, new tokens on open ones, restarts.

use std::{
    io::{ErrorKind, Read},
    net::TcpStream,
    time::{Duration, Instant},
};

use serde_json::{Value, json};

use crate::{
    support::{Gateway, Setup, http, wire},
    tokens::{SECRET, ask, bearer, config, now, open, opened, refresh, token},
};

/// An open connection is closed within this.
const CLOSED_WITHIN: Duration = Duration::from_secs(5);

fn start(server: &str, jwt: &str) -> Gateway {
    let setup = Setup::new();
    setup.publish("secret", SECRET.as_bytes());
    setup.start(&format!("{server}\n{}", config(None, jwt, "")))
}

fn revoke(gateway: &Gateway, what: &Value) -> Value {
    let answer = gateway.order("POST", "/v1/revocations", &what.to_string());
    assert_eq!(answer.status, 200, "{}", answer.body);
    serde_json::from_str(&answer.body).unwrap()
}

fn list(gateway: &Gateway) -> Value {
    serde_json::from_str(&http::get(gateway.admin(), "/v1/revocations").body).unwrap()
}

#[test]
fn what_is_revoked_is_closed_and_refused_at_reconnect_and_at_refresh() {
    let gateway = start("", "refresh = true\non_expiry = { code = 4444 }");
    let mut bob = open(&gateway, &token(json!({"sub": "bob", "jti": "bob", "sid": "bob"})));
    for (name, what) in [
        ("jti", json!({"jti": "t1"})),
        ("sid", json!({"sid": "s2"})),
        ("sub", json!({"sub": "ann3"})),
        ("sub of an issuer", json!({"sub": "ann4", "iss": "https://id.example.com"})),
    ] {
        let number = match name {
            "jti" => 1,
            "sid" => 2,
            "sub" => 3,
            _ => 4,
        };
        let claims = |jti: &str| {
            token(json!({"sub": format!("ann{number}"), "jti": format!("{jti}{number}"), "sid": format!("s{number}")}))
        };
        let mut wire = open(&gateway, &claims("t"));
        wire.text("here");
        assert_eq!(wire.next_text(), "here");
        let mut what = what;
        what["until"] = (now() + 600).into();
        let begun = Instant::now();
        revoke(&gateway, &what);
        assert_eq!(wire.next_close(), (4444, "token revoked".to_owned()), "{name}");
        assert!(begun.elapsed() < CLOSED_WITHIN, "{name}: {:?}", begun.elapsed());
        assert_eq!(ask(&gateway, &bearer(&claims("t"))).status, 401, "{name}");
        let other = claims("other");
        // Another token of the same login and subject is concerned only where these are revoked.
        assert_eq!(ask(&gateway, &bearer(&other)).status, if name == "jti" { 101 } else { 401 }, "{name}");
    }
    // A good token is not replaced by a revoked one.
    let mut wire = open(&gateway, &token(json!({"sub": "ann1", "jti": "fresh"})));
    wire.text(&refresh(&token(json!({"sub": "ann1", "jti": "t1"}))));
    assert_eq!(wire.next_close(), (4401, "token refused".to_owned()));
    bob.text("still here");
    assert_eq!(bob.next_text(), "still here");
    let metrics = gateway.metrics();
    let revoked = |at| metrics.sum("wsgate_revoked_total", &[("at", at)]);
    assert_eq!((revoked("connection"), revoked("handshake"), revoked("refresh")), (4.0, 7.0, 1.0));
    assert_eq!(metrics.sum("wsgate_revocations", &[]), 4.0);
    gateway.wait_log(&["end=\"token_revoked\""]);
}

#[test]
fn a_token_that_a_connection_no_longer_has_is_no_reason_to_close_it() {
    let gateway = start("", "refresh = true");
    let mut wire = open(&gateway, &token(json!({"jti": "old"})));
    wire.text(&refresh(&token(json!({"jti": "new"}))));
    assert!(wire.next_text().contains("refreshed"));
    revoke(&gateway, &json!({"jti": "old", "until": now() + 600}));
    wire.text("still here");
    assert_eq!(wire.next_text(), "still here");
    revoke(&gateway, &json!({"jti": "new", "until": now() + 600}));
    assert_eq!(wire.next_close(), (4401, "token revoked".to_owned()));
}

#[test]
fn a_revocation_is_over_at_its_time() {
    let gateway = start("", "");
    let token = token(json!({}));
    revoke(&gateway, &json!({"sub": "ann", "until": now() + 2}));
    assert_eq!(ask(&gateway, &bearer(&token)).status, 401);
    crate::support::until("it is over", CLOSED_WITHIN, || ask(&gateway, &bearer(&token)).status == 101);
}

#[test]
fn a_restart_knows_what_was_revoked_and_without_state_dir_the_answer_says_that_it_will_not() {
    let gateway = start("[server]\nstate_dir = \"state\"", "");
    let answer = revoke(&gateway, &json!([{"sub": "ann", "until": now() + 600}, {"sub": "bob", "until": now() + 600}]));
    assert_eq!(answer, json!({"revoked": 2, "persisted": true, "note": null}));
    let config = format!("[server]\nstate_dir = \"state\"\n{}", config(None, "", ""));
    let gateway = gateway.kill().start(&config);
    for subject in ["ann", "bob"] {
        assert_eq!(ask(&gateway, &bearer(&token(json!({ "sub": subject })))).status, 401, "{subject}");
    }
    assert_eq!(ask(&gateway, &bearer(&token(json!({"sub": "carl"})))).status, 101);
    assert_eq!((list(&gateway)["count"].as_u64(), list(&gateway)["persisted"].as_bool()), (Some(2), Some(true)));
    let forgetful = start("", "");
    let answer = revoke(&forgetful, &json!({"sub": "ann", "until": now() + 600}));
    assert_eq!(answer["persisted"], false);
    assert!(answer["note"].as_str().unwrap().contains("state_dir"), "{answer}");
}

#[test]
fn orders_that_are_not_understood_revoke_nothing() {
    let gateway = start("", "");
    let good = json!({"sub": "ann", "until": now() + 600});
    let many = Value::from(vec![json!({"sub": "a", "until": now() + 600}); 10_001]);
    let large = json!({"sub": "x".repeat(3 << 20), "until": now() + 600});
    for (body, status, part) in [
        (String::new(), 400, "not a revocation"),
        ("{}".to_owned(), 400, "not a revocation"),
        (json!({"sub": "ann"}).to_string(), 400, "not a revocation"),
        (json!({"sub": "ann", "until": now() - 1}).to_string(), 400, "over"),
        (
            json!([good, {"sub": "ann", "jti": "x", "until": now() + 9}]).to_string(),
            400,
            "revocation 1: name exactly one",
        ),
        (many.to_string(), 413, "at most 10000"),
        (large.to_string(), 413, "bytes"),
    ] {
        let answer = gateway.order("POST", "/v1/revocations", &body);
        assert_eq!(answer.status, status, "{}", answer.body);
        assert!(answer.body.contains(part), "{}", answer.body);
    }
    assert_eq!(http::get(gateway.admin(), "/v1/revocations?limit=x").status, 400);
    assert_eq!(gateway.order("DELETE", "/v1/revocations", "").status, 405);
    assert_eq!(list(&gateway)["count"], 0);
    assert_eq!(ask(&gateway, &bearer(&token(json!({})))).status, 101);
    revoke(&gateway, &Value::from(vec![good; 10_000]));
    assert_eq!(list(&gateway)["revocations"].as_array().unwrap().len(), 1);
}

const OF_ONE_SUBJECT: usize = 2_000;

/// Orders about strangers come meanwhile: each has every session look.
#[test]
fn two_thousand_connections_of_one_subject_are_closed_within_five_seconds_while_others_go_on() {
    let gateway = start("[server]\nworkers = 1\nstate_dir = \"state\"", "");
    let request = |token: &str| {
        let mut lines = wire::request(gateway.address(), "/");
        lines.extend(bearer(token));
        format!("{}\r\n\r\n", lines.join("\r\n"))
    };
    let (ann, bob) = (request(&token(json!({}))), request(&token(json!({"sub": "bob"}))));
    let mut sockets: Vec<TcpStream> = (0..OF_ONE_SUBJECT).map(|_| opened(&gateway, &ann)).collect();
    let others: Vec<TcpStream> = (0..OF_ONE_SUBJECT).map(|_| opened(&gateway, &bob)).collect();
    let mut calm = open(&gateway, &token(json!({"sub": "carl"})));
    let begun = Instant::now();
    revoke(&gateway, &json!({"sub": "ann", "until": now() + 600}));
    let (mut times, mut closed) = (Vec::new(), 0);
    while closed < OF_ONE_SUBJECT {
        assert!(begun.elapsed() < CLOSED_WITHIN, "{closed} closed after {:?}", begun.elapsed());
        sockets.retain_mut(|socket| {
            let mut frame = [0; 64];
            match socket.read(&mut frame) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => return true,
                Ok(length) if length > 4 => {
                    assert_eq!((frame[0], &frame[2..4]), (0x88, &4401u16.to_be_bytes()[..]));
                    closed += 1;
                }
                other => panic!("{other:?}"),
            }
            false
        });
        let tick = Instant::now();
        calm.text("tick");
        assert_eq!(calm.next_text(), "tick");
        times.push(tick.elapsed());
    }
    let took = begun.elapsed();
    times.sort();
    let (p99, worst) = (times[times.len() * 99 / 100], times[times.len() - 1]);
    println!("figure: {OF_ONE_SUBJECT} connections of one subject among {} closed in {took:?}", 2 * OF_ONE_SUBJECT);
    println!("figure: another connection meanwhile: p99 {p99:?}, worst {worst:?} of {}", times.len());
    for mut socket in others {
        assert_eq!(socket.read(&mut [0; 1]).unwrap_err().kind(), ErrorKind::WouldBlock);
    }
}
