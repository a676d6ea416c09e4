//! Panics are bugs of the gateway. Each ends the one task in which it happens, and is counted and logged like anything
//! else: the standard library would write to stderr itself, and wait there for a reader that has gone to sleep.

use std::{backtrace::Backtrace, panic, thread};

use prometheus::IntCounter;

/// Counts and logs panics from now on.
pub fn report(counter: IntCounter) {
    panic::set_hook(Box::new(move |info| {
        counter.inc();
        let at = info.location().map(ToString::to_string).unwrap_or_default();
        let message = info.payload_as_str().unwrap_or("(no text)");
        let thread = thread::current().name().unwrap_or("-").to_owned();
        // Captured where RUST_BACKTRACE asks for it.
        let backtrace = Backtrace::capture();
        tracing::error!(thread, at, message, %backtrace, "a panic; please report it as a bug");
    }));
}
