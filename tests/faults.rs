//! A filter that fails: the session concerned gets the failure policy, the instance's other sessions are resumed.

use std::time::Duration;

use crate::support::{
    Gateway, Setup, until,
    upstream::ECHO,
    wire::{CLOSE, Wire},
};

/// `faulty` on the echo route, with keys of `[filters.faulty]`. One worker, so that all sessions share the instance.
fn faulty(keys: &str) -> Gateway {
    let setup = Setup::new().guest("filters/faulty.wasm", "guest_faulty");
    setup.start(&format!("[server]\nworkers = 1\n{ECHO}\nfilters = [\"faulty\"]\n[filters.faulty]\n{keys}"))
}

/// The same, and one client may cause any number of faults.
fn unguarded(keys: &str) -> Gateway {
    faulty(&format!("max_client_faults = \"off\"\n{keys}"))
}

fn say(wire: &mut Wire, text: &str) -> String {
    wire.text(text);
    wire.next_text()
}

/// So little memory that it runs out long before `cpu_timeout`, also on a busy machine.
const SMALL: &str = "memory_limit = \"16MiB\"";

/// Commands that end the instance, with the kind that is counted.
const FATAL: [(&str, &str); 8] = [
    ("spin", "cpu_timeout"),
    ("grow", "memory"),
    ("grow-politely", "memory"),
    ("panic", "trap"),
    ("trap", "trap"),
    ("exit", "trap"),
    ("recurse", "stack"),
    ("handles", "handles"),
];

/// What the faults of this kind, or of any, count to.
fn faults(gateway: &Gateway, kind: Option<&str>) -> f64 {
    let labels = [("filter", "faulty")].into_iter().chain(kind.map(|kind| ("kind", kind)));
    gateway.metrics().sum("wsgate_filter_faults_total", &labels.collect::<Vec<_>>())
}

#[test]
fn under_fail_closed_a_fault_closes_its_session_with_1011_and_resumes_the_others() {
    let gateway = unguarded(SMALL);
    for (command, kind) in FATAL {
        let mut neighbour = Wire::open(gateway.address(), "/echo");
        assert_eq!(say(&mut neighbour, "resumed"), "opened");
        let mut concerned = Wire::open(gateway.address(), "/echo");
        let before = (faults(&gateway, None), faults(&gateway, Some(kind)));
        concerned.text(command);
        assert_eq!(concerned.next_close().0, 1011, "{command}");
        assert_eq!(say(&mut neighbour, "resumed"), "resumed cause=fault state=none", "{command}");
        assert_eq!(say(&mut neighbour, "hello"), "hello", "{command}");
        let after = (faults(&gateway, None), faults(&gateway, Some(kind)));
        assert_eq!(after, (before.0 + 1.0, before.1 + 1.0), "{command} is one fault of kind {kind}");
        let mut fresh = Wire::open(gateway.address(), "/echo");
        assert_eq!(say(&mut fresh, "fresh"), "fresh", "{command}");
    }
    gateway.wait_metric("wsgate_closes_total", &[("code", "1011"), ("by", "filter")], FATAL.len() as f64);
}

#[test]
fn under_fail_open_the_message_passes_as_it_came_and_the_session_goes_on() {
    let gateway = unguarded(&format!("failure_policy = \"fail_open\"\n{SMALL}"));
    for (command, _) in FATAL {
        let mut neighbour = Wire::open(gateway.address(), "/echo");
        let mut concerned = Wire::open(gateway.address(), "/echo");
        let before = faults(&gateway, None);
        assert_eq!(say(&mut concerned, command), command);
        assert_eq!(say(&mut concerned, "resumed"), "resumed cause=fault state=none", "{command}");
        assert_eq!(say(&mut neighbour, "resumed"), "resumed cause=fault state=none", "{command}");
        assert_eq!(faults(&gateway, None), before + 1.0, "{command}");
    }
}

#[test]
fn a_returned_error_is_that_messages_fault_alone() {
    let gateway = faulty("");
    let mut neighbour = Wire::open(gateway.address(), "/echo");
    let mut concerned = Wire::open(gateway.address(), "/echo");
    concerned.text("error:no");
    assert_eq!(concerned.next_close().0, 1011);
    assert_eq!(say(&mut neighbour, "resumed"), "opened", "the instance lives");
    assert_eq!(faults(&gateway, Some("error")), 1.0);
}

#[test]
fn a_returned_error_under_fail_open_changes_nothing() {
    let gateway = faulty(&format!("failure_policy = \"fail_open\"\n{SMALL}"));
    let mut wire = Wire::open(gateway.address(), "/echo");
    assert_eq!(say(&mut wire, "error:no"), "error:no");
    assert_eq!(say(&mut wire, "resumed"), "opened");
    assert_eq!(say(&mut wire, "count"), "count 3");
}

