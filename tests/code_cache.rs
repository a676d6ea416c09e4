//! Compiled filters are found again by the next start, whatever happened to the one before or to the files.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::PathBuf,
    thread,
    time::{Duration, Instant},
};

use rustix::process::Signal;

use crate::support::{
    Gateway, SOON, Setup,
    component::build,
    process::{children, is_alive},
    until,
    upstream::ECHO,
    wire::Wire,
};

const STATE: &str = "[server]\nstate_dir = \"state\"\n";

fn say(wire: &mut Wire, text: &str) -> String {
    wire.text(text);
    wire.next_text()
}

fn names(count: usize) -> Vec<String> {
    (0..count).map(|number| format!("f{number:02}")).collect()
}

/// A route through so many different filters, each of which counts.
fn chain(count: usize) -> (Setup, String) {
    let setup = Setup::new();
    for (number, name) in names(count).iter().enumerate() {
        setup.publish(&format!("filters/{name}.wasm"), &build("stamp", number));
    }
    // No pings, which nobody here would answer.
    (setup, format!("{STATE}{ECHO}\nping_interval = \"off\"\nfilters = {:?}", names(count)))
}

fn compilations(gateway: &Gateway, result: &str) -> f64 {
    gateway.metrics().sum("wsgate_filter_compilations_total", &[("result", result)])
}

fn entries(setup: &Setup) -> Vec<PathBuf> {
    let folder = fs::read_dir(setup.path("state/compiled"));
    folder.into_iter().flatten().map(|entry| entry.unwrap().path()).collect()
}

fn works(gateway: &Gateway, filters: usize) {
    let answer = say(&mut Wire::open(gateway.address(), "/echo"), "m");
    assert_eq!(answer.matches("#1").count(), filters, "{answer}");
}

#[test]
fn a_start_with_twenty_compiled_filters_compiles_nothing() {
    let (setup, config) = chain(20);
    let begin = Instant::now();
    let gateway = setup.start(&config);
    println!("figure: start with 20 filters to be compiled: {:?}", begin.elapsed());
    assert_eq!((compilations(&gateway, "compiled"), compilations(&gateway, "cached")), (20.0, 0.0));
    let mut setup = gateway.kill();
    for _ in 0..3 {
        let begin = Instant::now();
        let gateway = setup.start(&config);
        println!("figure: start with 20 compiled filters: {:?}", begin.elapsed());
        assert_eq!((compilations(&gateway, "compiled"), compilations(&gateway, "cached")), (0.0, 20.0));
        works(&gateway, 20);
        setup = gateway.kill();
    }
    assert_eq!(entries(&setup).len(), 20);
}

#[test]
fn without_a_state_directory_a_start_says_so_and_leaves_nothing() {
    let (setup, config) = chain(1);
    let mut gateway = setup.start(&config.replace(STATE, ""));
    let line = gateway.wait_log(&["state_dir is not configured", "wsgate-state-"]);
    assert!(line.contains("INFO"), "{line}");
    gateway.signal(Signal::INT);
    assert_eq!(gateway.wait_exit(SOON).code(), Some(0));
    let left: Vec<_> =
        fs::read_dir(gateway.folder().path("")).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert!(!left.iter().any(|name| name.to_string_lossy().starts_with("wsgate-state-")), "{left:?}");
}

#[test]
fn a_gateway_without_filters_writes_nothing() {
    let gateway = Setup::new().start(ECHO);
    assert!(!gateway.log().contains("state_dir"), "{}", gateway.log());
    let left = fs::read_dir(gateway.folder().path("")).unwrap().count();
    // `filters` and the configuration.
    assert_eq!(left, 2);
}

#[test]
fn whenever_gateways_are_killed_the_next_one_starts() {
    let (setup, config) = chain(6);
    let mut killed_children = 0;
    for round in 0..12_u64 {
        let process = setup.launch(&config);
        // Each round at another moment of what takes about two seconds.
        thread::sleep(Duration::from_millis(20 + 170 * round));
        let started = children(process.child.id());
        // Killed when dropped; the children are not waited for by anybody.
        drop(process);
        killed_children += started.len();
        until("no child is left", SOON, || !started.iter().any(|child| is_alive(child.pid)));
        // Every other round begins anew.
        if round % 2 == 1 {
            entries(&setup).into_iter().take(3).for_each(|entry| fs::remove_file(entry).unwrap());
        }
    }
    println!("figure: {killed_children} of 12 kills came while something was compiled");
    let gateway = setup.start(&config);
    works(&gateway, 6);
    let names: Vec<_> = entries(gateway.folder()).iter().map(|entry| entry.display().to_string()).collect();
    assert!(names.len() == 6 && names.iter().all(|name| name.ends_with(".code")), "{names:?}");
}

