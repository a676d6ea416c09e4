//! `wsgate-js` makes a filter component of one JavaScript file: the source comes in on standard input, the component goes
//! out on standard output. It opens no file: what scripts may import is part of it. The gateway runs it for each `.js` file
//! that is dropped into a filter folder, in a process with limits of its own.

mod contract;
mod engine;
mod machine_code;
mod script;
mod report;
mod modules;
mod close;

use std::{
    env,
    io::{self, Read, Write},
    process::ExitCode,
};

use anyhow::Context;
use rustix::process::{DumpableBehavior, set_dumpable_behavior};

use script::Script;

/// The script is at fault, and standard error says where.
const SCRIPT_FAILED: u8 = 1;
/// Wrong arguments.
const USAGE: u8 = 2;
/// This program is at fault, or the machine.
const FAILED: u8 = 70;

const HELP: &str = "\
Makes a filter for the wsgate gateway of one JavaScript file

Usage: wsgate-js [--name FILE] < filter.js > filter.wasm

Options:
  --name FILE    What errors call the source [default: filter.js]
  --prepare      Write this program itself, with QuickJS compiled in, to standard output: it starts in a twentieth of the time
  --help         Print this
";

enum Command {
    Compile { name: String },
    Prepare,
    Help,
}

fn main() -> ExitCode {
    // What a script says while it is compiled is for nobody else.
    let _ = set_dumpable_behavior(DumpableBehavior::NotDumpable);
    let command = match command(env::args().skip(1)) {
        Ok(command) => command,
        Err(why) => {
            say(&format!("wsgate-js: {why}; see wsgate-js --help"));
            return ExitCode::from(USAGE);
        }
    };
    match run(command) {
        Ok(Ok(())) => ExitCode::SUCCESS,
        Ok(Err(why)) => {
            say(&why);
            ExitCode::from(SCRIPT_FAILED)
        }
        Err(error) => {
            say(&format!("wsgate-js: {error:#}"));
            ExitCode::from(FAILED)
        }
    }
}

fn command(mut arguments: impl Iterator<Item = String>) -> Result<Command, String> {
    let mut name = "filter.js".to_owned();
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--name" => name = arguments.next().ok_or("--name needs the name of a file")?,
            "--prepare" => return Ok(Command::Prepare),
            "--help" | "-h" => return Ok(Command::Help),
            _ => return Err(format!("{argument:?} is unknown")),
        }
    }
    // A path would be no name of a module that errors can be told from the SDK's by.
    let name = name.rsplit('/').next().unwrap_or_default().to_owned();
    if name.is_empty() { Err("--name is empty".to_owned()) } else { Ok(Command::Compile { name }) }
}

/// The outer error is this program's, the inner one the script's.
fn run(command: Command) -> anyhow::Result<Result<(), String>> {
    let out = match command {
        Command::Help => HELP.as_bytes().to_vec(),
        Command::Prepare => machine_code::prepared_program()?,
        Command::Compile { name } => {
            let mut source = Vec::new();
            io::stdin()
                .lock()
                .take(script::SOURCE_BYTES + 1)
                .read_to_end(&mut source)
                .context("the source cannot be read")?;
            let script = match Script::new(name, source) {
                Ok(script) => script,
                Err(why) => return Ok(Err(why)),
            };
            let runtime = tokio::runtime::Builder::new_current_thread().build()?;
            match runtime.block_on(engine::component(&script))? {
                Ok(component) => component,
                Err(why) => return Ok(Err(why)),
            }
        }
    };
    let mut stdout = io::stdout().lock();
    stdout.write_all(&out).and_then(|()| stdout.flush()).context("the result cannot be written")?;
    Ok(Ok(()))
}

/// A line on standard error, if anybody listens.
fn say(text: &str) {
    let _ = writeln!(io::stderr(), "{}", text.trim_end());
}
