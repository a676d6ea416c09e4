//! What every test needs: the gateway, its peers, and waiting without luck.

use std::path::PathBuf;

pub(crate) mod component;
mod gateway;
pub(crate) mod guests;
pub(crate) mod http;
#[path = "../src/http_client/tests/server.rs"]
#[allow(dead_code, reason = "the tests of the library use the rest")]
pub(crate) mod http_server;
pub(crate) mod knock;
pub(crate) mod load;
mod metrics;
pub(crate) mod peer;
pub(crate) mod process;
pub(crate) mod served;
pub(crate) mod tls;
pub(crate) mod upstream;
mod wait;
pub(crate) mod wire;

pub(crate) use gateway::{Gateway, Setup};
pub(crate) use wait::{SOON, until};

/// Cargo's target folder, found from where this test binary lies: `target/release/deps/`.
fn target() -> PathBuf {
    let binary = std::env::current_exe().unwrap();
    binary.ancestors().nth(3).unwrap().to_owned()
}

/// The bytes of a built guest.
pub(crate) use guests::bytes as guest;
pub(crate) use guests::language;
