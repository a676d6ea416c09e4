use std::{fs, path::Path};

use serde_json::{Value, json};

use super::*;
use crate::telemetry::metrics::Metrics;

fn metrics() -> RevocationMetrics {
    Metrics::new().unwrap().auth.revocations()
}

fn open(folder: &Path) -> Result<Revocations, RevocationsError> {
    Revocations::open(&StateDir::new(Some(folder.to_owned())), metrics())
}

fn entry(json: Value) -> Revocation {
    serde_json::from_value(json).unwrap()
}

fn later() -> u64 {
    unix_now() + 1000
}

fn ann() -> Identity {
    Identity {
        subject: Some("ann".to_owned()),
        issuer: Some("https://id".to_owned()),
        token_id: Some("t1".to_owned()),
        session_id: Some("s1".to_owned()),
        ..Identity::default()
    }
}

#[test]
fn a_token_is_revoked_by_each_of_its_names_and_by_no_other() {
    for (what, expected) in [
        (json!({"jti": "t1"}), true),
        (json!({"sid": "s1"}), true),
        (json!({"sub": "ann"}), true),
        (json!({"sub": "ann", "iss": "https://id"}), true),
        (json!({"sub": "ann", "iss": "https://other"}), false),
        (json!({"sub": "t1"}), false),
        (json!({"jti": "ann"}), false),
        (json!({"sid": "s11"}), false),
        (json!({"sub": "an"}), false),
    ] {
        let revocations = Revocations::in_memory(metrics());
        assert!(!revocations.holds(&ann()));
        let mut what = what;
        what["until"] = later().into();
        revocations.revoke(&[entry(what.clone())]).unwrap();
        assert_eq!(revocations.holds(&ann()), expected, "{what}");
        assert!(!revocations.holds(&Identity::default()), "{what}");
    }
}

#[test]
fn a_revocation_counts_until_its_time_and_is_then_removed() {
    let revocations = Revocations::in_memory(metrics());
    let until = later();
    revocations
        .revoke(&[entry(json!({"sub": "ann", "until": until})), entry(json!({"sub": "bob", "until": until + 1}))])
        .unwrap();
    assert_eq!((revocations.len(), revocations.bytes.load(Ordering::Relaxed)), (2, 2 * (ENTRY_BYTES + 3)));
    revocations.remove_old(until);
    assert_eq!((revocations.len(), revocations.bytes.load(Ordering::Relaxed)), (1, ENTRY_BYTES + 3));
    assert!(!revocations.holds(&ann()));
    // A later order about the same replaces the earlier one.
    revocations.revoke(&[entry(json!({"sub": "ann", "until": unix_now()}))]).unwrap();
    assert!(!revocations.holds(&ann()));
    revocations.remove_old(u64::MAX);
    assert!(revocations.is_empty());
}

#[test]
fn what_is_malformed_says_why() {
    let now = unix_now();
    let long = "x".repeat(513);
    for (what, expected) in [
        (json!({"until": later()}), Err(Malformed::NotOne)),
        (json!({"jti": "a", "sub": "b", "until": later()}), Err(Malformed::NotOne)),
        (json!({"sub": "", "until": later()}), Err(Malformed::Name)),
        (json!({"sub": long, "until": later()}), Err(Malformed::Name)),
        (json!({"sub": "a", "iss": "", "until": later()}), Err(Malformed::Name)),
        (json!({"sub": "a", "until": now}), Err(Malformed::Over)),
        (json!({"sub": "a", "until": now * 1000}), Err(Malformed::TooLate)),
        (json!({"sub": "a", "until": now + 1}), Ok(())),
    ] {
        assert_eq!(entry(what.clone()).check(now), expected, "{what}");
    }
    for wrong in [
        json!({"sub": "a"}),
        json!({"sub": 1, "until": 2}),
        json!({"sub": "a", "until": -1}),
        json!({"sub": "a", "until": 2, "x": 1}),
    ] {
        assert!(serde_json::from_value::<Revocation>(wrong.clone()).is_err(), "{wrong}");
    }
}

#[test]
fn beyond_the_limits_nothing_of_an_order_is_taken() {
    let revocations = Revocations::in_memory(metrics());
    revocations.bytes.store(MAX_BYTES - ENTRY_BYTES - 3, Ordering::Relaxed);
    let two = [entry(json!({"sub": "ann", "until": later()})), entry(json!({"sub": "b", "until": later()}))];
    assert!(matches!(revocations.revoke(&two), Err(NotRevoked::Full)));
    assert!(revocations.is_empty());
    revocations.revoke(&two[..1]).unwrap();
    // One that is there takes no more room.
    revocations.revoke(&two[..1]).unwrap();
    assert!(matches!(revocations.revoke(&two), Err(NotRevoked::Full)));
    revocations.bytes.store(0, Ordering::Relaxed);
    revocations.entries.store(MAX_ENTRIES, Ordering::Relaxed);
    assert!(matches!(revocations.revoke(&two), Err(NotRevoked::Full)));
}

