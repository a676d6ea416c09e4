use std::cell::Cell;

use wsgate_sdk::testing;

use super::*;
use crate::counter::Fake;

thread_local! {
    /// 2024-02-29 12:34:00 UTC, until a test says otherwise.
    pub(crate) static NOW_MS: Cell<u64> = const { Cell::new(1_709_210_040_000) };
}

fn later(ms: u64) {
    NOW_MS.set(NOW_MS.get() + ms);
}

fn config(quotas: &str) -> String {
    format!(r#"{{ "store": "quotas", "quotas": [{quotas}] }}"#)
}

fn handshake(subject: &str) -> Handshake {
    let identity = Identity {
        subject: Some(subject.to_owned()),
        issuer: None,
        scopes: Vec::new(),
        expires_at: None,
        claims: "{}".to_owned(),
    };
    Handshake { identity: Some(identity), ..testing::handshake("/").with_header("x-key", "k1") }
}

fn opened(quotas: &str, subject: &str) -> Result<Quota, Refusal> {
    let (config, _) = testing::init::<Quota>(&config(quotas)).unwrap();
    Quota::open(&config, &handshake(subject)).map(|admission| admission.session)
}

fn open(quotas: &str) -> Quota {
    opened(quotas, "ann").unwrap()
}

fn up(quota: &mut Quota, text: &str) -> Verdict {
    quota.on_message(Direction::ToUpstream, text.into()).unwrap()
}

/// How many of these messages pass.
fn passed(quota: &mut Quota, count: usize) -> usize {
    (0..count).filter(|_| up(quota, "hello") == Verdict::Forward).count()
}

fn counted() -> Vec<(String, i64)> {
    Fake::with(|fake| fake.counters.clone().into_iter().collect())
}

const MINUTE: &str = r#"{ "name": "m", "count": "messages", "limit": 10, "window": "minute", "action": "drop" }"#;
const THOUSAND: &str = r#"{ "name": "m", "count": "messages", "limit": 1000, "window": "minute", "action": "drop" }"#;

#[test]
fn no_more_than_the_limit_passes_until_the_window_is_over() {
    let mut quota = open(MINUTE);
    assert_eq!(passed(&mut quota, 30), 10);
    assert_eq!(counted(), [("m/1709210040/ann".to_owned(), 10)]);
    assert_eq!(Fake::with(|fake| fake.last_ttl), Duration::from_secs(120));
    later(60_000);
    assert_eq!(passed(&mut quota, 30), 10);
}

#[test]
fn few_calls_are_made_and_the_limit_still_holds_for_all_connections_together() {
    let mut connections: Vec<_> = (0..4).map(|_| open(THOUSAND)).collect();
    let mut total = 0;
    for round in 0..400 {
        total += passed(&mut connections[round % 4], 1);
    }
    assert_eq!(total, 400);
    let calls = Fake::with(|fake| fake.calls);
    assert!(calls < 60, "{calls} calls");
    for round in 0..1600 {
        total += passed(&mut connections[round % 4], 1);
    }
    assert_eq!(total, 1000, "nothing is refused too early where all of them speak");
    let calls = Fake::with(|fake| fake.calls);
    assert!(calls < 500, "{calls} calls, and none for what is refused");
}

#[test]
fn what_lies_unused_is_given_back() {
    let mut idle = open(THOUSAND);
    assert_eq!(passed(&mut idle, 2), 2);
    assert_eq!(counted()[0].1, 11, "a batch of ten was taken for the second");
    idle.on_tick().unwrap();
    assert_eq!(counted()[0].1, 11, "it was used a moment ago");
    idle.on_tick().unwrap();
    assert_eq!(counted()[0].1, 2);
    assert_eq!(passed(&mut idle, 1), 1);
    idle.on_close(Closer::Client, CloseInfo::new(1000, ""));
    assert_eq!(counted()[0].1, 3);
}

#[test]
fn a_reload_takes_over_what_is_reserved() {
    let mut before = open(THOUSAND);
    assert_eq!(passed(&mut before, 2), 2);
    let state = before.save();
    let (config, _) = testing::init::<Quota>(&config(THOUSAND)).unwrap();
    let mut after = Quota::resume(&config, &handshake("ann"), state, ResumeCause::Reload).unwrap().session;
    let calls = Fake::with(|fake| fake.calls);
    assert_eq!(passed(&mut after, 9), 9);
    assert_eq!((Fake::with(|fake| fake.calls), counted()[0].1), (calls, 11));
    let mut lost = Quota::resume(&config, &handshake("ann"), None, ResumeCause::Fault).unwrap().session;
    assert_eq!(passed(&mut lost, 2000), 989);
}

#[test]
fn bytes_are_counted_as_a_whole_or_not_at_all() {
    let bytes =
        r#"{ "name": "b", "count": "bytes", "limit": 100, "window": "hour", "action": "drop", "direction": "both" }"#;
    let mut quota = open(bytes);
    assert_eq!(up(&mut quota, &"x".repeat(60)), Verdict::Forward);
    assert_eq!(up(&mut quota, &"x".repeat(60)), Verdict::Drop);
    later(1000);
    assert_eq!(quota.on_message(Direction::ToClient, vec![0; 40].into()), Ok(Verdict::Forward));
    assert_eq!(up(&mut quota, "x"), Verdict::Drop);
    assert_eq!(counted()[0].1, 100);
}

#[test]
fn tokens_are_counted_in_answers_and_requests_wait() {
    let tokens = r#"{ "name": "t", "count": "tokens", "pointer": "/usage/total_tokens", "limit": 100, "window": "day", "action": "reply" }"#;
    let mut quota = open(tokens);
    let mut other = open(tokens);
    let answer = |quota: &mut Quota, text: &str| {
        assert_eq!(quota.on_message(Direction::ToClient, text.into()), Ok(Verdict::Forward));
    };
    assert_eq!(up(&mut quota, "ask"), Verdict::Forward);
    for nothing in
        ["delta", r#"{"usage":null}"#, r#"{"total_tokens":50}"#, r#"{"usage":{"total_tokens":"9"}}"#, "total_tokens"]
    {
        answer(&mut quota, nothing);
    }
    assert_eq!(counted(), []);
    answer(&mut quota, r#"{"usage":{"total_tokens":60}}"#);
    assert_eq!(up(&mut quota, "ask"), Verdict::Forward);
    answer(&mut quota, r#"{"usage":{"total_tokens":39.5}}"#);
    let refused =
        r#"{"error":"quota_exceeded","limit":100,"quota":"t","resets_at":1709251200,"retry_after_seconds":41160}"#;
    assert_eq!(up(&mut quota, "ask"), Verdict::Act(vec![Action::to_client(refused)]));
    // What is under way is still answered, and counts.
    answer(&mut quota, r#"{"usage":{"total_tokens":5}}"#);
    assert_eq!(counted()[0].1, 105);
    assert!(matches!(up(&mut other, "ask"), Verdict::Act(_)));
}

#[test]
fn several_quotas_count_only_what_all_of_them_let_pass() {
    let wide = r#"{ "name": "d", "count": "messages", "limit": 50, "window": "day", "action": "close" }"#;
    let mut quota = open(&format!("{wide}, {MINUTE}"));
    assert_eq!(passed(&mut quota, 40), 10);
    quota.on_close(Closer::Client, CloseInfo::new(1000, ""));
    assert_eq!(counted(), [("d/1709164800/ann".to_owned(), 10), ("m/1709210040/ann".to_owned(), 10)]);
    for _ in 0..4 {
        later(60_000);
        assert_eq!(passed(&mut quota, 10), 10);
    }
    later(60_000);
    let left = "quota d is used up, resets in 40860 s";
    assert_eq!(up(&mut quota, "hello"), Verdict::close(4429, left));
    // Who comes back is not let in, and told when to come again; another user is.
    let refusal = opened(wide, "ann").unwrap_err();
    let wanted = Refusal::new(429).with_header("retry-after", "40860");
    assert_eq!(refusal, wanted);
    assert!(opened(wide, "bob").is_ok());
}

#[test]
fn a_warning_is_given_once() {
    let warn = MINUTE.replace("\"limit\"", "\"warn_at\": 0.8, \"warn_client\": true, \"limit\"");
    let mut quota = open(&warn);
    assert_eq!(passed(&mut quota, 7), 7);
    let Verdict::Act(actions) = up(&mut quota, "hello") else { panic!() };
    let warning = r#"{"error":"quota_warning","limit":10,"quota":"m","resets_at":1709210100,"retry_after_seconds":60}"#;
    assert_eq!(actions, [Action::to_client(warning), Action::to_upstream("hello")]);
    assert_eq!(passed(&mut quota, 7), 2);
    later(60_000);
    assert_eq!(passed(&mut quota, 7), 7);
}

#[test]
fn users_are_told_apart_by_what_is_configured() {
    let by = |by: &str| MINUTE.replace("\"limit\"", &format!("\"by\": \"{by}\", \"limit\""));
    passed(&mut open(&by("address")), 1);
    passed(&mut open(&by("header:X-Key")), 1);
    let keys: Vec<String> = counted().into_iter().map(|(key, _)| key).collect();
    assert_eq!(keys, ["m/1709210040/127.0.0.1", "m/1709210040/k1"]);
    assert_eq!(opened(&by("header:x-none"), "ann").unwrap_err().status, 403);
    assert_eq!(opened(MINUTE, "").unwrap_err().status, 403);
    assert_eq!(opened(MINUTE, &"x".repeat(513)).unwrap_err().status, 403);
}

#[test]
fn a_store_that_fails_is_a_fault_that_names_the_key() {
    let mut quota = open(MINUTE);
    Fake::with(|fake| fake.fails = true);
    let error = quota.on_message(Direction::ToUpstream, "x".into()).unwrap_err();
    assert_eq!(error.to_string(), "store: `allow.key_value` does not name `quotas`");
}

#[test]
fn only_what_is_counted_is_asked_for() {
    let interest = |quotas: &str| testing::init::<Quota>(&config(quotas)).unwrap().1;
    assert_eq!(interest(MINUTE).hooks, Hooks::TO_UPSTREAM | Hooks::CLOSE);
    assert_eq!(interest(MINUTE).tick_ms, Some(5000));
    let tokens = r#"{ "name": "t", "count": "tokens", "pointer": "/a", "limit": 1, "window": "month" }"#;
    assert_eq!(interest(tokens).hooks, Hooks::TO_UPSTREAM | Hooks::TO_CLIENT | Hooks::CLOSE);
    assert_eq!(interest(tokens).tick_ms, None);
}

#[test]
fn mistakes_are_refused_by_their_key() {
    let refused = |quotas: &str| testing::init::<Quota>(&config(quotas)).unwrap_err().to_string();
    let with = |from: &str, to: &str| refused(&MINUTE.replace(from, to));
    assert_eq!(refused(""), "quotas: 1 to 16, not 0");
    assert_eq!(refused(&format!("{MINUTE}, {MINUTE}")), "quotas: the name `m` is there twice");
    assert_eq!(with("10", "0"), "quotas[0]: limit: 1 to 9007199254740992, not 0");
    assert!(with("minute", "week").contains("unknown variant `week`"));
    assert!(with("\"m\"", "\"M m\"").starts_with("quotas[0]: name: 1 to 32 of a-z"));
    assert!(with("messages", "tokens").starts_with("quotas[0]: pointer: a JSON pointer"));
    assert!(with("\"limit\"", "\"pointer\": \"/a\", \"limit\"").starts_with("quotas[0]: pointer: only for"));
    assert!(with("\"limit\"", "\"by\": \"ip\", \"limit\"").contains("`ip` is unknown, expected"));
    assert!(with("\"limit\"", "\"warn_at\": 2, \"limit\"").starts_with("quotas[0]: warn_at: "));
    assert!(with("\"limit\"", "\"warn_client\": true, \"limit\"").starts_with("quotas[0]: warn_client: needs"));
    assert!(with("\"limit\"", "\"lim\": 1, \"limit\"").contains("unknown field `lim`"));
}
