//! The process that compiles: its limits, what is refused by them, and that it is never left behind.

use std::{
    fs,
    path::Path,
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process};

use crate::support::{
    Gateway, SOON, Setup,
    component::{build, large_to_compile, slow_to_compile},
    guest,
    process::{Descendant, children, is_alive},
    until,
    upstream::ECHO,
    wire::Wire,
};

/// The gateway may use so much itself, so it must be enough for what these tests do.
const SHORT: &str = "ulimit -t 8";
/// Those seconds, beside other tests.
const REFUSED: Duration = Duration::from_secs(60);

/// Without pings, which nobody here would answer.
fn config(more: &str) -> String {
    format!(
        "{ECHO}\nping_interval = \"off\"\nfilters = [\"stamp\"]\n[filters.stamp]\nconfig = {{ show_version = true }}\n{more}"
    )
}

fn say(wire: &mut Wire, text: &str) -> String {
    wire.text(text);
    wire.next_text()
}

/// Waits for the process that compiles.
fn compiling(gateway: u32) -> Descendant {
    let mut found = Vec::new();
    until("something is compiled", SOON, || {
        found = children(gateway);
        // It names itself once its limits hold.
        found.iter().any(|child| comm(child.pid) == "wsgate-compile" && limit(child.pid, "Max core file size") == "0")
    });
    assert_eq!(found.len(), 1, "one at a time: {found:?}");
    found.remove(0)
}

fn comm(pid: u32) -> String {
    fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default().trim().to_owned()
}

/// The hard limit.
fn limit(pid: u32, name: &str) -> String {
    let limits = fs::read_to_string(format!("/proc/{pid}/limits")).unwrap_or_default();
    let line = limits.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default();
    line.split_whitespace().nth(1).unwrap_or_default().to_owned()
}

/// Publishes a component that is refused because of what it takes. Until then the one before serves every message.
fn is_refused(gateway: &Gateway, component: &[u8], because: &str) {
    let mut wire = Wire::open(gateway.address(), "/echo");
    assert!(say(&mut wire, "m").ends_with("v1"));
    let before = gateway.filter("stamp")["generation"].clone();
    let rss_before = gateway.rss_kib();
    gateway.folder().publish("filters/stamp.wasm", component);
    let child = compiling(gateway.pid());
    let (mut messages, mut worst, mut most_kib) = (1, Duration::ZERO, 0);
    let begin = Instant::now();
    until("it is refused", REFUSED, || {
        for _ in 0..20 {
            messages += 1;
            let sent = Instant::now();
            assert_eq!(say(&mut wire, "m"), format!("m #{messages} v1"));
            worst = worst.max(sent.elapsed());
        }
        most_kib = most_kib.max(gateway.rss_kib());
        gateway.filter("stamp")["state"] == "failed"
    });
    let grown_kib = most_kib.saturating_sub(rss_before);
    println!(
        "figure: refused after {:?}; {messages} messages meanwhile, the slowest {worst:?}; the gateway grew {grown_kib} KiB",
        begin.elapsed()
    );
    let status = gateway.filter("stamp");
    assert!(status["error"].as_str().is_some_and(|error| error.contains(because)), "{status}");
    assert_eq!(status["generation"], before);
    gateway.wait_log(&["ERROR", "stamp", "last good one serves on", because]);
    assert!(!is_alive(child.pid));
    assert!(grown_kib < 16 << 10, "{grown_kib} KiB");
    // It is refused once; and what is good is loaded.
    gateway.folder().publish("filters/stamp.wasm", &guest("stamp-v2"));
    until("the good one serves", SOON, || gateway.filter("stamp")["state"] == "serving");
    until("it answers", SOON, || say(&mut wire, "m").ends_with("v2"));
    let errors = gateway.metrics().sum("wsgate_filter_compilations_total", &[("result", "error")]);
    assert_eq!(errors, 1.0);
}

#[test]
fn a_component_that_takes_too_long_to_compile_is_refused() {
    let gateway = Setup::new().guest("filters/stamp.wasm", "stamp").start_limited(SHORT, &config(""));
    is_refused(&gateway, &slow_to_compile(), "processor time");
}

