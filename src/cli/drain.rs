//! `wsgate drain`: takes a running gateway out of service over its admin API, and back.

use std::{
    io::{self, Write},
    process::ExitCode,
    time::Duration,
};

use clap::Args;
use http::Method;
use serde_json::{Value, json};
use tokio::time::sleep;

use super::{
    failed,
    filter::{AdminArguments, SteerError, ask},
};

const PATH: &str = "/v1/drain";
/// Between two questions how far it is.
const PAUSE: Duration = Duration::from_millis(500);

#[derive(Args, Debug)]
pub(super) struct DrainArguments {
    #[command(flatten)]
    admin: AdminArguments,
    /// Wait until nobody is left, or `drain_delay` and `drain_timeout` are over
    #[arg(long, conflicts_with_all = ["undo", "status"])]
    wait: bool,
    /// Take the gateway back into service
    #[arg(long, conflicts_with = "status")]
    undo: bool,
    /// Only say how far it is
    #[arg(long)]
    status: bool,
}

pub(super) fn main(arguments: &DrainArguments) -> ExitCode {
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return failed(&SteerError::Start(error)),
    };
    match runtime.block_on(run(arguments)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => failed(&error),
    }
}

async fn run(arguments: &DrainArguments) -> Result<(), SteerError> {
    let DrainArguments { admin, wait, undo, status } = arguments;
    let (method, body) = match (undo, status) {
        (true, _) => (Method::DELETE, Some(json!({}))),
        (false, true) => (Method::GET, None),
        (false, false) => (Method::POST, Some(json!({}))),
    };
    let mut answer = ask(admin, method, PATH, body).await?;
    if *undo {
        // It takes a moment.
        while answer["phase"] != "serving" {
            sleep(PAUSE / 10).await;
            answer = ask(admin, Method::GET, PATH, None).await?;
        }
    }
    let mut said = String::new();
    loop {
        let now = line(&answer);
        if now != said {
            // Whoever does not read it still waits.
            let _ = io::stdout().write_all(now.as_bytes());
            said = now;
        }
        let phase = &answer["phase"];
        if !wait || phase == "drained" {
            return Ok(());
        }
        if phase == "serving" {
            return Err(SteerError::Refused("the drain was taken back".to_owned()));
        }
        sleep(PAUSE).await;
        answer = ask(admin, Method::GET, PATH, None).await?;
    }
}

fn line(status: &Value) -> String {
    let phase = match status["phase"].as_str() {
        Some(phase @ ("serving" | "delay" | "closing" | "drained")) => phase,
        Some(_) | None => "unknown",
    };
    let connections = match status["connections"].as_u64() {
        Some(0) => "no connections".to_owned(),
        Some(1) => "1 connection".to_owned(),
        Some(count) => format!("{count} connections"),
        None => "connections not known".to_owned(),
    };
    let left = status["remaining_ms"].as_u64().map(|left| format!(", {} s left", left.div_ceil(1000)));
    format!("{phase}: {connections}{}\n", left.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_says_how_far_it_is() {
        let status = |phase: &str, connections: u64, left: Value| {
            line(&json!({ "phase": phase, "connections": connections, "remaining_ms": left, "leaving": false }))
        };
        assert_eq!(status("closing", 12, json!(1200)), "closing: 12 connections, 2 s left\n");
        assert_eq!(status("drained", 1, Value::Null), "drained: 1 connection\n");
        assert_eq!(line(&json!({ "phase": "\u{1b}[31m" })), "unknown: connections not known\n");
    }
}
