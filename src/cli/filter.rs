//! `wsgate filter`: the tools for authors of filters, and the orders to a running gateway.

mod new;
mod project;
mod build;
mod test;
mod bench;
mod inspect;
mod steer;

use std::{
    error::Error,
    io::{self, Write},
    process::ExitCode,
};

use clap::Subcommand;

pub(super) use self::steer::{AdminArguments, SteerError, ask};
use super::failed;

#[derive(Debug, Subcommand)]
pub(super) enum FilterCommand {
    /// Make a project for a new filter
    New(new::NewArguments),
    /// Build a filter's component: dist/NAME.wasm
    ///
    /// The project's language is known by its Cargo.toml, package.json or Makefile; see docs/filter-tools.md.
    Build(build::BuildArguments),
    /// Test a component by a file that says what it should do; see docs/filter-tools.md
    ///
    /// The component runs in this process, in the engine of the gateway. Nothing leaves the machine. Exits with 1 if
    /// something is not as expected.
    Test(test::TestArguments),
    /// Measure what the calls into a component cost
    Bench(bench::BenchArguments),
    /// Say what a component is, which rights it may need, and whether a gateway would load it
    ///
    /// Exits with 1 if it would not.
    Inspect(inspect::InspectArguments),
    #[command(flatten)]
    Steer(steer::SteerCommand),
}

/// Runs a command, prints what comes of it, and gives the exit code.
pub(super) fn main(command: FilterCommand) -> ExitCode {
    match command {
        FilterCommand::New(arguments) => printed(new::run(&arguments).map(|text| (text, true))),
        FilterCommand::Build(arguments) => build::main(&arguments),
        FilterCommand::Test(arguments) => printed(test::run(&arguments)),
        FilterCommand::Bench(arguments) => printed(bench::run(&arguments).map(|text| (text, true))),
        FilterCommand::Inspect(arguments) => printed(inspect::run(&arguments)),
        FilterCommand::Steer(command) => steer::main(command),
    }
}

/// What a command has to say, and whether all is well.
fn printed<E: Error>(result: Result<(String, bool), E>) -> ExitCode {
    match result {
        Ok((text, well)) => {
            // Whoever does not read it still gets the exit code.
            let _ = io::stdout().write_all(text.as_bytes());
            if well { ExitCode::SUCCESS } else { ExitCode::FAILURE }
        }
        Err(error) => failed(&error),
    }
}

#[cfg(test)]
mod tests;
