//! Another configuration while connections stay open: who stays, who goes, and what a bad one does.

use std::{
    fs,
    os::unix::fs::symlink,
    time::{Duration, Instant},
};

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::{
    support::{
        Gateway, SOON, Setup,
        http::Response,
        until,
        wire::{self, Wire},
    },
    tokens::{SECRET, bearer, config, open, token},
};

const ECHO: &str = "[[routes]]\nname = \"echo\"\npath = \"/echo\"\ntarget = \"echo\"\n";

fn is_open(wire: &mut Wire, text: &str) {
    wire.text(text);
    assert_eq!(wire.next_text(), text);
}

fn changed(report: &Value) -> Vec<&str> {
    report["changed"].as_array().unwrap().iter().map(|line| line.as_str().unwrap()).collect()
}

fn generation(gateway: &Gateway) -> f64 {
    gateway.metrics().sum("wsgate_config_generation", &[])
}

fn refused_reloads(gateway: &Gateway) -> f64 {
    gateway.metrics().sum("wsgate_config_reloads_total", &[("result", "error")])
}

fn status(gateway: &Gateway, path: &str) -> u16 {
    Wire::connect(gateway.address()).ask(&wire::request(gateway.address(), path)).status
}

#[test]
fn routes_come_and_go_and_the_others_keep_their_connections() {
    let other = "[[routes]]\nname = \"other\"\npath = \"/other\"\ntarget = \"echo\"\n";
    let gateway = Gateway::start(&format!("{ECHO}{other}[server]\ndrain_timeout = \"1s\""));
    let mut stays = Wire::open(gateway.address(), "/echo");
    let mut goes: Vec<_> = (0..20).map(|_| Wire::open(gateway.address(), "/other")).collect();
    assert_eq!(status(&gateway, "/new"), 404);
    let new = other.replace("other", "new");
    let report = gateway.reload(&format!("{ECHO}{new}[server]\ndrain_timeout = \"1s\""));
    assert_eq!(changed(&report), ["route new added", "route other removed"]);
    assert_eq!(report["generation"], 2);
    assert_eq!(report["connections"]["echo"], json!({"kept": 1, "route_changed": 0, "no_longer_allowed": 0}));
    assert_eq!(report["connections"]["other"], json!({"kept": 0, "route_changed": 20, "no_longer_allowed": 0}));
    assert_eq!((status(&gateway, "/new"), status(&gateway, "/other")), (101, 404));
    let begun = Instant::now();
    for wire in &mut goes {
        assert_eq!(wire.next_close(), (1001, "configuration changed".to_owned()));
    }
    // Not all of them come back at once.
    assert!(begun.elapsed() > Duration::from_millis(500), "{:?}", begun.elapsed());
    is_open(&mut stays, "still here");
    gateway.wait_log(&["end=\"route_changed\""]);
    assert_eq!(generation(&gateway), 2.0);
}

#[test]
fn a_bad_configuration_changes_nothing_and_says_what_is_wrong() {
    let gateway = Gateway::start(ECHO);
    let mut wire = Wire::open(gateway.address(), "/echo");
    let refused = |config: &str| -> Response {
        gateway.write_config(config);
        gateway.order("POST", "/v1/reload", "")
    };
    for (bad, why) in [
        (format!("{ECHO}ping_interval = \"soon\""), "ping_interval"),
        (format!("{ECHO}speed = 1"), "speed"),
        (format!("{ECHO}filters = [\"nowhere\"]"), "nowhere"),
        (format!("{ECHO}[server]\nworkers = 7"), "server.workers cannot change without a restart"),
        (format!("{ECHO}[log]\nformat = \"json\""), "log.format"),
        (format!("{ECHO}[jwt.a]\nsecret_file = \"absent\"\nalgorithms = [\"HS256\"]"), "absent"),
        (
            format!("{ECHO}[[listeners]]\naddress = \"127.0.0.1:0\"\n[[listeners]]\naddress = \"192.0.2.1:80\""),
            "192.0.2.1:80",
        ),
        (
            format!(
                "{ECHO}[[listeners]]\naddress = \"127.0.0.1:0\"\ntls = {{ certificate = \"no.pem\", private_key = \"no.pem\" }}"
            ),
            "no.pem",
        ),
    ] {
        let before = refused_reloads(&gateway);
        let answer = refused(&bad);
        assert_eq!(answer.status, 422, "{bad}: {}", answer.body);
        assert!(answer.body.contains(why), "{bad}: {}", answer.body);
        assert!(refused_reloads(&gateway) > before);
        gateway.wait_log(&["ERROR", "configuration not loaded", why]);
    }
    is_open(&mut wire, "still here");
    assert_eq!((generation(&gateway), status(&gateway, "/echo")), (1.0, 101));
    // The same file is not loaded again and again: it was refused.
    gateway.write_config(ECHO);
    gateway.order("POST", "/v1/reload", "");
    is_open(&mut wire, "and now");
}

