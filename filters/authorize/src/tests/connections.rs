//! Rules for connections.

use super::*;

/// The status of the answer; 101 where the connection is allowed.
fn status(config: &str, handshake: &Handshake) -> u16 {
    match Authorize::open(&super::config(config), handshake) {
        Ok(_) => 101,
        Err(refusal) => refusal.status,
    }
}

fn rules(rules: &str) -> String {
    format!(r#"{{ "connections": {{ "rules": [{rules}] }} }}"#)
}

fn allowed(when: &str, handshake: &Handshake) -> bool {
    status(&rules(&format!(r#"{{ "when": {when} }}"#)), handshake) == 101
}

fn with_identity(identity: Identity) -> Handshake {
    Handshake { identity: Some(identity), ..testing::handshake("/") }
}

#[test]
fn without_a_rule_that_holds_the_default_counts() {
    let plain = testing::handshake("/");
    assert_eq!(status(r#"{ "connections": {} }"#, &plain), 403);
    assert_eq!(status(r#"{ "connections": { "default": "allow" } }"#, &plain), 101);
    assert_eq!(status(r#"{ "connections": { "status": 404 } }"#, &plain), 404);
}

#[test]
fn the_first_rule_that_holds_decides() {
    let list = rules(
        r#"{ "when": { "path": "/admin/public" } },
           { "when": { "path": "/admin/*" }, "action": "deny", "status": 401 },
           { "when": { "path": "/*" } }"#,
    );
    let of = |path: &str| status(&list, &testing::handshake(path));
    assert_eq!((of("/admin/public"), of("/admin/x"), of("/%61dmin//x"), of("/chat")), (101, 401, 401, 101));
}

#[test]
fn denials_can_come_first() {
    let config = r#"{ "connections": { "order": "deny_first", "rules": [
        { "when": { "path": "/*" } }, { "when": { "client": "10.0.0.0/8" }, "action": "deny" } ] } }"#;
    let from = |client: &str| status(config, &Handshake { client: client.to_owned(), ..testing::handshake("/") });
    assert_eq!((from("10.1.2.3:5"), from("11.1.2.3:5")), (403, 101));
}

#[test]
fn each_part_of_the_request_can_be_asked_for() {
    let request = Handshake {
        host: "chat.example.com".into(),
        route: "chat".into(),
        query: Some("room=a%20b&x".into()),
        subprotocols: vec!["v1".into(), "v2".into()],
        client: "[::ffff:10.0.0.7]:443".into(),
        secure: true,
        client_certificate: Some("CN=ann".into()),
        ..testing::handshake("/chat/7")
            .with_parameter("room", "7")
            .with_header("x-team", "red")
            .with_header("x-team", "blue")
    };
    for holds in [
        "{}",
        r#"{ "path": "/chat/*", "host": "*.example.com", "route": "chat" }"#,
        r#"{ "subprotocol": "v2" }"#,
        r#"{ "client": "10.0.0.7" }"#,
        r#"{ "client": ["192.168.0.0/16", "10.0.0.0/24"] }"#,
        r#"{ "secure": true, "certificate": "CN=*" }"#,
        r#"{ "header": { "X-Team": ["green", "blue"], "x-debug": { "present": false } } }"#,
        r#"{ "query": { "room": "a b", "x": "", "y": { "present": false } }, "parameter": { "room": "7" } }"#,
        r#"{ "identity": { "present": false } }"#,
    ] {
        assert!(allowed(holds, &request), "{holds}");
    }
    for fails in [
        r#"{ "path": "/chat/*", "host": "other" }"#,
        r#"{ "subprotocol": "v3" }"#,
        r#"{ "client": "10.0.1.0/24" }"#,
        r#"{ "secure": false }"#,
        r#"{ "header": { "x-team": "green" } }"#,
        r#"{ "header": { "x-debug": "*" } }"#,
        r#"{ "query": { "room": "a%20b" } }"#,
        r#"{ "parameter": { "user": { "present": true } } }"#,
        r#"{ "identity": {  "present": true } }"#,
        r#"{ "identity": {  "subject": "*" } }"#,
    ] {
        assert!(!allowed(fails, &request), "{fails}");
    }
}

#[test]
fn each_part_of_an_identity_can_be_asked_for() {
    let ann = with_identity(identity(
        "ann",
        &["chat", "write"],
        r#"{"roles":["reader","admin"],"plan":{"level":2},"x":null}"#,
    ));
    for holds in [
        r#"{ "present": true, "subject": "ann", "issuer": "https://id.*" }"#,
        r#"{ "scopes": ["chat", "write"] }"#,
        r#"{ "any_scope": ["other", "chat"] }"#,
        r#"{ "claims": { "/roles": "admin", "/plan/level": [2, 3], "/x": { "present": true } } }"#,
    ] {
        assert!(allowed(&format!(r#"{{ "identity": {holds} }}"#), &ann), "{holds}");
    }
    for fails in [
        r#"{ "subject": "bob" }"#,
        r#"{ "scopes": ["chat", "admin"] }"#,
        r#"{ "any_scope": ["other"] }"#,
        r#"{ "claims": { "/roles": "adm" } }"#,
        r#"{ "claims": { "/plan/level": "2" } }"#,
        r#"{ "present": false }"#,
    ] {
        assert!(!allowed(&format!(r#"{{ "identity": {fails} }}"#), &ann), "{fails}");
    }
}

#[test]
fn an_exception_takes_requests_out_of_a_rule() {
    let list = rules(
        r#"{ "when": { "path": "/*" }, "unless": { "path": "/admin/*", "identity": { "any_scope": ["guest"] } } }"#,
    );
    let of = |path: &str, scope: &str| {
        status(&list, &Handshake { path: path.into(), ..with_identity(identity("ann", &[scope], "{}")) })
    };
    assert_eq!((of("/admin/x", "guest"), of("/admin/x", "staff"), of("/x", "guest")), (403, 101, 101));
}

#[test]
fn a_refusal_says_its_status_and_no_more() {
    let config = super::config(r#"{ "connections": { "status": 401, "rules": [] } }"#);
    let refusal = Authorize::open(&config, &testing::handshake("/")).unwrap_err();
    assert_eq!(refusal.body, br#"{"type":"about:blank","title":"Unauthorized","status":401}"#);
    assert!(refusal.headers.iter().any(|header| header.name == "www-authenticate" && header.value == b"Bearer"));
    assert!(refusal.headers.iter().any(|header| header.name == "content-type"));
}

#[test]
fn a_dry_run_refuses_nobody() {
    assert_eq!(status(r#"{ "connections": {}, "dry_run": true }"#, &testing::handshake("/")), 101);
}

const STAFF: &str = r#"{ "connections": { "rules": [{ "when": { "identity": { "scopes": ["staff"] } } }] } }"#;

#[test]
fn a_connection_that_loses_what_it_needs_is_closed() {
    let staff = with_identity(identity("ann", &["staff"], "{}"));
    let mut session = Authorize::open(&super::config(STAFF), &staff).unwrap().session;
    assert_eq!(session.on_identity(identity("ann", &["staff", "more"], "{}")), Ok(Vec::new()));
    assert_eq!(
        session.on_identity(identity("ann", &["more"], "{}")),
        Ok(vec![Action::close(4403, "no longer allowed")])
    );
    let lives = STAFF.replacen("\"rules\"", "\"live\": false, \"rules\"", 1);
    let mut session = Authorize::open(&super::config(&lives), &staff).unwrap().session;
    assert_eq!(session.on_identity(identity("ann", &[], "{}")), Ok(Vec::new()));
}

#[test]
fn a_reload_judges_open_connections_by_the_new_rules() {
    let resume = |config: &str, scope: &str| {
        let handshake = with_identity(identity("ann", &[scope], "{}"));
        Authorize::resume(&super::config(config), &handshake, None, ResumeCause::Reload).map(drop)
    };
    assert_eq!(resume(STAFF, "staff"), Ok(()));
    assert_eq!(resume(STAFF, "other"), Err(Rejection::close(4403, "no longer allowed")));
    assert_eq!(resume(&STAFF.replacen("\"rules\"", "\"live\": false, \"rules\"", 1), "other"), Ok(()));
}

#[test]
fn mistakes_are_refused_by_their_key() {
    let refused = |list: &str| refused_config(&rules(list));
    assert!(refused(r#"{ "wen": {} }"#).starts_with("connections.rules[0].wen: unknown field `wen`"));
    assert!(refused(r#"{ "when": { "header": "x" } }"#).starts_with("connections.rules[0].when.header: invalid type"));
    assert!(refused(r#"{ "when": { "client": "10.0.0.1/8" } }"#).contains("`10.0.0.0/8` is the network"));
    assert!(refused(r#"{ "when": { "client": "localhost" } }"#).contains("neither an address nor a network"));
    assert!(refused(r#"{ "when": { "client": 1 } }"#).contains("an address, a network"));
    assert!(refused(r#"{ "action": "deny", "status": 200 }"#).contains("rules[0].status: 400 to 499"));
    assert!(refused(r#"{ "status": 401 }"#).contains("rules[0].status: only a rule with action = \"deny\""));
    assert!(refused(r#"{ "when": { "identity": { "scope": ["a"] } } }"#).contains("identity.scope: unknown field"));
    assert!(refused(r#"{ "when": { "identity": { "claims": { "roles": "a" } } } }"#).contains("is no JSON pointer"));
    assert!(refused(r#"{ "name": "" }"#).contains("rules[0].name: 1 to 64 bytes"));
}
