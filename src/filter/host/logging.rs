//! What guests write: cut, its control characters escaped, and no faster than the log can take.

use std::{borrow::Cow, fmt::Write as _, sync::Arc};

use super::Host;
use crate::{
    filter::{
        Reason,
        bindings::wsgate::filter::logging::{self, Level},
        recorder::Recorder,
    },
    telemetry::allowance::Allowance,
};

/// Longest line, in bytes before escaping.
pub(super) const LINE_BYTES: usize = 2048;
/// Further fields of a line are left out.
const FIELDS: usize = 16;
/// Longest name or value of a field.
const FIELD_BYTES: usize = 256;
/// Longest reason, in bytes before escaping.
const REASON_BYTES: usize = 64;

/// The log of one instance.
pub(super) struct GuestLog {
    filter: Arc<str>,
    allowance: Allowance,
    recorder: Option<Arc<Recorder>>,
}

impl GuestLog {
    pub(super) fn new(filter: Arc<str>, recorder: Option<Arc<Recorder>>) -> Self {
        Self { filter, allowance: Allowance::new(), recorder }
    }

    /// Writes a line, or counts it as suppressed.
    pub(super) fn line(&self, level: tracing::Level, connection: &str, message: &str, fields: &[(String, String)]) {
        let Some(suppressed) = self.allowance.take() else { return };
        let filter = &*self.filter;
        if suppressed > 0 {
            tracing::warn!(target: "wsgate::filter::guest", filter, suppressed, "the filter logs too much");
        }
        let message = printable(message, LINE_BYTES);
        let fields = joined(fields);
        if let Some(recorder) = &self.recorder {
            recorder.line(level, &format!("{message}{fields}"));
        }
        match level {
            tracing::Level::ERROR => {
                tracing::error!(target: "wsgate::filter::guest", filter, connection, "{message}{fields}");
            }
            tracing::Level::WARN => {
                tracing::warn!(target: "wsgate::filter::guest", filter, connection, "{message}{fields}");
            }
            tracing::Level::INFO => {
                tracing::info!(target: "wsgate::filter::guest", filter, connection, "{message}{fields}");
            }
            tracing::Level::DEBUG => {
                tracing::debug!(target: "wsgate::filter::guest", filter, connection, "{message}{fields}");
            }
            tracing::Level::TRACE => {
                tracing::trace!(target: "wsgate::filter::guest", filter, connection, "{message}{fields}");
            }
        }
    }
}

fn joined(fields: &[(String, String)]) -> String {
    let mut out = String::new();
    for (name, value) in fields.iter().take(FIELDS) {
        // Writing to a String cannot fail.
        let _ = write!(out, " {}={:?}", printable(name, FIELD_BYTES), printable(value, FIELD_BYTES));
    }
    out
}

/// Cut at a character, control characters escaped: a guest can neither forge a line nor reach the terminal.
pub(in crate::filter) fn printable(text: &str, max_bytes: usize) -> Cow<'_, str> {
    let cut = &text[..text.floor_char_boundary(max_bytes)];
    let ends = cut.len() == text.len();
    if ends && !cut.contains(dangerous) {
        return Cow::Borrowed(cut);
    }
    let mut out = String::with_capacity(cut.len() + 16);
    for c in cut.chars() {
        if dangerous(c) { out.extend(c.escape_default()) } else { out.push(c) }
    }
    if !ends {
        out.push('…');
    }
    Cow::Owned(out)
}

/// Control characters, and those that turn the direction of text around.
fn dangerous(c: char) -> bool {
    c.is_control() || matches!(c, '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

fn level_of(level: Level) -> tracing::Level {
    match level {
        Level::Trace => tracing::Level::TRACE,
        Level::Debug => tracing::Level::DEBUG,
        Level::Info => tracing::Level::INFO,
        Level::Warn => tracing::Level::WARN,
        Level::Error => tracing::Level::ERROR,
    }
}

fn enabled(level: tracing::Level) -> bool {
    match level {
        tracing::Level::ERROR => tracing::enabled!(target: "wsgate::filter::guest", tracing::Level::ERROR),
        tracing::Level::WARN => tracing::enabled!(target: "wsgate::filter::guest", tracing::Level::WARN),
        tracing::Level::INFO => tracing::enabled!(target: "wsgate::filter::guest", tracing::Level::INFO),
        tracing::Level::DEBUG => tracing::enabled!(target: "wsgate::filter::guest", tracing::Level::DEBUG),
        tracing::Level::TRACE => tracing::enabled!(target: "wsgate::filter::guest", tracing::Level::TRACE),
    }
}

impl logging::Host for Host {
    fn enabled(&mut self, level: Level) -> wasmtime::Result<bool> {
        Ok(self.recorder.is_some() || enabled(level_of(level)))
    }

    fn log(&mut self, level: Level, message: String, fields: Vec<(String, String)>) -> wasmtime::Result<()> {
        let level = level_of(level);
        if self.recorder.is_some() || enabled(level) {
            self.log.line(level, self.connection(), &message, &fields);
        }
        Ok(())
    }

    fn reason(&mut self, label: String) -> wasmtime::Result<()> {
        // What a shadow decides never happens: it explains nothing.
        if label.is_empty() || self.shadow {
            return Ok(());
        }
        let label = printable(&label, REASON_BYTES);
        if let Some(recorder) = &self.recorder {
            recorder.reason(&label);
        }
        self.custom.reason(&label);
        if let Some(connection) = self.current.and_then(|key| self.connections.get(key)) {
            let reason = Reason { filter: self.log.filter.clone(), label: label.as_ref().into() };
            connection.last_reason.set(reason);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_characters_are_escaped() {
        assert_eq!(printable("a\nb\u{1b}[31m\u{202e}", 100), "a\\nb\\u{1b}[31m\\u{202e}");
        assert_eq!(printable("plain ü", 100), "plain ü");
    }

    #[test]
    fn a_long_line_is_cut_at_a_character() {
        assert_eq!(printable("éé", 3), "é…");
    }
}
