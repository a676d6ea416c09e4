//! What a component is, whether or not it is a filter.

use serde::Serialize;

use super::{
    compile::{self, HANDLER, NotAFilter, PACKAGE},
    engine::HTTP_CLIENT,
    generation::Digest256,
    workbench::{Workbench, WorkbenchError},
};

/// Imports of which filters need a right to use them, and the keys of `allow` that give it.
const RIGHTS: [(&str, &[&str]); 3] = [
    ("wsgate:filter/key-value@", &["key_value"]),
    ("wsgate:filter/messaging@", &["topics", "send"]),
    ("wsgate:filter/http-client@", &["http"]),
];

/// A file that may be a filter.
#[derive(Debug, Serialize)]
pub struct Inspection {
    /// Its size.
    pub bytes: usize,
    /// Its hash, as `sha256` of a filter's configuration has it.
    pub sha256: String,
    /// Of the contract's worlds the one that it is made for: `filter` or `filter-http`. None where it is no filter.
    pub world: Option<&'static str>,
    /// The version of the contract that it is made for, which need not be one that is served.
    pub contract: Option<String>,
    /// What it imports, with versions.
    pub imports: Vec<String>,
    /// What it exports.
    pub exports: Vec<String>,
    /// Keys of `allow` without which some of its imports do nothing. It need not use them all; that an upstream is chosen
    /// (`upstreams`) cannot be seen from outside.
    pub allow: Vec<&'static str>,
    /// Why a gateway would not load it, but for its configuration: `init` is not called.
    pub problem: Option<String>,
}

/// Looks at the bytes of a file.
///
/// # Errors
/// No engine can be had, or nothing that compiles components.
pub fn inspect(bytes: &[u8]) -> Result<Inspection, WorkbenchError> {
    let content = Digest256::of(bytes);
    let (engine, state_dir) = Workbench::engine()?;
    let looked = compile::look(&engine, bytes, content);
    state_dir.close();
    let (names, problem) = match looked {
        Ok((names, problem)) => (names, problem),
        Err(error @ NotAFilter::NotCompiled(_)) if !error.is_final() => return Err(error.into()),
        Err(problem) => (compile::Names::default(), Some(problem)),
    };
    let all = || names.exports.iter().chain(&names.imports);
    let contract = all().find_map(|name| Some(name.strip_prefix(PACKAGE)?.split_once('@')?.1.to_owned()));
    let is_filter = names.exports.iter().any(|name| name == HANDLER);
    let calls_out = names.imports.iter().any(|name| name == HTTP_CLIENT);
    let world = is_filter.then_some(if calls_out { "filter-http" } else { "filter" });
    let needed = RIGHTS.iter().filter(|(import, _)| names.imports.iter().any(|name| name.starts_with(import)));
    Ok(Inspection {
        bytes: bytes.len(),
        sha256: content.hex(),
        world,
        contract,
        allow: needed.flat_map(|(_, keys)| keys.iter().copied()).collect(),
        imports: names.imports,
        exports: names.exports,
        problem: problem.map(|problem| problem.to_string()),
    })
}
