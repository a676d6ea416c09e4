//! Keys and values that filters share. A store has a name, and lives as long as the process: reloads of filters do not
//! touch it.
//!
//! In reading order: what every store is, wherever its entries are kept; keeping them in this process; removing those
//! whose time is up.

mod embedded;
mod shard;
mod sweeper;

use std::{
    borrow::Cow,
    collections::{BTreeMap, BTreeSet},
    io,
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError},
};

use bytes::Bytes;
use futures_util::future::BoxFuture;
use prometheus::IntCounter;

use crate::{
    config::{self, Config},
    telemetry::metrics::{Metrics, StoreMetrics},
};
use embedded::Embedded;
use sweeper::Sweeper;

/// Longest key.
pub const KEY_BYTES: usize = 1 << 10;
/// Largest value. A message of NATS is no larger by default either.
pub const VALUE_BYTES: usize = 1 << 20;
/// What an entry counts beside its key and value: about what it takes beside them, with a time to live.
pub const ENTRY_OVERHEAD_BYTES: usize = 320;

/// Where entries are kept. Arguments were checked. Dropping an answer before it is there leaves it open whether the
/// operation took place.
pub trait Backend: Send + Sync {
    /// Reads a key.
    fn get<'a>(&'a self, key: &'a str) -> Answer<'a, Option<Entry>>;
    /// Writes a key; answers its new version.
    fn set<'a>(&'a self, key: &'a str, value: Bytes, ttl_ms: Option<u64>) -> Answer<'a, u64>;
    /// Writes a key if it has this version, or is absent where that is `None`. Answers whether it did.
    fn compare_and_set<'a>(
        &'a self,
        key: &'a str,
        expected: Option<u64>,
        value: Bytes,
        ttl_ms: Option<u64>,
    ) -> Answer<'a, bool>;
    /// Removes a key; answers whether it was there.
    fn delete<'a>(&'a self, key: &'a str) -> Answer<'a, bool>;
    /// Adds to a number; one that is absent is 0 and gets this time to live.
    fn increment<'a>(&'a self, key: &'a str, by: i64, ttl_ms: Option<u64>) -> Answer<'a, i64>;
}

/// What an operation comes to, perhaps after a while.
pub type Answer<'a, T> = BoxFuture<'a, Result<T, StoreError>>;

/// What a key has.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Entry {
    /// The bytes that were set; of a counter, its decimal digits.
    pub value: Bytes,
    /// Grows with each write of the key, also over its removal.
    pub version: u64,
}

/// Why an operation did not take place.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum StoreError {
    /// The caller's mistake.
    #[error("{0}")]
    Invalid(Cow<'static, str>),
    /// The key or the value.
    #[error("{what} of {bytes} bytes, {limit} allowed")]
    TooLarge {
        /// Which.
        what: &'static str,
        /// How large it is.
        bytes: usize,
        /// How large it may be.
        limit: usize,
    },
    /// `max_size`
    #[error("the store is full: {wanted} bytes wanted, {limit} allowed in all (max_size)")]
    Full {
        /// What is missing.
        wanted: usize,
        /// The setting.
        limit: usize,
    },
    /// The backend cannot be reached.
    #[error("{0}")]
    Unavailable(String),
}

/// Every store by name. One a process.
#[derive(Default)]
pub struct Stores(Mutex<Open>);

#[derive(Default)]
struct Open {
    by_name: BTreeMap<String, Known>,
    /// Stopped when the stores are dropped.
    sweeper: Option<Sweeper>,
}

struct Known {
    store: Arc<Store>,
    embedded: Arc<Embedded>,
}

impl Stores {
    /// The stores that have a table, or that some filter may use.
    ///
    /// # Errors
    /// The thread that removes what expired cannot be started.
    pub fn new(config: &Config, metrics: &Metrics) -> io::Result<Self> {
        let stores = Self::default();
        stores.follow(config, metrics)?;
        Ok(stores)
    }

    /// The same for a configuration that takes the place of the one before: stores that are there keep their entries,
    /// also those that it does not name, which a later one may.
    ///
    /// # Errors
    /// As [`Stores::new`].
    pub fn follow(&self, config: &Config, metrics: &Metrics) -> io::Result<()> {
        let granted = config.filters.values().flat_map(|filter| &filter.allow.key_value);
        let names: BTreeSet<&String> = config.stores.keys().chain(granted).collect();
        let mut open = self.open();
        if names.is_empty() {
            return Ok(());
        }
        let Open { by_name, sweeper } = &mut *open;
        let sweeper = match sweeper {
            Some(sweeper) => sweeper,
            None => sweeper.insert(Sweeper::start()?),
        };
        for name in names {
            let config::Store { max_size_bytes } = config.stores.get(name).copied().unwrap_or_default();
            if let Some(known) = by_name.get(name) {
                known.embedded.set_max_bytes(max_size_bytes);
                continue;
            }
            let metrics = metrics.store(name);
            let embedded = Arc::new(Embedded::new(max_size_bytes, metrics.clone(), sweeper.waker()));
            sweeper.add(&embedded);
            let store = Arc::new(Store::new(embedded.clone(), metrics));
            by_name.insert(name.clone(), Known { store, embedded });
        }
        Ok(())
    }

