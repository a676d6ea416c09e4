//! The report in Markdown.

use std::fmt::Write;

use crate::bench::{Plan, Report, Row};
use crate::measure::Sample;
use crate::peer::Peer;

const NOTHING: &str = "–";

/// A cell: what is shown of the rounds of one peer in one case.
#[derive(Clone, Debug, PartialEq)]
struct Cell {
    cpu_us: Option<f64>,
    /// Lowest and highest of the rounds.
    cpu_range_us: Option<(f64, f64)>,
    /// To nginx, of the same round.
    ratio: Option<f64>,
    per_second: f64,
    p50_us: f64,
    p99_us: f64,
}

/// The table: CPU time and its ratio to nginx, a row a peer, a column a case.
pub fn summary(plan: &Plan, report: &Report) -> String {
    let mut out = String::from("| CPU µs per round trip (× nginx) |");
    for case in &plan.cases {
        let _ = write!(out, " {} |", case.label());
    }
    if plan.idle_connections > 0 {
        out.push_str(" KiB per idle connection, PSS (RSS) |");
    }
    let columns = 1 + plan.cases.len() + usize::from(plan.idle_connections > 0);
    let _ = writeln!(out, "\n|---|{}", "---:|".repeat(columns - 1));
    for row in report.rows.iter().filter(|row| row.peer != Peer::Direct) {
        let _ = write!(out, "| {} |", row.peer.label());
        for column in 0..plan.cases.len() {
            let _ = write!(out, " {} |", cell(report, row, column).map_or(NOTHING.to_owned(), |cell| cell.short()));
        }
        if plan.idle_connections > 0 {
            let idle = row.idle.map(|idle| format!("{:.1} ({:.1})", idle.pss_kib, idle.rss_kib));
            let _ = write!(out, " {} |", idle.as_deref().unwrap_or(NOTHING));
        }
        out.push('\n');
    }
    out
}

/// Every figure: a row a case and peer.
pub fn details(plan: &Plan, report: &Report) -> String {
    let mut out = String::from(
        "| case | proxy | CPU µs per round trip | lowest – highest round | × nginx | round trips/s | p50 µs | p99 µs |\n\
         |---|---|---:|---:|---:|---:|---:|---:|\n",
    );
    for (column, case) in plan.cases.iter().enumerate() {
        for row in &report.rows {
            let Some(cell) = cell(report, row, column) else { continue };
            let cpu = cell.cpu_us.map_or(NOTHING.to_owned(), number);
            let range = cell.cpu_range_us.map(|(low, high)| format!("{} – {}", number(low), number(high)));
            let ratio = cell.ratio.map(|ratio| format!("{ratio:.2}"));
            let _ = writeln!(
                out,
                "| {} | {} | {cpu} | {} | {} | {:.0} | {:.0} | {:.0} |",
                case.label(),
                row.peer.label(),
                range.as_deref().unwrap_or(NOTHING),
                ratio.as_deref().unwrap_or(NOTHING),
                cell.per_second,
                cell.p50_us,
                cell.p99_us
            );
        }
    }
    out
}

/// How quiet the machine was: the median and the worst share of a window that the proxy's core gave to others.
pub fn disturbance(report: &Report) -> Option<(f64, f64)> {
    let measured = report.rows.iter().filter(|row| row.peer != Peer::Direct);
    let mut shares: Vec<f64> =
        measured.flat_map(|row| row.samples.iter().flatten()).map(|sample| sample.disturbed).collect();
    shares.sort_by(f64::total_cmp);
    Some((*shares.get(shares.len() / 2)?, *shares.last()?))
}

fn cell(report: &Report, row: &Row, column: usize) -> Option<Cell> {
    let samples = row.samples.get(column)?;
    let cpu: Vec<f64> = samples.iter().filter_map(|sample| sample.cpu_us).collect();
    let nginx = report.rows.iter().find(|row| row.peer == Peer::Nginx).and_then(|row| row.samples.get(column));
    let ratios = nginx.into_iter().flatten().zip(samples).filter_map(|(nginx, own)| Some(own.cpu_us? / nginx.cpu_us?));
    let of = |figure: fn(&Sample) -> f64| median(samples.iter().map(figure).collect());
    Some(Cell {
        cpu_range_us: cpu.iter().copied().reduce(f64::min).zip(cpu.iter().copied().reduce(f64::max)),
        cpu_us: median(cpu),
        ratio: median(ratios.collect()),
        per_second: of(|sample| sample.per_second)?,
        p50_us: of(|sample| sample.p50_us)?,
        p99_us: of(|sample| sample.p99_us)?,
    })
}

