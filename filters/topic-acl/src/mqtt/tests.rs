use proptest::prelude::*;

use super::*;
use crate::{levels::Syntax, rules};

/// A client of MQTT and what its filter does.
struct Bed {
    mqtt: Mqtt,
    allowed: Allowed,
}

impl Bed {
    fn new(publish: &[&str], subscribe: &[&str]) -> Self {
        let allowed = Allowed {
            publish: rules::tests_rules(publish, Syntax::Mqtt),
            subscribe: rules::tests_rules(subscribe, Syntax::Mqtt),
            client_ids: None,
            refused_publish: Publishing::Answer,
            max_packet_bytes: 4096,
        };
        Self { mqtt: Mqtt::default(), allowed }
    }

    fn connected(version: Version, publish: &[&str], subscribe: &[&str]) -> Self {
        let mut bed = Self::new(publish, subscribe);
        assert_eq!(bed.client(&connect(version, None)), None);
        bed
    }

    fn client(&mut self, bytes: &[u8]) -> Option<Outcome> {
        self.mqtt.on_client_bytes(bytes, &self.allowed)
    }

    fn upstream(&mut self, bytes: &[u8]) -> Option<Outcome> {
        self.mqtt.on_upstream_bytes(bytes, &self.allowed)
    }

    /// The code with which the connection ends, and what was said before.
    fn ends(&mut self, bytes: &[u8]) -> (u16, Vec<u8>) {
        let outcome = self.client(bytes).unwrap();
        (outcome.end.unwrap().code, outcome.answer)
    }
}

fn answer(answer: &[u8]) -> Option<Outcome> {
    Some(Outcome { answer: answer.to_vec(), ..Outcome::default() })
}

fn onward(onward: &[u8]) -> Option<Outcome> {
    Some(Outcome { onward: onward.to_vec(), ..Outcome::default() })
}

fn packet(first: u8, parts: &[&[u8]]) -> Vec<u8> {
    let mut out = Vec::new();
    Version::write(&mut out, first, parts);
    out
}

fn string(text: &str) -> Vec<u8> {
    [&(text.len() as u16).to_be_bytes(), text.as_bytes()].concat()
}

/// No properties, where the version has any.
fn none(version: Version) -> &'static [u8] {
    if version == V5 { &[0] } else { &[] }
}

use Version::{V5, V311};

fn connect(version: Version, will: Option<&str>) -> Vec<u8> {
    let level = if version == V5 { 5 } else { 4 };
    let flags = if will.is_some() { 0b1100_0110 } else { 0b1100_0010 };
    let will = will.map(|topic| [none(version), &string(topic), &string("gone")].concat()).unwrap_or_default();
    let rest = [&string("id")[..], &will, &string("user"), &string("password")].concat();
    packet(0x10, &[&string("MQTT"), &[level, flags, 0, 60], none(version), &rest])
}

fn publish(version: Version, topic: &str, qos: u8, id: u16) -> Vec<u8> {
    let id = if qos > 0 { id.to_be_bytes().to_vec() } else { Vec::new() };
    packet(0x30 | qos << 1, &[&string(topic), &id, none(version), b"payload"])
}

fn aliased(topic: &str, alias: u16) -> Vec<u8> {
    packet(0x30, &[&string(topic), &[3, 0x23], &alias.to_be_bytes(), b"payload"])
}

fn subscribe(version: Version, id: u16, filters: &[&str]) -> Vec<u8> {
    let filters: Vec<u8> = filters.iter().flat_map(|filter| [string(filter), vec![1]].concat()).collect();
    packet(0x82, &[&id.to_be_bytes(), none(version), &filters])
}

fn suback(version: Version, id: u16, codes: &[u8]) -> Vec<u8> {
    packet(0x90, &[&id.to_be_bytes(), none(version), codes])
}

#[test]
fn what_the_rules_allow_passes_as_it_came() {
    for version in [V311, V5] {
        let mut bed = Bed::connected(version, &["a/#"], &["b/+"]);
        for qos in 0..3 {
            assert_eq!(bed.client(&publish(version, "a/x", qos, 7)), None);
        }
        assert_eq!(bed.client(&subscribe(version, 1, &["b/+", "b/c"])), None);
        for other in [&[0xa2, 5, 0, 2, 0, 1, b'q'][..], &[0xc0, 0], &[0x40, 2, 0, 7], &[0x62, 2, 0, 7], &[0xe0, 0]] {
            assert_eq!(bed.client(other), None, "{other:?}");
        }
        assert_eq!(bed.upstream(&suback(version, 1, &[1, 1])), None);
        assert_eq!(bed.upstream(&publish(version, "b/c", 0, 0)), None);
    }
}

