//! Who may use the admin API: tokens and their roles.

use std::process::Command;

use crate::support::{Gateway, Setup, http, until, upstream::ECHO};

const READ: &str = "read-read-read-read-read-read-read-read";
const OPERATE: &str = "operate-operate-operate-operate-operate";
const PAYLOAD: &str = "payload-payload-payload-payload-payload";

fn config(address: &str) -> String {
    format!(
        r#"
        [admin]
        address = "{address}"
        tokens = [
            {{ file = "read.token", role = "read" }},
            {{ file = "operate.token", role = "operate" }},
            {{ file = "payload.token", role = "payload" }},
        ]
        [health]
        address = "127.0.0.1:0"
        {ECHO}
        "#
    )
}

fn setup() -> Setup {
    let setup = Setup::new();
    for (name, token) in [("read", READ), ("operate", OPERATE), ("payload", PAYLOAD)] {
        setup.publish(&format!("{name}.token"), format!("{token}\n").as_bytes());
    }
    setup
}

fn ask(gateway: &Gateway, line: &str, head: &str) -> http::Response {
    let address = gateway.admin();
    let head = format!("Host: {address}\r\nContent-Type: application/json\r\nContent-Length: 2\r\n{head}");
    http::request(address, &format!("{line} HTTP/1.1\r\n{head}Connection: close\r\n\r\n{{}}")).unwrap()
}

fn with(gateway: &Gateway, line: &str, token: &str) -> u16 {
    ask(gateway, line, &format!("Authorization: Bearer {token}\r\n")).status
}

#[test]
fn a_token_goes_as_far_as_its_role() {
    let gateway = setup().start(&config("127.0.0.1:0"));
    for path in ["/v1/filters", "/metrics", "/v1/revocations"] {
        for token in [READ, OPERATE, PAYLOAD] {
            assert_eq!(with(&gateway, &format!("GET {path}"), token), 200, "{path}");
        }
    }
    // Who may ask gets the answer of the order: there is no such filter, the body is no revocation.
    for (order, answer) in [
        ("POST /v1/filters/none/rollback", 404),
        ("DELETE /v1/filters/none/quarantine/abc", 404),
        ("POST /v1/filters/none/mode", 400),
        ("POST /v1/revocations", 400),
    ] {
        let refused = ask(&gateway, order, &format!("Authorization: Bearer {READ}\r\n"));
        assert_eq!(refused.status, 403, "{order}");
        assert_eq!(refused.header("www-authenticate"), Some("Bearer error=\"insufficient_scope\""));
        assert_eq!(refused.header("content-type"), Some("application/problem+json"));
        assert_eq!([with(&gateway, order, OPERATE), with(&gateway, order, PAYLOAD)], [answer, answer], "{order}");
    }
}

#[test]
fn whoever_has_no_token_that_counts_is_answered_401() {
    let gateway = setup().start(&config("127.0.0.1:0"));
    let double = format!("Authorization: Bearer {READ}\r\nAuthorization: Bearer {READ}\r\n");
    let heads = [
        String::new(),
        "Authorization: Bearer\r\n".to_owned(),
        "Authorization: Bearer \r\n".to_owned(),
        format!("Authorization: Basic {READ}\r\n"),
        format!("Authorization: {READ}\r\n"),
        format!("Authorization: Bearer {}\r\n", &READ[1..]),
        format!("Authorization: Bearer {READ}x\r\n"),
        format!("Authorization: Bearer {}\r\n", READ.to_uppercase()),
        format!("X-Authorization: Bearer {READ}\r\n"),
        double,
    ];
    for head in &heads {
        for line in ["GET /v1/filters", "GET /metrics", "POST /v1/revocations", "GET /v1/revocations?access_token=x"] {
            let answer = ask(&gateway, line, head);
            assert_eq!((answer.status, answer.header("www-authenticate")), (401, Some("Bearer")), "{line} {head}");
            assert!(!answer.body.contains("build_info"), "{}", answer.body);
        }
    }
    assert!(!gateway.log().contains(READ));
}

#[test]
fn probes_need_no_token_and_metrics_for_all_are_on_the_health_listener() {
    let gateway = setup().start(&config("127.0.0.1:0"));
    for path in ["/livez", "/healthz", "/readyz"] {
        assert_eq!(http::get(gateway.admin(), path).status, 200, "{path}");
    }
    let announced = gateway.announced();
    let url = announced.lines().find_map(|line| line.strip_prefix("health")).unwrap().trim().to_owned();
    let health = url.strip_prefix("http://").unwrap().parse().unwrap();
    assert_eq!(http::get(health, "/metrics").status, 200);
}

