//! Path and host patterns: parsed once with the configuration, matched for each handshake.
//!
//! Paths are compared as they came: nothing is percent-decoded and case counts. A path with a `.` or `..` segment, in
//! whatever spelling (`%2e`, `..%2f`, `..\`), matches no pattern, so that what a route admits is what the upstream
//! sees even where the upstream resolves such segments.

mod host;
mod origin;
mod path;
mod template;

pub use host::{HostPattern, HostPatternError};
pub use origin::{OriginPattern, OriginPatternError};
pub(super) use path::is_plain_path;
pub use path::{PathPattern, PathPatternError, REST, Segment};
pub use template::{PathTemplate, PathTemplateError};

#[cfg(test)]
mod tests;
