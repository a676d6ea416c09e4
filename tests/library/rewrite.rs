//! `rewrite`: what the upstream and the client read is not what the other one sent.

use serde_json::json;

use crate::support::{
    Setup,
    peer::{LIBRARIES, PeerClient, PeerServer},
    upstream::route_to,
};

#[test]
fn members_are_changed_on_both_ways_and_the_rest_is_kept() {
    for library in LIBRARIES {
        let server = PeerServer::start(library);
        let filter = r#"
            filters = ["rewrite"]
            [filters.rewrite.config]
            rules = [
                { set = "/meta/user", from = "header:x-user" },
                { set = "/meta/room", from = "query:room" },
                { remove = "/debug" },
                { rename = "/msg", to = "text" },
                { copy = "/text", to = "/preview", when = { "/kind" = "long" } },
                { direction = "to_client", add = "/via", value = "gateway" },
                { direction = "to_client", remove = "/meta/user" },
            ]
        "#;
        let setup = Setup::new().guest("filters/rewrite.wasm", "rewrite");
        let gateway = setup.start(&format!("{}\n{filter}", route_to(&server.url(""))));
        for library in LIBRARIES {
            let client = PeerClient::start(library);
            let url = gateway.url("/?room=red%20one");
            let answer = client.connect(json!({ "url": url, "headers": { "X-User": "ann" } }));
            assert_eq!(answer["status"], 101, "{answer}");
            client.send(r#"{"z":1.0,"debug":{"x":[]},"msg":"é\u00e9","n":12345678901234567890,"meta":{"user":"eve"}}"#);
            let expected =
                r#"{"z":1.0,"text":"é\u00e9","n":12345678901234567890,"meta":{"room":"red one"},"via":"gateway"}"#;
            assert_eq!(client.receive(), expected);
            client.send(r#"{"msg":"a","kind":"long"}"#);
            let expected = r#"{"text":"a","kind":"long","meta":{"room":"red one"},"preview":"a","via":"gateway"}"#;
            assert_eq!(client.receive(), expected);
            client.send("no json");
            assert_eq!(client.receive(), "no json");
            client.roundtrips("binary", 10, 1_000, 4);
        }
    }
}
