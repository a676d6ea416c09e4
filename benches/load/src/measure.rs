//! One peer under one load.

use std::net::SocketAddr;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result};

use crate::case::Case;
use crate::child::Child;
use crate::load::{Generator, Traffic};
use crate::message::{Content, Outgoing};
use crate::probe;
use crate::proc;

/// How long and how much.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// Open connections.
    pub connections: usize,
    /// Load before the window.
    pub warm_up: Duration,
    /// The window.
    pub measured: Duration,
    /// Where the proxies run.
    pub proxy_core: usize,
}

/// What one window has shown.
#[derive(Clone, Debug)]
pub struct Sample {
    /// CPU time of the process tree ÷ round trips; none where there is no process.
    pub cpu_us: Option<f64>,
    /// Round trips finished in a second.
    pub per_second: f64,
    /// Median latency.
    pub p50_us: f64,
    /// Latency of the slowest of a hundred.
    pub p99_us: f64,
    /// The share of the window that the proxy's core spent on other processes, or waiting for the host.
    pub disturbed: f64,
}

/// Memory for each idle connection, in KiB.
#[derive(Clone, Copy, Debug)]
pub struct Idle {
    /// By proportional set size.
    pub pss_kib: f64,
    /// By resident set size.
    pub rss_kib: f64,
}

/// What a sample is taken of.
#[derive(Clone, Copy, Debug)]
pub struct Target {
    /// Where to connect.
    pub address: SocketAddr,
    /// Whose CPU time counts.
    pub pid: Option<u32>,
    /// Whether the answers are the script's.
    pub scripted: bool,
}

/// Checks one message, loads the target and measures it.
pub fn sample(target: Target, case: Case, settings: &Settings) -> Result<Sample> {
    let traffic = traffic(target, case.content(), case.in_flight())?;
    let mut load = Generator::open(target.address, settings.connections, traffic)?;
    load.start()?;
    load.run_for(settings.warm_up)?;
    let before = times(target, settings)?;
    let window = load.run_for(settings.measured)?;
    let after = times(target, settings)?;
    load.close()?;

    let core = after.core.saturating_sub(before.core);
    let process = after.process.saturating_sub(before.process);
    let cpu_us = target.pid.map(|_| process.as_secs_f64() * 1e6 / window.round_trips.max(1) as f64);
    Ok(Sample {
        cpu_us,
        per_second: window.per_second(),
        p50_us: window.latency_us(50.0),
        p99_us: window.latency_us(99.0),
        disturbed: core.saturating_sub(process).as_secs_f64() / window.elapsed.as_secs_f64(),
    })
}

/// Opens `count` connections, sends one message on each, and takes what the process tree has grown by.
pub fn idle(child: &Child, count: usize, settings: &Settings) -> Result<Idle> {
    let target = Target { address: child.address, pid: Some(child.pid()), scripted: false };
    let open = |connections| -> Result<Generator> {
        let mut load = Generator::open(target.address, connections, traffic(target, Content::Text(64), 1)?)?;
        load.start()?;
        load.drain()?;
        Ok(load)
    };
    // What is loaded or allocated once, on first use, is no cost of a connection.
    open(settings.connections)?.close()?;
    thread::sleep(Duration::from_millis(500));
    let before = proc::memory(child.pid())?;
    let load = open(count)?;
    thread::sleep(Duration::from_secs(1));
    let after = proc::memory(child.pid())?;
    load.close()?;
    let each = |before: u64, after: u64| (after as f64 - before as f64) / count as f64;
    Ok(Idle { pss_kib: each(before.pss_kib, after.pss_kib), rss_kib: each(before.rss_kib, after.rss_kib) })
}

fn traffic(target: Target, content: Content, in_flight: usize) -> Result<Traffic> {
    let expected = probe::expected_answer(target.address, content, target.scripted)?;
    Ok(Traffic { outgoing: Outgoing::new(&content.payload()), expected, in_flight })
}

struct Times {
    process: Duration,
    core: Duration,
}

fn times(target: Target, settings: &Settings) -> Result<Times> {
    let process = target.pid.map(proc::cpu_time).transpose().context("cannot tell the proxy's CPU time")?;
    Ok(Times { process: process.unwrap_or_default(), core: proc::core_time(settings.proxy_core)? })
}
