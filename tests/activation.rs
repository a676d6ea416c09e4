//! Started by a service manager: sockets that it holds, and what it is told. The test is the manager.

use std::{
    net::{SocketAddr, TcpListener},
    os::unix::net::UnixDatagram,
    time::Duration,
};

use rustix::process::Signal;

use crate::support::{Gateway, SOON, Setup, http, knock::Knocking, until, upstream::ECHO, wire::Wire};

fn listening() -> (TcpListener, SocketAddr) {
    let socket = TcpListener::bind("127.0.0.1:0").unwrap();
    rustix::net::listen(&socket, 4096).unwrap();
    let address = socket.local_addr().unwrap();
    (socket, address)
}

fn config(drain: &str) -> String {
    format!("[server]\n{drain}\n{ECHO}")
}

/// Reliability line 43.
#[test]
fn a_new_gateway_takes_over_the_sockets_and_nobody_is_refused() {
    let (socket, address) = listening();
    let handed = [("listener-1", &socket)];
    let drain = "drain_delay = \"500ms\"\ndrain_timeout = \"1s\"";
    let mut before = Setup::new().start_activated(&handed, &config(drain));
    let mut open = Wire::open(address, "/echo");
    let knocking = Knocking::start(address, "/echo");
    until("many come", SOON, || knocking.count() > 200);
    // One that does not start changes nothing.
    let folder = Setup::new();
    let mut bad = folder.launch_activated(&handed, "[server]\nworkers = 0\n");
    assert_eq!(bad.wait_exit(SOON).code(), Some(78), "{}", bad.stderr.text());
    open.text("still there");
    assert_eq!(open.next_text(), "still there");
    before.terminate();
    let after = Setup::new().start_activated(&handed, &config(drain));
    let came = knocking.count();
    assert_eq!(open.next_close().0, 1001);
    drop(open);
    assert!(before.wait_exit(SOON).success());
    until("many come to the new one", SOON, || knocking.count() > came + 200);
    let met = knocking.stop();
    eprintln!("{} opened, {} answered 503, {} refused", met.switched, met.unavailable, met.refused.len());
    assert!(met.refused.is_empty() && met.reset.is_empty(), "{met:?}");
    assert!(met.switched > 400);
    assert!(after.metrics().sum("wsgate_connections_total", &[]) >= 200.0);
    let mut again = Wire::open(address, "/echo");
    again.text("with the new one");
    assert_eq!(again.next_text(), "with the new one");
}

/// Nobody listens in between, and whoever comes waits.
#[test]
fn whoever_comes_while_no_gateway_runs_waits_for_the_next() {
    let (socket, address) = listening();
    let handed = [("wsgate.socket", &socket)];
    let by_address = format!("[[listeners]]\naddress = \"{address}\"\n[server]\ndrain_delay = \"0s\"\n{ECHO}");
    let mut before = Setup::new().start_activated(&handed, &by_address);
    before.terminate();
    assert!(before.wait_exit(SOON).success());
    let waiting: Vec<_> = (0..20).map(|_| std::thread::spawn(move || Wire::open(address, "/echo"))).collect();
    let after = Setup::new().start_activated(&handed, &by_address);
    for client in waiting {
        let mut client = client.join().unwrap();
        client.text("here");
        assert_eq!(client.next_text(), "here");
    }
    assert_eq!(after.address(), address);
}

#[test]
fn sockets_for_the_admin_api_are_taken_and_those_that_do_not_fit_are_told() {
    let ((first, _), (second, admin)) = (listening(), listening());
    let gateway = Setup::new().start_activated(&[("admin", &second), ("listener-1", &first)], ECHO);
    assert_eq!(gateway.admin(), admin);
    assert_eq!(http::get(admin, "/livez").status, 200);
    drop(gateway);

    let told = |sockets: &[(&str, &TcpListener)], listeners: &str| {
        let folder = Setup::new();
        let config =
            format!("{listeners}\n[admin]\naddress = \"127.0.0.1:0\"\n[server]\nfilter_dir = \"filters\"\n{ECHO}");
        let mut process = folder.launch_activated(sockets, &config);
        assert_eq!(process.wait_exit(SOON).code(), Some(1));
        process.stderr.wait(Duration::from_secs(5), |_| None::<()>);
        process.stderr.text()
    };
    let one = "[[listeners]]\naddress = \"127.0.0.1:0\"";
    let extra = told(&[("listener-1", &first), ("other.socket", &second)], one);
    assert!(extra.contains("other.socket") && extra.contains("nothing in the configuration listens"), "{extra}");
    let missing = told(&[("listener-1", &first)], &format!("{one}\n{one}"));
    assert!(missing.contains("handed over no socket for") && missing.contains("listener-2"), "{missing}");
}

/// Where systemd would listen.
struct Manager {
    socket: UnixDatagram,
    heard: Vec<String>,
}

impl Manager {
    fn start(setup: &Setup) -> Self {
        let socket = UnixDatagram::bind(setup.path("notify")).unwrap();
        socket.set_read_timeout(Some(SOON)).unwrap();
        Self { socket, heard: Vec::new() }
    }

    /// Reads on until it hears this.
    fn hears(&mut self, word: &str) -> String {
        let mut part = [0; 4096];
        loop {
            let read = self
                .socket
                .recv(&mut part)
                .unwrap_or_else(|error| panic!("{word} was not heard ({error}); heard were {:?}", self.heard));
            let text = String::from_utf8_lossy(&part[..read]).into_owned();
            self.heard.push(text.clone());
            if text.contains(word) {
                return text;
            }
        }
    }
}

fn managed(setup: Setup, config: &str) -> (Gateway, Manager) {
    let manager = Manager::start(&setup);
    let notify = setup.path("notify");
    (setup.with_env("NOTIFY_SOCKET", &notify).start(config), manager)
}

#[test]
fn the_manager_hears_of_the_start_reloads_and_the_end() {
    let (mut gateway, mut manager) = managed(Setup::new(), &config("drain_delay = \"0s\""));
    assert!(manager.hears("READY=1").contains("STATUS=serving"));
    gateway.order("POST", "/v1/reload", "{}");
    assert!(manager.hears("RELOADING=1").contains("MONOTONIC_USEC="));
    manager.hears("READY=1");
    gateway.terminate();
    manager.hears("STOPPING=1");
    assert!(gateway.wait_exit(SOON).success());
    assert!(!manager.heard.iter().any(|text| text.contains("WATCHDOG")), "{:?}", manager.heard);
}

#[test]
fn the_watchdog_hears_that_workers_turn_and_nothing_while_they_stand_still() {
    let setup = Setup::new().with_env("WATCHDOG_USEC", "600000".as_ref());
    let (gateway, mut manager) = managed(setup, &config("workers = 2"));
    for _ in 0..4 {
        manager.hears("WATCHDOG=1");
    }
    gateway.signal(Signal::STOP);
    manager.socket.set_read_timeout(Some(Duration::from_secs(2))).unwrap();
    let mut quiet = false;
    while !quiet {
        quiet = manager.socket.recv(&mut [0; 4096]).is_err();
    }
    gateway.signal(Signal::CONT);
    manager.hears("WATCHDOG=1");
}