impl Cell {
    fn short(&self) -> String {
        match (self.cpu_us, self.ratio) {
            (Some(cpu), Some(ratio)) => format!("{} ({ratio:.2}×)", number(cpu)),
            (Some(cpu), None) => number(cpu),
            (None, _) => NOTHING.to_owned(),
        }
    }
}

fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    let upper = *values.get(middle)?;
    Some(if values.len() % 2 == 1 { upper } else { (values[middle - 1] + upper) / 2.0 })
}

/// Three digits that say something.
fn number(value: f64) -> String {
    match value {
        value if value < 10.0 => format!("{value:.2}"),
        value if value < 100.0 => format!("{value:.1}"),
        value => format!("{value:.0}"),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::case::Case;
    use crate::measure::{Idle, Settings};

    fn sample(cpu_us: Option<f64>) -> Sample {
        Sample { cpu_us, per_second: 50_000.4, p50_us: 100.0, p99_us: 250.0, disturbed: 0.02 }
    }

    fn plan() -> Plan {
        let settings =
            Settings { connections: 64, warm_up: Duration::ZERO, measured: Duration::from_secs(3), proxy_core: 0 };
        Plan {
            peers: vec![],
            cases: vec![Case::Small1, Case::Json1],
            rounds: 3,
            idle_connections: 10,
            settings,
            load_core: 1,
            own_echo: false,
        }
    }

    fn row(peer: Peer, first: &[Option<f64>], second: &[Option<f64>]) -> Row {
        let samples = [first, second].map(|rounds| rounds.iter().copied().map(sample).collect());
        Row { peer, samples: samples.into(), idle: None }
    }

    fn report() -> Report {
        let mut nginx = row(Peer::Nginx, &[Some(10.0), Some(20.0), Some(11.0)], &[Some(0.5)]);
        nginx.idle = Some(Idle { pss_kib: 17.44, rss_kib: 18.0 });
        let node = row(Peer::Node { scripted: true }, &[], &[Some(2.0)]);
        Report { echo: String::new(), rows: vec![row(Peer::Direct, &[None], &[None]), nginx, node], skipped: vec![] }
    }

    #[test]
    fn the_median_is_the_middle_or_between_the_two() {
        assert_eq!(median(vec![3.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median(vec![4.0, 1.0]), Some(2.5));
        assert_eq!(median(vec![]), None);
    }

    #[test]
    fn the_summary_has_a_row_for_each_proxy() {
        let expected = "\
| CPU µs per round trip (× nginx) | 64 B text, 1 in flight | JSON 140 B, 1 in flight | KiB per idle connection, PSS (RSS) |
|---|---:|---:|---:|
| nginx (bytes only) | 11.0 (1.00×) | 0.50 (1.00×) | 17.4 (18.0) |
| Node + ws, script | – | 2.00 (4.00×) | – |
";
        assert_eq!(summary(&plan(), &report()), expected);
    }

    #[test]
    fn the_details_show_the_spread_and_leave_out_what_was_not_measured() {
        let text = details(&plan(), &report());
        assert!(text.contains(
            "| 64 B text, 1 in flight | nginx (bytes only) | 11.0 | 10.0 – 20.0 | 1.00 | 50000 | 100 | 250 |"
        ));
        assert!(text.contains("| 64 B text, 1 in flight | direct (no proxy) | – | – | – | 50000 | 100 | 250 |"));
        assert!(!text.contains("64 B text, 1 in flight | Node + ws, script"));
    }

    #[test]
    fn disturbance_is_that_of_the_measured_proxies() {
        assert_eq!(disturbance(&report()), Some((0.02, 0.02)));
        assert_eq!(disturbance(&Report { echo: String::new(), rows: vec![], skipped: vec![] }), None);
    }
}
