//! The command line.

mod check;
mod connect;
mod drain;
mod filter;
mod url;

use std::{
    io::{self, Write},
    net::SocketAddr,
    path::PathBuf,
    process::ExitCode,
    sync::Arc,
};

use clap::{Args, CommandFactory, Parser, Subcommand};
use clap_complete::Shell;
use http::{HeaderName, HeaderValue};

use self::{check::CheckArguments, drain::DrainArguments, filter::FilterCommand, url::WsUrl};
use crate::{
    config::{Config, ConfigErrors, Warning},
    configured::ConfiguredError,
    descriptors,
    filter::{Memories, compile_script, compile_stdin},
    gateway::{self, GatewayError},
    http_head::{is_of_the_connection, is_token},
    telemetry::{logs, metrics::Metrics, panics},
    upstream::UpstreamsError,
};

/// The configuration is wrong (`EX_CONFIG` of sysexits.h).
const BAD_CONFIGURATION: u8 = 78;

const LONG_ABOUT: &str = "\
A WebSocket gateway that its users program.

wsgate stands between WebSocket clients and servers. Filters, which are WebAssembly components in a folder, decide what \
happens to each message: they forward, change, answer or drop it, or close the connection. Replace a filter's file and \
the next message of every open connection is treated by the new code.";

const AFTER_HELP: &str = "\
Examples:
  Put a filter before a server, without a configuration file:
    wsgate run --upstream ws://127.0.0.1:9001 --filter redact.wasm
  Run a configuration, and talk to one of its routes:
    wsgate run --config wsgate.toml
    wsgate connect ws://127.0.0.1:8080/echo
  Write a filter, and have every change of it live in a folder that a gateway watches:
    wsgate filter new shout --lang rust
    wsgate filter test shout
    wsgate filter build shout --watch --into filters.d
  Look what a configuration would change in a running gateway, then have it loaded:
    wsgate check --config wsgate.toml --against http://127.0.0.1:9901
    kill -HUP $(pidof wsgate)
  Look at its filters, and take the last change of one back:
    wsgate filter ls
    wsgate filter rollback redact

Exit codes:
  0   it went well
  1   it failed
  2   the command line is wrong
  78  the configuration is wrong

Environment:
  WSGATE_LOG     overrides `level` of [log]; such as debug, or info,wsgate::session=trace
  SSL_CERT_FILE  overrides the certificates that wss:// servers are checked against
  WSGATE_ADMIN_TOKEN  a token for the admin API, which `wsgate filter`, `check` and `drain` send";

#[derive(Debug, Parser)]
#[command(
    name = "wsgate",
    version,
    about = "A WebSocket gateway that its users program",
    long_about = LONG_ABOUT,
    after_long_help = AFTER_HELP,
    after_help = "Examples and exit codes: wsgate --help",
    max_term_width = 100
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the gateway until SIGTERM (drains first) or SIGINT
    Run(RunArguments),
    /// Say everything that is wrong with a configuration, and exit with 78 if something is
    Check(CheckArguments),
    /// Talk to a WebSocket server: lines of stdin are sent as text messages, messages are printed to stdout
    ///
    /// After Ctrl-D, or the end of a pipe, the connection is closed with 1000 once the server has been silent for half a
    /// second. What happens to the connection is told on stderr. Exits with 0 after a normal close (1000, 1001 or no
    /// code), else 1.
    Connect(ConnectArguments),
    /// What `run` starts for each filter that it compiles
    #[command(hide = true)]
    CompileFilter {
        #[arg(long)]
        memories: Memories,
        #[arg(long)]
        parent: i32,
    },
    /// What `run` starts for each script that it makes a filter of
    #[command(hide = true)]
    CompileScript {
        #[arg(long)]
        parent: i32,
        #[arg(long)]
        compiler: PathBuf,
        #[arg(long, allow_hyphen_values = true)]
        name: String,
    },
    /// Make, build, test and measure filters; list and steer those of a running gateway, over its admin API
    #[command(subcommand)]
    Filter(FilterCommand),
    /// Take a running gateway out of service, and back: not ready first, then 503 for new connections and closes that are
    /// spread over `drain_timeout`; the process stays
    Drain(DrainArguments),
    /// Print what completes commands in a shell
    ///
    /// Such as: wsgate completions bash > /usr/share/bash-completion/completions/wsgate
    Completions {
        /// For which shell
        shell: Shell,
    },
}

#[derive(Args, Debug)]
#[command(override_usage = "\
wsgate run --config <FILE>
       wsgate run --upstream <URL> [--filter <FILE>]... [--listen <ADDR>] [--admin <ADDR>]")]
struct RunArguments {
    /// The configuration
    #[arg(long, value_name = "FILE", required_unless_present = "upstream", conflicts_with = "upstream")]
    config: Option<PathBuf>,
    /// Run without a configuration file: every path goes to this server
    #[arg(long, value_name = "URL")]
    upstream: Option<String>,
    /// A filter for the messages of --upstream; several are asked in this order
    #[arg(long, value_name = "FILE", requires = "upstream", conflicts_with = "config")]
    filter: Vec<PathBuf>,
    /// Where clients of --upstream connect [default: 127.0.0.1:8080]
    #[arg(long, value_name = "ADDR", requires = "upstream", conflicts_with = "config")]
    listen: Option<SocketAddr>,
    /// Where --upstream has its admin API; a loopback address [default: 127.0.0.1:9901]
    #[arg(long, value_name = "ADDR", requires = "upstream", conflicts_with = "config")]
    admin: Option<SocketAddr>,
}

