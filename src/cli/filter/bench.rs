//! `wsgate filter bench`

use std::{fs, io, path::PathBuf};

use clap::{Args, ValueEnum};
use serde_json::Value;
use thiserror::Error;

use super::inspect::{Format, size};
use crate::{
    filter::{Bench, BenchError, Figures, bench},
    message::{Direction, Message},
};

#[derive(Args, Debug)]
pub(in crate::cli) struct BenchArguments {
    /// The component
    file: PathBuf,
    /// The filter's configuration, as one JSON object
    #[arg(long, value_name = "JSON", default_value = "{}", value_parser = object)]
    config: Value,
    /// The filter's rights, as one JSON object, such as '{"key_value": ["sessions"]}'; HTTP requests are denied in any case
    #[arg(long, value_name = "JSON", default_value = "{}", value_parser = object)]
    allow: Value,
    /// One message instead of text of several sizes: the content of this file or, where there is none, this text
    #[arg(long, value_name = "FILE|TEXT")]
    message: Option<String>,
    /// Which way messages go
    #[arg(long, value_enum, default_value_t = Way::ToUpstream)]
    direction: Way,
    /// How figures are told
    #[arg(long, value_enum, default_value_t = Format::Table)]
    format: Format,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Way {
    /// From the client
    ToUpstream,
    /// To the client
    ToClient,
}

#[derive(Debug, Error)]
pub(super) enum BenchFailure {
    #[error("{}: cannot be read", .0.display())]
    Read(PathBuf, #[source] io::Error),
    #[error(transparent)]
    Bench(#[from] BenchError),
}

/// Answers what to print.
pub(super) fn run(arguments: &BenchArguments) -> Result<String, BenchFailure> {
    let file = &arguments.file;
    let bytes = fs::read(file).map_err(|error| BenchFailure::Read(file.clone(), error))?;
    let what = Bench {
        config: arguments.config.clone(),
        allow: arguments.allow.clone(),
        message: arguments.message.as_ref().map(|text| message(text)).transpose()?,
        direction: match arguments.direction {
            Way::ToUpstream => Direction::ToUpstream,
            Way::ToClient => Direction::ToClient,
        },
    };
    let figures = bench(&bytes, &what)?;
    Ok(match arguments.format {
        Format::Table => print(&figures),
        Format::Json => format!("{:#}\n", serde_json::json!(figures)),
    })
}

fn object(text: &str) -> Result<Value, String> {
    match serde_json::from_str(text) {
        Ok(value @ Value::Object(_)) => Ok(value),
        Ok(_) => Err("not a JSON object; write '{\"key\": …}'".to_owned()),
        Err(error) => Err(format!("not JSON: {error}")),
    }
}

fn message(text: &str) -> Result<Message, BenchFailure> {
    let file = PathBuf::from(text);
    if !file.is_file() {
        return Ok(Message::text(text.to_owned()));
    }
    let bytes = fs::read(&file).map_err(|error| BenchFailure::Read(file, error))?;
    Ok(match String::from_utf8(bytes) {
        Ok(text) => Message::text(text),
        Err(error) => Message::binary(error.into_bytes()),
    })
}

/// For people.
pub(super) fn print(figures: &Figures) -> String {
    let mut out = String::new();
    let mut line = |what: &str, value: String| out.push_str(&format!("{what:<24} {value:>12}\n"));
    for one in &figures.messages {
        let what = format!("on-message, {}", size(one.bytes));
        line(&what, one.ns.map_or_else(|| "not called".to_owned(), time));
    }
    line("open and release", time(figures.open_ns));
    line("an instance, with init", time(figures.instance_ns));
    line("memory of an instance", format!("{:.0} KiB", figures.instance_kib));
    out
}

fn time(ns: f64) -> String {
    if ns < 1_000.0 {
        format!("{ns:.0} ns")
    } else if ns < 1_000_000.0 {
        format!("{:.2} µs", ns / 1e3)
    } else {
        format!("{:.2} ms", ns / 1e6)
    }
}
