//! Files that are no filters, and why.

use std::fs;

use serde_json::json;

use crate::filter::{
    LoadError, NotAFilter,
    test_support::{Bed, guest},
};

fn refusal(bytes: &[u8]) -> NotAFilter {
    let bed = Bed::new().filter("bad", "stamp", json!({})).route(&["bad"]);
    fs::write(bed.folder.path().join("bad.wasm"), bytes).unwrap();
    refused(bed)
}

fn refused(bed: Bed) -> NotAFilter {
    match bed.try_start() {
        Err(LoadError::NotAFilter { source, .. }) => source,
        other => panic!("{:?}", other.map(|_| ())),
    }
}

#[test]
fn what_is_no_component_is_refused() {
    assert!(matches!(refusal(b""), NotAFilter::Empty));
    assert!(matches!(refusal(b"#!/bin/sh\nexit 1\n"), NotAFilter::Garbage(_)));
    assert!(matches!(refusal(b"\0asm\x01\0\0\0"), NotAFilter::CoreModule));
    assert!(matches!(refusal(b"\x7fELF\x02\x01\x01\0\0\0\0\0"), NotAFilter::Precompiled));
    assert!(matches!(refusal(b"\0asm\x0d\0"), NotAFilter::Truncated(_)));
    assert!(matches!(refusal(b"\0asm\xff\0\xff\0"), NotAFilter::Invalid(_)));
}

#[test]
fn a_truncated_component_is_refused_as_such() {
    let whole = fs::read(guest("stamp")).unwrap();
    for part in [10, 50, 90] {
        let refused = refusal(&whole[..whole.len() * part / 100]);
        assert!(matches!(refused, NotAFilter::Truncated(_)), "{part}%: {refused:?}");
    }
}

#[test]
fn random_damage_never_panics() {
    let whole = fs::read(guest("stamp")).unwrap();
    for seed in 0..20_usize {
        let mut bytes = whole.clone();
        for step in 0..50 {
            let at = (seed * 7919 + step * 104_729) % 4096;
            bytes[at + 8] ^= u8::try_from((seed + step) % 255 + 1).unwrap();
        }
        let _ = refusal(&bytes);
    }
}

#[test]
fn a_component_of_another_world_is_refused_by_what_it_lacks() {
    let refused = refused(Bed::new().filter("greets", "guest_wrong_world", json!({})).route(&["greets"]));
    let text = refused.to_string();
    assert!(matches!(refused, NotAFilter::NoHandler { .. }), "{text}");
    assert!(text.contains("wsgate:filter/handler@0.1.0") && text.contains("tests:greeter/greeting@1.0.0"), "{text}");
}

#[test]
fn another_version_of_the_contract_is_refused_by_its_version() {
    // The same length, so the file stays well-formed.
    let mut bytes = fs::read(guest("stamp")).unwrap();
    let (from, to) = (b"wsgate:filter/handler@0.1.0", b"wsgate:filter/handler@0.9.0");
    for at in 0..bytes.len() - from.len() {
        if bytes[at..].starts_with(from) {
            bytes[at..at + to.len()].copy_from_slice(to);
        }
    }
    let text = refusal(&bytes).to_string();
    let expected = "made for version 0.9.0 of the contract (wsgate:filter/handler@0.9.0); this gateway serves 0.1.0";
    assert!(text.contains(expected), "{text}");
}

#[test]
fn an_import_that_there_is_not_is_named() {
    let mut bytes = fs::read(guest("stamp")).unwrap();
    let (from, to) = (b"wasi:cli/environment@", b"wasi:cli/envlronment@");
    for at in 0..bytes.len() - from.len() {
        if bytes[at..].starts_with(from) {
            bytes[at..at + to.len()].copy_from_slice(to);
        }
    }
    let refused = refusal(&bytes);
    assert!(matches!(refused, NotAFilter::Import(_)), "{refused:?}");
    assert!(refused.to_string().contains("wasi:cli/envlronment"), "{refused}");
}

#[test]
fn an_init_that_fails_is_refused() {
    for mode in ["init-error:no such key", "init-trap", "init-grow"] {
        let bed = Bed::new().filter("faulty", "guest_faulty", json!({ "mode": mode })).route(&["faulty"]);
        let refused = refused(bed);
        match mode {
            "init-error:no such key" => assert!(matches!(&refused, NotAFilter::Init(text) if text == "no such key")),
            _ => assert!(matches!(refused, NotAFilter::Canary(_)), "{refused:?}"),
        }
    }
}

#[test]
fn an_init_that_never_ends_is_refused_within_five_seconds() {
    for mode in ["init-spin", "init-sleep:60000"] {
        let begin = std::time::Instant::now();
        let bed = Bed::new().filter("faulty", "guest_faulty", json!({ "mode": mode })).route(&["faulty"]);
        let refused = refused(bed);
        assert!(matches!(refused, NotAFilter::Canary(_)), "{refused:?}");
        assert!(begin.elapsed().as_secs() < 15, "{:?}", begin.elapsed());
    }
}

#[test]
fn more_memory_than_allowed_is_refused_at_the_start() {
    let bed = Bed::new().tuned("big", "stamp", json!({}), |filter| filter.memory_limit_bytes = 64 << 10);
    let refused = refused(bed.route(&["big"]));
    assert!(refused.to_string().contains("memory_limit"), "{refused}");
}
