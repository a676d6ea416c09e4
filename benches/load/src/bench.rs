//! The whole benchmark: every peer in every case, so many rounds.

use std::thread;

use anyhow::{Context, Result, ensure};

use crate::case::Case;
use crate::child::Child;
use crate::interrupt;
use crate::measure::{self, Idle, Sample, Settings, Target};
use crate::message::Content;
use crate::peer::{self, Peer, Places};

/// What is to be measured.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Rows.
    pub peers: Vec<Peer>,
    /// Columns.
    pub cases: Vec<Case>,
    /// How often each cell is measured.
    pub rounds: usize,
    /// Connections of the idle case; none where it is left out.
    pub idle_connections: usize,
    /// The rest.
    pub settings: Settings,
    /// Where the upstream runs; the caller has pinned this process to the same core.
    pub load_core: usize,
    /// Whether to use this program's own echo upstream even where Bun is installed.
    pub own_echo: bool,
}

/// What was measured.
#[derive(Clone, Debug)]
pub struct Report {
    /// Name and version of the echo upstream.
    pub echo: String,
    /// One for each peer that is installed.
    pub rows: Vec<Row>,
    /// Peers that were left out, and why.
    pub skipped: Vec<(Peer, String)>,
}

/// What was measured of one peer.
#[derive(Clone, Debug)]
pub struct Row {
    /// Which one.
    pub peer: Peer,
    /// Samples for each case, one a round; empty where a case is not for this peer.
    pub samples: Vec<Vec<Sample>>,
    /// The idle case.
    pub idle: Option<Idle>,
}

/// Runs the plan. All peers of a case are measured one after the other, then comes the next case: what disturbs the machine for a
/// while then disturbs all of them.
pub fn run(plan: &Plan, places: &Places) -> Result<Report> {
    let (echo, echo_name) = peer::start_echo(places, plan.own_echo, plan.load_core)?;
    let mut report = Report { echo: echo_name, rows: Vec::new(), skipped: Vec::new() };
    let mut running = Vec::new();
    for &peer in &plan.peers {
        if let Err(reason) = peer.find(places) {
            eprintln!("{}: left out, {reason}", peer.label());
            report.skipped.push((peer, reason));
            continue;
        }
        let child = match peer {
            Peer::Direct => None,
            _ => Some(peer.start(places, plan.settings.proxy_core, echo.address)?),
        };
        running.push(child);
        report.rows.push(Row { peer, samples: vec![Vec::new(); plan.cases.len()], idle: None });
    }
    ensure!(!running.is_empty(), "there is nothing to measure");
    for round in 0..plan.rounds {
        for (column, &case) in plan.cases.iter().enumerate() {
            for (row, child) in report.rows.iter_mut().zip(&running) {
                if row.peer.scripted() && case.content() != Content::Json {
                    continue;
                }
                interrupt::check()?;
                let sample = sample(row.peer, child.as_ref(), &echo, case, &plan.settings)?;
                progress(round, plan.rounds, row.peer, case, &sample);
                row.samples[column].push(sample);
                thread::sleep(std::time::Duration::from_millis(100));
            }
        }
    }
    drop(running);
    if plan.idle_connections > 0 {
        idle(plan, places, &echo, &mut report.rows)?;
    }
    Ok(report)
}

fn sample(peer: Peer, child: Option<&Child>, echo: &Child, case: Case, settings: &Settings) -> Result<Sample> {
    let address = child.unwrap_or(echo).address;
    let target = Target { address, pid: child.map(Child::pid), scripted: peer.scripted() };
    measure::sample(target, case, settings).with_context(|| failure(peer, &case.label(), child.unwrap_or(echo)))
}

/// In a process of its own that has carried no load before: what a heap has kept would count for nothing.
fn idle(plan: &Plan, places: &Places, echo: &Child, rows: &mut [Row]) -> Result<()> {
    for row in rows.iter_mut().filter(|row| row.peer != Peer::Direct && !row.peer.scripted()) {
        interrupt::check()?;
        let child = row.peer.start(places, plan.settings.proxy_core, echo.address)?;
        let idle = measure::idle(&child, plan.idle_connections, &plan.settings)
            .with_context(|| failure(row.peer, "idle connections", &child))?;
        eprintln!("idle, {}: {:.1} KiB a connection", row.peer.label(), idle.pss_kib);
        row.idle = Some(idle);
    }
    Ok(())
}

fn failure(peer: Peer, case: &str, child: &Child) -> String {
    let log = child.log_tail();
    let log = if log.is_empty() { String::new() } else { format!("\nits last output:\n{log}\n") };
    format!("{}, {case}{log}", peer.label())
}

fn progress(round: usize, rounds: usize, peer: Peer, case: Case, sample: &Sample) {
    let disturbed = sample.disturbed * 100.0;
    let cpu = sample.cpu_us.map(|cpu| format!("{cpu:.2} CPU µs, core disturbed {disturbed:.0}%, ")).unwrap_or_default();
    eprintln!(
        "round {} of {rounds}, {}, {}: {cpu}{:.0} round trips/s, p99 {:.0} µs",
        round + 1,
        case.label(),
        peer.label(),
        sample.per_second,
        sample.p99_us
    );
}
