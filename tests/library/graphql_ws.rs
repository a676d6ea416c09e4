//! `graphql-ws`: the client and the server of npm `graphql-ws`.

use serde_json::{Value, json};

use super::{gateway, token};
use crate::support::{
    Gateway, SOON,
    peer::{NodeWs, PeerClient, Script},
    until,
};

struct Bed {
    server: Script,
    gateway: Gateway,
}

impl Bed {
    fn start(config: &str) -> Self {
        let server = Script::driven(NodeWs.command("graphql-server"));
        let url = format!("ws://127.0.0.1:{}", server.next()["port"]);
        let config = format!("[filters.graphql-ws.config]\n{config}");
        Self { gateway: gateway(&url, "graphql-ws", "graphql_ws", &config), server }
    }

    fn client(&self) -> Script {
        let client = Script::driven(NodeWs.command("graphql"));
        let connect = json!({ "do": "connect", "url": self.gateway.url("/graphql"), "token": token("ann") });
        assert_eq!(client.call(&connect), json!({ "connected": true }));
        client
    }
}

fn run(client: &Script, query: &str) -> Value {
    client.call(&json!({ "do": "run", "query": query }))
}

fn code(answer: &Value) -> &str {
    answer["errors"][0]["extensions"]["code"].as_str().unwrap_or_else(|| panic!("no error: {answer}"))
}

#[test]
fn operations_beyond_a_limit_get_an_error_and_the_connection_goes_on() {
    let bed = Bed::start("max_depth = 3\nmax_cost = 50\noperations = [\"query\", \"subscription\"]");
    let client = bed.client();
    let count = run(&client, "subscription { count(to: 3) }");
    assert_eq!(count["results"], json!([{ "count": 1 }, { "count": 2 }, { "count": 3 }]));
    assert_eq!(code(&run(&client, "{ me { friends { friends { name } } } }")), "DEPTH_LIMIT_EXCEEDED");
    let many = json!({ "do": "run", "query": "query ($n: Int) { me { friends(first: $n) { name } } }", "variables": { "n": 25 } });
    assert_eq!(code(&client.call(&many)), "COST_LIMIT_EXCEEDED");
    assert_eq!(code(&run(&client, "mutation { rename(name: \"bob\") }")), "OPERATION_NOT_ALLOWED");
    assert_eq!(code(&run(&client, "{ __schema { queryType { name } } }")), "INTROSPECTION_DISABLED");
    assert_eq!(code(&run(&client, &format!("{} me {}", "{ a ".repeat(3000), "}".repeat(3000)))), "DOCUMENT_TOO_LARGE");
    // As deep and as long as is looked at (white space is a token too): within the guest's stack and time.
    assert_eq!(code(&run(&client, &format!("{} me {}", "{ a ".repeat(120), "}".repeat(120)))), "DEPTH_LIMIT_EXCEEDED");
    assert_eq!(code(&run(&client, &format!("{{ {} }}", "a ".repeat(4_900)))), "COST_LIMIT_EXCEEDED");
    assert_eq!(code(&run(&client, "{ me ")), "GRAPHQL_PARSE_FAILED");
    assert_eq!(run(&client, "{ me { name } }")["results"], json!([{ "me": { "name": "ann" } }]));
    // None of them reached the server, and none ended the connection.
    let ran = || bed.server.seen().matches("\"run\"").count();
    until("the server tells of the last one", SOON, || bed.server.seen().contains("{ me { name } }"));
    assert_eq!(ran(), 2, "{}", bed.server.seen());
    let metrics = bed.gateway.metrics();
    let depth = [("filter", "graphql-ws"), ("reason", "depth")];
    assert_eq!(metrics.sum("wsgate_filter_custom_refusals_total", &depth), 2.0);
    assert_eq!(metrics.sum("wsgate_filter_reasons_total", &depth), 2.0);
    assert_eq!(metrics.sum("wsgate_connections", &[]), 1.0);
}

#[test]
fn only_listed_operations_run_and_only_so_many_at_once() {
    let bed = Bed::start("allow_names = [\"Me\"]\nmax_subscriptions = 3");
    let client = bed.client();
    assert_eq!(run(&client, "query Me { me { name } }")["results"][0]["me"]["name"], "ann");
    assert_eq!(code(&run(&client, "query You { me { name } }")), "OPERATION_NOT_ALLOWED");

    let bed = Bed::start("max_subscriptions = 3");
    let client = bed.client();
    let answer = client.call(&json!({ "do": "open", "query": "subscription { silence }", "count": 5 }));
    assert_eq!(answer["refused"], 2, "{answer}");
    assert_eq!(code(&answer["asked"]), "TOO_MANY_OPERATIONS");
}

#[test]
fn who_breaks_the_protocol_is_closed_with_its_codes() {
    let bed = Bed::start("");
    let subscribe = r#"{"id":"1","type":"subscribe","payload":{"query":"subscription { silence }"}}"#;
    let init = r#"{"type":"connection_init"}"#;
    for (messages, expected) in
        [(&[subscribe][..], 4401), (&["hello"], 4400), (&[init, init], 4429), (&[init, subscribe, subscribe], 4409)]
    {
        let client = PeerClient::start(NodeWs);
        let headers = json!({ "Authorization": format!("Bearer {}", token("ann")) });
        let subprotocols = json!(["graphql-transport-ws"]);
        let connect = json!({ "url": bed.gateway.url("/"), "subprotocols": subprotocols, "headers": headers });
        assert_eq!(client.connect(connect)["status"], 101);
        for (at, message) in messages.iter().enumerate() {
            client.send(message);
            if at == 0 && messages.len() > 1 {
                assert_eq!(client.receive(), r#"{"type":"connection_ack"}"#);
            }
        }
        assert_eq!(client.closed().0, expected, "{messages:?}");
    }
    bed.gateway.wait_log(&["closed", "filter_reason=graphql-ws:protocol", "code=4409"]);
}
