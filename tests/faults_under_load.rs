//! While one filter misbehaves, the connections of other instances on the same worker do not notice.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use crate::support::{
    Setup,
    load::{self, Times},
    wire::Wire,
};

const CALM: Duration = Duration::from_millis(5);

const CONFIG: &str = r#"
    [server]
    workers = 1

    [[routes]]
    name = "bad"
    path = "/bad"
    target = "echo"
    filters = ["faulty"]

    [[routes]]
    name = "calm"
    path = "/calm"
    target = "echo"
    filters = ["stamp"]
"#;

/// Sends the command on fresh connections, some ten times a second, while a calm connection of another filter's instance
/// is timed.
fn others_are_answered_during(command: &'static str) {
    let setup = Setup::new().guest("filters/faulty.wasm", "guest_faulty").guest("filters/stamp.wasm", "stamp");
    let gateway = setup.start(&format!("{CONFIG}\n[filters.faulty]\nmax_client_faults = \"off\""));
    let probe = || load::probe(gateway.address(), "/calm", 300, Duration::from_millis(10));
    let quiet = probe();
    let (stop, ended) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let misbehaving = {
        let (stop, ended, address) = (stop.clone(), ended.clone(), gateway.address());
        thread::spawn(move || {
            while !stop.load(Ordering::Relaxed) {
                let mut wire = Wire::open(address, "/bad");
                wire.text(command);
                assert_eq!(wire.next_close().0, 1011);
                ended.fetch_add(1, Ordering::Relaxed);
                thread::sleep(Duration::from_millis(50));
            }
        })
    };
    let beside = load::best_of_three(CALM, probe);
    stop.store(true, Ordering::Relaxed);
    misbehaving.join().unwrap();
    let faults = ended.load(Ordering::Relaxed);
    println!("figure: {command}: calm connection alone: {quiet}; during {faults} faults: {beside}");
    assert!(faults >= 3, "only {faults} faults");
    assert!(beside.quantile(0.99) <= CALM, "{beside}");
}

#[test]
fn a_filter_that_loops_delays_no_other_instance() {
    others_are_answered_during("spin");
}

#[test]
fn a_filter_that_takes_memory_delays_no_other_instance() {
    others_are_answered_during("grow");
}

#[test]
fn a_filter_that_panics_delays_no_other_instance() {
    others_are_answered_during("panic");
}

#[test]
fn a_filter_that_returns_errors_delays_no_other_instance() {
    others_are_answered_during("error:no");
}

#[test]
fn a_loop_is_stopped_at_its_budget_of_time() {
    let setup = Setup::new().guest("filters/faulty.wasm", "guest_faulty").guest("filters/stamp.wasm", "stamp");
    let gateway = setup.start(&format!("{CONFIG}\n[filters.faulty]\ncpu_timeout = \"200ms\""));
    let mut wire = Wire::open(gateway.address(), "/bad");
    // Computing for less than the budget is no fault.
    wire.text("spin:50");
    assert_eq!(wire.next_text(), "spin:50");
    let began = Instant::now();
    wire.text("spin");
    assert_eq!(wire.next_close().0, 1011);
    let took = began.elapsed();
    println!("figure: a budget of 200 ms ended a loop after {took:?}");
    assert!(took > Duration::from_millis(190) && took < Duration::from_millis(400), "stopped after {took:?}");
}

/// What the sessions of a filter notice while another client of it sends loops, ten a second, each of which costs 50 ms of
/// processor time and the instance.
fn neighbours_during_loops(keys: &str) -> (Times, u64, u64) {
    let setup = Setup::new().guest("filters/faulty.wasm", "guest_faulty").guest("filters/stamp.wasm", "stamp");
    let gateway = setup.start(&format!("{CONFIG}\n[filters.faulty]\ncpu_timeout = \"50ms\"\n{keys}"));
    let (stop, address) = (Arc::new(AtomicBool::new(false)), gateway.address());
    let misbehaving = thread::spawn({
        let stop = stop.clone();
        move || {
            let (mut loops, mut refused) = (0, 0);
            let mut next = Instant::now();
            while !stop.load(Ordering::Relaxed) {
                match Wire::try_open_from([127, 0, 0, 2], address, "/bad") {
                    Ok(mut wire) => {
                        wire.text("spin");
                        assert_eq!(wire.next_close().0, 1011);
                        loops += 1;
                    }
                    Err(answer) => {
                        assert_eq!(answer.status, 429);
                        refused += 1;
                    }
                }
                next += Duration::from_millis(100);
                thread::sleep(next.saturating_duration_since(Instant::now()));
            }
            (loops, refused)
        }
    });
    let times = load::probe(address, "/bad", 500, Duration::from_millis(10));
    stop.store(true, Ordering::Relaxed);
    let (loops, refused) = misbehaving.join().unwrap();
    (times, loops, refused)
}

#[test]
fn one_client_that_loops_ten_times_a_second_is_stopped_before_its_neighbours_notice_much() {
    // Who shares an instance with a client that nothing stops waits for its loops, as long as these take on this machine.
    const UNBOUNDED: u64 = 60_000;
    for (what, keys, allowed) in [
        ("shared instance, the client is refused after 5", "", 100),
        ("shared instance, never refused", "max_client_faults = \"off\"", UNBOUNDED),
        ("an instance for each", "isolation = \"connection\"\nmax_client_faults = \"off\"", 25),
    ] {
        let allowed = Duration::from_millis(allowed);
        let mut best = neighbours_during_loops(keys);
        for _ in 0..2 {
            if best.0.quantile(0.99) > allowed {
                best = neighbours_during_loops(keys);
            }
        }
        let (times, loops, refused) = best;
        println!("figure: {what}: {loops} loops, {refused} handshakes refused; neighbours: {times}");
        assert!(times.quantile(0.99) <= allowed, "{what}: {times}");
        let guarded = keys.is_empty();
        assert!(
            if guarded { loops <= 12 && refused > 10 } else { loops > 10 },
            "{what}: {loops} loops, {refused} refused"
        );
    }
}