#[test]
fn a_component_that_takes_too_much_memory_to_compile_is_refused() {
    let gateway = Setup::new().guest("filters/stamp.wasm", "stamp").start(&config(""));
    is_refused(&gateway, &large_to_compile(), "memory");
}

#[test]
fn machine_code_that_is_too_large_is_refused() {
    // In blocks of 512 bytes: more than the component has, less than its machine code.
    let setup = Setup::new().guest("filters/stamp.wasm", "stamp");
    let mut process = setup.launch_limited("ulimit -f 1200", &config(""));
    assert_eq!(process.wait_exit(SOON).code(), Some(1));
    let said = process.stderr.text();
    assert!(said.contains("stamp.wasm") && said.contains("machine code is larger than"), "{said}");
}

#[test]
fn the_process_that_compiles_is_limited() {
    let gateway = Setup::new().guest("filters/stamp.wasm", "stamp").start(&config(""));
    gateway.folder().publish("filters/stamp.wasm", &slow_to_compile());
    let child = compiling(gateway.pid());
    for (name, expected) in [
        ("Max cpu time", "61"),
        ("Max address space", "2147483648"),
        ("Max file size", "536870912"),
        ("Max core file size", "0"),
        ("Max open files", "16"),
    ] {
        assert_eq!(limit(child.pid, name), expected, "{name}");
    }
    assert_eq!((child.group, child.niceness), (child.pid, 5));
    let proc = Path::new("/proc").join(child.pid.to_string());
    assert_eq!(fs::read_to_string(proc.join("oom_score_adj")).unwrap().trim(), "1000");
    let status = fs::read_to_string(proc.join("status")).unwrap();
    assert!(status.contains("NoNewPrivs:\t1"), "{status}");
    // It cannot be looked into but by root.
    if let (Ok(environment), Ok(files)) = (fs::read(proc.join("environ")), fs::read_dir(proc.join("fd"))) {
        assert_eq!(String::from_utf8_lossy(&environment), "");
        let files: Vec<_> = files.map(|file| file.unwrap().file_name().into_string().unwrap()).collect();
        // What this test was started with it hands on without knowing it, as the gateway does.
        let inherited = |name: &String| {
            let target = |of: &Path| fs::read_link(of.join("fd").join(name)).ok();
            target(Path::new("/proc/self")).is_some_and(|own| Some(own) == target(&proc))
        };
        let own: Vec<_> = files.iter().filter(|name| !inherited(name)).collect();
        assert!(own.len() <= 3 && own.iter().all(|name| ["0", "1", "2"].contains(&name.as_str())), "{own:?}");
        assert_eq!(fs::read_link(proc.join("cwd")).unwrap(), Path::new("/"));
    }
}

#[test]
fn a_gateway_that_ends_leaves_no_compilation_behind() {
    for signal in [Signal::TERM, Signal::INT, Signal::KILL] {
        let config = config("[server]\ndrain_delay = \"0s\"\ndrain_timeout = \"0s\"");
        let mut gateway = Setup::new().guest("filters/stamp.wasm", "stamp").start(&config);
        gateway.folder().publish("filters/stamp.wasm", &slow_to_compile());
        let child = compiling(gateway.pid());
        gateway.signal(signal);
        gateway.wait_exit(SOON);
        until("the child is gone", SOON, || !is_alive(child.pid));
        let left = temporary_folders(gateway.folder());
        assert_eq!(left, usize::from(signal == Signal::KILL), "{signal:?}");
        // The next one clears up.
        let setup = gateway.kill();
        setup.publish("filters/stamp.wasm", &guest("stamp"));
        let next = setup.start(&config);
        assert_eq!(temporary_folders(next.folder()), 1);
    }
}

fn temporary_folders(setup: &Setup) -> usize {
    let entries = fs::read_dir(setup.path("")).unwrap().flatten();
    entries.filter(|entry| entry.file_name().to_string_lossy().starts_with("wsgate-state-")).count()
}

