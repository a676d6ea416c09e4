//! A part of a store: what one lock protects.

use std::{
    collections::{BTreeSet, HashMap},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use bytes::Bytes;

use super::{ENTRY_OVERHEAD_BYTES, Entry, StoreError};
use crate::telemetry::metrics::StoreMetrics;

/// Milliseconds since the store was made.
pub(super) type Time = u64;

/// Tables are made smaller when no more than one in so many places is in use.
const SPARSE: usize = 8;
/// Smaller tables are left alone.
const SMALL: usize = 64;

/// The keys that hash to it.
#[derive(Default)]
pub(super) struct Shard {
    entries: HashMap<Arc<str>, Slot>,
    /// Every entry that has a deadline, the next first.
    deadlines: BTreeSet<(Time, Arc<str>)>,
    /// Versions are not used again, also not after a removal: whoever compares with an old one must not succeed.
    last_version: u64,
}

struct Slot {
    value: Bytes,
    version: u64,
    deadline: Option<Time>,
}

/// Counts of a whole store, shared by its shards.
pub(super) struct Account {
    max_bytes: AtomicUsize,
    used_bytes: AtomicUsize,
    /// Entries that have a deadline.
    expiring: AtomicUsize,
    metrics: StoreMetrics,
}

/// Whether an entry with a deadline is the only one of its store: then nobody waits for deadlines yet.
pub(super) struct FirstExpiring(pub(super) bool);

impl Account {
    pub(super) fn new(max_bytes: usize, metrics: StoreMetrics) -> Self {
        Self {
            max_bytes: AtomicUsize::new(max_bytes),
            used_bytes: AtomicUsize::new(0),
            expiring: AtomicUsize::new(0),
            metrics,
        }
    }

    pub(super) fn expiring(&self) -> usize {
        self.expiring.load(Ordering::SeqCst)
    }

    /// Another bound. What is above it stays, and nothing is added until there is room.
    pub(super) fn set_max_bytes(&self, bytes: usize) {
        self.max_bytes.store(bytes, Ordering::Relaxed);
    }

    #[cfg(test)]
    pub(super) fn used_bytes(&self) -> usize {
        self.used_bytes.load(Ordering::SeqCst)
    }

    /// Makes `before` bytes `after`, if there is room.
    fn resize(&self, before: usize, after: usize) -> Result<(), StoreError> {
        if after > before {
            let (more, limit) = (after - before, self.max_bytes.load(Ordering::Relaxed));
            let reserve = |used: usize| used.checked_add(more).filter(|&used| used <= limit);
            let reserved = self.used_bytes.fetch_update(Ordering::Relaxed, Ordering::Relaxed, reserve);
            reserved.map_err(|_| StoreError::Full { wanted: more, limit })?;
        } else if before > after {
            self.used_bytes.fetch_sub(before - after, Ordering::Relaxed);
        } else {
            return Ok(());
        }
        self.metrics.bytes.add(after as i64 - before as i64);
        Ok(())
    }
}

impl Shard {
    pub(super) fn get(&self, key: &str, now: Time) -> Option<Entry> {
        let slot = self.entries.get(key).filter(|slot| slot.is_live(now))?;
        Some(Entry { value: slot.value.clone(), version: slot.version })
    }

    pub(super) fn set(
        &mut self,
        account: &Account,
        key: &str,
        value: Bytes,
        deadline: Option<Time>,
    ) -> Result<(u64, FirstExpiring), StoreError> {
        let version = self.last_version + 1;
        let (shared_key, before_bytes, before) = match self.entries.get_key_value(key) {
            Some((shared_key, slot)) => (shared_key.clone(), cost(key, slot.value.len()), slot.deadline),
            None => (key.into(), 0, None),
        };
        account.resize(before_bytes, cost(key, value.len()))?;
        if before_bytes == 0 {
            account.metrics.entries.inc();
        }
        let first = self.move_deadline(account, &shared_key, before, deadline);
        self.entries.insert(shared_key, Slot { value, version, deadline });
        self.last_version = version;
        Ok((version, first))
    }

    /// Adds to a number and keeps its deadline; one that is absent gets this one.
    pub(super) fn increment(
        &mut self,
        account: &Account,
        key: &str,
        by: i64,
        deadline: Option<Time>,
        now: Time,
    ) -> Result<(i64, FirstExpiring), StoreError> {
        let live = self.entries.get(key).filter(|slot| slot.is_live(now));
        let (number, deadline) = match live {
            Some(slot) => (number(&slot.value)?, slot.deadline),
            None => (0, deadline),
        };
        let out_of_range = || StoreError::Invalid(format!("{number} and {by} exceed 64 bits").into());
        let sum = number.checked_add(by).ok_or_else(out_of_range)?;
        let (_, first) = self.set(account, key, sum.to_string().into(), deadline)?;
        Ok((sum, first))
    }

    /// Answers whether it was there.
    pub(super) fn remove(&mut self, account: &Account, key: &str, now: Time) -> bool {
        let Some((key, slot)) = self.entries.remove_entry(key) else { return false };
        self.move_deadline(account, &key, slot.deadline, None);
        self.removed(account, &key, &slot);
        slot.is_live(now)
    }

    /// Removes up to `most` entries whose time is up. Answers how many bytes that freed, and whether it was all.
    pub(super) fn expire(&mut self, account: &Account, now: Time, most: usize) -> (usize, bool) {
        let mut freed_bytes = 0;
        for _ in 0..most {
            if self.deadlines.first().is_none_or(|(deadline, _)| *deadline > now) {
                return (freed_bytes, true);
            }
            if let Some((_, key)) = self.deadlines.pop_first() {
                account.expiring.fetch_sub(1, Ordering::SeqCst);
                if let Some(slot) = self.entries.remove(&key) {
                    freed_bytes += self.removed(account, &key, &slot);
                }
            }
        }
        (freed_bytes, false)
    }

    fn move_deadline(
        &mut self,
        account: &Account,
        key: &Arc<str>,
        before: Option<Time>,
        after: Option<Time>,
    ) -> FirstExpiring {
        if before == after {
            return FirstExpiring(false);
        }
        if let Some(before) = before {
            self.deadlines.remove(&(before, key.clone()));
        }
        if let Some(after) = after {
            self.deadlines.insert((after, key.clone()));
        }
        FirstExpiring(match (before, after) {
            (None, Some(_)) => account.expiring.fetch_add(1, Ordering::SeqCst) == 0,
            (Some(_), None) => {
                account.expiring.fetch_sub(1, Ordering::SeqCst);
                false
            }
            (Some(_), Some(_)) | (None, None) => false,
        })
    }

    fn removed(&mut self, account: &Account, key: &str, slot: &Slot) -> usize {
        let before = cost(key, slot.value.len());
        // To shrink is always possible.
        let _ = account.resize(before, 0);
        account.metrics.entries.dec();
        if self.entries.capacity() > SMALL.max(self.entries.len() * SPARSE) {
            self.entries.shrink_to(self.entries.len() * 2);
        }
        before
    }
}

impl Slot {
    fn is_live(&self, now: Time) -> bool {
        self.deadline.is_none_or(|deadline| deadline > now)
    }
}

/// What an entry counts.
pub(super) fn cost(key: &str, value_bytes: usize) -> usize {
    key.len() + value_bytes + ENTRY_OVERHEAD_BYTES
}

fn number(value: &[u8]) -> Result<i64, StoreError> {
    let number = std::str::from_utf8(value).ok().and_then(|text| text.parse().ok());
    number.ok_or(StoreError::Invalid("the value is not a number of 64 bits in decimal digits".into()))
}
