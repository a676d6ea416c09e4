//! `message-router`: messages of one connection to the upstreams that they are for.

use crate::support::{
    Gateway, Setup,
    peer::{LIBRARIES, NodeWs, PeerClient, PeerServer, PythonWebsockets},
};

fn start(servers: &[PeerServer; 3], config: &str) -> Gateway {
    let [main, billing, search] = servers.each_ref().map(|server| server.url(""));
    let config = format!(
        r#"
        [upstreams]
        main = {{ endpoints = ["{main}"] }}
        billing = {{ endpoints = ["{billing}"] }}
        search = {{ endpoints = ["{search}"] }}

        [[routes]]
        name = "main"
        path = "/*"
        upstream = "main"
        filters = ["message-router"]

        [filters.message-router]
        allow = {{ upstreams = ["billing", "search"] }}
        {config}
        "#
    );
    Setup::new().guest("filters/message-router.wasm", "message_router").start(&config)
}

fn say(client: &PeerClient, text: &str) -> String {
    client.send(text);
    client.receive()
}

#[test]
fn each_message_reaches_the_upstream_that_its_type_names() {
    let servers = [NodeWs, PythonWebsockets, NodeWs].map(PeerServer::start);
    let config = r#"
        config.rules = [
            { when = { "/type" = "billing.*", "/version" = 2 }, upstream = "billing" },
            { when = { "/type" = "billing.*" }, then = { reply = { id = "$/id", error = "version" } }, name = "old" },
            { when = { "/type" = { prefix = "search" } }, upstream = "search" },
            { when = { "/type" = "bye" }, then = { close = 4000, reason = "bye" } },
        ]
    "#;
    let gateway = start(&servers, config);
    for library in LIBRARIES {
        let client = PeerClient::connected(library, &gateway.url("/orders"));
        assert_eq!(servers[0].opened()["path"], "/orders");
        for (text, server) in
            [(r#"{"type":"billing.pay","version":2}"#, &servers[1]), (r#"{"type":"search"}"#, &servers[2])]
        {
            assert_eq!(say(&client, text), text);
            // It was dialled for this message, and nobody else echoes it.
            assert_eq!(server.opened()["path"], "/orders");
        }
        assert_eq!(say(&client, r#"{"type":"else"}"#), r#"{"type":"else"}"#);
        assert_eq!(say(&client, r#"{"type":"billing.pay","id":"q"}"#), r#"{"error":"version","id":"q"}"#);
        client.send(r#"{"type":"bye"}"#);
        assert_eq!(client.closed(), (4000, "bye".to_owned()));
    }
    for (reason, count) in [("billing", 2.0), ("search", 2.0), ("old", 2.0)] {
        gateway.wait_metric("wsgate_filter_reasons_total", &[("filter", "message-router"), ("reason", reason)], count);
    }
}

#[test]
fn events_of_socket_io_are_routed_by_name_and_its_other_packets_are_left_alone() {
    let servers = [PythonWebsockets, NodeWs, PythonWebsockets].map(PeerServer::start);
    let rules = r#"config = { format = "socket.io", rules = [{ when = { "/0" = "pay" }, upstream = "billing" }] }"#;
    let gateway = start(&servers, rules);
    let client = PeerClient::connected(NodeWs, &gateway.url("/"));
    for text in ["40", "2", r#"42["say","pay"]"#, r#"42/shop,7["pay",{"to":"ann"}]"#] {
        assert_eq!(say(&client, text), text);
    }
    assert_eq!(servers[1].opened()["path"], "/");
}
