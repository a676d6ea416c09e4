//! The command line.

use std::{path::PathBuf, process::ExitCode};

use clap::{Parser, Subcommand};

use crate::config::Config;

#[derive(Parser)]
#[command(name = "wsgate", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Runs the gateway.
    Run {
        #[arg(long)]
        config: PathBuf,
    },
    /// Checks a configuration.
    Check {
        #[arg(long)]
        config: PathBuf,
    },
}

/// Everything.
pub fn main() -> ExitCode {
    let (Command::Run { config: path } | Command::Check { config: path }) = &Cli::parse().command;
    let (config, warnings) = match Config::load(path) {
        Ok(loaded) => loaded,
        Err(errors) => {
            eprintln!("{errors}");
            return ExitCode::from(78);
        }
    };
    for warning in warnings {
        eprintln!("{warning}");
    }
    if matches!(Cli::parse().command, Command::Check { .. }) {
        return ExitCode::SUCCESS;
    }
    tracing_subscriber::fmt().with_writer(std::io::stderr).with_env_filter(&config.log.level).init();
    match crate::gateway::run(config) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let mut text = error.to_string();
            let mut source = std::error::Error::source(&error);
            while let Some(cause) = source {
                text.push_str(&format!(": {cause}"));
                source = cause.source();
            }
            eprintln!("wsgate: {text}");
            ExitCode::FAILURE
        }
    }
}