#[test]
fn where_state_must_not_be_lost_the_others_are_closed_too() {
    let gateway = faulty("on_state_loss = \"close\"");
    let mut neighbour = Wire::open(gateway.address(), "/echo");
    let mut concerned = Wire::open(gateway.address(), "/echo");
    concerned.text("panic");
    assert_eq!(concerned.next_close().0, 1011);
    neighbour.text("hello");
    let frame = neighbour.next().unwrap();
    assert_eq!(frame.opcode(), CLOSE, "{frame:?}");
    assert_eq!(frame.close().0, 1011);
}

#[test]
fn a_fault_in_open_is_500_and_the_gateway_goes_on() {
    for mode in ["open-trap", "open-spin"] {
        let gateway = faulty(&format!("config = {{ mode = \"{mode}\" }}"));
        for _ in 0..2 {
            let lines = crate::support::wire::request(gateway.address(), "/echo");
            let status = Wire::connect(gateway.address()).ask(&lines).status;
            assert!(matches!(status, 500 | 503), "{mode}: {status}");
        }
    }
}

#[test]
fn waiting_is_not_counted_as_computing_but_is_bounded_too() {
    let gateway = faulty("cpu_timeout = \"50ms\"\nwait_timeout = \"600ms\"");
    let mut wire = Wire::open(gateway.address(), "/echo");
    assert_eq!(say(&mut wire, "sleep:200"), "slept");
    wire.text("sleep:60000");
    assert_eq!(wire.next_close().0, 1011);
}

#[test]
fn memory_is_bounded_by_memory_limit() {
    let gateway = unguarded("memory_limit = \"32MiB\"");
    let mut wire = Wire::open(gateway.address(), "/echo");
    assert_eq!(say(&mut wire, "hold:20"), "held");
    assert_eq!(say(&mut wire, "hello"), "hello");
    let before = gateway.rss_kib();
    for _ in 0..5 {
        let mut wire = Wire::open(gateway.address(), "/echo");
        wire.text("hold:32");
        assert_eq!(wire.next_close().0, 1011);
    }
    let after = gateway.rss_kib();
    assert!(after < before + 16 * 1024, "resident memory went from {before} to {after} KiB");
}

#[test]
fn floods_of_output_are_no_fault_and_do_not_flood_the_log() {
    let gateway = faulty("cpu_timeout = \"5s\"\nwait_timeout = \"5s\"");
    let mut wire = Wire::open(gateway.address(), "/echo");
    for command in ["log-flood:20000", "stdout-flood:20000", "stderr-flood:20000"] {
        assert_eq!(say(&mut wire, command), command);
    }
    let log = gateway.log();
    assert!(log.len() < 1 << 20, "{} bytes of log", log.len());
}

const CLIENT: [u8; 4] = [127, 0, 0, 2];

fn trap(gateway: &Gateway, client: [u8; 4]) -> bool {
    let Ok(mut wire) = Wire::try_open_from(client, gateway.address(), "/echo") else { return false };
    wire.text("trap");
    assert_eq!(wire.next_close().0, 1011);
    true
}

#[test]
fn a_client_whose_messages_keep_trapping_is_answered_429_for_a_while() {
    let gateway = faulty("");
    let mut neighbour = Wire::open(gateway.address(), "/echo");
    let trapped = (0..20).take_while(|_| trap(&gateway, CLIENT)).count();
    assert_eq!(trapped, 5, "the default of max_client_faults");
    let refused = Wire::try_open_from(CLIENT, gateway.address(), "/echo").map(|_| ()).unwrap_err();
    assert_eq!(refused.status, 429);
    let seconds: u64 = refused.header("retry-after").unwrap().parse().unwrap();
    assert!((1..=4).contains(&seconds), "{refused:?}");
    gateway.wait_log(&["a client whose messages keep ending filter instances is refused", "127.0.0.2"]);
    assert_eq!(say(&mut neighbour, "resumed"), "resumed cause=fault state=none");
    assert_eq!(say(&mut Wire::open(gateway.address(), "/echo"), "hello"), "hello", "others are welcome");
    until("it may come again", Duration::from_secs(10), || trap(&gateway, CLIENT));
}