#[test]
fn a_changed_file_and_a_hangup_load_it_too() {
    let gateway = Gateway::start(ECHO);
    let mut wire = Wire::open(gateway.address(), "/echo");
    gateway.write_config(&ECHO.replace("/echo", "/{name}"));
    until("the file is followed", SOON, || generation(&gateway) >= 2.0);
    assert_eq!(status(&gateway, "/anything"), 101);
    gateway.wait_log(&["configuration loaded", "cause=\"file\""]);
    gateway.signal(Signal::HUP);
    gateway.wait_log(&["configuration loaded", "cause=\"SIGHUP\""]);
    is_open(&mut wire, "still here");
}

#[test]
fn a_config_map_that_is_swapped_is_followed() {
    let setup = Setup::new();
    let listeners = "[[listeners]]\naddress = \"127.0.0.1:0\"\n[admin]\naddress = \"127.0.0.1:0\"\n";
    // As the kubelet lays it out: the file is a link to a link's folder.
    for (version, path) in [("..1", "/echo"), ("..2", "/other")] {
        fs::create_dir_all(setup.path(&format!("etc/{version}"))).unwrap();
        let file = setup.path(&format!("etc/{version}/wsgate.toml"));
        fs::write(file, format!("{listeners}{}", ECHO.replace("/echo", path))).unwrap();
    }
    symlink("..1", setup.path("etc/..data")).unwrap();
    symlink("..data/wsgate.toml", setup.path("etc/wsgate.toml")).unwrap();
    let gateway = setup.start_file("etc/wsgate.toml".as_ref());
    assert_eq!((status(&gateway, "/echo"), status(&gateway, "/other")), (101, 404));
    symlink("..2", gateway.folder().path("etc/..new")).unwrap();
    fs::rename(gateway.folder().path("etc/..new"), gateway.folder().path("etc/..data")).unwrap();
    until("the other serves", SOON, || status(&gateway, "/other") == 101);
    assert_eq!(status(&gateway, "/echo"), 404);
}

#[test]
fn only_connections_that_lost_their_right_are_closed() {
    let setup = Setup::new();
    setup.publish("secret", SECRET.as_bytes());
    setup.publish("other", SECRET.replace('a', "b").as_bytes());
    let gateway = setup.start(&config(None, "", ""));
    let mut reader = open(&gateway, &token(json!({"sub": "reader"})));
    let mut writer = open(&gateway, &token(json!({"sub": "writer", "scope": "chat admin"})));
    // More is asked for.
    let stricter = config(None, "", "").replace("[\"chat\"]\n        \n", "[\"chat\", \"admin\"]\n");
    let stricter = stricter.replace("required_scopes = [\"chat\"]", "required_scopes = [\"chat\", \"admin\"]");
    let report = gateway.reload(&stricter);
    assert_eq!(report["connections"]["main"], json!({"kept": 1, "route_changed": 0, "no_longer_allowed": 1}));
    assert_eq!(reader.next_close(), (4403, "no longer allowed".to_owned()));
    is_open(&mut writer, "still here");
    // Another audience.
    let mut both = open(&gateway, &token(json!({"sub": "both", "scope": "chat admin", "aud": ["chat", "mail"]})));
    let report = gateway.reload(&stricter.replace("audience = [\"chat\"]", "audience = [\"mail\"]"));
    assert_eq!(report["connections"]["main"]["no_longer_allowed"], 1);
    assert_eq!(writer.next_close().0, 4403);
    is_open(&mut both, "still here");
    // The same key by another name of its file is the same key; another key is not.
    fs::copy(gateway.folder().path("secret"), gateway.folder().path("copy")).unwrap();
    let report = gateway.reload(&config(None, "", "").replace("\"secret\"", "\"copy\""));
    assert_eq!(report["connections"]["main"]["kept"], 1);
    let report = gateway.reload(&config(None, "", "").replace("\"secret\"", "\"other\""));
    assert_eq!(report["connections"]["main"]["no_longer_allowed"], 1);
    assert_eq!(both.next_close().0, 4403);
}

