//! What ships beside the program fits the program, and its parts fit each other.

use std::{
    fs,
    io::Write,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use serde_json::Value;

use crate::support::peer;

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("packaging")
}

fn text(file: &str) -> String {
    fs::read_to_string(folder().join(file)).unwrap()
}

fn configuration() -> toml::Table {
    text("wsgate.toml").parse().unwrap()
}

fn port(address: &toml::Value) -> i64 {
    address.as_str().unwrap().rsplit_once(':').unwrap().1.parse().unwrap()
}

fn seconds(of: &toml::Value) -> i64 {
    of.as_str().unwrap().trim_end_matches('s').parse().unwrap()
}

/// Delay, timeout, and what the process needs besides.
fn grace() -> i64 {
    let server = &configuration()["server"];
    seconds(&server["drain_delay"]) + seconds(&server["drain_timeout"]) + 5
}

#[test]
fn the_sample_configuration_is_one() {
    let file = folder().join("wsgate.toml");
    let output = Command::new(env!("CARGO_BIN_EXE_wsgate")).args(["check", "--config"]).arg(file).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn systemd_accepts_the_units_and_they_fit_the_configuration() {
    let units = tempfile::tempdir().unwrap();
    let service = text("systemd/wsgate.service");
    let here = service.replace("/usr/bin/wsgate", env!("CARGO_BIN_EXE_wsgate"));
    fs::write(units.path().join("wsgate.service"), here).unwrap();
    fs::write(units.path().join("wsgate.socket"), text("systemd/wsgate.socket")).unwrap();
    let files = ["wsgate.service", "wsgate.socket"].map(|unit| units.path().join(unit));
    let verified = Command::new("systemd-analyze").args(["verify", "--man=no"]).args(&files).output();
    let verified = verified.unwrap_or_else(|error| panic!("systemd-analyze: {error}; run `apt-get install systemd`"));
    let said = String::from_utf8_lossy(&verified.stderr);
    assert!(verified.status.success() && !said.contains("wsgate"), "{said}");
    assert!(service.contains(&format!("\nTimeoutStopSec={}s\n", grace())), "drain_delay + drain_timeout + 5 s");
    // Not even by mistake: machine code is what filters are.
    assert!(!service.contains("\nMemoryDenyWriteExecute=yes"));
    let listeners = configuration()["listeners"].as_array().unwrap().clone();
    let socket = text("systemd/wsgate.socket");
    let streams: Vec<&str> = socket.lines().filter_map(|line| line.strip_prefix("ListenStream=")).collect();
    let addresses: Vec<&str> = listeners.iter().map(|listener| listener["address"].as_str().unwrap()).collect();
    assert_eq!(streams, addresses);
    assert!(socket.contains("\nFileDescriptorName=listener-1\n"));
}

/// Parsed by PyYAML, as JSON.
fn manifests() -> Vec<Value> {
    let program = "import json, sys, yaml; print(json.dumps(list(yaml.safe_load_all(sys.stdin))))";
    let mut command = Command::new(peer::python());
    let mut child = command
        .args(["-c", program])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(text("kubernetes/wsgate.yaml").as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "PyYAML comes with `make test-tools`: {said}");
    serde_json::from_slice(&output.stdout).unwrap()
}

#[test]
fn the_manifests_fit_the_configuration_and_each_other() {
    let manifests = manifests();
    let of = |kind: &str| {
        let mut found = manifests.iter().filter(|manifest| manifest["kind"] == kind);
        let one = found.next().unwrap_or_else(|| panic!("no {kind}"));
        assert!(found.next().is_none(), "two of {kind}");
        one
    };
    let config = configuration();
    assert_eq!(of("ConfigMap")["data"]["wsgate.toml"], text("wsgate.toml").as_str());
    let deployment = of("Deployment");
    let pod = &deployment["spec"]["template"]["spec"];
    assert_eq!(pod["terminationGracePeriodSeconds"], grace());
    let container = &pod["containers"][0];
    let ports: Vec<(String, i64)> = container["ports"]
        .as_array()
        .unwrap()
        .iter()
        .map(|port| (port["name"].as_str().unwrap().to_owned(), port["containerPort"].as_i64().unwrap()))
        .collect();
    let listener = port(&config["listeners"][0]["address"]);
    let health = port(&config["health"]["address"]);
    assert_eq!(ports, [("websocket".to_owned(), listener), ("health".to_owned(), health)]);
    for (probe, path) in [("startupProbe", "/livez"), ("readinessProbe", "/readyz"), ("livenessProbe", "/livez")] {
        assert_eq!(container[probe]["httpGet"]["port"], "health", "{probe}");
        assert_eq!(container[probe]["httpGet"]["path"], path, "{probe}");
    }
    // Balancers notice within drain_delay.
    let notice = container["readinessProbe"]["periodSeconds"].as_i64().unwrap();
    assert!(notice < seconds(&config["server"]["drain_delay"]));
    let mounts: Vec<&Value> =
        container["volumeMounts"].as_array().unwrap().iter().map(|mount| &mount["name"]).collect();
    let volumes: Vec<&Value> = pod["volumes"].as_array().unwrap().iter().map(|volume| &volume["name"]).collect();
    assert_eq!(mounts, volumes);
    let state = container["volumeMounts"].as_array().unwrap().iter().find(|mount| mount["name"] == "state").unwrap();
    assert_eq!(state["mountPath"], config["server"]["state_dir"].as_str().unwrap());
    let labels = &deployment["spec"]["template"]["metadata"]["labels"];
    for selector in [
        &deployment["spec"]["selector"]["matchLabels"],
        &of("Service")["spec"]["selector"],
        &of("PodDisruptionBudget")["spec"]["selector"]["matchLabels"],
    ] {
        assert_eq!(selector, labels);
    }
    assert_eq!(of("Service")["spec"]["ports"][0]["targetPort"], "websocket");
}

#[test]
fn the_image_is_built_with_the_pinned_toolchain_and_exposes_the_configured_ports() {
    let dockerfile = text("docker/Dockerfile");
    let lines: Vec<&str> = dockerfile.lines().filter(|line| !line.starts_with('#') && !line.starts_with(' ')).collect();
    let known = ["FROM", "WORKDIR", "COPY", "RUN", "USER", "EXPOSE", "STOPSIGNAL", "ENTRYPOINT", "CMD"];
    for line in lines.iter().filter(|line| !line.is_empty()) {
        assert!(known.contains(&line.split(' ').next().unwrap()), "{line}");
    }
    let toolchain = fs::read_to_string(folder().parent().unwrap().join("rust-toolchain.toml")).unwrap();
    let toolchain: toml::Table = toolchain.parse().unwrap();
    let pinned = toolchain["toolchain"]["channel"].as_str().unwrap();
    let minor = pinned.rsplit_once('.').map_or(pinned, |(minor, _)| minor);
    assert!(dockerfile.contains(&format!("FROM rust:{minor}-")), "{pinned}");
    let config = configuration();
    let exposed = format!("EXPOSE {} {}", port(&config["listeners"][0]["address"]), port(&config["health"]["address"]));
    assert!(lines.contains(&exposed.as_str()), "{exposed}");
    for command in lines.iter().filter_map(|line| line.strip_prefix("CMD ").or(line.strip_prefix("ENTRYPOINT "))) {
        serde_json::from_str::<Vec<String>>(command).unwrap_or_else(|error| panic!("{command}: {error}"));
    }
}
