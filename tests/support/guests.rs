//! Built guests: `make guests` puts them into the target folder.

use std::{fs, path::PathBuf};

/// The bytes of a guest: `redact`, `stamp`, `stamp-v2`, `guest_faulty`, …
pub(crate) fn bytes(name: &str) -> Vec<u8> {
    let path = folder().join(format!("{name}.wasm"));
    fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}; run `make guests`", path.display()))
}

/// The bytes of a guest in another language than Rust: `four-js`, …
pub(crate) fn language(name: &str) -> Vec<u8> {
    let path = super::target().join("languages").join(format!("{name}.wasm"));
    fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}; run `make languages`", path.display()))
}

/// The same component by another name, so to say: it does the same, and its bytes differ.
pub(crate) fn other(component: &[u8]) -> Vec<u8> {
    // A custom section (0) of 2 bytes: a name of one letter and nothing else.
    [component, &[0, 2, 1, b'x']].concat()
}

fn folder() -> PathBuf {
    super::target().join("wasm32-wasip2/guest")
}