#[test]
fn a_page_whose_origin_is_not_listed_any_more_is_closed_and_who_has_no_token_too() {
    let setup = Setup::new();
    setup.publish("secret", SECRET.as_bytes());
    let open_to = |origins: &str| format!("{ECHO}allowed_origins = [{origins}]\n");
    let gateway = setup.start(&open_to("\"https://a.example.com\", \"https://b.example.com\", \"absent\""));
    let page = |origin: &str| {
        let mut lines = wire::request(gateway.address(), "/echo");
        lines.push(format!("Origin: {origin}"));
        let (wire, response) = Wire::open_with(gateway.address(), &lines);
        assert_eq!(response.status, 101);
        wire
    };
    let (mut a, mut b) = (page("https://a.example.com"), page("https://b.example.com"));
    let mut program = Wire::open(gateway.address(), "/echo");
    let report = gateway.reload(&open_to("\"https://b.example.com\", \"absent\""));
    assert_eq!(report["connections"]["echo"], json!({"kept": 2, "route_changed": 0, "no_longer_allowed": 1}));
    assert_eq!(a.next_close().0, 4403);
    is_open(&mut b, "still here");
    is_open(&mut program, "still here");
    let auth = format!(
        "{}auth = \"main\"\n[jwt.main]\nsecret_file = \"secret\"\nalgorithms = [\"HS256\"]",
        open_to("\"any\"")
    );
    let report = gateway.reload(&auth);
    assert_eq!(report["connections"]["echo"]["no_longer_allowed"], 2);
    assert_eq!((b.next_close().0, program.next_close().0), (4403, 4403));
}

#[test]
fn a_refresh_meets_the_table_of_the_latest_configuration() {
    let setup = Setup::new();
    setup.publish("secret", SECRET.as_bytes());
    let gateway = setup.start(&config(None, "refresh = true", ""));
    let mut wire = open(&gateway, &token(json!({})));
    let report = gateway.reload(&config(None, "refresh = true\non_expiry = { code = 4499 }\nleeway = \"0s\"", ""));
    assert_eq!(report["connections"]["main"]["kept"], 1);
    let soon = crate::tokens::now() + 2;
    wire.text(&crate::tokens::refresh(&token(json!({"exp": soon}))));
    assert_eq!(serde_json::from_str::<Value>(&wire.next_text()).unwrap()["expires"], soon);
    assert_eq!(wire.next_close().0, 4499);
    assert_eq!(crate::tokens::ask(&gateway, &bearer(&token(json!({})))).status, 101);
}

