//! Lines in the gateway's log.
//!
//! The macros [`trace!`], [`debug!`], [`info!`], [`warn!`] and [`error!`](crate::log::error!) format like `println!`, with fields before a
//! semicolon, and only where the gateway logs at that level:
//!
//! ```
//! use wsgate_sdk::log;
//!
//! let (user, count) = ("7", 3);
//! log::info!("{count} messages");
//! log::warn!(user = user, count = count; "too many messages");
//! ```
//!
//! The gateway adds the filter, the route and the connection, cuts lines that are too long, and drops lines that come
//! too fast. What clients send may be secret: it does not belong into a log.

#[cfg(target_family = "wasm")]
use crate::bindings::wsgate::filter::logging as host;
#[doc(inline)]
pub use crate::bindings::wsgate::filter::logging::Level;
#[cfg(not(target_family = "wasm"))]
use crate::native::logging as host;
#[doc(inline)]
pub use crate::{
    __log_debug as debug, __log_error as error, __log_info as info, __log_trace as trace, __log_warn as warn,
};

/// Whether the gateway logs lines of this level now.
pub fn enabled(level: Level) -> bool {
    host::enabled(level)
}

/// Writes a line with fields. The macros of this module are the convenient form.
pub fn write(level: Level, message: &str, fields: &[(&str, String)]) {
    let fields: Vec<_> = fields.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect();
    host::log(level, message, &fields);
}

/// Names why this call decided as it did: a short label of a small set, such as `"banned_word"`.
///
/// It is shown in the access log, in the log line of a refused handshake, in the tap and in a metric that counts 64
/// labels of a filter each by itself.
pub fn reason(label: &str) {
    host::reason(label);
}

#[doc(hidden)]
#[macro_export]
macro_rules! __log {
    ($level:expr, $($field:ident = $value:expr),+ ; $($format:tt)+) => {
        if $crate::log::enabled($level) {
            let fields = [$((::core::stringify!($field), ::std::string::ToString::to_string(&$value))),+];
            $crate::log::write($level, &::std::format!($($format)+), &fields);
        }
    };
    ($level:expr, $($format:tt)+) => {
        if $crate::log::enabled($level) {
            $crate::log::write($level, &::std::format!($($format)+), &[]);
        }
    };
}

/// Writes a line at level trace. See [`log`](crate::log).
#[doc(hidden)]
#[macro_export]
macro_rules! __log_trace {
    ($($line:tt)+) => { $crate::__log!($crate::log::Level::Trace, $($line)+) };
}

/// Writes a line at level debug. See [`log`](crate::log).
#[doc(hidden)]
#[macro_export]
macro_rules! __log_debug {
    ($($line:tt)+) => { $crate::__log!($crate::log::Level::Debug, $($line)+) };
}

/// Writes a line at level info. See [`log`](crate::log).
#[doc(hidden)]
#[macro_export]
macro_rules! __log_info {
    ($($line:tt)+) => { $crate::__log!($crate::log::Level::Info, $($line)+) };
}

/// Writes a line at level warn. See [`log`](crate::log).
#[doc(hidden)]
#[macro_export]
macro_rules! __log_warn {
    ($($line:tt)+) => { $crate::__log!($crate::log::Level::Warn, $($line)+) };
}

/// Writes a line at level error. See [`log`](crate::log).
#[doc(hidden)]
#[macro_export]
macro_rules! __log_error {
    ($($line:tt)+) => { $crate::__log!($crate::log::Level::Error, $($line)+) };
}
