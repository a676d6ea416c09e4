//! Path and host patterns: parsed once with the configuration, matched for each handshake. Topic patterns, matched for
//! each call of a filter that names a topic.
//!
//! Paths are compared as they came: nothing is percent-decoded and case counts. A path with a `.` or `..` segment, in
//! whatever spelling (`%2e`, `..%2f`, `..\`), matches no pattern, so that what a route admits is what the upstream
//! sees even where the upstream resolves such segments.

mod host;
mod origin;
mod origin_rule;
mod path;
mod template;
mod topic;

pub use host::{HostPattern, HostPatternError};
pub use origin::{OriginPattern, OriginPatternError};
pub use origin_rule::{OriginRule, OriginRuleError};
pub(super) use path::is_plain_path;
pub use path::{PathPattern, PathPatternError, REST, Segment};
pub use template::{PathTemplate, PathTemplateError};
pub use topic::{MAX_TOPIC_BYTES, TopicPattern, TopicPatternError, is_topic};

#[cfg(test)]
mod tests;
