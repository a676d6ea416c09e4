//! `authorize`: who may open a connection and send what, also after the token was refreshed.

use std::time::{SystemTime, UNIX_EPOCH};

use jsonwebtoken::{EncodingKey, Header, encode};
use serde_json::{Value, json};

use crate::support::{
    Gateway, Setup,
    peer::{LIBRARIES, NodeWs, PeerClient, PeerServer, PythonWebsockets},
};

const SECRET: &str = "a secret of at least thirty-two bytes";

/// A token of ann's that grants these scopes and names her rooms.
fn token(scope: &str) -> String {
    let expires = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs() + 300;
    let claims = json!({ "sub": "ann", "scope": scope, "exp": expires, "rooms": ["red", "blue"] });
    encode(&Header::default(), &claims, &EncodingKey::from_secret(SECRET.as_bytes())).unwrap()
}

fn start(server: &PeerServer, route: &str, filter: &str) -> Gateway {
    let config = format!(
        r#"
        [jwt.main]
        secret_file = "secret"
        algorithms = ["HS256"]
        refresh = true

        [upstreams.main]
        endpoints = ["{}"]

        [[routes]]
        name = "main"
        path = "/*"
        upstream = "main"
        filters = ["authorize"]
        {route}

        {filter}
        "#,
        server.url("")
    );
    let setup = Setup::new().guest("filters/authorize.wasm", "authorize");
    setup.publish("secret", SECRET.as_bytes());
    setup.start(&config)
}

fn connect(client: &PeerClient, gateway: &Gateway, path: &str, scope: &str) -> Value {
    let authorization = format!("Bearer {}", token(scope));
    client.connect(json!({ "url": gateway.url(path), "headers": { "Authorization": authorization } }))
}

fn say(client: &PeerClient, text: &str) -> String {
    client.send(text);
    client.receive()
}

fn refresh(client: &PeerClient, scope: &str) {
    client.send(&json!({ "wsgate": "refresh", "token": token(scope) }).to_string());
}

const FILTER: &str = r#"
    [filters.authorize.config.connections]
    rules = [
        { name = "staff", when = { path = "/admin/*" }, unless = { identity = { scopes = ["admin"] } }, action = "deny", status = 404 },
        { name = "chat", when = { identity = { scopes = ["chat"] } } },
    ]

    [filters.authorize.config.messages]
    refused = { reply = { id = "$/id", error = "forbidden", rule = "$rule" } }
    rules = [
        { name = "admin", when = { "/type" = "admin.*" }, require = { identity = { scopes = ["admin"] } } },
        { name = "room", when = { "/type" = "post" }, require = { same_as_claim = { "/room" = "/rooms" } } },
        { name = "secret", when = { "/type" = "secret" }, action = "deny", refused = "close" },
    ]
"#;

#[test]
fn scopes_decide_about_connections_and_messages_and_count_anew_after_a_refresh() {
    for library in LIBRARIES {
        let server = PeerServer::start(library);
        let gateway = start(&server, "auth = \"main\"", FILTER);
        for library in LIBRARIES {
            let client = PeerClient::start(library);
            let refused = connect(&client, &gateway, "/", "other");
            assert_eq!(
                (&refused["status"], refused["body"].as_str().unwrap().contains("Forbidden")),
                (&json!(403), true),
                "{refused}"
            );
            assert_eq!(connect(&client, &gateway, "//%61dmin/x", "chat")["status"], 404);
            assert_eq!(connect(&client, &gateway, "/admin/x", "chat admin")["status"], 101);
            assert_eq!(connect(&client, &gateway, "/", "chat")["status"], 101);

            let post = r#"{"type":"post","room":"red"}"#;
            assert_eq!(say(&client, post), post);
            assert_eq!(
                say(&client, r#"{"type":"post","room":"green","id":7}"#),
                r#"{"error":"forbidden","id":7,"rule":"room"}"#
            );
            assert_eq!(
                say(&client, r#"{"type":"post","type":"admin.ban"}"#),
                r#"{"error":"forbidden","id":null,"rule":"ambiguous"}"#
            );
            let ban = r#"{"type":"admin.ban"}"#;
            assert_eq!(say(&client, ban), r#"{"error":"forbidden","id":null,"rule":"admin"}"#);

            refresh(&client, "chat admin");
            assert!(client.receive().contains("refreshed"));
            assert_eq!(say(&client, ban), ban);
            refresh(&client, "nothing");
            let mut closed = client.closed();
            closed.1.truncate(17);
            assert_eq!(closed, (4403, "no longer allowed".to_owned()));
        }
        let labels = [("filter", "authorize"), ("reason", "admin")];
        gateway.wait_metric("wsgate_filter_reasons_total", &labels, 2.0);
        gateway.wait_metric("wsgate_filter_custom_refused_connections_total", &[("rule", "staff")], 2.0);
    }
}

#[test]
fn a_refused_message_can_end_the_connection() {
    let server = PeerServer::start(PythonWebsockets);
    let gateway = start(&server, "auth = \"main\"", FILTER);
    let client = PeerClient::start(NodeWs);
    assert_eq!(connect(&client, &gateway, "/", "chat")["status"], 101);
    client.send(r#"{"type":"secret"}"#);
    assert_eq!(client.closed(), (4403, "not allowed".to_owned()));
}

#[test]
fn without_tokens_the_request_alone_decides() {
    let server = PeerServer::start(NodeWs);
    let filter = r#"
        [filters.authorize.config.connections]
        status = 401
        rules = [{ when = { client = "127.0.0.0/8", header = { x-team = ["red", "blue"] }, query = { v = "2" }, subprotocol = "chat.*" } }]
    "#;
    let gateway = start(&server, "", filter);
    let client = PeerClient::start(PythonWebsockets);
    let connect = |team: &str, query: &str| {
        let url = gateway.url(&format!("/?{query}"));
        client.connect(json!({ "url": url, "headers": { "X-Team": team }, "subprotocols": ["chat.v1"] }))["status"]
            .clone()
    };
    assert_eq!(
        (connect("green", "v=2"), connect("red", "v=1"), connect("red", "a&v=2")),
        (json!(401), json!(401), json!(101))
    );
}
