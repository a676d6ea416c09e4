//! `[jwt.*]` as it is written.

use schemars::JsonSchema;
use serde::Deserialize;

use super::{At, Count, Optional, Table, Time};

/// Which tokens count, and where they are looked for.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(extend("required" = ["algorithms"]))]
pub(in crate::config) struct RawJwt {
    /// The only issuer whose tokens count (`iss`). Default: any.
    pub(in crate::config) issuer: Optional<String>,
    /// A token must be meant for one of these (`aud`). Default: any.
    #[schemars(extend("default" = []))]
    pub(in crate::config) audience: Option<At<Vec<At<String>>>>,
    /// A PEM file with the public key. One of `public_key_file`, `secret_file`, `jwks_file` and `jwks_url` is needed.
    pub(in crate::config) public_key_file: Optional<String>,
    /// A file with the HMAC secret, at least 32 bytes; a line break at its end does not count.
    pub(in crate::config) secret_file: Optional<String>,
    /// A file with a JSON Web Key Set.
    pub(in crate::config) jwks_file: Optional<String>,
    /// Where the issuer publishes its JSON Web Key Set: an `https://` URL.
    pub(in crate::config) jwks_url: Optional<String>,
    /// How long the last good keys of `jwks_url` count beyond the time when they should have been fetched again.
    #[schemars(extend("default" = "1d"))]
    pub(in crate::config) jwks_max_stale: Optional<Time>,
    /// The signature algorithms that count.
    #[schemars(length(min = 1))]
    pub(in crate::config) algorithms: Option<At<Vec<At<String>>>>,
    /// Where a token is looked for, in this order: `header`, `subprotocol`, `cookie:NAME`, `query:NAME`.
    #[schemars(extend("default" = ["header"]))]
    pub(in crate::config) from: Option<At<Vec<At<String>>>>,
    /// A token must grant all of these.
    #[schemars(extend("default" = []))]
    pub(in crate::config) required_scopes: Vec<At<String>>,
    /// How far clocks may differ.
    #[schemars(extend("default" = "30s"))]
    pub(in crate::config) leeway: Optional<Time>,
    /// Is a token without `exp` refused?
    #[schemars(extend("default" = true))]
    pub(in crate::config) require_exp: Option<bool>,
    /// What happens to a live connection whose token runs out.
    pub(in crate::config) on_expiry: Table<RawOnExpiry>,
    /// May a client send a new token over its connection?
    #[schemars(extend("default" = false))]
    pub(in crate::config) refresh: Option<bool>,
}

/// What happens to a live connection whose token runs out.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(in crate::config) struct RawOnExpiry {
    /// It is closed this long after that.
    #[schemars(extend("default" = "0s"))]
    pub(in crate::config) grace: Optional<Time>,
    /// With this close code.
    #[schemars(extend("default" = 4401))]
    pub(in crate::config) code: Optional<Count>,
}
