//! Write filters for the wsgate WebSocket gateway in Rust.
//!
//! A filter is a type, the trait [`Filter`] and the macro [`export!`]. One value of the type stands for one open
//! connection: the gateway calls it for every message and does what its [`Verdict`] says.
//!
//! ```
//! use wsgate_sdk::prelude::*;
//!
//! /// Makes everything that clients say loud.
//! struct Shout;
//!
//! impl Filter for Shout {
//!     type Config = ();
//!
//!     fn open(_config: &Rc<()>, _handshake: &Handshake) -> Result<Admission<Self>, Refusal> {
//!         Ok(Admission::new(Shout))
//!     }
//!
//!     fn on_message(&mut self, direction: Direction, message: Message) -> Result<Verdict, Error> {
//!         match (direction, message) {
//!             (Direction::ToUpstream, Message::Text(text)) => Ok(Verdict::Replace(text.to_uppercase().into())),
//!             _ => Ok(Verdict::Forward),
//!         }
//!     }
//! }
//!
//! wsgate_sdk::export!(Shout);
//! # fn main() {}
//! ```
//!
//! Build it with `cargo build --release --target wasm32-wasip2`, as a library of `crate-type = ["cdylib"]`, and copy the
//! `.wasm` file into the gateway's `filter_dir`.
//!
//! # Modules, in reading order
//!
//! - [`Filter`], and what its functions take and return: all in the [`prelude`];
//! - what the gateway offers to a filter: [`log`], [`clock`], [`metrics`], [`messaging`], [`key_value`], [`http`];
//! - [`mod@state`]: what a connection takes along to the next generation of its filter;
//! - [`testing`]: a filter's logic is plain Rust and is tested with a plain `cargo test`.
//!
//! # Outside the gateway
//!
//! The crate compiles natively too, so that filters can be tested without a gateway. A test's [`testing::Host`] then
//! answers the imports and records what the filter did. Without one there are stand-ins: log lines go to stderr, the
//! clock is the machine's, metrics go nowhere, messaging and HTTP calls are denied, and the key-value store is
//! unavailable.

mod admission;
mod config;
mod error;
mod filter;
mod handshake;
mod identity;
mod interest;
mod json;
mod message;
mod verdict;

pub mod clock;
pub mod http;
pub mod key_value;
pub mod log;
pub mod messaging;
pub mod metrics;
pub mod state;

pub mod testing;

mod component;
#[cfg(not(target_family = "wasm"))]
mod native;
#[doc(hidden)]
#[allow(missing_docs, unsafe_code, unreachable_pub, reason = "generated from the WIT, which documents the types")]
pub mod bindings {
    wit_bindgen::generate!({
        path: "../wit/0.1.0",
        world: "filter-http",
        pub_export_macro: true,
        export_macro_name: "export_handler",
        default_bindings_module: "wsgate_sdk::bindings",
        additional_type_attributes: {
            "wsgate:filter/types@0.1.0/header": [#[derive(PartialEq, Eq)]],
            "wsgate:filter/types@0.1.0/identity": [#[derive(PartialEq, Eq)]],
            "wsgate:filter/types@0.1.0/handshake": [#[derive(PartialEq, Eq)]],
            "wsgate:filter/types@0.1.0/message": [#[derive(PartialEq, Eq)]],
            "wsgate:filter/types@0.1.0/close-info": [#[derive(PartialEq, Eq)]],
            "wsgate:filter/types@0.1.0/action": [#[derive(PartialEq, Eq)]],
            "wsgate:filter/types@0.1.0/verdict": [#[derive(PartialEq, Eq)]],
            "wsgate:filter/types@0.1.0/header-edits": [#[derive(PartialEq, Eq, Default)]],
            "wsgate:filter/types@0.1.0/refusal": [#[derive(PartialEq, Eq)]],
            "wsgate:filter/types@0.1.0/interest": [#[derive(PartialEq, Eq)]],
            "wsgate:filter/handler@0.1.0/rejection": [#[derive(PartialEq, Eq)]],
            "wsgate:filter/key-value@0.1.0/entry": [#[derive(PartialEq, Eq)]],
            "wsgate:filter/key-value@0.1.0/error": [#[derive(PartialEq, Eq)]],
            "wsgate:filter/messaging@0.1.0/error": [#[derive(PartialEq, Eq)]],
            "wsgate:filter/http-client@0.1.0/request": [#[derive(PartialEq, Eq)]],
            "wsgate:filter/http-client@0.1.0/response": [#[derive(PartialEq, Eq)]],
            "wsgate:filter/http-client@0.1.0/error": [#[derive(PartialEq, Eq)]],
        },
    });
}

pub use admission::{Admission, Resumed};
pub use bindings::exports::wsgate::filter::handler::{Rejection, ResumeCause};
pub use bindings::wsgate::filter::types::{
    Action, CloseInfo, Closer, ConnectionId, Direction, Handshake, Header, HeaderEdits, Hooks, Identity, Interest,
    Kinds, Message, Refusal, Verdict,
};
pub use error::Error;
pub use filter::Filter;
pub use interest::Directions;
pub use serde_json::{Value, json};

/// All that a filter usually names: `use wsgate_sdk::prelude::*;`.
pub mod prelude {
    pub use crate::{
        Action, Admission, CloseInfo, Closer, Direction, Directions, Error, Filter, Handshake, Header, HeaderEdits,
        Hooks, Identity, Interest, Kinds, Message, Refusal, Rejection, ResumeCause, Resumed, Verdict,
    };
    pub use crate::{clock, http, json, key_value, log, messaging, metrics, state};
    #[doc(no_inline)]
    pub use std::rc::Rc;
}

#[doc(hidden)]
pub mod __private {
    pub use crate::component::Component;

    /// Makes an exported filter count as used where nothing exports it: in native builds.
    pub const fn assert_filter<F: crate::Filter>() {}
}

/// Compiles what the README shows.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;

/// Makes a type that implements [`Filter`] the filter of this crate. Once in a crate.
///
/// In native builds, which are for tests, it only checks that the type is a filter.
#[macro_export]
macro_rules! export {
    ($filter:ty) => {
        #[cfg(target_family = "wasm")]
        const _: () = {
            type Exported = $crate::__private::Component<$filter>;
    $crate::bindings::export_handler!(Exported with_types_in $crate::bindings);
        };
        #[cfg(not(target_family = "wasm"))]
        const _: () = $crate::__private::assert_filter::<$filter>();
    };
}
