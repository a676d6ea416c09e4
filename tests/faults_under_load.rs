//! While one filter misbehaves, the connections of other instances on the same worker do not notice.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use crate::support::{Setup, load, wire::Wire};

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
    let gateway = setup.start(CONFIG);
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
    let beside = probe();
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