#[test]
fn a_message_that_may_not_be_published_is_answered_in_the_words_of_its_version() {
    let refused = |version, qos| Bed::connected(version, &["a/#"], &[]).client(&publish(version, "b", qos, 7));
    assert_eq!(refused(V311, 0), Some(Outcome::default()));
    assert_eq!(refused(V5, 0), Some(Outcome::default()));
    assert_eq!(refused(V311, 1), answer(&[0x40, 2, 0, 7]));
    assert_eq!(refused(V5, 1), answer(&[0x40, 3, 0, 7, 0x87]));
    assert_eq!(refused(V311, 2), answer(&[0x50, 2, 0, 7]));
    assert_eq!(refused(V5, 2), answer(&[0x50, 3, 0, 7, 0x87]));
}

#[test]
fn an_exchange_of_quality_2_that_was_refused_is_finished_here() {
    let mut bed = Bed::connected(V311, &["a"], &[]);
    for _ in 0..2 {
        assert_eq!(bed.client(&publish(V311, "b", 2, 7)), answer(&[0x50, 2, 0, 7]));
    }
    assert_eq!(bed.client(&[0x62, 2, 0, 8]), None);
    assert_eq!(bed.client(&[0x62, 2, 0, 7]), answer(&[0x70, 2, 0, 7]));
    assert_eq!(bed.client(&[0x62, 2, 0, 7]), None);
}

#[test]
fn where_it_is_configured_a_refused_message_closes() {
    for (version, said) in [(V311, vec![]), (V5, vec![0xe0, 2, 0x87, 0])] {
        let mut bed = Bed::connected(version, &["a"], &[]);
        bed.allowed.refused_publish = Publishing::Close;
        assert_eq!(bed.ends(&publish(version, "b", 0, 0)), (1008, said));
    }
}

#[test]
fn the_other_filters_of_a_packet_are_still_granted() {
    for (version, refused) in [(V311, 0x80), (V5, 0x87)] {
        let mut bed = Bed::connected(version, &[], &["a/#"]);
        let asked = subscribe(version, 9, &["a/1", "b", "a/#", "#", "$SYS/#"]);
        assert_eq!(bed.client(&asked), onward(&subscribe(version, 9, &["a/1", "a/#"])));
        // Anything else may come in between, and the answer may be cut anywhere.
        assert_eq!(bed.upstream(&publish(version, "a/1", 0, 0)), None);
        let granted = suback(version, 9, &[0, 0x8f]);
        let (first, second) = granted.split_at(3);
        assert_eq!(bed.upstream(first), onward(&[]));
        let news = publish(version, "a/1", 0, 0);
        let whole = suback(version, 9, &[0, refused, 0x8f, refused, refused]);
        assert_eq!(bed.upstream(&[second, &news].concat()), onward(&[whole, news].concat()));
        assert_eq!(bed.upstream(&granted), None, "it is forgotten");
    }
}

#[test]
fn where_all_filters_are_refused_the_upstream_is_not_asked() {
    let mut bed = Bed::connected(V311, &[], &["a"]);
    assert_eq!(bed.client(&subscribe(V311, 9, &["b", "a/#/b"])), answer(&[0x90, 4, 0, 9, 0x80, 0x80]));
    let mut bed = Bed::connected(V5, &[], &["a"]);
    let filters = ["b", "a/#/b", "$share/g", "$share/+/a", "$share/g/a", ""];
    let codes = [0x87, 0x8f, 0x8f, 0x8f, 0x87, 0x8f];
    assert_eq!(bed.client(&subscribe(V5, 9, &filters)), answer(&suback(V5, 9, &codes)));
}

#[test]
fn a_shared_subscription_needs_its_group() {
    let mut bed = Bed::connected(V5, &[], &["$share/g/a/#"]);
    assert_eq!(bed.client(&subscribe(V5, 1, &["$share/g/a/b"])), None);
    assert_eq!(bed.client(&subscribe(V5, 2, &["$share/h/a/b"])), answer(&suback(V5, 2, &[0x87])));
    assert_eq!(bed.client(&subscribe(V5, 3, &["a/b"])), answer(&suback(V5, 3, &[0x87])));
}