#[test]
fn a_foreign_host_is_refused_with_a_token_too_and_the_address_that_was_asked_is_our_own() {
    let gateway = setup().start(&config("0.0.0.0:0"));
    let port = gateway.admin().port();
    let ask = |host: &str, more: &str| {
        let head = format!("Host: {host}\r\nAuthorization: Bearer {READ}\r\n{more}Connection: close\r\n\r\n");
        let address = ([127, 0, 0, 2], port).into();
        http::request(address, &format!("GET /v1/filters HTTP/1.1\r\n{head}")).unwrap().status
    };
    assert_eq!(ask(&format!("127.0.0.2:{port}"), ""), 200);
    assert_eq!(ask("evil.example", ""), 403);
    assert_eq!(ask("192.0.2.1", ""), 403);
    assert_eq!(ask(&format!("127.0.0.2:{port}"), "Origin: https://evil.example\r\n"), 403);
    gateway.wait_log(&["WARN", "admin.address", "in the clear"]);
}

#[test]
fn a_token_changes_with_its_file_and_does_not_count_without_it() {
    let gateway = setup().start(&config("127.0.0.1:0"));
    let new = "another-token-of-the-same-role-and-length";
    gateway.folder().publish("read.token", new.as_bytes());
    let within = std::time::Duration::from_secs(10);
    until("the new token counts", within, || with(&gateway, "GET /v1/filters", new) == 200);
    assert_eq!(with(&gateway, "GET /v1/filters", READ), 401);
    std::fs::remove_file(gateway.folder().path("read.token")).unwrap();
    until("it does not count", within, || with(&gateway, "GET /v1/filters", new) == 401);
    assert_eq!(with(&gateway, "GET /v1/filters", OPERATE), 200);
    gateway.folder().publish("read.token", READ.as_bytes());
    until("it counts again", within, || with(&gateway, "GET /v1/filters", READ) == 200);
    assert!(!gateway.log().contains(new));
}

#[test]
fn tokens_that_are_short_or_missing_keep_the_gateway_from_starting() {
    let listener = "[[listeners]]\naddress = \"127.0.0.1:0\"\n";
    for (content, part) in
        [(Some("short\n"), "a token of 5 bytes"), (Some(&*"two words ".repeat(5)), "one line"), (None, "cannot read")]
    {
        let setup = setup();
        match content {
            Some(content) => setup.publish("read.token", content.as_bytes()),
            None => std::fs::remove_file(setup.path("read.token")).unwrap(),
        }
        let failure = setup.fails(&format!("{listener}{}", config("127.0.0.1:0")));
        assert_eq!(failure.status.code(), Some(78), "{}", failure.stderr);
        assert!(failure.stderr.contains(part) && failure.stderr.contains("read.token"), "{}", failure.stderr);
    }
}

#[test]
fn the_command_line_sends_a_token() {
    let gateway = setup().start(&config("127.0.0.1:0"));
    let admin = format!("http://{}", gateway.admin());
    let wsgate = |arguments: &[&str], token: Option<&str>| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_wsgate"));
        command.args(["filter"]).args(arguments).args(["--admin", &admin]).env_remove("WSGATE_ADMIN_TOKEN");
        let out = command.envs(token.map(|token| ("WSGATE_ADMIN_TOKEN", token))).output().unwrap();
        (out.status.success(), String::from_utf8(out.stderr).unwrap())
    };
    let file = gateway.folder().path("read.token");
    let file = file.to_str().unwrap();
    assert_eq!(wsgate(&["ls", "--token-file", file], None), (true, String::new()));
    assert_eq!(wsgate(&["ls"], Some(READ)), (true, String::new()));
    // The file comes first.
    assert_eq!(wsgate(&["ls", "--token-file", file], Some("x")), (true, String::new()));
    for (arguments, token, part) in [
        (&["ls"][..], None, "a token that counts"),
        (&["ls"], Some("x"), "a token that counts"),
        (&["mode", "redact", "bypass"], Some(READ), "role does not go so far"),
        (&["mode", "redact", "bypass"], Some(OPERATE), "no filter of this name"),
        (&["ls", "--token-file", "nowhere"], None, "cannot read the token in nowhere"),
    ] {
        let (success, said) = wsgate(arguments, token);
        assert!(!success && said.contains(part), "{arguments:?}: {said}");
    }
}
