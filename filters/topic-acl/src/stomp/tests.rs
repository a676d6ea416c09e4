use proptest::prelude::*;

use super::*;
use crate::rules;

fn allowed(publish: &[&str], subscribe: &[&str]) -> Allowed {
    let syntax = Syntax::Stomp { separators: "/." };
    Allowed {
        publish: rules::tests_rules(publish, syntax),
        subscribe: rules::tests_rules(subscribe, syntax),
        separators: "/.".to_owned(),
        refused_publish: Publishing::Answer,
        max_frame_bytes: 1024,
    }
}

fn judged(bytes: &str) -> Option<Outcome> {
    Stomp::default().on_client_bytes(bytes.as_bytes(), &allowed(&["/queue/a"], &["/topic/a.#"]))
}

/// The code of the end and the answer.
fn ends(bytes: &str) -> (u16, String) {
    let outcome = judged(bytes).unwrap();
    (outcome.end.unwrap().code, String::from_utf8(outcome.answer).unwrap())
}

#[test]
fn what_the_rules_allow_passes_as_it_came() {
    for frame in [
        "CONNECT\naccept-version:1.2\nhost:x\n\n\0",
        "STOMP\r\naccept-version:1.2\r\n\r\n\0\r\n",
        "SEND\ndestination:/queue/a\n\nhello\0",
        "SEND\ndestination:/queue/a\ncontent-length:7\n\nhel\0lo!\0\n\n",
        "SUBSCRIBE\nid:0\ndestination:/topic/a.b\n\n\0",
        "SUBSCRIBE\nid:0\ndestination:/topic/a.>\ncontent-length:0\n\n\0",
        "UNSUBSCRIBE\nid:0\n\n\0ACK\nid:1\n\n\0NACK\nid:1\n\n\0",
        "BEGIN\ntransaction:1\n\n\0COMMIT\ntransaction:1\n\n\0ABORT\ntransaction:1\n\n\0DISCONNECT\nreceipt:1\n\n\0",
        "\n",
        "\r\n",
    ] {
        assert_eq!(judged(frame), None, "{frame:?}");
    }
}

#[test]
fn a_refused_message_is_dropped_unless_its_sender_waits() {
    assert_eq!(judged("SEND\ndestination:/queue/b\n\nhello\0"), Some(Outcome::default()));
    let error = "ERROR\nmessage:this destination may not be sent to\nreceipt-id:a\\cb\n\n\0";
    assert_eq!(ends("SEND\ndestination:/queue/b\nreceipt:a\\cb\n\nhello\0"), (1008, error.to_owned()));
    let close = Allowed { refused_publish: Publishing::Close, ..allowed(&[], &[]) };
    let outcome = Stomp::default().on_client_bytes(b"SEND\ndestination:/queue/a\n\n\0", &close).unwrap();
    assert_eq!(outcome.end.unwrap().code, 1008);
}

#[test]
fn a_refused_subscription_is_an_error_and_the_end() {
    let error = "ERROR\nmessage:this destination may not be subscribed to\n\n\0";
    for destination in ["/topic/b", "/topic/>", "/topic/*", "/topic/%61.b", "/topic/a.b,/topic/b", " /topic/a", ""] {
        let frame = format!("SUBSCRIBE\nid:0\ndestination:{destination}\n\n\0");
        assert_eq!(ends(&frame), (1008, error.to_owned()), "{destination}");
    }
}

#[test]
fn a_destination_with_escapes_is_read_both_ways() {
    let syntax = Syntax::Stomp { separators: "/." };
    let colon = rules::tests_rules(&["/queue/a:b"], syntax);
    assert_eq!(allows(&colon, "/queue/a:b", "/."), Ok(true));
    assert_eq!(allows(&colon, "/queue/a\\cb", "/."), Ok(false));
    let below = rules::tests_rules(&["/queue/#"], syntax);
    assert_eq!(allows(&below, "/queue/a\\cb", "/."), Ok(true));
    assert_eq!(allows(&below, "/queue/a\\tb", "/.").unwrap_err().code, 1002);
}

