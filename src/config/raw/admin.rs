//! `[admin]` as it is written.

use schemars::JsonSchema;
use serde::Deserialize;

use super::{Optional, Word};
use crate::config::types::Role;

/// A token for the admin API.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(extend("required" = ["file", "role"]))]
pub(in crate::config) struct RawAdminToken {
    /// A file with the token, at least 32 bytes; a line break at its end does not count.
    pub(in crate::config) file: Optional<String>,
    /// `read`: to look. `operate`: to change something too. `payload`: to see messages too.
    pub(in crate::config) role: Option<Word<Role>>,
}
