//! Any sequence of operations gives what a map with a clock gives.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::super::{embedded::Embedded, shard::Time, sweeper::Waker, *};

/// So small that a few values fill it.
const MAX_BYTES: usize = 4 * (ENTRY_OVERHEAD_BYTES + 60);

#[derive(Clone, Debug)]
enum Step {
    Get(u8),
    Set(u8, Vec<u8>, Option<u64>),
    /// With the current version, one that was before, or none.
    Compare(u8, Expected, Vec<u8>, Option<u64>),
    Delete(u8),
    Increment(u8, i64, Option<u64>),
    Sweep,
    Wait(u64),
}

#[derive(Clone, Copy, Debug)]
enum Expected {
    Absent,
    Current,
    First,
}

fn step() -> impl Strategy<Value = Step> {
    let key = 0..6u8;
    let value = prop_oneof![
        proptest::collection::vec(any::<u8>(), 0..120),
        any::<i16>().prop_map(|number| number.to_string().into_bytes()),
    ];
    let ttl = proptest::option::of(1..50u64);
    let expected = prop_oneof![Just(Expected::Absent), Just(Expected::Current), Just(Expected::First)];
    let by = prop_oneof![-3..3i64, Just(i64::MAX), Just(i64::MIN)];
    prop_oneof![
        key.clone().prop_map(Step::Get),
        (key.clone(), value.clone(), ttl.clone()).prop_map(|(k, v, t)| Step::Set(k, v, t)),
        (key.clone(), expected, value, ttl.clone()).prop_map(|(k, e, v, t)| Step::Compare(k, e, v, t)),
        key.clone().prop_map(Step::Delete),
        (key, by, ttl).prop_map(|(k, n, t)| Step::Increment(k, n, t)),
        Just(Step::Sweep),
        (1..30u64).prop_map(Step::Wait),
    ]
}

/// Value, deadline and version.
type Held = (Vec<u8>, Option<Time>, u64);

#[derive(Default)]
struct Model {
    held: BTreeMap<u8, Held>,
    first_version: BTreeMap<u8, u64>,
    last_version: BTreeMap<u8, u64>,
}

impl Model {
    fn expire(&mut self, now: Time) {
        self.held.retain(|_, (_, deadline, _)| deadline.is_none_or(|deadline| deadline > now));
    }

    fn bytes(&self) -> usize {
        self.held.values().map(|(value, ..)| 1 + value.len() + ENTRY_OVERHEAD_BYTES).sum()
    }

    /// Would this write fit?
    fn fits(&self, key: u8, value_bytes: usize) -> bool {
        let before = self.held.get(&key).map_or(0, |(value, ..)| 1 + value.len() + ENTRY_OVERHEAD_BYTES);
        self.bytes() - before + 1 + value_bytes + ENTRY_OVERHEAD_BYTES <= MAX_BYTES
    }

    /// A write took place: versions only grow.
    fn wrote(&mut self, key: u8, value: Vec<u8>, deadline: Option<Time>, version: u64) {
        assert!(self.last_version.insert(key, version).is_none_or(|last| last < version));
        self.first_version.entry(key).or_insert(version);
        self.held.insert(key, (value, deadline, version));
    }
}

fn run(steps: Vec<Step>) {
    let metrics = Metrics::new().unwrap().store("s");
    let store = Embedded::new(MAX_BYTES, metrics.clone(), Waker::default());
    let (mut model, mut now) = (Model::default(), 0);
    for step in steps {
        model.expire(now);
        apply(&store, &mut model, &mut now, step);
        model.expire(now);
        // What expired may still be counted, but what lives is.
        assert!(store.account().used_bytes() >= model.bytes());
        assert!(store.account().used_bytes() <= MAX_BYTES);
    }
    store.expire(now, usize::MAX);
    assert_eq!(store.account().used_bytes(), model.bytes());
    assert_eq!(usize::try_from(metrics.bytes.get()).unwrap(), model.bytes());
    assert_eq!(usize::try_from(metrics.entries.get()).unwrap(), model.held.len());
    assert_eq!(store.account().expiring(), model.held.values().filter(|(_, deadline, _)| deadline.is_some()).count());
}

fn apply(store: &Embedded, model: &mut Model, now: &mut Time, step: Step) {
    let name = |key: u8| char::from(b'a' + key).to_string();
    let at = *now;
    match step {
        Step::Get(key) => {
            let found = store.get_at(at, &name(key)).map(|entry| (entry.value.to_vec(), entry.version));
            assert_eq!(found, model.held.get(&key).map(|(value, _, version)| (value.clone(), *version)));
        }
        Step::Set(key, value, ttl) => {
            let result = store.set_at(at, &name(key), &value.clone().into(), ttl);
            assert_eq!(result.is_ok(), model.fits(key, value.len()), "{result:?}");
            if let Ok(version) = result {
                model.wrote(key, value, ttl.map(|ttl| at + ttl), version);
            }
        }
        Step::Compare(key, expected, value, ttl) => {
            let current = model.held.get(&key).map(|(.., version)| *version);
            let expected = match expected {
                Expected::Absent => None,
                Expected::Current => current,
                Expected::First => model.first_version.get(&key).copied(),
            };
            let result = store.compare_and_set_at(at, &name(key), expected, &value.clone().into(), ttl);
            if expected != current {
                assert_eq!(result, Ok(false));
            } else if model.fits(key, value.len()) {
                assert_eq!(result, Ok(true));
                let version = store.get_at(at, &name(key)).unwrap().version;
                model.wrote(key, value, ttl.map(|ttl| at + ttl), version);
            } else {
                assert!(matches!(result, Err(StoreError::Full { .. })), "{result:?}");
            }
        }
        Step::Delete(key) => assert_eq!(store.delete_at(at, &name(key)), model.held.remove(&key).is_some()),
        Step::Increment(key, by, ttl) => {
            let held = model.held.get(&key).cloned();
            let before: Option<i64> = held
                .as_ref()
                .map_or(Some(0), |(value, ..)| std::str::from_utf8(value).ok().and_then(|text| text.parse().ok()));
            let sum = before.and_then(|before| before.checked_add(by));
            let result = store.increment_at(at, &name(key), by, ttl);
            match sum {
                None => assert!(matches!(result, Err(StoreError::Invalid(_))), "{result:?}"),
                Some(sum) if !model.fits(key, sum.to_string().len()) => {
                    assert!(matches!(result, Err(StoreError::Full { .. })), "{result:?}");
                }
                Some(sum) => {
                    assert_eq!(result, Ok(sum));
                    let version = store.get_at(at, &name(key)).unwrap().version;
                    let deadline = held.map_or(ttl.map(|ttl| at + ttl), |(_, deadline, _)| deadline);
                    model.wrote(key, sum.to_string().into_bytes(), deadline, version);
                }
            }
        }
        Step::Sweep => {
            store.expire(at, usize::MAX);
            assert_eq!(store.account().used_bytes(), model.bytes());
        }
        Step::Wait(milliseconds) => *now += milliseconds,
    }
}

proptest! {
    #[test]
    fn the_store_is_a_map_with_a_clock_and_a_quota(steps in proptest::collection::vec(step(), 0..200)) {
        run(steps);
    }
}
