//! The command line of the benchmark.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use clap::{Args, Parser, Subcommand, ValueEnum};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use rustix::thread::{CpuSet, sched_setaffinity};

use wsgate_load::bench::{self, Plan};
use wsgate_load::case::Case;
use wsgate_load::measure::{self, Settings, Target};
use wsgate_load::peer::{Peer, Places};
use wsgate_load::{echo, interrupt, machine, page, table};

/// Measures wsgate beside its peers.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    #[command(subcommand)]
    command: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Measure every peer and print the table as Markdown.
    #[command(args_override_self = true)]
    Table(TableArguments),
    /// Load one address and print what it did.
    Load(LoadArguments),
    /// Be the echo upstream.
    Echo {
        /// Where to listen.
        address: SocketAddr,
    },
}

#[derive(Args)]
struct Common {
    /// Open connections.
    #[arg(long, default_value_t = 64)]
    connections: usize,
    /// Seconds of load before the measured window.
    #[arg(long, default_value_t = 1.0)]
    warm_up: f64,
    /// Seconds that are measured.
    #[arg(long, default_value_t = 3.0)]
    seconds: f64,
    /// The core that a proxy is pinned to.
    #[arg(long, default_value_t = 0)]
    proxy_core: usize,
    /// The core of the load generator and the echo upstream.
    #[arg(long, default_value_t = 1)]
    load_core: usize,
}

#[derive(Args)]
struct TableArguments {
    #[command(flatten)]
    common: Common,
    /// The JavaScript peers, with their node_modules.
    #[arg(long, default_value = "benches/peers")]
    peers: PathBuf,
    /// The gateway's binary.
    #[arg(long, default_value = "target/release/wsgate")]
    wsgate: PathBuf,
    /// The folder of bench_forward.wasm and bench_json.wasm.
    #[arg(long, default_value = "target/wasm32-wasip2/guest")]
    guests: PathBuf,
    /// Rows; all that are installed where none is named.
    #[arg(long, value_delimiter = ',')]
    only: Vec<Peer>,
    /// Columns; all where none is named.
    #[arg(long, value_delimiter = ',')]
    cases: Vec<Case>,
    /// How often each cell is measured; the median is shown.
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// Connections of the idle case; 0 leaves it out.
    #[arg(long, default_value_t = 2000)]
    idle_connections: usize,
    /// Use the built-in echo upstream even where Bun is installed.
    #[arg(long)]
    own_echo: bool,
    /// A page whose figures are replaced, besides printing them.
    #[arg(long, num_args = 0..=1, default_missing_value = "docs/performance.md")]
    write: Option<PathBuf>,
}

#[derive(Args)]
struct LoadArguments {
    #[command(flatten)]
    common: Common,
    /// Where to connect.
    address: SocketAddr,
    /// What to send.
    #[arg(long, default_value = "64b-1")]
    case: Case,
    /// The process whose CPU time is taken, with its descendants.
    #[arg(long)]
    pid: Option<u32>,
    /// Expect the script's answers.
    #[arg(long)]
    scripted: bool,
}

fn main() -> Result<()> {
    match Arguments::parse().command {
        Task::Table(arguments) => print_table(arguments),
        Task::Load(arguments) => print_load(arguments),
        Task::Echo { address } => echo::serve(address),
    }
}

fn print_table(arguments: TableArguments) -> Result<()> {
    prepare(&arguments.common)?;
    let folder = tempfile::Builder::new().prefix("wsgate-bench").tempdir().context("cannot create a scratch folder")?;
    let absolute = |path: &PathBuf| std::path::absolute(path).context("cannot tell the current folder");
    let places = Places {
        folder: folder.path().to_owned(),
        peers: absolute(&arguments.peers)?,
        wsgate: absolute(&arguments.wsgate)?,
        guests: absolute(&arguments.guests)?,
    };
    let plan = Plan {
        peers: all_or(arguments.only, &Peer::ALL),
        cases: all_or(arguments.cases, Case::value_variants()),
        rounds: arguments.rounds,
        idle_connections: arguments.idle_connections,
        settings: settings(&arguments.common),
        load_core: arguments.common.load_core,
        own_echo: arguments.own_echo,
    };
    // A proxy has two sockets for each connection.
    let needed = 2 * plan.idle_connections.max(plan.settings.connections) as u64 + 100;
    let allowed = raise_file_limit()?;
    ensure!(needed <= allowed, "{needed} open files are needed, and {allowed} are allowed: see `ulimit -Hn`");

    let report = bench::run(&plan, &places)?;
    let figures =
        [table::summary(&plan, &report), machine::describe(&plan, &report, &places), table::details(&plan, &report)];
    let figures = figures.join("\n");
    println!("{figures}");
    arguments.write.map_or(Ok(()), |page| page::write(&page, &figures))
}

fn print_load(arguments: LoadArguments) -> Result<()> {
    prepare(&arguments.common)?;
    raise_file_limit()?;
    let target = Target { address: arguments.address, pid: arguments.pid, scripted: arguments.scripted };
    let sample = measure::sample(target, arguments.case, &settings(&arguments.common))?;
    if let Some(cpu_us) = sample.cpu_us {
        println!("{cpu_us:.2} CPU µs per round trip");
    }
    println!("{:.0} round trips/s, p50 {:.0} µs, p99 {:.0} µs", sample.per_second, sample.p50_us, sample.p99_us);
    Ok(())
}

/// Listens for Ctrl-C and moves to the load generator's core.
fn prepare(common: &Common) -> Result<()> {
    ensure!(common.connections > 0, "at least one connection is needed");
    interrupt::listen()?;
    let mut cores = CpuSet::new();
    cores.set(common.load_core);
    sched_setaffinity(None, &cores).with_context(|| format!("cannot run on core {}", common.load_core))
}

fn settings(common: &Common) -> Settings {
    Settings {
        connections: common.connections,
        warm_up: Duration::from_secs_f64(common.warm_up),
        measured: Duration::from_secs_f64(common.seconds),
        proxy_core: common.proxy_core,
    }
}

/// Children inherit it. Returns how many files a process may open.
fn raise_file_limit() -> Result<u64> {
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum })
        .context("cannot raise the limit of open files")?;
    Ok(maximum.unwrap_or(u64::MAX))
}

fn all_or<T: Copy>(named: Vec<T>, all: &[T]) -> Vec<T> {
    if named.is_empty() { all.to_vec() } else { named }
}