#[test]
fn a_will_is_judged_like_a_message() {
    for (version, connack) in [(V311, vec![0x20, 2, 0, 5]), (V5, vec![0x20, 3, 0, 0x87, 0])] {
        assert_eq!(Bed::new(&["a/#"], &[]).client(&connect(version, Some("a/will"))), None);
        assert_eq!(Bed::new(&["a/#"], &[]).ends(&connect(version, Some("b"))), (1008, connack));
    }
}

#[test]
fn a_client_identifier_may_be_anothers() {
    for (version, connack) in [(V311, vec![0x20, 2, 0, 2]), (V5, vec![0x20, 3, 0, 0x85, 0])] {
        let mut bed = Bed::new(&[], &[]);
        bed.allowed.client_ids = Some(vec!["i*".to_owned()]);
        assert_eq!(bed.client(&connect(version, None)), None);
        let mut bed = Bed::new(&[], &[]);
        bed.allowed.client_ids = Some(vec!["ann-*".to_owned()]);
        assert_eq!(bed.ends(&connect(version, None)), (1008, connack));
    }
}

#[test]
fn an_alias_stands_for_the_topic_that_it_was_given() {
    let mut bed = Bed::connected(V5, &["a"], &[]);
    assert_eq!(bed.client(&aliased("a", 1)), None);
    assert_eq!(bed.client(&aliased("", 1)), None);
    assert_eq!(bed.client(&aliased("b", 1)), Some(Outcome::default()));
    assert_eq!(bed.client(&aliased("", 1)), Some(Outcome::default()), "the upstream still takes 1 for a");
    // The client's rules were changed: the upstream has to be told what 1 is.
    bed.allowed.publish = rules::tests_rules(&["b"], Syntax::Mqtt);
    assert_eq!(bed.client(&aliased("", 1)), onward(&aliased("b", 1)));
    assert_eq!(bed.client(&aliased("", 1)), None);
    assert_eq!(bed.ends(&aliased("", 2)), (1002, vec![0xe0, 2, 0x82, 0]));
}

#[test]
fn aliases_are_bounded() {
    let mut bed = Bed::connected(V5, &["#"], &[]);
    for alias in 1..=1024 {
        assert_eq!(bed.client(&aliased("a", alias)), None);
    }
    assert_eq!(bed.ends(&aliased("a", 1025)).0, 1008);
    let mut bed = Bed::connected(V5, &["#"], &[]);
    let ended = (1..=1024).find(|alias| bed.client(&aliased(&"x".repeat(4000), *alias)).is_some());
    assert_eq!(ended, Some(66), "256 KiB of topics");
}

#[test]
fn packets_may_be_cut_and_joined_anywhere() {
    let version = V5;
    let packets = [
        connect(version, None),
        publish(version, "a", 1, 3),
        publish(version, "b", 1, 4),
        publish(version, "a", 0, 0),
        subscribe(version, 5, &["b", "a"]),
        publish(version, "b", 0, 0),
        vec![0xc0, 0],
    ];
    let wanted = [
        connect(version, None),
        publish(version, "a", 1, 3),
        publish(version, "a", 0, 0),
        subscribe(version, 5, &["a"]),
        vec![0xc0, 0],
    ]
    .concat();
    let all = packets.concat();
    for size in 1..=all.len() {
        let mut bed = Bed::new(&["a"], &["a"]);
        let (mut sent, mut said) = (Vec::new(), Vec::new());
        for part in all.chunks(size) {
            match bed.client(part) {
                None => sent.extend_from_slice(part),
                Some(outcome) => {
                    assert_eq!(outcome.end, None);
                    sent.extend(outcome.onward);
                    said.extend(outcome.answer);
                }
            }
        }
        assert_eq!((sent, said), (wanted.clone(), vec![0x40, 3, 0, 4, 0x87]), "{size}");
    }
}

#[test]
fn what_stood_before_a_violation_still_arrives() {
    let mut bed = Bed::connected(V311, &["a"], &[]);
    let good = publish(V311, "a", 0, 0);
    let outcome = bed.client(&[&good[..], &[0x00, 0]].concat()).unwrap();
    assert_eq!((outcome.onward, outcome.end.unwrap().code), (good, 1002));
}