#[test]
fn a_gateway_that_still_compiles_at_its_start_can_be_stopped() {
    for signal in [Signal::TERM, Signal::INT] {
        let setup = Setup::new();
        setup.publish("filters/stamp.wasm", &slow_to_compile());
        let mut process = setup.launch(&config(""));
        let child = compiling(process.child.id());
        process.signal(signal);
        assert_eq!(process.wait_exit(SOON).code(), Some(0));
        until("the child is gone", SOON, || !is_alive(child.pid));
        assert_eq!(temporary_folders(&setup), 0);
    }
}

#[test]
fn a_compilation_that_is_killed_is_a_refusal_and_no_more() {
    let gateway = Setup::new().guest("filters/stamp.wasm", "stamp").start(&config(""));
    gateway.folder().publish("filters/stamp.wasm", &slow_to_compile());
    let child = compiling(gateway.pid());
    kill_process(Pid::from_raw(child.pid.try_into().unwrap()).unwrap(), Signal::KILL).unwrap();
    until("it is refused", SOON, || gateway.filter("stamp")["state"] == "failed");
    let status = gateway.filter("stamp");
    assert!(status["error"].as_str().unwrap().contains("it was killed"), "{status}");
    assert_eq!(say(&mut Wire::open(gateway.address(), "/echo"), "m"), "m #1 v1");
}

#[test]
fn a_file_that_changes_while_it_is_compiled_ends_as_its_last_content() {
    let state = "[server]\nstate_dir = \"state\"";
    let gateway = Setup::new().guest("filters/stamp.wasm", "stamp").start(&config(state));
    let compiled = || gateway.metrics().sum("wsgate_filter_compilations_total", &[("result", "compiled")]);
    let mut wire = Wire::open(gateway.address(), "/echo");
    for number in 1..=3 {
        let (old, new) = (build("stamp", number), build("stamp-v2", number));
        gateway.folder().publish("filters/stamp.wasm", &old);
        compiling(gateway.pid());
        // In place: nothing may be read from the file any more.
        fs::write(gateway.folder().path("filters/stamp.wasm"), new).unwrap();
        // The first of all, and two in each round.
        until("both were compiled", SOON, || compiled() == 1.0 + 2.0 * number as f64);
        until("the last content serves", SOON, || say(&mut wire, "m").ends_with("v2"));
    }
    // Each content was compiled as itself: v1 is found in the cache, and is v1.
    let before = compiled();
    for number in 1..=3 {
        gateway.folder().publish("filters/stamp.wasm", &build("stamp", number));
        until("v1 serves", SOON, || say(&mut wire, "m").ends_with("v1"));
        gateway.folder().publish("filters/stamp.wasm", &build("stamp-v2", number));
        until("v2 serves", SOON, || say(&mut wire, "m").ends_with("v2"));
    }
    assert_eq!(compiled(), before);
}

#[test]
fn where_address_space_is_short_code_is_made_for_that() {
    let setup = Setup::new().guest("filters/stamp.wasm", "stamp");
    let gateway = setup.start_limited("ulimit -v 4000000", &config(""));
    gateway.wait_log(&["too little address space to pool"]);
    assert_eq!(say(&mut Wire::open(gateway.address(), "/echo"), "m"), "m #1 v1");
}

#[test]
fn a_gateway_whose_program_was_replaced_still_compiles() {
    let setup = Setup::new().guest("filters/stamp.wasm", "stamp");
    fs::copy(env!("CARGO_BIN_EXE_wsgate"), setup.path("wsgate")).unwrap();
    let gateway = setup.start_program("wsgate", &config(""));
    // As a package manager does.
    gateway.folder().publish("wsgate", b"#!/bin/sh\nexit 1\n");
    gateway.folder().publish("filters/stamp.wasm", &guest("stamp-v2"));
    let mut wire = Wire::open(gateway.address(), "/echo");
    until("v2 serves", SOON, || say(&mut wire, "m").ends_with("v2"));
}
