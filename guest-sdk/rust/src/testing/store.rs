//! A key-value store that answers as the gateway's does.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::key_value::{Entry, Error};

const KEY_BYTES: usize = 1 << 10;
const VALUE_BYTES: usize = 1 << 20;

/// A store, at the moment of the last call.
#[derive(Default)]
pub(crate) struct Store {
    entries: BTreeMap<String, Slot>,
    /// Versions are not used again, also not after a removal.
    last_version: u64,
    /// What every call fails with.
    pub(super) failure: Option<Error>,
    now: Duration,
}

struct Slot {
    entry: Entry,
    deadline: Option<Duration>,
}

impl Store {
    /// A call begins: removes what expired.
    pub(crate) fn at(&mut self, now: Duration) -> Result<(), Error> {
        self.now = now;
        self.entries.retain(|_, slot| slot.deadline.is_none_or(|deadline| deadline > now));
        self.failure.clone().map_or(Ok(()), Err)
    }

    pub(crate) fn get(&self, key: &str) -> Result<Option<Entry>, Error> {
        check_key(key)?;
        Ok(self.entries.get(key).map(|slot| slot.entry.clone()))
    }

    pub(crate) fn set(&mut self, key: &str, value: &[u8], ttl_ms: Option<u64>) -> Result<u64, Error> {
        check_write(key, value.len(), ttl_ms)?;
        let deadline = self.deadline(ttl_ms);
        Ok(self.put(key, value.to_vec(), deadline))
    }

    pub(crate) fn compare_and_set(
        &mut self,
        key: &str,
        expected: Option<u64>,
        value: &[u8],
        ttl_ms: Option<u64>,
    ) -> Result<bool, Error> {
        check_write(key, value.len(), ttl_ms)?;
        let found = self.entries.get(key).map(|slot| slot.entry.version);
        if found != expected {
            return Ok(false);
        }
        let deadline = self.deadline(ttl_ms);
        self.put(key, value.to_vec(), deadline);
        Ok(true)
    }

    pub(crate) fn delete(&mut self, key: &str) -> Result<(), Error> {
        check_key(key)?;
        self.entries.remove(key);
        Ok(())
    }

    pub(crate) fn increment(&mut self, key: &str, by: i64, ttl_ms: Option<u64>) -> Result<i64, Error> {
        check_write(key, 0, ttl_ms)?;
        let (number, deadline) = match self.entries.get(key) {
            Some(slot) => (number(&slot.entry.value)?, slot.deadline),
            None => (0, self.deadline(ttl_ms)),
        };
        let out_of_range = || Error::Invalid(format!("{number} and {by} exceed 64 bits"));
        let sum = number.checked_add(by).ok_or_else(out_of_range)?;
        self.put(key, sum.to_string().into_bytes(), deadline);
        Ok(sum)
    }

    /// How long a key is still there.
    pub(super) fn ttl(&self, key: &str) -> Option<Duration> {
        Some(self.entries.get(key)?.deadline?.saturating_sub(self.now))
    }

    pub(super) fn keys(&self) -> Vec<String> {
        self.entries.keys().cloned().collect()
    }

    fn put(&mut self, key: &str, value: Vec<u8>, deadline: Option<Duration>) -> u64 {
        self.last_version += 1;
        let entry = Entry { value, version: self.last_version };
        self.entries.insert(key.to_owned(), Slot { entry, deadline });
        self.last_version
    }

    fn deadline(&self, ttl_ms: Option<u64>) -> Option<Duration> {
        ttl_ms.map(|millis| self.now.saturating_add(Duration::from_millis(millis)))
    }
}

fn check_key(key: &str) -> Result<(), Error> {
    match key.len() {
        0 => Err(Error::Invalid("the key is empty".to_owned())),
        1..=KEY_BYTES => Ok(()),
        _ => Err(Error::TooLarge),
    }
}

fn check_write(key: &str, value_bytes: usize, ttl_ms: Option<u64>) -> Result<(), Error> {
    check_key(key)?;
    match (ttl_ms, value_bytes > VALUE_BYTES) {
        (Some(0), _) => Err(Error::Invalid("ttl-ms is 0".to_owned())),
        (_, true) => Err(Error::TooLarge),
        (_, false) => Ok(()),
    }
}

fn number(value: &[u8]) -> Result<i64, Error> {
    let number = std::str::from_utf8(value).ok().and_then(|text| text.parse().ok());
    number.ok_or_else(|| Error::Invalid("the value is not a number of 64 bits in decimal digits".to_owned()))
}
