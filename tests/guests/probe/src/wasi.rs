//! Calls that the standard library does not make.

use wasip2::clocks::monotonic_clock::subscribe_duration;
use wasip2::random::random::get_random_bytes;

pub(crate) fn random(bytes: u64) -> String {
    format!("random:{}", get_random_bytes(bytes).len())
}

pub(crate) fn pollables(count: u64) -> String {
    let pollables: Vec<_> = (0..count).map(|_| subscribe_duration(1)).collect();
    format!("pollables:{}", pollables.len())
}