#[test]
fn a_state_goes_over_in_the_middle_of_a_packet() {
    let mut bed = Bed::connected(V311, &["a"], &["a"]);
    bed.client(&subscribe(V311, 9, &["a", "b"]));
    assert_eq!(bed.client(&publish(V311, "b", 2, 7)), answer(&[0x50, 2, 0, 7]));
    let whole = publish(V311, "a", 0, 0);
    bed.client(&whole[..4]);
    let mqtt = serde_json::from_slice(&serde_json::to_vec(&bed.mqtt).unwrap()).unwrap();
    let mut next = Bed { mqtt, ..bed };
    assert_eq!(next.client(&whole[4..]), onward(&whole));
    assert_eq!(next.upstream(&suback(V311, 9, &[0])), onward(&suback(V311, 9, &[0, 0x80])));
    assert_eq!(next.client(&[0x62, 2, 0, 7]), answer(&[0x70, 2, 0, 7]));
}

#[test]
fn what_is_malformed_ends_the_connection() {
    let connected = || Bed::connected(V311, &["#"], &["#"]);
    for (bytes, code) in [
        (vec![0x30, 0xff, 0xff, 0xff, 0xff], 1002),
        (vec![0x20, 2, 0, 0], 1002),
        (vec![0x00, 0], 1002),
        (vec![0xf0, 0], 1002),
        (connect(V311, None), 1002),
        (publish(V311, "a/+", 0, 0), 1002),
        (publish(V311, "", 0, 0), 1002),
        (publish(V311, "a\0", 0, 0), 1002),
        (publish(V311, "a", 1, 0), 1002),
        (vec![0x36, 5, 0, 1, b'a', 0, 1], 1002),
        (vec![0x30, 3, 0, 1, 0xff], 1007),
        (vec![0x30, 3, 0, 9, b'a'], 1002),
        (vec![0x82, 2, 0, 1], 1002),
        (vec![0x80, 6, 0, 1, 0, 1, b'a', 0], 1002),
        (vec![0x82, 6, 0, 1, 0, 1, b'a', 3], 1002),
        (vec![0x30, 0xff, 0x7f], 1009),
    ] {
        assert_eq!(connected().ends(&bytes).0, code, "{bytes:02x?}");
    }
    let mut early = Bed::new(&["#"], &[]);
    assert_eq!(early.ends(&publish(V311, "a", 0, 0)), (1002, vec![]));
    for old in [packet(0x10, &[&string("MQIsdp"), &[3]]), packet(0x10, &[&string("MQTT"), &[6]])] {
        assert_eq!(Bed::new(&[], &[]).ends(&old), (1002, vec![0x20, 2, 0, 1]));
    }
    assert_eq!(Bed::new(&[], &[]).ends(&packet(0x10, &[&string("HTTP"), &[4]])), (1002, vec![]));
}

#[test]
fn an_upstream_that_answers_another_number_of_filters_is_not_believed() {
    let mut bed = Bed::connected(V311, &[], &["a"]);
    bed.client(&subscribe(V311, 9, &["a", "b"]));
    assert_eq!(bed.upstream(&suback(V311, 9, &[0, 0])).unwrap().end.unwrap().code, 1002);
}

proptest! {
    #[test]
    fn no_bytes_panic_and_nothing_is_made_up(
        messages in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..60), 1..8),
        version in prop::sample::select(vec![V311, V5]),
    ) {
        let mut bed = Bed::connected(version, &["a/#"], &["a/#"]);
        for message in &messages {
            let outcome = bed.client(message);
            bed.upstream(message);
            if outcome.is_some_and(|outcome| outcome.end.is_some()) {
                break;
            }
        }
    }

    /// Almost packets: the parser comes further with them than with noise.
    #[test]
    fn no_packet_with_wrong_bytes_panics_or_publishes_elsewhere(
        which in 0..5_usize,
        wrong in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
        version in prop::sample::select(vec![V311, V5]),
    ) {
        let mut bytes = match which {
            0 => publish(version, "secret", 1, 7),
            1 => subscribe(version, 1, &["a/b", "secret"]),
            2 => aliased("secret", 3),
            3 => connect(version, Some("secret")),
            _ => suback(version, 1, &[0, 1]),
        };
        for (at, byte) in wrong {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        let mut bed = if which == 3 { Bed::new(&["a/#"], &["a/#"]) } else { Bed::connected(version, &["a/#"], &["a/#"]) };
        let onward = match bed.client(&bytes) {
            None => bytes.clone(),
            Some(outcome) => outcome.onward,
        };
        // A topic `secret` can only pass where the wrong byte made it something else than a topic.
        if onward.first().is_some_and(|first| first >> 4 == 3) && onward.len() > 10 && onward[1] & 0x80 == 0 {
            prop_assert!(onward[2..4] != [0, 6] || &onward[4..10] != b"secret");
        }
        bed.upstream(&bytes);
    }
}
