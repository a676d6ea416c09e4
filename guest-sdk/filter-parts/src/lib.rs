//! What wsgate's own filters share.
//!
//! - [`json`]: JSON text that is checked within a depth limit and then read, and edited, where it lies;
//! - [`Pointer`]: JSON pointers (RFC 6901), as configurations name places in messages;
//! - [`Matcher`] and [`When`]: conditions on the values found there;
//! - [`query`]: percent-encoded text;
//! - [`Answer`]: what is done with a message that a filter does not let pass.
//!
//! All text comes from clients: nothing here recurses, and the work is linear in the size of the message.

pub mod json;
pub mod query;

mod answer;
mod matcher;
mod pointer;
mod when;

pub use answer::{Answer, Facts};
pub use matcher::Matcher;
pub use pointer::{Pointer, PointerError};
pub use when::{Verified, When};
