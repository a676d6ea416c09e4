//! Arguments, configuration, logs, run, exit code.

use std::process::ExitCode;

fn main() -> ExitCode {
    wsgate::cli::main()
}
