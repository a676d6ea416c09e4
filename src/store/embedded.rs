//! A store in the memory of this process. Its entries are spread over shards, each behind a lock of its own that is held
//! for a look-up or for a bounded number of removals.

use std::{
    future::ready,
    hash::{BuildHasher, RandomState},
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Instant,
};

use bytes::Bytes;

use super::{
    Answer, Backend, ENTRY_OVERHEAD_BYTES, Entry, StoreError,
    shard::{Account, FirstExpiring, Shard, Time, cost},
    sweeper::Waker,
};

/// Workers seldom meet in one of so many.
const LEAST_SHARDS: usize = 64;
/// A full store has about so many entries a shard: when its table grows, all of them move under the lock.
const ENTRIES_A_SHARD: usize = 4096;
/// Entries that are removed under one lock.
const REMOVED_AT_ONCE: usize = 64;

/// Longest number in decimal digits, with its sign.
const NUMBER_BYTES: usize = 20;

/// See the module.
pub(super) struct Embedded {
    shards: Box<[Place]>,
    hasher: RandomState,
    account: Account,
    started: Instant,
    /// All that had expired by then was removed, one more than the millisecond; 0 for never.
    swept_before: AtomicU64,
    sweeper: Waker,
}

/// Two shards share no cache line.
#[repr(align(128))]
#[derive(Default)]
struct Place(Mutex<Shard>);

impl Embedded {
    pub(super) fn new(max_bytes: usize, metrics: crate::telemetry::metrics::StoreMetrics, sweeper: Waker) -> Self {
        let shards = max_bytes / ENTRY_OVERHEAD_BYTES / ENTRIES_A_SHARD;
        let shards = shards.max(LEAST_SHARDS).next_power_of_two();
        Self {
            shards: (0..shards).map(|_| Place::default()).collect(),
            hasher: RandomState::new(),
            account: Account::new(max_bytes, metrics),
            started: Instant::now(),
            swept_before: AtomicU64::new(0),
            sweeper,
        }
    }

    pub(super) fn set_max_bytes(&self, bytes: usize) {
        self.account.set_max_bytes(bytes);
    }

    pub(super) fn now(&self) -> Time {
        u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    pub(super) fn get_at(&self, now: Time, key: &str) -> Option<Entry> {
        self.shard(key).get(key, now)
    }

    pub(super) fn set_at(&self, now: Time, key: &str, value: &Bytes, ttl_ms: Option<u64>) -> Result<u64, StoreError> {
        let deadline = deadline(now, ttl_ms);
        let (version, first) = self.with_room(now, cost(key, value.len()), || {
            self.shard(key).set(&self.account, key, value.clone(), deadline)
        })?;
        self.expects(first);
        Ok(version)
    }

    pub(super) fn compare_and_set_at(
        &self,
        now: Time,
        key: &str,
        expected: Option<u64>,
        value: &Bytes,
        ttl_ms: Option<u64>,
    ) -> Result<bool, StoreError> {
        let deadline = deadline(now, ttl_ms);
        let written = self.with_room(now, cost(key, value.len()), || {
            let mut shard = self.shard(key);
            if shard.get(key, now).map(|entry| entry.version) != expected {
                return Ok(None);
            }
            shard.set(&self.account, key, value.clone(), deadline).map(Some)
        })?;
        let Some((_, first)) = written else { return Ok(false) };
        self.expects(first);
        Ok(true)
    }

    pub(super) fn delete_at(&self, now: Time, key: &str) -> bool {
        self.shard(key).remove(&self.account, key, now)
    }

    pub(super) fn increment_at(&self, now: Time, key: &str, by: i64, ttl_ms: Option<u64>) -> Result<i64, StoreError> {
        let deadline = deadline(now, ttl_ms);
        let (sum, first) = self.with_room(now, cost(key, NUMBER_BYTES), || {
            self.shard(key).increment(&self.account, key, by, deadline, now)
        })?;
        self.expects(first);
        Ok(sum)
    }

    /// Removes what expired, a few entries under each lock, until this many bytes are free. Answers how many are.
    pub(super) fn expire(&self, now: Time, wanted_bytes: usize) -> usize {
        let mut freed_bytes = 0;
        for place in &self.shards {
            let mut done = false;
            while !done && freed_bytes < wanted_bytes {
                let freed;
                (freed, done) = lock(place).expire(&self.account, now, REMOVED_AT_ONCE);
                freed_bytes += freed;
            }
            if !done {
                return freed_bytes;
            }
        }
        self.swept_before.store(now + 1, Ordering::Relaxed);
        freed_bytes
    }

    /// Are there entries whose time will be up?
    pub(super) fn is_expiring(&self) -> bool {
        self.account.expiring() > 0
    }

    #[cfg(test)]
    pub(super) fn account(&self) -> &Account {
        &self.account
    }

    /// What expired and was not removed yet must not be the reason why there is no room.
    fn with_room<T>(
        &self,
        now: Time,
        bytes: usize,
        write: impl Fn() -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let result = write();
        // Nothing expires twice in a millisecond: a filter that keeps writing to a full store costs no sweep each time.
        let may_free = || self.is_expiring() && self.swept_before.load(Ordering::Relaxed) <= now;
        match result {
            Err(StoreError::Full { .. }) if may_free() && self.expire(now, bytes) > 0 => write(),
            result => result,
        }
    }

    fn expects(&self, first: FirstExpiring) {
        if first.0 {
            self.sweeper.wake();
        }
    }

    fn shard(&self, key: &str) -> MutexGuard<'_, Shard> {
        #[expect(clippy::cast_possible_truncation, reason = "some of the bits are enough")]
        let hash = self.hasher.hash_one(key) as usize;
        lock(&self.shards[hash & (self.shards.len() - 1)])
    }
}

fn lock(place: &Place) -> MutexGuard<'_, Shard> {
    place.0.lock().unwrap_or_else(PoisonError::into_inner)
}

fn deadline(now: Time, ttl_ms: Option<u64>) -> Option<Time> {
    ttl_ms.map(|ttl| now.saturating_add(ttl))
}

/// Answers are there at once.
impl Backend for Embedded {
    fn get<'a>(&'a self, key: &'a str) -> Answer<'a, Option<Entry>> {
        Box::pin(ready(Ok(self.get_at(self.now(), key))))
    }

    fn set<'a>(&'a self, key: &'a str, value: Bytes, ttl_ms: Option<u64>) -> Answer<'a, u64> {
        Box::pin(ready(self.set_at(self.now(), key, &value, ttl_ms)))
    }

    fn compare_and_set<'a>(
        &'a self,
        key: &'a str,
        expected: Option<u64>,
        value: Bytes,
        ttl_ms: Option<u64>,
    ) -> Answer<'a, bool> {
        Box::pin(ready(self.compare_and_set_at(self.now(), key, expected, &value, ttl_ms)))
    }

    fn delete<'a>(&'a self, key: &'a str) -> Answer<'a, bool> {
        Box::pin(ready(Ok(self.delete_at(self.now(), key))))
    }

    fn increment<'a>(&'a self, key: &'a str, by: i64, ttl_ms: Option<u64>) -> Answer<'a, i64> {
        Box::pin(ready(self.increment_at(self.now(), key, by, ttl_ms)))
    }
}
