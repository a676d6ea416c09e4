//! The configuration: raw serde types are parsed and checked once, here; everything else sees only what this module
//! validated. See `docs/configuration.md` for each key.
//!
//! In reading order: the validated types and their patterns; how a file becomes them (the tree with its places, the
//! variables, the raw types and their leaves, the checks); errors; and the configuration that a command line stands for.

mod types;
pub mod pattern;
mod document;
mod environment;
mod raw;
mod leaf;
mod units;
mod check;
mod error;
mod explain;
mod command_line;
mod filter_file;
mod schema;

#[cfg(test)]
mod tests;

use std::{
    collections::BTreeMap,
    fs::File,
    io::{self, Read},
    net::SocketAddr,
    path::{Path, PathBuf},
};

pub use error::{ConfigError, ConfigErrors, Position, Warning};
pub use filter_file::{filter_file, is_filter_file, is_script, twin};
pub use types::{
    Admin, AdminToken, AffinityCookie, Allow, AuthRequest, AuthRequestCache, Balance, Candidate, ChainSource,
    ClientCertificate, ConnectionLimits, Endpoint, FailurePolicy, Filter, HashOn, HeaderEdits, HealthCheck, HostHeader,
    HttpFilters, HttpForward, HttpMode, Isolation, Jwt, KeySource, LimitAction, LimitBy, Listener, ListenerTls, Log,
    LogFormat, OnReload, OnStateLoss, OutlierDetection, Overflow, Probe, PushOverflow, RateLimit, Role, Route,
    RouteLimits, Server, SessionLimits, Store, Target, TokenSource, TrustedProxies, Upstream, UpstreamTls,
};

use document::Document;
use serde::de::DeserializeOwned;

/// A whole, valid configuration.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// `[server]`
    pub server: Server,
    /// `[[listeners]]`, at least one.
    pub listeners: Vec<Listener>,
    /// `[admin]`
    pub admin: Admin,
    /// `[health]`
    pub health: Option<SocketAddr>,
    /// `[log]`
    pub log: Log,
    /// `[upstreams.*]`
    pub upstreams: BTreeMap<String, Upstream>,
    /// `[jwt.*]`
    pub jwt: BTreeMap<String, Jwt>,
    /// `[filters.*]` as configured; a file in `filter_dir` without a table of its own has [`Filter::with_defaults`].
    pub filters: BTreeMap<String, Filter>,
    /// `[stores.*]` as configured; a store that a filter is allowed to use has [`Store::default`] without a table.
    pub stores: BTreeMap<String, Store>,
    /// `[[routes]]`, first match wins.
    pub routes: Vec<Route>,
}

impl Config {
    /// `filter_dir` where none is configured.
    pub const DEFAULT_FILTER_DIR: &str = "filters";

    /// Reads and checks a file. Relative paths in it start at its folder.
    ///
    /// # Errors
    /// Everything that is wrong with it.
    pub fn load(path: &Path) -> Result<(Self, Vec<Warning>), ConfigErrors> {
        let name = path.display().to_string();
        let refuse = |why: String| {
            let error = ConfigError { file: name.clone(), position: None, key: None, message: why };
            ConfigErrors::new(&name, vec![error])
        };
        let bytes = read_bounded(path).map_err(|error| refuse(format!("cannot be read: {error}")))?;
        let text = String::from_utf8(bytes).map_err(|error| refuse(format!("is not UTF-8: {}", error.utf8_error())))?;
        Self::parse(&text, &name, path.parent().unwrap_or(Path::new("")))
    }

    /// Checks a configuration that was read elsewhere. `file_name` is for messages; relative paths start at `base_dir`.
    ///
    /// # Errors
    /// Everything that is wrong with it.
    pub fn parse(text: &str, file_name: &str, base_dir: &Path) -> Result<(Self, Vec<Warning>), ConfigErrors> {
        Self::parse_with(text, file_name, base_dir, &|name| std::env::var(name).ok())
    }

    fn parse_with(
        text: &str,
        file_name: &str,
        base_dir: &Path,
        variable: &dyn Fn(&str) -> Option<String>,
    ) -> Result<(Self, Vec<Warning>), ConfigErrors> {
        let all = |errors| ConfigErrors::new(file_name, errors);
        let document = Document::parse(file_name, text).map_err(all)?;
        let mut errors = Vec::new();
        match document.read(variable, &mut errors) {
            Some(raw) => check::check(&document, &absolute(base_dir), raw, errors).map_err(all),
            None => Err(all(errors)),
        }
    }

    /// The JSON Schema of the configuration file, as in `docs/wsgate.schema.json`.
    #[must_use]
    pub fn json_schema() -> serde_json::Value {
        schema::schema()
    }
}

/// Reads another TOML file, of which the configuration is no part, with errors of the same kind.
///
/// # Errors
/// Everything that is wrong with it.
pub fn read_toml<T: DeserializeOwned>(text: &str, file_name: &str) -> Result<T, ConfigErrors> {
    let all = |errors| ConfigErrors::new(file_name, errors);
    let document = Document::parse(file_name, text).map_err(all)?;
    let mut errors = Vec::new();
    match document.read_verbatim(&mut errors) {
        Some(read) if errors.is_empty() => Ok(read),
        Some(_) | None => Err(all(errors)),
    }
}

/// `None` where JSON has no such number. Dates become strings.
#[must_use]
pub fn to_json(value: &toml::Value) -> Option<serde_json::Value> {
    check::to_json(value)
}

/// Is this the name of a filter: `[a-z0-9][a-z0-9_-]*`, at most 64 bytes?
#[must_use]
pub fn is_filter_name(name: &str) -> bool {
    check::is_filter_name(name)
}

/// One byte more than is accepted, so that what is too long is seen to be.
fn read_bounded(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?.take(document::MAX_FILE_BYTES as u64 + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// The working directory may be gone; then the path stays as it is.
fn absolute(path: &Path) -> PathBuf {
    let path = if path.as_os_str().is_empty() { Path::new(".") } else { path };
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned())
}
