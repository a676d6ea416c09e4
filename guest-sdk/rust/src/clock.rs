//! The time.

#[cfg(target_family = "wasm")]
use crate::bindings::wsgate::filter::clock as host;
#[cfg(not(target_family = "wasm"))]
use crate::native::clock as host;

/// Milliseconds since the Unix epoch. The clock may be set back.
pub fn now_ms() -> u64 {
    host::now_ms()
}

/// Nanoseconds since a moment of the gateway's choice. It never goes back: for measuring spans of time.
pub fn monotonic_ns() -> u64 {
    host::monotonic_ns()
}
