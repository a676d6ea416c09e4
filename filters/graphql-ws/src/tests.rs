use serde_json::{Value, json};
use wsgate_sdk::testing;

use super::*;

fn handshake(subprotocols: &[&str]) -> Handshake {
    Handshake { subprotocols: subprotocols.iter().map(|name| (*name).to_owned()).collect(), ..testing::handshake("/") }
}

/// A connection that was acknowledged.
fn open(config: Value) -> GraphqlWs {
    let mut filter = opened(config);
    assert_eq!(up(&mut filter, json!({"type": "connection_init"})), Verdict::Forward);
    down(&mut filter, json!({"type": "connection_ack"}));
    filter
}

fn opened(config: Value) -> GraphqlWs {
    let (config, _) = testing::init::<GraphqlWs>(&config.to_string()).unwrap();
    GraphqlWs::open(&config, &handshake(&[SUBPROTOCOL])).unwrap().session
}

fn up(filter: &mut GraphqlWs, message: Value) -> Verdict {
    filter.on_message(Direction::ToUpstream, message.to_string().into()).unwrap()
}

fn down(filter: &mut GraphqlWs, message: Value) {
    let verdict = filter.on_message(Direction::ToClient, message.to_string().into());
    assert_eq!(verdict, Ok(Verdict::Forward));
}

fn subscribe(filter: &mut GraphqlWs, id: &str, payload: Value) -> Verdict {
    up(filter, json!({ "type": "subscribe", "id": id, "payload": payload }))
}

fn run(config: Value, payload: Value) -> Option<String> {
    match subscribe(&mut open(config), "1", payload) {
        Verdict::Forward => None,
        Verdict::Reply(Message::Text(text)) => {
            let error: Value = serde_json::from_str(&text).unwrap();
            assert_eq!((&error["id"], &error["type"]), (&json!("1"), &json!("error")));
            Some(error["payload"][0]["extensions"]["code"].as_str().unwrap().to_owned())
        }
        other => panic!("{other:?}"),
    }
}

fn refused(config: Value, query: &str) -> Option<String> {
    run(config, json!({ "query": query }))
}

fn closed(filter: &mut GraphqlWs, text: &str) -> u16 {
    match filter.on_message(Direction::ToUpstream, text.into()).unwrap() {
        Verdict::Close(info) => info.code,
        other => panic!("{text}: {other:?}"),
    }
}

#[test]
fn an_operation_within_the_limits_is_forwarded() {
    assert_eq!(refused(json!({}), "{ a { b } }"), None);
    assert_eq!(run(json!({}), json!({"query": "query A { a }", "operationName": "A", "variables": null})), None);
}

#[test]
fn each_limit_has_its_error() {
    let code = |code: &str| Some(code.to_owned());
    assert_eq!(refused(json!({"max_depth": 1}), "{ a { b } }"), code("DEPTH_LIMIT_EXCEEDED"));
    assert_eq!(refused(json!({"max_cost": 10}), "{ a(first: 11) }"), code("COST_LIMIT_EXCEEDED"));
    assert_eq!(refused(json!({"max_cost": 11}), "{ a(first: 11) }"), None);
    assert_eq!(refused(json!({}), "{ __schema { types { name } } }"), code("INTROSPECTION_DISABLED"));
    assert_eq!(refused(json!({"introspection": true}), "{ __schema { types { name } } }"), None);
    assert_eq!(refused(json!({"operations": ["query"]}), "mutation { a }"), code("OPERATION_NOT_ALLOWED"));
    assert_eq!(refused(json!({"max_query_bytes": 4}), "{ abc }"), code("DOCUMENT_TOO_LARGE"));
    assert_eq!(refused(json!({}), "{ a"), code("GRAPHQL_PARSE_FAILED"));
    assert_eq!(refused(json!({}), "{ ...F }"), code("GRAPHQL_VALIDATION_FAILED"));
}

#[test]
fn with_a_list_only_what_is_on_it_runs() {
    let query = "query Me { me }";
    let hash = "c7cb8dc44b76d37e5d5f98db3a4d4b3e0e4bd3bd66a4ae5a1e21a4de45bbbb4b";
    let of = Sha256::digest(query).iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    let denied = Some("OPERATION_NOT_ALLOWED".to_owned());
    assert_eq!(refused(json!({"allow_sha256": [of]}), query), None);
    assert_eq!(refused(json!({"allow_sha256": [of.to_uppercase()]}), "query Me { me } "), denied);
    assert_eq!(refused(json!({"allow_sha256": [hash]}), query), denied);
    assert_eq!(refused(json!({"allow_names": ["Me"]}), query), None);
    assert_eq!(
        refused(json!({"allow_names": ["Me"], "max_depth": 1}), "query Me { me { all } }").unwrap(),
        "DEPTH_LIMIT_EXCEEDED"
    );
    assert_eq!(refused(json!({"allow_names": ["You"]}), query), denied);
    assert_eq!(refused(json!({"allow_names": ["Me"]}), "{ me }"), denied);

    let persisted = |hash: &str| json!({"extensions": {"persistedQuery": {"version": 1, "sha256Hash": hash}}});
    assert_eq!(run(json!({"allow_sha256": [hash]}), persisted(hash)), None);
    assert_eq!(run(json!({"allow_sha256": [hash]}), persisted(&of)), denied);
    assert_eq!(run(json!({}), persisted(hash)), denied);
    assert_eq!(run(json!({}), json!({})), denied);
}

