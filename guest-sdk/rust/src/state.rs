//! State that moves with a connection from one generation of a filter to the next: any type that serde writes and reads.
//!
//! The next generation may be another build, older or newer, so what is saved says its version. A build raises the version
//! whenever it changes the type so that the other one could not read it.
//!
//! ```
//! use serde::{Deserialize, Serialize};
//! use wsgate_sdk::prelude::*;
//! use wsgate_sdk::state;
//!
//! const VERSION: u32 = 1;
//!
//! /// What is known of one connection.
//! #[derive(Default, Deserialize, Serialize)]
//! struct Seen { messages: u64 }
//!
//! struct Count { seen: Seen }
//!
//! impl Filter for Count {
//!     type Config = ();
//!
//!     fn open(_config: &Rc<()>, _handshake: &Handshake) -> Result<Admission<Self>, Refusal> {
//!         Ok(Admission::new(Count { seen: Seen::default() }))
//!     }
//!
//!     fn save(&mut self) -> Option<Vec<u8>> {
//!         state::save(VERSION, &self.seen)
//!     }
//!
//!     fn resume(
//!         _config: &Rc<()>,
//!         _handshake: &Handshake,
//!         state: Option<Vec<u8>>,
//!         _cause: ResumeCause,
//!     ) -> Result<Resumed<Self>, Rejection> {
//!         // None: the filter was added to the connection, or its instance was lost.
//!         let seen = state::resume(VERSION, state)?.unwrap_or_default();
//!         Ok(Resumed::new(Count { seen }))
//!     }
//! }
//! # let mut count = wsgate_sdk::testing::connect::<Count>("{}", &wsgate_sdk::testing::handshake("/")).unwrap();
//! # count.filter().seen.messages = 7;
//! # count.reload("{}").unwrap();
//! # assert_eq!(count.filter().seen.messages, 7);
//! ```

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::{Error, Rejection};

/// What [`Filter::save`](crate::Filter::save) returns. State that cannot be written as JSON (a map whose keys are no text)
/// is logged, and there is none.
pub fn save<T: Serialize>(version: u32, state: &T) -> Option<Vec<u8>> {
    let mut saved = format!("{version} ").into_bytes();
    match serde_json::to_writer(&mut saved, state) {
        Ok(()) => Some(saved),
        Err(error) => {
            crate::log::error!("the state was not saved: {error}");
            None
        }
    }
}

/// What [`Filter::resume`](crate::Filter::resume) gets, where it has this version. None where there is no state.
///
/// # Errors
///
/// State of another version, or that does not fit the type, stays with the generation that saved it: the connection goes on
/// there, and the log says why. To read older versions as well, use [`Saved`].
pub fn resume<T: DeserializeOwned>(version: u32, state: Option<Vec<u8>>) -> Result<Option<T>, Rejection> {
    let Some(state) = state else { return Ok(None) };
    let saved = Saved::parse(&state)?;
    match saved.version() {
        same if same == version => Ok(Some(saved.read()?)),
        other => Err(Rejection::keep_old(format_args!(
            "the saved state has version {other}, and this build reads version {version}"
        ))),
    }
}

/// Saved state of a version that is still to be looked at.
///
/// ```
/// use serde::Deserialize;
/// use wsgate_sdk::state::{self, Saved};
/// use wsgate_sdk::{Error, Rejection};
///
/// #[derive(Deserialize)]
/// struct First { count: u64 }
/// #[derive(Deserialize)]
/// struct Second { to_client: u64, to_upstream: u64 }
///
/// fn read(state: &[u8]) -> Result<Second, Rejection> {
///     let saved = Saved::parse(state)?;
///     match saved.version() {
///         1 => saved.read().map(|First { count }| Second { to_client: count, to_upstream: 0 }),
///         _ => saved.read(),
///     }
///     .map_err(Rejection::from)
/// }
/// # let state = state::save(1, &std::collections::BTreeMap::from([("count", 7)])).unwrap();
/// # assert_eq!(read(&state).unwrap().to_client, 7);
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Saved<'a> {
    version: u32,
    json: &'a [u8],
}

impl<'a> Saved<'a> {
    /// Finds the version.
    ///
    /// # Errors
    ///
    /// Where this was not made by [`save`].
    pub fn parse(state: &'a [u8]) -> Result<Self, Error> {
        let space = state.iter().position(|byte| *byte == b' ');
        let parts = space.and_then(|at| Some((std::str::from_utf8(&state[..at]).ok()?, &state[at + 1..])));
        let saved = parts.and_then(|(version, json)| Some(Self { version: version.parse().ok()?, json }));
        saved.ok_or_else(|| Error::new("the saved state cannot be read: it does not begin with a version"))
    }

    /// That which [`save`] was given.
    pub fn version(&self) -> u32 {
        self.version
    }

    /// Reads the state itself.
    ///
    /// # Errors
    ///
    /// Where it does not fit the type.
    pub fn read<T: Deserialize<'a>>(&self) -> Result<T, Error> {
        let read = crate::json::read(self.json);
        read.map_err(|error| error.context(format_args!("the saved state of version {} cannot be read", self.version)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kept<T: std::fmt::Debug>(resumed: Result<T, Rejection>) -> String {
        match resumed {
            Err(Rejection::KeepOld(why)) => why,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn state_is_read_by_the_version_that_wrote_it() {
        let saved = save(3, &vec![1, 2]);
        assert_eq!(saved.as_deref(), Some(b"3 [1,2]".as_slice()));
        assert_eq!(resume::<Vec<u8>>(3, saved), Ok(Some(vec![1, 2])));
        assert_eq!(resume::<Vec<u8>>(3, None), Ok(None));
    }

    #[test]
    fn state_of_another_version_stays_where_it_is() {
        let why = kept(resume::<Vec<u8>>(2, save(3, &vec![1])));
        assert_eq!(why, "the saved state has version 3, and this build reads version 2");
    }

    #[test]
    fn state_that_cannot_be_read_stays_where_it_is() {
        for bad in ["", "?", "{\"a\": 1}", " 1", "-1 []", "4294967296 []"] {
            assert!(Saved::parse(bad.as_bytes()).is_err(), "{bad}");
        }
        let why = kept(resume::<Vec<u8>>(1, Some(b"?".to_vec())));
        assert_eq!(why, "the saved state cannot be read: it does not begin with a version");
        let why = kept(resume::<Vec<u8>>(1, save(1, &"s3cret")));
        assert_eq!(why, "the saved state of version 1 cannot be read: expected a sequence at line 1 column 8");
    }

    #[test]
    fn state_that_cannot_be_written_is_logged() {
        let host = crate::testing::Host::new();
        assert_eq!(save(1, &std::collections::BTreeMap::from([(vec![1], 1)])), None);
        assert_eq!(host.log()[0].message, "the state was not saved: key must be a string");
    }
}
