//! What the figures were measured on and with.

use std::fmt::Write;
use std::fs;
use std::thread;

use crate::bench::{Plan, Report};
use crate::peer::{Peer, Places};
use crate::table;

/// A list in Markdown: the machine, the settings, the versions, what was left out.
pub fn describe(plan: &Plan, report: &Report, places: &Places) -> String {
    let settings = &plan.settings;
    let mut out = format!(
        "- Machine: {}, {} cores, {:.0} GiB of memory, Linux {}\n",
        cpu_model(),
        thread::available_parallelism().map_or(1, usize::from).max(count_cores()),
        memory_gib(),
        first_line("/proc/sys/kernel/osrelease"),
    );
    let _ = writeln!(
        out,
        "- Proxy on core {}, load generator and echo upstream ({}) on core {}",
        settings.proxy_core, report.echo, plan.load_core
    );
    let _ = writeln!(
        out,
        "- {} connections, {} s of warm-up, {} s measured, {} {}; idle case: {} connections",
        settings.connections,
        settings.warm_up.as_secs_f64(),
        settings.measured.as_secs_f64(),
        plan.rounds,
        if plan.rounds == 1 { "round" } else { "rounds, medians shown" },
        plan.idle_connections
    );
    let mut versions: Vec<String> = report.rows.iter().filter_map(|row| row.peer.version(places)).collect();
    versions.dedup();
    let _ = writeln!(out, "- Versions: {}", versions.join("; "));
    for (peer, reason) in &report.skipped {
        let reason = if matches!(peer, Peer::Wsgate(_)) { "it is not built" } else { reason.as_str() };
        let _ = writeln!(out, "- Left out: {}: {reason}", peer.label());
    }
    if let Some((median, worst)) = table::disturbance(report) {
        let _ = writeln!(
            out,
            "- Time of the proxy's core that went to other processes or the host: {:.1}% of a window (median), {:.1}% (worst)",
            median * 100.0,
            worst * 100.0
        );
    }
    out
}

fn cpu_model() -> String {
    let text = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    field(&text, "model name").unwrap_or("unknown CPU").to_owned()
}

/// This process is pinned to one core, so that it cannot ask how many it may use.
fn count_cores() -> usize {
    let text = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    text.lines().filter(|line| line.starts_with("processor")).count()
}

fn memory_gib() -> f64 {
    let text = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let kib = field(&text, "MemTotal").and_then(|value| value.strip_suffix(" kB")?.parse::<f64>().ok());
    kib.unwrap_or(0.0) / 1024.0 / 1024.0
}

fn field<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    text.lines().find_map(|line| line.strip_prefix(name)?.trim_start().strip_prefix(':')).map(str::trim)
}

fn first_line(path: &str) -> String {
    fs::read_to_string(path).unwrap_or_default().trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_field_is_found_by_its_name() {
        let text = "processor\t: 0\nmodel name\t: A Processor\nMemTotal:       2048 kB\n";
        assert_eq!(field(text, "model name"), Some("A Processor"));
        assert_eq!(field(text, "MemTotal"), Some("2048 kB"));
        assert_eq!(field(text, "flags"), None);
    }
}