#[test]
fn connections_are_counted_over_to_other_limits() {
    let limited = |limits: &str| format!("{ECHO}[routes.limits]\n{limits}\n");
    let gateway = Gateway::start(&limited("connections_per_ip = 5"));
    let mut wires: Vec<_> = (0..3).map(|_| Wire::open(gateway.address(), "/echo")).collect();
    // Two more fit, whatever the limit was when the others came.
    gateway.reload(&limited("connections = 4\nconnections_per_ip = 4"));
    wires.push(Wire::open(gateway.address(), "/echo"));
    assert_eq!(status(&gateway, "/echo"), 429);
    // A limit that is already passed closes nobody.
    gateway.reload(&limited("connections = 2"));
    wires.iter_mut().for_each(|wire| is_open(wire, "still here"));
    assert_eq!(status(&gateway, "/echo"), 503);
    wires.truncate(1);
    until("there is room", SOON, || status(&gateway, "/echo") == 101);
    // The same figures go on where they stopped.
    let burst = limited("handshakes_per_second = 3");
    gateway.reload(&burst);
    let statuses = || -> Vec<u16> { (0..6).map(|_| status(&gateway, "/echo")).collect() };
    let begun = Instant::now();
    let first = statuses();
    gateway.reload(&format!("{burst}[stores.s]\nmax_size = \"1MiB\"\n"));
    let second = statuses();
    let passed = first.iter().chain(&second).filter(|status| **status == 101).count();
    let refilled = 3.0 * begun.elapsed().as_secs_f64();
    assert!(passed as f64 <= 3.0 + refilled + 1.0, "{first:?} {second:?} in {:?}", begun.elapsed());
}

#[test]
fn listeners_come_and_go_while_connections_stay() {
    let one = "[[listeners]]\naddress = \"127.0.0.1:0\"\n";
    let gateway = Gateway::start(&format!("{one}{ECHO}"));
    let mut first = Wire::open(gateway.address(), "/echo");
    // Somebody else may take the port between; then the next is tried.
    let (port, report) = loop {
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        gateway.write_config(&format!("{one}[[listeners]]\naddress = \"127.0.0.1:{port}\"\n{ECHO}"));
        let answer = gateway.order("POST", "/v1/reload", "");
        if answer.status == 200 {
            break (port, serde_json::from_str::<Value>(&answer.body).unwrap());
        }
    };
    assert!(changed(&report).contains(&&*format!("listener 127.0.0.1:{port} opened")) || generation(&gateway) > 1.0);
    let second_address = ([127, 0, 0, 1], port).into();
    let mut second = Wire::open(second_address, "/echo");
    let report = gateway.reload(&format!("[[listeners]]\naddress = \"127.0.0.1:{port}\"\n{ECHO}"));
    let closed = format!("listener {} closed", gateway.address());
    assert!(changed(&report).contains(&closed.as_str()), "{report}");
    assert!(std::net::TcpStream::connect(gateway.address()).is_err());
    is_open(&mut first, "still here");
    is_open(&mut second, "still here");
    is_open(&mut Wire::open(second_address, "/echo"), "and others come");
}

#[test]
fn a_route_that_gets_its_first_filters_has_no_connection_without_them() {
    let setup = Setup::new().guest("filters/stamp.wasm", "stamp");
    let with = |filters: &str| format!("{ECHO}{filters}[server]\ndrain_timeout = \"0s\"\n");
    let gateway = setup.start(&with(""));
    let mut wire = Wire::open(gateway.address(), "/echo");
    let report = gateway.reload(&with("filters = [\"stamp\"]\n"));
    assert_eq!(report["connections"]["echo"]["route_changed"], 1);
    assert_eq!(wire.next_close().0, 1001);
    let mut wire = Wire::open(gateway.address(), "/echo");
    wire.text("m");
    assert_eq!(wire.next_text(), "m #1");
    // Other settings of a filter: the connection stays, and its state.
    let set = "[filters.stamp]\nconfig = { version = \"v2\", show_version = true }\n";
    let report = gateway.reload(&format!("{}{set}", with("filters = [\"stamp\"]\n")));
    assert_eq!(changed(&report), ["filter stamp added"]);
    wire.text("m");
    assert_eq!(wire.next_text(), "m #2 v2");
}

