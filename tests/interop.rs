//! Protocols of others through the gateway, by their own libraries. docs/interop.md has those that take longer.

use std::process::Command;

use serde_json::json;

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

#[test]
fn a_charge_point_and_its_central_system_call_each_other() {
    let central = script(PythonWebsockets.command("charger"), &["central"]);
    let upstream = format!("ws://127.0.0.1:{}", central.next()["port"]);
    let gateway = Gateway::start(&format!("{}subprotocols = [\"ocpp1.6\"]", route_to(&upstream)));
    let charger = script(PythonWebsockets.command("charger"), &["charger", &gateway.url("/ocpp/CP_1")]);
    assert_eq!(charger.next(), json!({ "boot": "Accepted", "beat": true, "subprotocol": "ocpp1.6" }));
    assert_eq!(central.next(), json!({ "point": "CP_1", "subprotocol": "ocpp1.6", "reset": "Accepted" }));
}
