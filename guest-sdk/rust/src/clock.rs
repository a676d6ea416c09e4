//! The time.

/// Milliseconds since the Unix epoch. The clock may be set back.
pub fn now_ms() -> u64 {
    #[cfg(target_family = "wasm")]
    return crate::bindings::wsgate::filter::clock::now_ms();
    #[cfg(not(target_family = "wasm"))]
    {
        use std::time::{Duration, SystemTime, UNIX_EPOCH};
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
        u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
    }
}

/// Nanoseconds since a moment of the gateway's choice. It never goes back: for measuring spans of time.
pub fn monotonic_ns() -> u64 {
    #[cfg(target_family = "wasm")]
    return crate::bindings::wsgate::filter::clock::monotonic_ns();
    #[cfg(not(target_family = "wasm"))]
    {
        use std::sync::LazyLock;
        use std::time::Instant;
        static START: LazyLock<Instant> = LazyLock::new(Instant::now);
        u64::try_from(START.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }
}
