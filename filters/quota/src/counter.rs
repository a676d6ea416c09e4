//! Counters in the store, which all instances and nodes share.

use std::time::Duration;

use wsgate_sdk::prelude::*;

use crate::{config::Quota, window::Window};

/// Longest name of a user: keys have at most 1 KiB.
pub(crate) const MAX_USER_BYTES: usize = 512;

/// How long a counter outlives its window, for clocks that differ.
const AFTERWARDS: Duration = Duration::from_secs(60);

/// The counter of a user in a window.
pub(crate) struct Counter<'a> {
    pub(crate) store: &'a str,
    pub(crate) quota: &'a Quota,
    pub(crate) user: &'a str,
    pub(crate) window: Window,
}

impl Counter<'_> {
    fn key(&self) -> String {
        format!("{}/{}/{}", self.quota.name, self.window.start_s, self.user)
    }

    /// Adds, and returns what is counted then.
    pub(crate) fn add(&self, by: i64, now_ms: u64) -> Result<u64, Error> {
        let ttl = Duration::from_secs(self.window.left_s(now_ms)) + AFTERWARDS;
        let total = imp::increment(self.store, &self.key(), by, ttl).map_err(|error| self.failed(&error))?;
        // Below 0 only where somebody else writes the key.
        Ok(u64::try_from(total).unwrap_or(0))
    }

    /// What is counted.
    pub(crate) fn read(&self) -> Result<u64, Error> {
        let digits = imp::get(self.store, &self.key()).map_err(|error| self.failed(&error))?;
        let digits = digits.as_deref().map(String::from_utf8_lossy);
        Ok(digits.and_then(|digits| digits.parse().ok()).unwrap_or(0))
    }

    fn failed(&self, error: &key_value::Error) -> Error {
        let store = self.store;
        match error {
            key_value::Error::Denied => Error::new(format_args!("store: `allow.key_value` does not name `{store}`")),
            other => Error::new(format_args!("the store `{store}`: {other:?}")),
        }
    }
}

#[cfg(not(test))]
mod imp {
    use std::time::Duration;

    use wsgate_sdk::{key_value, key_value::Error};

    pub(super) fn increment(store: &str, key: &str, by: i64, ttl: Duration) -> Result<i64, Error> {
        key_value::increment(store, key, by, Some(ttl))
    }

    pub(super) fn get(store: &str, key: &str) -> Result<Option<Vec<u8>>, Error> {
        Ok(key_value::get(store, key)?.map(|entry| entry.value))
    }
}

#[cfg(test)]
pub(crate) use imp::Fake;

/// A store for tests, one for each thread.
#[cfg(test)]
mod imp {
    use std::{cell::RefCell, collections::BTreeMap, time::Duration};

    use wsgate_sdk::key_value::Error;

    #[derive(Default)]
    pub(crate) struct Fake {
        pub(crate) counters: BTreeMap<String, i64>,
        pub(crate) calls: usize,
        pub(crate) fails: bool,
        pub(crate) last_ttl: Duration,
    }

    thread_local! {
        static STORE: RefCell<Fake> = RefCell::default();
    }

    impl Fake {
        pub(crate) fn with<T>(read: impl FnOnce(&mut Self) -> T) -> T {
            STORE.with_borrow_mut(read)
        }
    }

    pub(super) fn increment(_store: &str, key: &str, by: i64, ttl: Duration) -> Result<i64, Error> {
        Fake::with(|fake| {
            fake.calls += 1;
            if fake.fails {
                return Err(Error::Denied);
            }
            fake.last_ttl = ttl;
            let counter = fake.counters.entry(key.to_owned()).or_default();
            *counter += by;
            Ok(*counter)
        })
    }

    pub(super) fn get(_store: &str, key: &str) -> Result<Option<Vec<u8>>, Error> {
        Fake::with(|fake| {
            fake.calls += 1;
            Ok(fake.counters.get(key).map(|count| count.to_string().into_bytes()))
        })
    }
}