#[test]
fn faults_of_three_clients_open_the_breaker_which_closes_again_by_itself() {
    let gateway = faulty("");
    let mut bystander = Wire::open(gateway.address(), "/echo");
    for client in 2..=4 {
        assert!(trap(&gateway, [127, 0, 0, client]));
    }
    gateway.wait_metric("wsgate_filter_breaker_open", &[("filter", "faulty")], 1.0);
    assert_eq!(gateway.filter("faulty")["generations"][0]["breaker"], "open");
    let refused = Wire::try_open_from([127, 0, 0, 9], gateway.address(), "/echo").map(|_| ()).unwrap_err();
    assert_eq!(refused.status, 503);
    assert!(refused.header("retry-after").is_some());
    bystander.text("hello");
    assert_eq!(bystander.next_close().0, 1011);
    gateway.wait_log(&["ERROR", "the breaker of a filter is open", "faulty"]);
    until("one may try", Duration::from_secs(10), || {
        gateway.filter("faulty")["generations"][0]["breaker"] == "half_open"
    });
    assert_eq!(say(&mut Wire::open(gateway.address(), "/echo"), "hello"), "hello");
    gateway.wait_metric("wsgate_filter_breaker_open", &[("filter", "faulty")], 0.0);
    assert_eq!(gateway.filter("faulty")["generations"][0]["breaker"], "closed");
}

#[test]
fn a_fault_is_in_the_log_and_in_the_admin_api_with_its_place_and_without_its_message() {
    let gateway = faulty("");
    let mut wire = Wire::open(gateway.address(), "/echo");
    wire.text("panic:confidential");
    assert_eq!(wire.next_close().0, 1011);
    let parts = ["filter fault", "faulty", "on_message", "trap", "to_upstream", "message_bytes=18", "guest_faulty::"];
    gateway.wait_log(&parts);
    // What a panic says is a line of the filter's own.
    gateway.wait_log(&["ERROR", "faulty", "panicked at", "command.rs", "confidential"]);
    let fault = &gateway.filter("faulty")["faults"][0];
    assert_eq!(
        (&fault["hook"], &fault["kind"], &fault["message_bytes"]),
        (&"on_message".into(), &"trap".into(), &18.into())
    );
    assert!(
        fault["trace"].as_array().unwrap().iter().any(|frame| frame.as_str().unwrap().starts_with("guest_faulty::"))
    );
    assert_eq!(fault["connection"].as_str().unwrap().len(), 26);
    assert!(!fault.to_string().contains("confidential"), "{fault}");
}

/// Sends a hundred calls that wait, of a hundred clients, and looks that all were made to their end by one instance.
fn a_hundred_calls_that_wait(gateway: &Gateway, call: &str, end: impl FnOnce(Vec<Wire>)) {
    let mut clients: Vec<Wire> = (0..100).map(|_| Wire::open(gateway.address(), "/echo")).collect();
    for wire in &mut clients {
        wire.text(call);
    }
    let patience = Duration::from_secs(20);
    let calls = || gateway.metrics().sum("wsgate_filter_calls_total", &[("hook", "on_message")]);
    // One call waits in the guest, the others for their turn.
    until("all have spoken", patience, || gateway.metrics().sum("wsgate_messages_total", &[]) >= 100.0);
    assert!(calls() < 100.0, "none was to be left waiting");
    end(clients);
    let sessions = || gateway.filter("faulty")["generations"][0]["sessions"].clone();
    until("every call was made to its end", patience, || calls() == 100.0);
    until("every session was released", patience, || sessions() == 0);
    gateway.wait_empty();
    assert_eq!(faults(gateway, None), 0.0);
    assert_eq!(say(&mut Wire::open(gateway.address(), "/echo"), "instance"), "instance opens=101 messages=101");
}

#[test]
fn a_hundred_clients_that_vanish_while_their_calls_wait_cost_no_instance() {
    a_hundred_calls_that_wait(&faulty(""), "sleep:20", drop);
}

/// Here the sessions are over long before their calls.
#[test]
fn a_hundred_sessions_that_end_while_their_calls_wait_cost_no_instance() {
    let setup = Setup::new().guest("filters/faulty.wasm", "guest_faulty");
    let route = format!("{ECHO}\nfilters = [\"faulty\"]\nmax_connection_duration = \"3s\"");
    let gateway = setup.start(&format!("[server]\nworkers = 1\n{route}"));
    a_hundred_calls_that_wait(&gateway, "sleep:60", |mut clients| {
        let open = || gateway.metrics().sum("wsgate_connections", &[]);
        let made = || gateway.metrics().sum("wsgate_filter_calls_total", &[("hook", "on_message")]);
        until("the sessions are over", Duration::from_secs(20), || open() == 0.0);
        assert!(made() < 100.0, "the calls were over first");
        for wire in &mut clients {
            wire.next_close();
        }
    });
}