#[test]
fn what_brokers_might_read_in_two_ways_is_refused() {
    for frame in [
        "SEND\ndestination:/queue/a\ndestination:/queue/b\n\n\0",
        "SEND\ndestination:/queue/a\nDestination:/queue/b\n\n\0",
        "SEND\ndestination :/queue/b\ndestination:/queue/a\n\n\0",
        "SEND\ndestination:/queue/a\ncontent-length:3\ncontent-length:4\n\nabc\0",
        "SEND\ndestination:/queue/a\nContent-Length:90\n\nabc\0",
        "SEND\ndestination:/queue/a\ncontent-length:+3\n\nabc\0",
        "SEND\ndestination:/queue/a\ncontent-length:2\n\nabc\0",
        "SEND\ndestination:/queue/a\0\n\n\0",
        "SEND\ndestination:/queue/a\rx:y\n\n\0",
        "SEND\ndestination\n\n\0",
        "SEND\n\n\0",
        "SUBSCRIBE\ndestination:/topic/a\n\nSEND\0",
        "UNSUBSCRIBE\nid:0\ncontent-length:60\n\n",
        "send\ndestination:/queue/a\n\n\0",
        "MESSAGE\ndestination:/queue/a\n\n\0",
    ] {
        let (code, answer) = ends(frame);
        assert_eq!((code, &answer[..14]), (1002, "ERROR\nmessage:"), "{frame:?}");
    }
    // The same header twice with one value has one meaning.
    assert_eq!(judged("SEND\ndestination:/queue/a\ndestination:/queue/a\n\n\0"), None);
    let outcome = Stomp::default().on_client_bytes(b"SEND\na:\xff\n\n\0", &allowed(&[], &[]));
    assert_eq!(outcome.unwrap().end.unwrap().code, 1007);
}

#[test]
fn frames_may_be_cut_and_joined_anywhere() {
    let passes = ["CONNECT\nhost:x\n\n\0", "\n", "SEND\ndestination:/queue/a\ncontent-length:4\n\na\0é\0", "\n"];
    let all = format!("{}{}{}{}", passes[0], passes[1], "SEND\ndestination:/queue/b\n\nx\0", passes[2..].concat());
    for size in 1..=all.len() {
        let mut stomp = Stomp::default();
        let mut sent = Vec::new();
        for part in all.as_bytes().chunks(size) {
            match stomp.on_client_bytes(part, &allowed(&["/queue/a"], &[])) {
                None => sent.extend_from_slice(part),
                Some(outcome) => {
                    assert_eq!(outcome.end, None, "{size}");
                    sent.extend(outcome.onward);
                }
            }
        }
        assert_eq!(String::from_utf8(sent).unwrap(), passes.concat(), "{size}");
    }
}

#[test]
fn frames_and_headers_are_bounded() {
    let long = format!("SEND\ndestination:/queue/a\n\n{}", "x".repeat(2000));
    assert_eq!(ends(&long).0, 1009);
    assert_eq!(ends(&format!("{long}\0")).0, 1009);
    assert_eq!(ends(&format!("SEND\n{}\n\0", "a:b\n".repeat(129))).0, 1008);
}

proptest! {
    #[test]
    fn no_bytes_panic(messages in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..60), 1..8)) {
        let mut stomp = Stomp::default();
        for message in &messages {
            stomp.on_client_bytes(message, &allowed(&["/queue/a"], &[]));
        }
    }

    #[test]
    fn no_frame_with_wrong_bytes_panics(
        wrong in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
    ) {
        let mut bytes = b"SEND\ndestination:/queue/b\ncontent-length:3\n\nabc\0".to_vec();
        for (at, byte) in wrong {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        let passed = match Stomp::default().on_client_bytes(&bytes, &allowed(&["/queue/a"], &[])) {
            None => bytes,
            Some(outcome) => outcome.onward,
        };
        prop_assert!(!String::from_utf8_lossy(&passed).starts_with("SEND\ndestination:/queue/b"));
    }
}
