//! CPU time and memory of a process and all its descendants, from /proc.

use std::collections::HashMap;
use std::fs;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

/// The part of /proc/PID/stat that is used here. Times are in clock ticks and hold every thread, also those that have ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stat {
    /// The process that started it.
    pub parent: u32,
    /// User and system time of its own.
    pub own_ticks: u64,
    /// User and system time of the children that it has waited for.
    pub reaped_ticks: u64,
}

/// Memory of a process tree in KiB.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Memory {
    /// Resident set: pages that processes share count once for each.
    pub rss_kib: u64,
    /// Proportional set: shared pages are divided among those that share them.
    pub pss_kib: u64,
}

/// Reads a line of /proc/PID/stat. The name stands in parentheses and may itself hold spaces and parentheses.
pub fn parse_stat(line: &str) -> Option<Stat> {
    let (_, behind_name) = line.rsplit_once(')')?;
    let fields: Vec<&str> = behind_name.split_ascii_whitespace().collect();
    // Field 3 of proc(5), the state, is the first one here.
    let number = |field: usize| fields.get(field - 3)?.parse::<u64>().ok();
    Some(Stat {
        parent: u32::try_from(number(4)?).ok()?,
        own_ticks: number(14)? + number(15)?,
        reaped_ticks: number(16)? + number(17)?,
    })
}

/// Reads /proc/PID/smaps_rollup.
pub fn parse_smaps_rollup(text: &str) -> Option<Memory> {
    let kib = |name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name))?;
        line.trim().strip_suffix("kB")?.trim().parse().ok()
    };
    Some(Memory { rss_kib: kib("Rss:")?, pss_kib: kib("Pss:")? })
}

/// CPU time that the tree below (and with) `root` has used so far.
pub fn cpu_time(root: u32) -> Result<Duration> {
    let processes = all_processes()?;
    ensure!(processes.contains_key(&root), "process {root} has ended");
    let ticks: u64 = tree(root, &processes)
        .iter()
        .filter_map(|pid| processes.get(pid))
        .map(|stat| stat.own_ticks + stat.reaped_ticks)
        .sum();
    Ok(duration(ticks))
}

/// Memory that the tree below (and with) `root` holds now.
pub fn memory(root: u32) -> Result<Memory> {
    let processes = all_processes()?;
    ensure!(processes.contains_key(&root), "process {root} has ended");
    let mut sum = Memory::default();
    for pid in tree(root, &processes) {
        // A child may have ended since it was listed: its memory is gone.
        let text = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap_or_default();
        let memory = parse_smaps_rollup(&text);
        ensure!(memory.is_some() || pid != root, "the memory of process {root} cannot be read");
        let memory = memory.unwrap_or_default();
        sum.rss_kib += memory.rss_kib;
        sum.pss_kib += memory.pss_kib;
    }
    Ok(sum)
}

/// Time that one core has spent for processes, or had to give to other machines on the same host, since the system started.
/// Interrupts are left out: those of the loopback device belong to what is measured.
pub fn core_time(core: usize) -> Result<Duration> {
    let text = fs::read_to_string("/proc/stat").context("cannot read /proc/stat")?;
    Ok(duration(parse_core_ticks(&text, core).with_context(|| format!("/proc/stat does not list core {core}"))?))
}

fn parse_core_ticks(text: &str, core: usize) -> Option<u64> {
    let name = format!("cpu{core}");
    let mut lines = text.lines().map(str::split_ascii_whitespace);
    let fields = lines.find_map(|mut fields| (fields.next() == Some(&name)).then_some(fields))?;
    let ticks: Vec<u64> = fields.map_while(|field| field.parse().ok()).collect();
    // user, nice, system, idle, iowait, irq, softirq, steal
    let [user, nice, system, _, _, _, _, steal, ..] = ticks[..] else { return None };
    Some(user + nice + system + steal)
}

fn duration(ticks: u64) -> Duration {
    Duration::from_nanos(ticks * (1_000_000_000 / rustix::param::clock_ticks_per_second()))
}

fn all_processes() -> Result<HashMap<u32, Stat>> {
    let mut processes = HashMap::new();
    for entry in fs::read_dir("/proc").context("cannot read /proc")? {
        let Some(pid) = entry?.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
        // A process may end between the listing and the reading.
        let Ok(line) = fs::read_to_string(format!("/proc/{pid}/stat")) else { continue };
        if let Some(stat) = parse_stat(&line) {
            processes.insert(pid, stat);
        }
    }
    Ok(processes)
}

fn tree(root: u32, processes: &HashMap<u32, Stat>) -> Vec<u32> {
    let mut found = vec![root];
    let mut next = 0;
    while let Some(&parent) = found.get(next) {
        found.extend(processes.iter().filter(|(_, stat)| stat.parent == parent).map(|(pid, _)| *pid));
        next += 1;
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINE: &str = "4242 (a) b (c)) S 17 4242 4242 0 -1 4194560 1500 200 0 0 310 42 7 5 20 0 3 0 100 1 2 3 4";

    #[test]
    fn a_stat_line_is_read_behind_the_last_parenthesis() {
        assert_eq!(parse_stat(LINE), Some(Stat { parent: 17, own_ticks: 352, reaped_ticks: 12 }));
    }

    #[test]
    fn a_broken_stat_line_is_none() {
        assert_eq!(parse_stat("4242 (name) S 1 2"), None);
        assert_eq!(parse_stat(""), None);
        assert_eq!(parse_stat("1 (x) S a 1 1 0 -1 0 0 0 0 0 1 1 1 1"), None);
    }

    #[test]
    fn smaps_rollup_gives_both_sets() {
        let text = "55d0-7ffd ---p 0 00:00 0 [rollup]\nRss:                1780 kB\nPss:                 920 kB\nPss_Dirty: 1 kB\n";
        assert_eq!(parse_smaps_rollup(text), Some(Memory { rss_kib: 1780, pss_kib: 920 }));
        assert_eq!(parse_smaps_rollup("Rss: 1 kB"), None);
    }

    #[test]
    fn the_time_of_a_core_is_that_of_its_own_line() {
        let text = "cpu  9 9 9 9 9 9 9 9 0 0\ncpu0 1 2 3 100 5 6 7 8 0 0\ncpu1 10 20 30 100 5 6 7 80 0 0\nintr 1\n";
        assert_eq!(parse_core_ticks(text, 1), Some(140));
        assert_eq!(parse_core_ticks(text, 2), None);
    }

    #[test]
    fn a_tree_holds_grandchildren_and_no_strangers() {
        let child = |parent| Stat { parent, own_ticks: 0, reaped_ticks: 0 };
        let processes = HashMap::from([(1, child(0)), (5, child(1)), (6, child(5)), (7, child(6)), (8, child(1))]);
        let mut found = tree(5, &processes);
        found.sort_unstable();
        assert_eq!(found, [5, 6, 7]);
    }

    #[test]
    fn this_process_has_used_time_and_memory() {
        let pid = std::process::id();
        assert!(cpu_time(pid).is_ok());
        assert!(memory(pid).unwrap().pss_kib > 0);
        assert!(cpu_time(u32::MAX).is_err());
    }
}