    /// The store of this name, which is there for every name that a filter is allowed.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<Arc<Store>> {
        self.open().by_name.get(name).map(|known| known.store.clone())
    }

    fn open(&self) -> MutexGuard<'_, Open> {
        // A store is added whole or not at all.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A store as filters use it: arguments checked, operations counted.
pub struct Store {
    backend: Arc<dyn Backend>,
    metrics: StoreMetrics,
    counters: [[OnceLock<IntCounter>; RESULTS]; OPERATIONS],
}

#[derive(Clone, Copy)]
enum Operation {
    Get,
    Set,
    CompareAndSet,
    Delete,
    Increment,
}

const OPERATIONS: usize = Operation::Increment as usize + 1;

#[derive(Clone, Copy)]
enum Outcome {
    Ok,
    /// Nothing was there to read or to remove.
    Absent,
    /// Another version was there.
    Conflict,
    Invalid,
    TooLarge,
    Full,
    Unavailable,
}

const RESULTS: usize = Outcome::Unavailable as usize + 1;

impl Store {
    fn new(backend: Arc<dyn Backend>, metrics: StoreMetrics) -> Self {
        Self { backend, metrics, counters: Default::default() }
    }

    /// Reads a key; `None` where it is absent or its time is up.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn get(&self, key: &str) -> Result<Option<Entry>, StoreError> {
        let answer = async {
            check_key(key)?;
            self.backend.get(key).await
        };
        let found = |entry: &Option<Entry>| if entry.is_some() { Outcome::Ok } else { Outcome::Absent };
        self.counted(Operation::Get, answer.await, found)
    }

    /// Writes a key, for this long or for good. Answers its new version.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn set(&self, key: &str, value: Vec<u8>, ttl_ms: Option<u64>) -> Result<u64, StoreError> {
        let answer = async {
            check_write(key, value.len(), ttl_ms)?;
            self.backend.set(key, value.into(), ttl_ms).await
        };
        self.counted(Operation::Set, answer.await, |_| Outcome::Ok)
    }

    /// Writes a key where its version is `expected`, or where it is absent if that is `None`.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn compare_and_set(
        &self,
        key: &str,
        expected: Option<u64>,
        value: Vec<u8>,
        ttl_ms: Option<u64>,
    ) -> Result<bool, StoreError> {
        let answer = async {
            check_write(key, value.len(), ttl_ms)?;
            self.backend.compare_and_set(key, expected, value.into(), ttl_ms).await
        };
        let written = |written: &bool| if *written { Outcome::Ok } else { Outcome::Conflict };
        self.counted(Operation::CompareAndSet, answer.await, written)
    }

    /// Removes a key; one that is absent is no error.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn delete(&self, key: &str) -> Result<(), StoreError> {
        let answer = async {
            check_key(key)?;
            self.backend.delete(key).await
        };
        let removed = |removed: &bool| if *removed { Outcome::Ok } else { Outcome::Absent };
        self.counted(Operation::Delete, answer.await, removed).map(|_| ())
    }

    /// Adds to a number. One that is absent is 0; `ttl_ms` counts from then on.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn increment(&self, key: &str, by: i64, ttl_ms: Option<u64>) -> Result<i64, StoreError> {
        let answer = async {
            check_write(key, 0, ttl_ms)?;
            self.backend.increment(key, by, ttl_ms).await
        };
        self.counted(Operation::Increment, answer.await, |_| Outcome::Ok)
    }

    fn counted<T>(
        &self,
        operation: Operation,
        answer: Result<T, StoreError>,
        outcome: impl FnOnce(&T) -> Outcome,
    ) -> Result<T, StoreError> {
        let outcome = match &answer {
            Ok(value) => outcome(value),
            Err(StoreError::Invalid(_)) => Outcome::Invalid,
            Err(StoreError::TooLarge { .. }) => Outcome::TooLarge,
            Err(StoreError::Full { .. }) => Outcome::Full,
            Err(StoreError::Unavailable(_)) => Outcome::Unavailable,
        };
        let counter = &self.counters[operation as usize][outcome as usize];
        counter.get_or_init(|| self.metrics.operations(operation.label(), outcome.label())).inc();
        answer
    }
}

impl Operation {
    fn label(self) -> &'static str {
        match self {
            Self::Get => "get",
            Self::Set => "set",
            Self::CompareAndSet => "compare_and_set",
            Self::Delete => "delete",
            Self::Increment => "increment",
        }
    }
}

impl Outcome {
    fn label(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Absent => "absent",
            Self::Conflict => "conflict",
            Self::Invalid => "invalid",
            Self::TooLarge => "too_large",
            Self::Full => "full",
            Self::Unavailable => "unavailable",
        }
    }
}

fn check_key(key: &str) -> Result<(), StoreError> {
    if key.is_empty() {
        return Err(StoreError::Invalid("the key is empty".into()));
    }
    fits("a key", key.len(), KEY_BYTES)
}

fn check_write(key: &str, value_bytes: usize, ttl_ms: Option<u64>) -> Result<(), StoreError> {
    check_key(key)?;
    if ttl_ms == Some(0) {
        return Err(StoreError::Invalid("ttl-ms is 0".into()));
    }
    fits("a value", value_bytes, VALUE_BYTES)
}

fn fits(what: &'static str, bytes: usize, limit: usize) -> Result<(), StoreError> {
    if bytes > limit { Err(StoreError::TooLarge { what, bytes, limit }) } else { Ok(()) }
}

#[cfg(test)]
mod tests;
