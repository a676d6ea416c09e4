//! What the documentation shows and what `wsgate filter new` writes: compiled and run.

#![allow(clippy::unwrap_used, reason = "tests")]

mod book;
mod template;
