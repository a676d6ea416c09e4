//! State that connections, instances and, in a cluster, nodes share.
//!
//! The filter's configuration has to allow the store: `allow = { key_value = ["sessions"] }`. Calls may wait, at most
//! for the filter's `wait_timeout` together; that time is not counted as the filter's own.

use std::time::Duration;

#[cfg(target_family = "wasm")]
use crate::bindings::wsgate::filter::key_value as host;
#[doc(inline)]
pub use crate::bindings::wsgate::filter::key_value::{Entry, Error};
#[cfg(not(target_family = "wasm"))]
use crate::native::key_value as host;

/// Reads a key. None where it is absent or its time is up.
///
/// # Errors
///
/// [`Error::Denied`] where the store is not allowed, [`Error::Invalid`] for an empty key, [`Error::TooLarge`],
/// [`Error::Unavailable`].
pub fn get(store: &str, key: &str) -> Result<Option<Entry>, Error> {
    host::get(store, key)
}

/// Writes a key, for `ttl` (in whole milliseconds) or for good. Returns the new version.
///
/// # Errors
///
/// [`Error::Denied`] where the store is not allowed, [`Error::Invalid`] for an empty key or a `ttl` below a millisecond,
/// [`Error::TooLarge`], [`Error::Unavailable`] also where the store is full.
pub fn set(store: &str, key: &str, value: &[u8], ttl: Option<Duration>) -> Result<u64, Error> {
    host::set(store, key, value, ttl.map(millis))
}

/// Writes a key where its version is still `expected`; with none, only where the key is absent. False where it is not.
///
/// # Errors
///
/// As [`set`].
pub fn compare_and_set(
    store: &str,
    key: &str,
    expected: Option<u64>,
    value: &[u8],
    ttl: Option<Duration>,
) -> Result<bool, Error> {
    host::compare_and_set(store, key, expected, value, ttl.map(millis))
}

/// Removes a key. One that is absent is no error.
///
/// # Errors
///
/// As [`get`].
pub fn delete(store: &str, key: &str) -> Result<(), Error> {
    host::delete(store, key)
}

/// Adds to a counter, which starts at 0, and returns its new value. With `ttl` the counter ends that long after its
/// first increment. [`get`] reads it as decimal digits.
///
/// # Errors
///
/// As [`set`], and [`Error::Invalid`] where the value is not a number or the sum exceeds 64 bits.
pub fn increment(store: &str, key: &str, by: i64, ttl: Option<Duration>) -> Result<i64, Error> {
    host::increment(store, key, by, ttl.map(millis))
}

fn millis(ttl: Duration) -> u64 {
    u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX)
}
