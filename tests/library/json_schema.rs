//! `json-schema`: what does not match goes no further, and whoever sent it is told.

use serde_json::{Value, json};

use crate::support::{
    Gateway, Setup,
    peer::{LIBRARIES, NodeWs, PeerClient, PeerServer, PythonWebsockets},
    upstream::route_to,
};

fn start(upstream: &PeerServer, config: &str) -> Gateway {
    let setup = Setup::new().guest("filters/json-schema.wasm", "json_schema");
    setup.start(&format!("{}\nfilters = [\"json-schema\"]\n{config}", route_to(&upstream.url(""))))
}

const CONFIG: &str = r##"
    [filters.json-schema.config]
    on_failure = { reply = { type = "error", id = "$/id", schema = "$schema", errors = "$errors" } }
    definitions = { text = { type = "string", minLength = 1, maxLength = 10 } }

    [[filters.json-schema.config.schemas]]
    name = "send"
    when = { "/type" = "chat.send" }
    schema = { required = ["text"], properties = { text = { "$ref" = "#/$defs/text" } } }

    [[filters.json-schema.config.schemas]]
    name = "join"
    when = { "/type" = "chat.join" }
    schema = '{ "properties": { "room": { "enum": ["red", null] } } }'
"##;

#[test]
fn only_what_matches_its_schema_reaches_the_upstream() {
    let server = PeerServer::start(NodeWs);
    // One gateway for both clients: this component takes long to compile.
    let gateway = start(&server, CONFIG);
    for library in LIBRARIES {
        let client = PeerClient::connected(library, &gateway.url("/"));
        for good in [r#"{"type":"chat.send","text":"hello","n":1.0}"#, r#"{"type":"chat.join","room":null}"#] {
            client.send(good);
            assert_eq!(client.receive(), good);
        }
        client.send(r#"{"id":"m1","type":"chat.send","text":""}"#);
        let reply: Value = serde_json::from_str(&client.receive()).unwrap();
        assert_eq!((&reply["type"], &reply["id"], &reply["schema"]), (&json!("error"), &json!("m1"), &json!("send")));
        assert_eq!((&reply["errors"][0]["at"], &reply["errors"][0]["keyword"]), (&json!("/text"), &json!("minLength")));
        for bad in [r#"{"type":"chat.join","room":7}"#, r#"{"type":"other"}"#, "hello", &"[".repeat(1_000)] {
            client.send(bad);
            assert!(client.receive().contains("\"type\":\"error\""), "{bad}");
        }
    }
    let failures = |cause: &str| {
        gateway.metrics().sum("wsgate_filter_custom_failures_total", &[("filter", "json-schema"), ("cause", cause)])
    };
    assert_eq!(
        (failures("invalid"), failures("no_schema"), failures("not_json"), failures("too_deep")),
        (4.0, 2.0, 2.0, 2.0)
    );
}

#[test]
fn without_a_word_about_it_the_connection_is_closed_with_1007() {
    let server = PeerServer::start(PythonWebsockets);
    let gateway = start(&server, "[filters.json-schema]\nconfig = { schema = { type = \"object\" } }");
    let client = PeerClient::connected(NodeWs, &gateway.url("/"));
    client.send("[]");
    assert_eq!(client.closed(), (1007, "the message does not match its schema".to_owned()));
    gateway.wait_metric("wsgate_filter_reasons_total", &[("filter", "json-schema"), ("reason", "invalid")], 1.0);
}

#[test]
fn the_deepest_message_that_can_be_allowed_is_judged_without_a_fault() {
    let server = PeerServer::start(PythonWebsockets);
    let tree = r##"{ type = "object", properties = { a = { allOf = [{ "$ref" = "#" }] } } }"##;
    let reply = r#"{ reply = { errors = "$errors" } }"#;
    let config = format!("config = {{ max_depth = 120, max_bytes = 1000000, on_failure = {reply}, schema = {tree} }}");
    let gateway = start(&server, &format!("[filters.json-schema]\n{config}"));
    let client = PeerClient::connected(NodeWs, &gateway.url("/"));
    let nested = |inner: &str, depth: usize| format!("{}{inner}{}", "{\"a\":".repeat(depth), "}".repeat(depth));
    client.send(&nested("{}", 119));
    assert_eq!(client.receive(), nested("{}", 119));
    client.send(&nested("1", 120));
    assert!(client.receive().contains("\"keyword\":\"type\""));
    client.send(&nested("{}", 100_000));
    assert!(client.receive().contains("nested more than 120 deep"));
    assert_eq!(gateway.metrics().sum("wsgate_filter_faults_total", &[("filter", "json-schema")]), 0.0);
}
