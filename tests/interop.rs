//! Protocols of others through the gateway, by their own libraries. docs/interop.md has those that take longer.

use std::process::Command;

use serde_json::{Value, json};

use crate::support::{
    Gateway,
    peer::{NodeWs, PythonWebsockets, Script},
    upstream::route_to,
};

fn script(mut command: Command, arguments: &[&str]) -> Script {
    command.args(arguments);
    Script::driven(command)
}

#[test]
fn two_hundred_clients_of_socket_io_poll_and_upgrade() {
    const CLIENTS: usize = 200;
    let server = script(NodeWs.command("socketio"), &["server"]);
    let upstream = format!("ws://127.0.0.1:{}", server.next()["port"]);
    let gateway = Gateway::start(&format!("{}http = \"forward\"", route_to(&upstream)));
    let clients = script(NodeWs.command("socketio"), &["clients"]);
    let url = format!("http://{}", gateway.address());
    let opened = clients.call(&json!({ "do": "open", "url": url, "count": CLIENTS }));
    assert_eq!(opened, json!({ "ways": ["polling to websocket"], "open": CLIENTS }));
    assert_eq!(clients.call(&json!({ "do": "ping" })), json!({ "right": CLIENTS }));
    assert_eq!(clients.call(&json!({ "do": "all" })), json!({ "said": CLIENTS }));
    let metrics = gateway.metrics();
    assert_eq!(metrics.sum("wsgate_connections", &[]), CLIENTS as f64);
    assert!(metrics.sum("wsgate_http_requests_total", &[("status", "2xx")]) >= 2.0 * CLIENTS as f64);
    assert_eq!(metrics.sum("wsgate_http_requests_total", &[("status", "5xx")]), 0.0);
}

/// Whatever 200 clients of three servers get, who keep what leads back to theirs.
fn three_servers(affinity: &str, keeps: &str) -> (Value, Option<Value>, [f64; 3]) {
    let servers = [(); 3].map(|()| script(NodeWs.command("socketio"), &["server"]));
    let places = servers.each_ref().map(|server| format!("127.0.0.1:{}", server.next()["port"]));
    let endpoints = places.each_ref().map(|place| format!("ws://{place}"));
    let config = route_to(&endpoints.join("\", \""));
    let config = config.replacen("endpoints", &format!("{affinity}\nendpoints"), 1);
    let gateway = Gateway::start(&format!("{config}http = \"forward\""));
    let clients = script(NodeWs.command("socketio"), &["clients"]);
    let url = format!("http://{}", gateway.address());
    let opened = clients.call(&json!({ "do": "open", "url": url, "count": 200, "keeps": keeps }));
    let answered = (opened["open"] == 200).then(|| clients.call(&json!({ "do": "ping" })));
    let metrics = gateway.metrics();
    let sessions = places.each_ref().map(|place| metrics.sum("wsgate_upstream_connections", &[("endpoint", place)]));
    (opened, answered, sessions)
}

#[test]
fn two_hundred_clients_of_socket_io_come_back_to_theirs_of_three_servers() {
    for (affinity, keeps) in
        [("affinity_cookie = {}", "cookie"), ("balance = \"ring_hash\"\nhash_on = \"query:user\"", "query")]
    {
        let (opened, answered, sessions) = three_servers(affinity, keeps);
        assert_eq!(opened, json!({ "ways": ["polling to websocket"], "open": 200 }), "{keeps}");
        assert_eq!(answered, Some(json!({ "right": 200 })), "{keeps}");
        assert_eq!(sessions.iter().sum::<f64>(), 200.0, "{keeps}: {sessions:?}");
        assert!(sessions.iter().all(|share| *share >= 30.0), "{keeps}: {sessions:?}");
    }
}

/// The other way round: what the test above would see if nothing led clients back.
#[test]
fn without_affinity_socket_io_does_not_open_over_three_servers() {
    let (opened, _, _) = three_servers("balance = \"round_robin\"", "cookie");
    assert!(opened["lost"].is_string(), "{opened}");
}

#[test]
fn a_charge_point_and_its_central_system_call_each_other() {
    let central = script(PythonWebsockets.command("charger"), &["central"]);
    let upstream = format!("ws://127.0.0.1:{}", central.next()["port"]);
    let gateway = Gateway::start(&format!("{}subprotocols = [\"ocpp1.6\"]", route_to(&upstream)));
    let charger = script(PythonWebsockets.command("charger"), &["charger", &gateway.url("/ocpp/CP_1")]);
    assert_eq!(charger.next(), json!({ "boot": "Accepted", "beat": true, "subprotocol": "ocpp1.6" }));
    assert_eq!(central.next(), json!({ "point": "CP_1", "subprotocol": "ocpp1.6", "reset": "Accepted" }));
}
