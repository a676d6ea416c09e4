//! Built guests: `make guests` puts them into the target folder.

use std::{fs, path::PathBuf};

/// The bytes of a guest: `redact`, `stamp`, `stamp-v2`, `guest_faulty`, …
pub(crate) fn bytes(name: &str) -> Vec<u8> {
    let path = folder().join(format!("{name}.wasm"));
    fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}; run `make guests`", path.display()))
}

fn folder() -> PathBuf {
    super::target().join("wasm32-wasip2/guest")
}