#[test]
fn operations_count_while_they_run() {
    let mut filter = open(json!({"max_subscriptions": 2}));
    let ask = |filter: &mut GraphqlWs, id: &str| subscribe(filter, id, json!({"query": "subscription { a }"}));
    assert_eq!((ask(&mut filter, "1"), ask(&mut filter, "2")), (Verdict::Forward, Verdict::Forward));
    assert!(matches!(ask(&mut filter, "3"), Verdict::Reply(_)));
    down(&mut filter, json!({"type": "next", "id": "1", "payload": {}}));
    assert!(matches!(ask(&mut filter, "3"), Verdict::Reply(_)));
    down(&mut filter, json!({"type": "complete", "id": "1"}));
    assert_eq!(ask(&mut filter, "3"), Verdict::Forward);
    assert_eq!(up(&mut filter, json!({"type": "complete", "id": "2"})), Verdict::Forward);
    // What runs goes over to the next generation.
    let state = filter.save();
    let (config, _) = testing::init::<GraphqlWs>(r#"{"max_subscriptions": 2}"#).unwrap();
    let mut filter = GraphqlWs::resume(&config, &handshake(&[]), state, ResumeCause::Reload).unwrap().session;
    assert_eq!(ask(&mut filter, "4"), Verdict::Forward);
    assert!(matches!(ask(&mut filter, "5"), Verdict::Reply(_)));
    down(&mut filter, json!({"type": "error", "id": "3", "payload": []}));
    assert_eq!(ask(&mut filter, "5"), Verdict::Forward);
}

#[test]
fn broken_rules_close_with_the_codes_of_the_protocol() {
    let query = r#""payload":{"query":"{a}"}"#;
    for text in [
        "",
        "{",
        "[]",
        r#"{"type":"start"}"#,
        r#"{"type":"subscribe","payload":{"query":"{a}"}}"#,
        r#"{"type":"subscribe","id":"1"}"#,
        r#"{"type":"subscribe","id":1,"payload":{"query":"{a}"}}"#,
        r#"{"type":"subscribe","id":"","payload":{"query":"{a}"}}"#,
        r#"{"type":"subscribe","id":"1","payload":{"query":7}}"#,
        r#"{"type":"subscribe","id":"1","payload":{"query":"{a}","Query":"{b}"}}"#,
        r#"{"type":"subscribe","id":"1","payload":{"query":"{a}","query":"{b}"}}"#,
        r#"{"type":"ping","type":"subscribe","id":"1","payload":{"query":"{a}"}}"#,
        r#"{"type":"complete"}"#,
    ] {
        assert_eq!(closed(&mut open(json!({})), text), 4400, "{text}");
    }
    let mut early = opened(json!({}));
    assert_eq!(closed(&mut early, &format!(r#"{{"type":"subscribe","id":"1",{query}}}"#)), 4401);
    let mut filter = open(json!({}));
    assert_eq!(closed(&mut filter, r#"{"type":"connection_init"}"#), 4429);
    assert_eq!(subscribe(&mut filter, "1", json!({"query": "{a}"})), Verdict::Forward);
    assert_eq!(closed(&mut filter, &format!(r#"{{"type":"subscribe","id":"1",{query}}}"#)), 4409);
    let binary = filter.on_message(Direction::ToUpstream, vec![0].into()).unwrap();
    assert!(matches!(binary, Verdict::Close(CloseInfo { code: 4400, .. })));
    assert_eq!(up(&mut filter, json!({"type": "ping", "payload": {"any": 1}})), Verdict::Forward);
}

#[test]
fn only_the_one_subprotocol_is_agreed_on() {
    let (config, _) = testing::init::<GraphqlWs>("{}").unwrap();
    let admitted = GraphqlWs::open(&config, &handshake(&["graphql-ws", SUBPROTOCOL])).unwrap();
    assert_eq!(admitted.subprotocol.as_deref(), Some(SUBPROTOCOL));
    assert_eq!(GraphqlWs::open(&config, &handshake(&["graphql-ws"])).unwrap_err().status, 400);
}

#[test]
fn mistakes_are_refused_by_their_key() {
    let refused = |config: &str| testing::init::<GraphqlWs>(config).unwrap_err().to_string();
    assert_eq!(
        refused(r#"{"allow_sha256":["x"]}"#),
        "allow_sha256[0]: `x` is no SHA-256, expected 64 hexadecimal digits"
    );
    assert!(refused(r#"{"operations":["querry"]}"#).starts_with("operations[0]: unknown variant `querry`"));
    assert!(refused(r#"{"cost":{"field":{}}}"#).starts_with("cost.field: unknown field `field`"));
    assert_eq!(refused(r#"{"max_depth":0}"#), "max_depth: 1 to 128, not 0");
    assert!(refused(r#"{"operations":[]}"#).starts_with("operations: at least one"));
    assert!(refused(r#"{"max_dept":3}"#).starts_with("max_dept: unknown field"));
}
