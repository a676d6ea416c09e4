//! `wsgate filter inspect`

use std::{fs, io, path::PathBuf};

use clap::{Args, ValueEnum};
use serde_json::json;
use thiserror::Error;

use crate::filter::{Inspection, WorkbenchError, inspect};

/// How figures are printed.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub(super) enum Format {
    /// For people
    Table,
    /// For programs
    Json,
}

#[derive(Args, Debug)]
pub(in crate::cli) struct InspectArguments {
    /// The component
    file: PathBuf,
    /// How it is told
    #[arg(long, value_enum, default_value_t = Format::Table)]
    format: Format,
}

#[derive(Debug, Error)]
pub(super) enum InspectError {
    #[error("{}: cannot be read", .0.display())]
    Read(PathBuf, #[source] io::Error),
    #[error(transparent)]
    Workbench(#[from] WorkbenchError),
}

/// Answers what to print, and whether a gateway would load it.
pub(super) fn run(arguments: &InspectArguments) -> Result<(String, bool), InspectError> {
    let file = &arguments.file;
    let bytes = fs::read(file).map_err(|error| InspectError::Read(file.clone(), error))?;
    let found = inspect(&bytes)?;
    let loads = found.problem.is_none();
    let text = match arguments.format {
        Format::Table => print(&file.display().to_string(), &found),
        Format::Json => {
            let mut value = json!(found);
            value["file"] = json!(file);
            format!("{value:#}\n")
        }
    };
    Ok((text, loads))
}

/// For people.
pub(super) fn print(file: &str, found: &Inspection) -> String {
    let mut out = String::new();
    let mut line = |name: &str, value: &str| out.push_str(&format!("{name:<10} {value}\n"));
    line("file", file);
    line("size", &size(found.bytes));
    line("sha256", &found.sha256);
    line("world", found.world.unwrap_or("none of a filter's"));
    line("contract", found.contract.as_deref().unwrap_or("none"));
    let list = |line: &mut dyn FnMut(&str, &str), name: &str, names: &[String]| {
        for (index, value) in names.iter().enumerate() {
            line(if index == 0 { name } else { "" }, value);
        }
        if names.is_empty() {
            line(name, "nothing");
        }
    };
    let (wasi, own): (Vec<_>, Vec<_>) = found.imports.iter().cloned().partition(|name| name.starts_with("wasi:"));
    list(&mut line, "imports", &own);
    if !wasi.is_empty() {
        line("", &format!("and {} of WASI, which give it no files, sockets, environment or arguments", wasi.len()));
    }
    list(&mut line, "exports", &found.exports);
    line("allow", &allow(&found.allow));
    match &found.problem {
        None => line("loads", "yes (`init` was not asked)"),
        Some(problem) => line("loads", &format!("no: {problem}")),
    }
    out
}

/// What `[filters.NAME] allow` may have to grant.
pub(super) fn allow(keys: &[&str]) -> String {
    if keys.is_empty() { "needs none".to_owned() } else { format!("may need {}", keys.join(", ")) }
}

/// `48.3 KiB`
pub(super) fn size(bytes: usize) -> String {
    match bytes {
        0..1024 => format!("{bytes} B"),
        1024..1_048_576 => format!("{:.1} KiB", bytes as f64 / 1024.0),
        _ => format!("{:.1} MiB", bytes as f64 / 1_048_576.0),
    }
}
