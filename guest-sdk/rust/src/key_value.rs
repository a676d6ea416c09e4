//! State that connections, instances and, in a cluster, nodes share.
//!
//! The filter's configuration has to allow the store: `allow = { key_value = ["sessions"] }`. Calls may wait, at most
//! for the filter's `wait_timeout` together; that time is not counted as the filter's own.

use std::time::Duration;

use serde::{Deserialize, Serialize};

#[cfg(target_family = "wasm")]
use crate::bindings::wsgate::filter::key_value as host;
#[doc(inline)]
pub use crate::bindings::wsgate::filter::key_value::{Entry, Error};
#[cfg(not(target_family = "wasm"))]
use crate::native::key_value as host;

/// How often [`update`] reads anew before it gives up: enough for many writers, and an end where they never rest.
pub const UPDATE_ATTEMPTS: usize = 16;

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

/// Reads a key and writes what `change` makes of it, as one step: where somebody else writes in between, `change` is asked
/// again. None leaves the key as it is. Returns what is there afterwards.
///
/// ```
/// use wsgate_sdk::{key_value, testing};
///
/// # let host = testing::Host::new().with_entry("rooms", "blue", "ann");
/// let join = |members: Option<&[u8]>| {
///     let mut members = members.unwrap_or_default().to_vec();
///     members.extend(b",bob");
///     Some(members)
/// };
/// assert_eq!(key_value::update("rooms", "blue", None, join), Ok(Some(b"ann,bob".to_vec())));
/// ```
///
/// # Errors
///
/// As [`set`], and [`Error::Unavailable`] where [`UPDATE_ATTEMPTS`] times somebody else was faster.
pub fn update(
    store: &str,
    key: &str,
    ttl: Option<Duration>,
    mut change: impl FnMut(Option<&[u8]>) -> Option<Vec<u8>>,
) -> Result<Option<Vec<u8>>, Error> {
    for _ in 0..UPDATE_ATTEMPTS {
        let found = get(store, key)?;
        let Some(value) = change(found.as_ref().map(|entry| entry.value.as_slice())) else {
            return Ok(found.map(|entry| entry.value));
        };
        if compare_and_set(store, key, found.map(|entry| entry.version), &value, ttl)? {
            return Ok(Some(value));
        }
    }
    Err(Error::Unavailable(format!("{UPDATE_ATTEMPTS} others wrote first")))
}

/// Reads a key as JSON.
///
/// # Errors
///
/// Those of [`get`], and where the value is no JSON or does not fit the type.
pub fn get_json<T: for<'a> Deserialize<'a>>(store: &str, key: &str) -> Result<Option<T>, crate::Error> {
    get(store, key)?.map(|entry| entry.json()).transpose()
}

/// Writes a key as JSON. Returns the new version.
///
/// # Errors
///
/// Those of [`set`], and where the value cannot be written as JSON: a map whose keys are no text.
pub fn set_json(store: &str, key: &str, value: &impl Serialize, ttl: Option<Duration>) -> Result<u64, crate::Error> {
    Ok(set(store, key, &serde_json::to_vec(value)?, ttl)?)
}

impl Entry {
    /// The value as text, where it is UTF-8.
    pub fn text(&self) -> Option<&str> {
        std::str::from_utf8(&self.value).ok()
    }

    /// The value as JSON.
    ///
    /// # Errors
    ///
    /// Where it is none, or does not fit the type. The error does not repeat what was found.
    pub fn json<'a, T: Deserialize<'a>>(&'a self) -> Result<T, crate::Error> {
        crate::json::read(&self.value).map_err(|error| error.context("key-value: the value"))
    }
}

fn millis(ttl: Duration) -> u64 {
    u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Host;

    #[test]
    fn an_update_is_made_again_where_another_came_between() {
        let host = Host::new().with_entry("s", "k", "1");
        let mut asked = 0;
        let updated = update("s", "k", None, |value| {
            asked += 1;
            if asked < 3 {
                set("s", "k", format!("{asked}0").as_bytes(), None).unwrap();
            }
            Some([value.unwrap_or_default(), b"+"].concat())
        });
        assert_eq!((updated, asked), (Ok(Some(b"20+".to_vec())), 3));
        assert_eq!(host.text("s", "k").as_deref(), Some("20+"));
    }

    #[test]
    fn an_update_gives_up_in_the_end() {
        let _host = Host::new().with_store("s");
        let busy = update("s", "k", None, |_| {
            set("s", "k", b"theirs", None).unwrap();
            Some(b"mine".to_vec())
        });
        assert_eq!(busy, Err(Error::Unavailable("16 others wrote first".to_owned())));
    }

    #[test]
    fn an_update_may_leave_the_key_alone() {
        let host = Host::new().with_store("s");
        assert_eq!(update("s", "k", None, |_| None), Ok(None));
        assert_eq!(host.keys("s"), [""; 0]);
        update("s", "k", Some(Duration::from_secs(9)), |_| Some(Vec::new())).unwrap();
        assert_eq!(host.ttl("s", "k"), Some(Duration::from_secs(9)));
    }

    #[test]
    fn json_is_written_and_read() {
        let host = Host::new().with_entry("s", "bad", "s3cret");
        set_json("s", "k", &[1, 2], None).unwrap();
        assert_eq!(host.text("s", "k").as_deref(), Some("[1,2]"));
        assert_eq!(get_json::<Vec<u8>>("s", "k"), Ok(Some(vec![1, 2])));
        assert_eq!(get_json::<Vec<u8>>("s", "none"), Ok(None));
        let error = get_json::<Vec<u8>>("s", "bad").unwrap_err().to_string();
        assert_eq!(error, "key-value: the value: not JSON: expected value at line 1 column 1");
    }
}