#[test]
fn damaged_files_are_compiled_anew() {
    let (mut setup, config) = chain(2);
    setup = setup.start(&config).kill();
    for place in [0, 10, 50, 80, 100, 200, 500, 999] {
        for entry in entries(&setup) {
            let mut bytes = fs::read(&entry).unwrap();
            let at = bytes.len() * place / 1000;
            bytes[at] ^= 0x10;
            fs::write(&entry, bytes).unwrap();
        }
        let gateway = setup.start(&config);
        assert_eq!((compilations(&gateway, "compiled"), compilations(&gateway, "cached")), (2.0, 0.0), "{place}");
        gateway.wait_log(&["WARN", "damaged"]);
        works(&gateway, 2);
        setup = gateway.kill();
    }
    for entry in entries(&setup) {
        let bytes = fs::read(&entry).unwrap();
        fs::write(&entry, &bytes[..bytes.len() / 2]).unwrap();
    }
    let gateway = setup.start(&config);
    assert_eq!(compilations(&gateway, "compiled"), 2.0);
    // What was made anew is sound.
    let gateway = gateway.kill().start(&config);
    assert_eq!(compilations(&gateway, "cached"), 2.0);
}

#[test]
fn a_folder_that_others_can_write_to_is_refused() {
    let (setup, config) = chain(1);
    fs::create_dir_all(setup.path("state/compiled")).unwrap();
    fs::set_permissions(setup.path("state/compiled"), fs::Permissions::from_mode(0o770)).unwrap();
    let mut process = setup.launch(&config);
    assert_eq!(process.wait_exit(SOON).code(), Some(1));
    let said = process.stderr.text();
    assert!(said.contains("state/compiled can be written to by other users (its mode is 0770)"), "{said}");
}

#[test]
fn two_gateways_share_a_state_directory() {
    let (setup, config) = chain(4);
    let shared = setup.path("state");
    let config = config.replace("\"state\"", &format!("{:?}", shared.display().to_string()));
    let (other, _) = chain(4);
    let other = thread::scope(|scope| {
        let other = scope.spawn(|| other.start(&config));
        let gateway = setup.start(&config);
        works(&gateway, 4);
        let other = other.join().unwrap();
        works(&other, 4);
        let total = |result| compilations(&gateway, result) + compilations(&other, result);
        assert_eq!(total("compiled") + total("cached"), 8.0);
        assert_eq!((entries(gateway.folder()).len(), total("error")), (4, 0.0));
        // One ends; the other finds everything still there.
        drop(gateway);
        other
    });
    drop(other);
}

#[test]
fn hundreds_of_reloads_from_the_cache_leave_nothing_behind() {
    const WARM: usize = 100;
    const RELOADS: usize = 200;
    let (setup, config) = chain(1);
    let gateway = setup.start(&config);
    let mut wire = Wire::open(gateway.address(), "/echo");
    let mut messages = 0;
    let mut reload = |number: usize| {
        let before = gateway.filter("f00")["generation"].clone();
        gateway.folder().publish("filters/f00.wasm", &build("stamp", number % 2));
        until("it is published", SOON, || gateway.filter("f00")["generation"] != before);
        messages += 1;
        assert_eq!(say(&mut wire, "m"), format!("m #{messages}"));
        until("the one before is gone", SOON, || gateway.filter("f00")["generations"].as_array().unwrap().len() == 1);
    };
    // Until each place in the pools that is kept ready was used once.
    (1..=WARM).for_each(&mut reload);
    let before = (gateway.rss_kib(), gateway.fds(), gateway.maps());
    let begin = Instant::now();
    (1..=RELOADS).for_each(&mut reload);
    let after = (gateway.rss_kib(), gateway.fds(), gateway.maps());
    println!(
        "figure: {RELOADS} reloads in {:?}: KiB, descriptors and maps were {before:?}, are {after:?}",
        begin.elapsed()
    );
    assert_eq!(compilations(&gateway, "compiled"), 2.0);
    assert!(after.0 < before.0 + (4 << 10), "{before:?} {after:?}");
    // One for the request that the admin API just answered.
    assert!(after.1 <= before.1 + 1, "{before:?} {after:?}");
    assert!(after.2 <= before.2 + 16, "{before:?} {after:?}");
}
