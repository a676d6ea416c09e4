//! `[admin]`

use std::{net::SocketAddr, path::PathBuf};

use schemars::JsonSchema;
use serde::Deserialize;

/// `[admin]`
#[derive(Clone, Debug, PartialEq)]
pub struct Admin {
    /// A loopback address, unless there are tokens.
    pub address: SocketAddr,
    /// Who may ask; empty: whoever reaches the address.
    pub tokens: Vec<AdminToken>,
}

impl Default for Admin {
    fn default() -> Self {
        Self { address: SocketAddr::from(([127, 0, 0, 1], 9901)), tokens: Vec::new() }
    }
}

/// `[admin] tokens`
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct AdminToken {
    /// Where the token is; absolute.
    pub file: PathBuf,
    /// How far it goes.
    pub role: Role,
}

/// How far a token for the admin API goes; each goes as far as those before it, too.
#[derive(Clone, Copy, Debug, Deserialize, Eq, JsonSchema, Ord, PartialEq, PartialOrd)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// To look.
    Read,
    /// To change something.
    Operate,
    /// To see what clients and upstreams send.
    Payload,
}