#[test]
fn pages_hold_each_entry_once() {
    let revocations = Revocations::in_memory(metrics());
    let all: Vec<_> = (0..1000).map(|n| entry(json!({"jti": n.to_string(), "until": later()}))).collect();
    revocations.revoke(&all).unwrap();
    let (mut found, mut after) = (Vec::new(), None);
    loop {
        let (page, next) = revocations.page(after, 7);
        assert!(page.len() <= 7);
        found.extend(page.iter().map(|one| one.key().text()));
        after = next;
        if after.is_none() {
            break;
        }
    }
    let mut expected: Vec<_> = all.iter().map(|one| one.key().text()).collect();
    expected.sort();
    assert_eq!(found, expected);
}

#[test]
fn a_restart_finds_what_was_answered_also_after_a_line_that_broke_off() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("revocations/revocations.jsonl");
    let first = open(folder.path()).unwrap();
    assert!(first.is_kept());
    first.revoke(&[entry(json!({"sub": "ann", "until": later()}))]).unwrap();
    first.revoke(&[entry(json!({"sub": "bob", "until": later()}))]).unwrap();
    first.revoke(&[entry(json!({"sub": "bob", "until": 1}))]).unwrap();
    let mut bytes = fs::read(&file).unwrap();
    bytes.extend_from_slice(b"{\"sub\":\"carl\",\"unt");
    fs::write(&file, bytes).unwrap();
    let again = open(folder.path()).unwrap();
    assert!(again.holds(&ann()));
    assert_eq!(again.page(None, 10).0.len(), 1);
    assert_eq!(fs::read_to_string(&file).unwrap().lines().count(), 1);
    // The first process goes on beside it: neither loses what the other was told.
    first.revoke(&[entry(json!({"sub": "dora", "until": later()}))]).unwrap();
    again.revoke(&[entry(json!({"sub": "emil", "until": later()}))]).unwrap();
    let names = |revocations: &Revocations| revocations.page(None, 10).0.len();
    assert_eq!(names(&open(folder.path()).unwrap()), 3);
}

#[test]
fn a_file_that_is_damaged_keeps_the_gateway_from_starting() {
    let folder = tempfile::tempdir().unwrap();
    drop(open(folder.path()).unwrap());
    let file = folder.path().join("revocations/revocations.jsonl");
    for (damage, expected) in [
        ("{}\n".to_owned(), "line 1: missing field `until`"),
        (format!("{{\"sub\":\"a\",\"until\":{}}}\nx\n", later()), "line 2: expected value"),
        ("x".repeat(20_000), "line 1: too long"),
    ] {
        fs::write(&file, damage).unwrap();
        let error = open(folder.path()).err().unwrap();
        let cause = std::error::Error::source(&error).unwrap().to_string();
        assert!(cause.contains(expected), "{cause}");
    }
}

#[test]
fn what_cannot_be_written_counts_all_the_same() {
    let folder = tempfile::tempdir().unwrap();
    let revocations = open(folder.path()).unwrap();
    let path = folder.path().join("revocations");
    // Nothing can be made in a folder that was removed.
    fs::remove_dir_all(&path).unwrap();
    let order = [entry(json!({"sub": "ann", "until": later()}))];
    assert!(matches!(revocations.revoke(&order), Err(NotRevoked::NotWritten(_))));
    assert!(revocations.holds(&ann()));
}

#[test]
fn the_file_is_written_anew_when_most_of_it_is_over() {
    let folder = tempfile::tempdir().unwrap();
    let revocations = open(folder.path()).unwrap();
    let file = folder.path().join("revocations/revocations.jsonl");
    let lines = || fs::read_to_string(&file).unwrap().lines().count();
    let order = vec![entry(json!({"sub": "ann", "until": later()})); 10_003];
    revocations.revoke(&order).unwrap();
    assert_eq!(lines(), 10_003);
    revocations.remove_old(unix_now());
    assert_eq!(lines(), 1);
    assert!(open(folder.path()).unwrap().holds(&ann()));
}

/// A million with names of 36 bytes: what they take, and how long a look-up does.
#[test]
fn a_million_fit_and_are_looked_up_at_once() {
    let revocations = Revocations::in_memory(metrics());
    let until = later();
    let resident = || {
        let status = fs::read_to_string("/proc/self/statm").unwrap();
        status.split(' ').nth(1).unwrap().parse::<usize>().unwrap() * 4096
    };
    let before = resident();
    for batch in 0..100 {
        let list: Vec<_> = (0..MAX_BATCH)
            .map(|n| entry(json!({"jti": format!("{:036}", batch * MAX_BATCH + n), "until": until})))
            .collect();
        revocations.revoke(&list).unwrap();
    }
    let taken = resident() - before;
    assert_eq!(revocations.len(), MAX_ENTRIES);
    assert!(matches!(revocations.revoke(&[entry(json!({"jti": "x", "until": until}))]), Err(NotRevoked::Full)));
    let begun = std::time::Instant::now();
    for _ in 0..1000 {
        assert!(!revocations.holds(&ann()));
    }
    let look_up = begun.elapsed() / 1000;
    println!("figure: 1,000,000 revocations take {} MB; a look-up {look_up:?}", taken / 1_000_000);
    assert!(taken < 300_000_000, "{taken}");
}
