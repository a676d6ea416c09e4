//! Thousands of reloads, without the watcher's pauses.

use std::{fs, time::Instant};

use serde_json::json;

use super::*;
use crate::{
    filter::test_support::{Bed, guest},
    state_dir::StateDir,
};

const RELOADS: usize = 10_000;
/// After so many the pools have what they keep.
const WARM: usize = 300;
/// What ten thousand may add. A single machine code that is not freed each time would be 8 GiB.
const GROWTH_KIB: u64 = 16 << 10;

/// Resident KiB, descriptors, maps.
fn footprint() -> (u64, usize, usize) {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let rss = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    let maps = fs::read_to_string("/proc/self/maps").unwrap().lines().count();
    let descriptors = fs::read_dir("/proc/self/fd").unwrap().count();
    (rss.trim().trim_end_matches(" kB").parse().unwrap(), descriptors, maps)
}

#[test]
fn ten_thousand_reloads_from_the_cache_take_no_memory() {
    let bed = Bed::new().filter("main", "stamp", json!({})).route(&["main"]);
    let state_dir = Arc::new(StateDir::new(None));
    let metrics = Arc::new(Metrics::new().unwrap());
    let hub = Hub::new(1 << 20, metrics.topics());
    let engine = Engine::new(&bed.config, &metrics, Compiler::in_process(state_dir.clone()), &hub).unwrap();
    let file = bed.folder.path().join("main.wasm");
    let builds = [*b"a", *b"b"].map(|name| {
        // A custom section with a name of one byte.
        [fs::read(guest("stamp")).unwrap(), vec![0, 2, 1, name[0]]].concat()
    });
    fs::write(&file, &builds[1]).unwrap();
    let mut state = State::new(engine, &Arc::new(bed.config)).unwrap();
    let live = state.start().unwrap();
    state.published(&live);
    let mut before = live.chain("main").filters()[0].serial();
    drop(live);
    let mut at_first = footprint();
    let mut begin = Instant::now();
    for reload in 0..WARM + RELOADS {
        if reload == WARM {
            (at_first, begin) = (footprint(), Instant::now());
        }
        fs::write(&file, &builds[reload % 2]).unwrap();
        // The first look finds another content, the second finds it again and loads it.
        assert!(state.scan().live.is_none());
        let live = state.scan().live.unwrap();
        state.published(&live);
        let now = live.chain("main").filters()[0].serial();
        assert!(now > before);
        before = now;
    }
    let at_last = footprint();
    println!(
        "figure: {RELOADS} reloads in {:?}: KiB, descriptors and maps were {at_first:?}, are {at_last:?}",
        begin.elapsed()
    );
    let rows = Board::default();
    rows.post(state.rows(), state.complete());
    let generations = &rows.status()[0].generations;
    assert_eq!((generations.len(), generations[0].instances), (1, 0), "{generations:?}");
    let text = String::from_utf8(metrics.encode().unwrap()).unwrap();
    assert!(text.contains("wsgate_filter_compilations_total{result=\"compiled\"} 2\n"), "{text}");
    assert!(at_last.0 < at_first.0 + GROWTH_KIB, "{at_first:?} {at_last:?}");
    assert_eq!(at_last.1, at_first.1);
    assert!(at_last.2 <= at_first.2 + 16, "{at_first:?} {at_last:?}");
    state_dir.close();
}
