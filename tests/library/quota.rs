//! `quota`: what one user's connections use up together, over workers and reloads.

use serde_json::{Value, json};

use super::{gateway, token};
use crate::support::{
    Gateway, guest,
    guests::other,
    peer::{LIBRARIES, Library, NodeWs, PeerClient, PeerServer, PythonWebsockets},
};

fn start(server: &PeerServer, quota: &str) -> Gateway {
    let config = format!(
        "[server]\nworkers = 2\n[filters.quota]\nallow = {{ key_value = [\"quotas\"] }}\n\
        [filters.quota.config]\nstore = \"quotas\"\n[[filters.quota.config.quotas]]\nname = \"q\"\n{quota}"
    );
    gateway(&server.url(""), "quota", "quota", &config)
}

fn connect(library: Library, gateway: &Gateway, user: &str) -> (PeerClient, Value) {
    let client = PeerClient::start(library);
    let headers = json!({ "Authorization": format!("Bearer {}", token(user)) });
    let answer = client.connect(json!({ "url": gateway.url("/"), "headers": headers }));
    (client, answer)
}

/// What comes back: the echo, or the document that says no.
fn ask(client: &PeerClient, text: &str) -> Result<(), Value> {
    client.send(text);
    let answer = client.receive();
    if answer == text {
        return Ok(());
    }
    Err(serde_json::from_str(&answer).unwrap())
}

#[test]
fn the_connections_of_a_user_share_a_quota_that_outlives_a_reload() {
    let server = PeerServer::start(PythonWebsockets);
    let gateway = start(&server, "count = \"messages\"\nlimit = 300\nwindow = \"month\"\naction = \"reply\"");
    let clients: Vec<PeerClient> = (0..4).map(|at| connect(LIBRARIES[at % 2], &gateway, "ann").0).collect();
    let mut passed = 0;
    for round in 0..4 {
        for client in &clients {
            passed += (0..25).filter(|_| ask(client, "hello").is_ok()).count();
        }
        if round == 0 {
            assert_eq!(passed, 100);
            gateway.folder().publish("filters/quota.wasm", &other(&guest("quota")));
            gateway.wait_metric("wsgate_filter_generation", &[("filter", "quota")], 2.0);
        }
    }
    // What another connection holds in advance may be missing, and no more than that passes.
    assert!((291..=300).contains(&passed), "{passed}");
    let refused = ask(&clients[0], "hello").unwrap_err();
    assert_eq!(
        (&refused["error"], &refused["quota"], &refused["limit"]),
        (&json!("quota_exceeded"), &json!("q"), &json!(300))
    );
    let left = refused["retry_after_seconds"].as_u64().unwrap();
    assert!((1..=31 * 86_400).contains(&left), "{refused}");
    let (bob, _) = connect(NodeWs, &gateway, "bob");
    assert_eq!(ask(&bob, "hello"), Ok(()));
    let labels = [("filter", "quota"), ("quota", "q")];
    assert!(gateway.metrics().sum("wsgate_filter_custom_refusals_total", &labels) >= 100.0);
    assert!(gateway.metrics().sum("wsgate_filter_reasons_total", &[("reason", "exceeded_q")]) >= 100.0);
    let calls = gateway.metrics().sum("wsgate_store_operations_total", &[("store", "quotas")]);
    assert!(calls < 250.0, "{calls} calls");
}

#[test]
fn who_used_up_a_quota_is_closed_and_not_let_in_again() {
    let server = PeerServer::start(NodeWs);
    let gateway = start(&server, "count = \"bytes\"\nlimit = 1000\nwindow = \"month\"\nwarn_at = 0.5");
    let (client, _) = connect(PythonWebsockets, &gateway, "ann");
    assert_eq!(ask(&client, &"x".repeat(600)), Ok(()));
    gateway.wait_log(&["a quota is almost used up", "quota=\"q\""]);
    assert_eq!(ask(&client, &"x".repeat(400)), Ok(()));
    client.send("x");
    let (code, reason) = client.closed();
    assert_eq!(code, 4429);
    assert!(reason.starts_with("quota q is used up, resets in "), "{reason}");
    let (_, refused) = connect(NodeWs, &gateway, "ann");
    assert_eq!(refused["status"], 429, "{refused}");
    assert!(refused["headers"]["retry-after"].as_str().unwrap().parse::<u64>().unwrap() > 0);
    gateway.wait_log(&["refused", "filter_reason=quota:exceeded_q", "status=429"]);
}

#[test]
fn tokens_are_counted_where_the_upstream_tells_them() {
    let server = PeerServer::start(NodeWs);
    let tokens =
        "count = \"tokens\"\npointer = \"/usage/total_tokens\"\nlimit = 100\nwindow = \"month\"\naction = \"reply\"";
    let gateway = start(&server, tokens);
    let (client, _) = connect(NodeWs, &gateway, "ann");
    // The upstream echoes, so that the client says what its answer costs.
    for _ in 0..2 {
        assert_eq!(ask(&client, r#"{"usage":{"total_tokens":50}}"#), Ok(()));
    }
    assert_eq!(ask(&client, "one more").unwrap_err()["error"], "quota_exceeded");
    let (other, _) = connect(PythonWebsockets, &gateway, "ann");
    assert_eq!(ask(&other, "here too").unwrap_err()["error"], "quota_exceeded");
    assert_eq!(gateway.metrics().sum("wsgate_filter_custom_tokens_total", &[("quota", "q")]), 100.0);
}