#[test]
fn check_says_what_a_file_would_change() {
    let gateway = Gateway::start(ECHO);
    let mut wire = Wire::open(gateway.address(), "/echo");
    let candidate = gateway.folder().path("next.toml");
    let listeners = "[[listeners]]\naddress = \"127.0.0.1:0\"\n[admin]\naddress = \"127.0.0.1:0\"\n[server]\nfilter_dir = \"filters\"\n";
    let check = |text: &str| {
        fs::write(&candidate, text).unwrap();
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_wsgate"));
        let against = format!("http://{}", gateway.admin());
        command.args(["check", "--config"]).arg(&candidate).args(["--against", &against]);
        let output = command.output().unwrap();
        (output.status.code(), String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap())
    };
    let (code, same, stderr) = check(&format!("{listeners}{ECHO}"));
    assert_eq!(code, Some(0), "{stderr}");
    assert!(same.contains("nothing would change"), "{same}");
    let (code, out, stderr) = check(&format!("{listeners}{}", ECHO.replace("echo\"\npath", "renamed\"\npath")));
    assert_eq!(code, Some(0), "{stderr}");
    for line in ["route echo removed", "route renamed added", "1 would be closed with 1001"] {
        assert!(out.contains(line), "{line}: {out}");
    }
    let (code, _, stderr) = check(&format!("{listeners}{ECHO}").replace("[server]", "[server]\nworkers = 9"));
    assert_eq!(code, Some(78));
    assert!(stderr.contains("server.workers"), "{stderr}");
    // Nothing has changed.
    is_open(&mut wire, "still here");
    assert_eq!(generation(&gateway), 1.0);
}

/// Line 40 of docs/reliability.md: a hundred reloads under load.
#[test]
fn a_hundred_reloads_under_load_lose_no_message() {
    const CLIENTS: usize = 16;
    const RELOADS: usize = 100;
    let setup = Setup::new().guest("filters/stamp.wasm", "stamp");
    let configured = |round: usize| {
        format!(
            "{ECHO}ping_interval = \"off\"\nfilters = [\"stamp\"]\nsend_timeout = \"{}s\"\n[routes.limits]\nconnections_per_ip = {}\n\
             [filters.stamp]\nconfig = {{ version = \"v{round}\" }}\n[[routes]]\nname = \"r{round}\"\npath = \"/r{round}\"\ntarget = \"echo\"\n",
            10 + round,
            1000 + round
        )
    };
    let gateway = setup.start(&configured(0));
    let address = gateway.address();
    let stop = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
    let clients: Vec<_> = (0..CLIENTS)
        .map(|_| {
            let stop = std::sync::Arc::clone(&stop);
            let mut wire = Wire::open(address, "/echo");
            std::thread::spawn(move || {
                let mut count = 0u64;
                while !stop.load(std::sync::atomic::Ordering::Relaxed) || count == 0 {
                    for _ in 0..8 {
                        wire.text("m");
                    }
                    for _ in 0..8 {
                        count += 1;
                        // The filter counts: a message that is lost, doubled or has lost its state shows.
                        let said = wire.next_text();
                        assert!(said.starts_with(&format!("m #{count} v")), "{said}");
                    }
                }
                wire.close(1000, "");
                count
            })
        })
        .collect();
    let before = (gateway.settled_fds(), gateway.rss_kib());
    for round in 1..=RELOADS {
        let report = gateway.reload(&configured(round));
        assert_eq!(report["connections"]["echo"]["kept"].as_u64().unwrap_or_default() as usize, CLIENTS, "{report}");
    }
    stop.store(true, std::sync::atomic::Ordering::Relaxed);
    let counts: Vec<u64> = clients.into_iter().map(|client| client.join().unwrap()).collect();
    println!("figure: {} messages during {RELOADS} reloads", counts.iter().sum::<u64>());
    gateway.wait_empty();
    let after = (gateway.settled_fds(), gateway.rss_kib());
    assert!(after.0 <= before.0 + 4 && after.1 < before.1 + (64 << 10), "{before:?} {after:?}");
    assert!(generation(&gateway) >= RELOADS as f64);
    // Generations that nobody has any more are gone.
    assert_eq!(gateway.filter("stamp")["older"].as_array().map_or(0, Vec::len), 0, "{}", gateway.filter("stamp"));
}