#[derive(Args, Debug)]
struct ConnectArguments {
    /// Such as ws://127.0.0.1:8080/echo or wss://example.com/chat?room=1
    url: WsUrl,
    /// Send a header with the handshake; may be repeated
    #[arg(short = 'H', long = "header", value_name = "NAME: VALUE", value_parser = header)]
    headers: Vec<(HeaderName, HeaderValue)>,
    /// Offer a subprotocol; may be repeated, the first is preferred
    #[arg(long = "subprotocol", value_name = "NAME", value_parser = subprotocol)]
    subprotocols: Vec<String>,
}

/// Runs the command that the process was started with.
#[must_use]
pub fn main() -> ExitCode {
    match Cli::parse().command {
        Command::Run(arguments) => run(arguments),
        Command::Check(arguments) => check::main(arguments),
        Command::Connect(arguments) => connect::main(arguments),
        Command::CompileFilter { memories, parent } => compile_stdin(memories, parent),
        Command::CompileScript { parent, compiler, name } => compile_script(parent, &compiler, &name),
        Command::Filter(command) => filter::main(command),
        Command::Drain(arguments) => drain::main(&arguments),
        Command::Completions { shell } => {
            // A closed stdout wants none.
            let _ = io::stdout().write_all(&completions(shell));
            ExitCode::SUCCESS
        }
    }
}

/// Of all commands that are shown.
fn completions(shell: Shell) -> Vec<u8> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut shown(Cli::command()), "wsgate", &mut script);
    script
}

/// Without the commands that only the gateway itself gives.
fn shown(command: clap::Command) -> clap::Command {
    let (hidden, shown): (Vec<_>, Vec<_>) = command.get_subcommands().cloned().partition(clap::Command::is_hide_set);
    if hidden.is_empty() {
        return command;
    }
    let bare = clap::Command::new("wsgate").version(env!("CARGO_PKG_VERSION")).subcommands(shown);
    let (about, long_about) = (command.get_about().cloned(), command.get_long_about().cloned());
    let after = command.get_after_long_help().cloned();
    bare.about(about.unwrap_or_default())
        .long_about(long_about.unwrap_or_default())
        .after_long_help(after.unwrap_or_default())
}

fn run(arguments: RunArguments) -> ExitCode {
    let file = arguments.config.clone();
    let (config, warnings) = match configuration(arguments) {
        Ok(read) => read,
        Err(errors) => {
            say(&errors);
            return ExitCode::from(BAD_CONFIGURATION);
        }
    };
    let metrics = match Metrics::new() {
        Ok(metrics) => Arc::new(metrics),
        Err(error) => return failed(&error),
    };
    let logs = match logs::start(&config.log, metrics.log_lines_dropped_total.clone()) {
        Ok(logs) => logs,
        Err(error) => return failed(&error),
    };
    panics::report(metrics.panics_total.clone());
    for warning in warnings {
        tracing::warn!("{warning}");
    }
    descriptors::raise_limit();
    let result = gateway::run(gateway::Run { config, file, metrics, set_level: logs.set_level() });
    // What was logged comes before the error.
    drop(logs);
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(
            error @ (GatewayError::Configured(
                ConfiguredError::Keys(_) | ConfiguredError::Upstreams(UpstreamsError::Certificate { .. }),
            )
            | GatewayError::AdminToken(_)
            | GatewayError::Certificate(_)),
        ) => {
            failed(&error);
            ExitCode::from(BAD_CONFIGURATION)
        }
        Err(error) => failed(&error),
    }
}

fn configuration(arguments: RunArguments) -> Result<(Config, Vec<Warning>), ConfigErrors> {
    let RunArguments { config, upstream, filter, listen, admin } = arguments;
    match (config, upstream) {
        (Some(file), _) => Config::load(&file),
        (None, upstream) => {
            // clap asks for one of the two.
            let upstream = upstream.unwrap_or_default();
            let config = Config::for_upstream(&upstream, listen, admin, &filter)?;
            let warnings = config.warnings_for_upstream();
            Ok((config, warnings))
        }
    }
}

/// An error with its causes, on stderr.
fn failed(error: &dyn std::error::Error) -> ExitCode {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(&format!(": {error}"));
        cause = error.source();
    }
    say(&format_args!("wsgate: {text}"));
    ExitCode::FAILURE
}

/// A line on stderr, if anybody listens.
fn say(text: &dyn std::fmt::Display) {
    let _ = writeln!(io::stderr(), "{text}");
}

fn header(text: &str) -> Result<(HeaderName, HeaderValue), String> {
    let (name, value) = text.split_once(':').ok_or("it has no colon; write 'Name: value'")?;
    let name: HeaderName = name.trim().parse().map_err(|_| format!("{name:?} is not a header's name"))?;
    if is_of_the_connection(&name) {
        return Err(format!("{name} belongs to the handshake, which wsgate makes itself"));
    }
    let value =
        HeaderValue::try_from(value.trim()).map_err(|_| "the value has characters that a header cannot have")?;
    Ok((name, value))
}

fn subprotocol(name: &str) -> Result<String, String> {
    if is_token(name) { Ok(name.to_owned()) } else { Err("a subprotocol is one word without separators".to_owned()) }
}

#[cfg(test)]
mod tests;
