//! Tokens of clients: who gets in, what of it travels on, and what happens to a live connection whose token runs out.

use std::{
    io::{ErrorKind, Read, Write},
    net::{Shutdown, TcpStream},
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use jsonwebtoken::{EncodingKey, Header, encode};
use serde_json::{Value, json};

use crate::support::{
    Gateway, SOON, Setup,
    http::Response,
    peer::{LIBRARIES, NodeWs, PeerClient, PeerServer, PythonWebsockets},
    until,
    wire::{self, Wire},
};

pub(crate) const SECRET: &str = "a secret of at least thirty-two bytes";

pub(crate) fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}

/// A genuine token of `ann`; `more` replaces and adds claims.
pub(crate) fn token(more: Value) -> String {
    let mut claims = json!({
        "iss": "https://id.example.com", "aud": "chat", "sub": "ann", "scope": "chat write", "exp": now() + 300,
        "roles": ["reader", "writer"]
    });
    for (name, value) in more.as_object().unwrap() {
        claims[name] = value.clone();
    }
    encode(&Header::default(), &claims, &EncodingKey::from_secret(SECRET.as_bytes())).unwrap()
}

pub(crate) fn config(upstream: Option<&str>, jwt: &str, route: &str) -> String {
    let target = match upstream {
        Some(url) => format!("[upstreams.main]\nendpoints = [\"{url}\"]\n[[routes]]\nupstream = \"main\""),
        None => "[[routes]]\ntarget = \"echo\"".to_owned(),
    };
    format!(
        r#"
        [jwt.main]
        issuer = "https://id.example.com"
        audience = ["chat"]
        secret_file = "secret"
        algorithms = ["HS256"]
        required_scopes = ["chat"]
        {jwt}

        {target}
        name = "main"
        path = "/*"
        auth = "main"
        {route}
        "#
    )
}

fn start(upstream: Option<&str>, jwt: &str, route: &str) -> Gateway {
    let setup = Setup::new().guest("filters/faulty.wasm", "guest_faulty");
    setup.publish("secret", format!("{SECRET}\n").as_bytes());
    setup.start(&config(upstream, jwt, route))
}

const EVERYWHERE: &str = r#"from = ["header", "subprotocol", "cookie:session", "query:access_token"]"#;

#[test]
fn a_token_opens_from_each_place_and_travels_on_from_none_but_the_header() {
    for library in LIBRARIES {
        let server = PeerServer::start(library);
        let gateway = start(Some(&server.url("")), EVERYWHERE, "");
        let token = token(json!({}));
        let client = PeerClient::start(PythonWebsockets);
        let places = [
            json!({"url": gateway.url("/a?x=1"), "headers": {"Authorization": format!("Bearer {token}")}}),
            json!({"url": gateway.url(&format!("/a?x=1&access_token={token}"))}),
            json!({"url": gateway.url("/a?x=1"), "headers": {"Cookie": format!("a=b; session={token}")}}),
            json!({"url": gateway.url("/a?x=1"), "subprotocols": ["bearer", token]}),
        ];
        for (at, place) in places.into_iter().enumerate() {
            let answer = client.connect(place);
            assert_eq!(answer["status"], 101, "{answer}");
            // A browser gives up where none of its subprotocols is answered.
            assert_eq!(answer["subprotocol"], if at == 3 { json!("bearer") } else { Value::Null });
            let opened = server.opened();
            assert_eq!(opened["path"], "/a?x=1");
            assert_eq!(opened.to_string().contains(&token), at == 0, "{opened}");
        }
        assert!(!gateway.log().contains(&token), "{}", gateway.log());
    }
}

#[test]
fn a_subprotocol_of_the_client_is_negotiated_beside_its_token() {
    let server = PeerServer::start(PythonWebsockets);
    let gateway = start(Some(&server.url("")), EVERYWHERE, "");
    let client = PeerClient::start(NodeWs);
    let subprotocols = json!(["bearer", token(json!({})), "chat.v1"]);
    let answer = client.connect(json!({"url": gateway.url("/"), "subprotocols": subprotocols}));
    assert_eq!(answer["subprotocol"], "chat.v1");
    assert_eq!(server.opened()["headers"]["sec-websocket-protocol"], "chat.v1");
}

pub(crate) fn ask(gateway: &Gateway, more: &[String]) -> Response {
    let mut lines = wire::request(gateway.address(), "/");
    lines.extend_from_slice(more);
    let mut wire = Wire::connect(gateway.address());
    let mut answer = wire.ask(&lines);
    if answer.status != 101 {
        answer.body = wire.rest();
    }
    answer
}

pub(crate) fn bearer(token: &str) -> [String; 1] {
    [format!("Authorization: Bearer {token}")]
}

#[test]
fn whoever_has_no_good_token_learns_nothing_but_that() {
    let server = PeerServer::start(PythonWebsockets);
    let gateway = start(Some(&server.url("")), "", "");
    let good = token(json!({}));
    let stranger = encode(&Header::default(), &json!({"sub": "ann"}), &EncodingKey::from_secret(&[7; 32])).unwrap();
    let cases: [&[String]; 8] = [
        &[],
        &bearer("x"),
        &bearer(&stranger),
        &bearer(&token(json!({"exp": now() - 100}))),
        &bearer(&token(json!({"aud": "mail"}))),
        &bearer(&token(json!({"iss": "https://evil.example.com"}))),
        &[bearer(&good), bearer(&good)].concat(),
        // Not a place where tokens are looked for here.
        &[format!("Cookie: session={good}")],
    ];
    let mut bodies = Vec::new();
    for case in cases {
        let answer = ask(&gateway, case);
        assert_eq!((answer.status, answer.header("www-authenticate")), (401, Some("Bearer")), "{case:?}");
        bodies.push(answer.body);
    }
    bodies.dedup();
    assert_eq!(bodies.len(), 1, "answers differ: {bodies:?}");
    let poor = ask(&gateway, &bearer(&token(json!({"scope": "chatty"}))));
    assert_eq!((poor.status, poor.header("www-authenticate")), (403, Some("Bearer error=\"insufficient_scope\"")));
    assert_eq!(ask(&gateway, &bearer(&good)).status, 101);
    let metrics = gateway.metrics();
    let refused = |result| metrics.sum("wsgate_handshakes_total", &[("route", "main"), ("result", result)]);
    assert_eq!((refused("unauthorized"), refused("forbidden"), refused("switched")), (8.0, 1.0, 1.0));
    assert_eq!(server.opened()["path"], "/");
    assert!(!gateway.log().contains(&good));
}

#[test]
fn claims_become_headers_and_nobody_else_may_set_them() {
    let server = PeerServer::start(PythonWebsockets);
    let route = r#"claims_to_headers = { x-user-id = "sub", x-roles = "roles", x-none = "none" }"#;
    let gateway = start(Some(&server.url("")), "", route);
    let mut lines = bearer(&token(json!({}))).to_vec();
    lines.extend(["X-User-Id: root".to_owned(), "x-none: root".to_owned()]);
    assert_eq!(ask(&gateway, &lines).status, 101);
    let headers = server.opened()["headers"].clone();
    assert_eq!((&headers["x-user-id"], &headers["x-roles"]), (&json!("ann"), &json!("reader,writer")));
    assert_eq!(headers["x-none"], Value::Null);
}

pub(crate) fn open(gateway: &Gateway, token: &str) -> Wire {
    let mut lines = wire::request(gateway.address(), "/");
    lines.extend(bearer(token));
    Wire::open_with(gateway.address(), &lines).0
}

#[test]
fn a_live_connection_is_closed_when_its_token_runs_out() {
    let server = PeerServer::start(PythonWebsockets);
    let gateway = start(Some(&server.url("")), r#"on_expiry = { grace = "1s", code = 4123 }"#, "");
    let expires = now() + 2;
    let mut wire = open(&gateway, &token(json!({ "exp": expires })));
    wire.text("hello");
    assert_eq!(wire.next_text(), "hello");
    assert_eq!(wire.next_close(), (4123, "token expired".to_owned()));
    assert!((expires + 1..expires + 4).contains(&now()), "{} s late", now() - expires - 1);
    assert_eq!(server.closed(), (1008, "closed by policy".to_owned()));
    gateway.wait_log(&["token_expired"]);
}

pub(crate) fn refresh(token: &str) -> String {
    json!({"wsgate": "refresh", "token": token}).to_string()
}

#[test]
fn a_client_that_sends_a_new_token_stays() {
    let server = PeerServer::start(NodeWs);
    let filters = "filters = [\"faulty\"]\n[filters.faulty]\nconfig = { mode = \"identity\" }";
    let gateway = start(Some(&server.url("")), "refresh = true", filters);
    let mut wire = open(&gateway, &token(json!({ "exp": now() + 2 })));
    let expires = now() + 300;
    wire.text(&refresh(&token(json!({"exp": expires, "scope": "chat admin"}))));
    let mut answers = [wire.next_text(), wire.next_text()];
    answers.sort();
    assert_eq!(answers[0], format!("identity subject=ann scopes=chat,admin expires={expires}"));
    assert_eq!(serde_json::from_str::<Value>(&answers[1]).unwrap(), json!({"wsgate": "refreshed", "expires": expires}));
    // Beyond the end of the first token.
    until("the first token is over", SOON, || now() > expires - 296);
    wire.text("still here");
    assert_eq!(wire.next_text(), "still here");
    // The upstream echoes whatever reaches it: no token did.
    wire.close(1000, "");
    assert_eq!(wire.next_close().0, 1000);
}

#[test]
fn a_new_token_must_be_good_and_of_the_same_client() {
    let gateway = start(None, "refresh = true", "");
    let closes = |message: &str| {
        let mut wire = open(&gateway, &token(json!({})));
        wire.text(message);
        wire.next_close()
    };
    assert_eq!(closes(&refresh("x")), (4401, "token refused".to_owned()));
    assert_eq!(closes(&refresh(&token(json!({"exp": now() - 60})))).0, 4401);
    assert_eq!(closes(&refresh(&token(json!({"scope": ""})))).0, 4401);
    assert_eq!(closes(r#"{"wsgate":"refresh"}"#).0, 4401);
    assert_eq!(closes(&refresh(&token(json!({"sub": "bob"})))), (4403, "identity changed".to_owned()));
    // What only looks like it is a message like any other.
    let mut wire = open(&gateway, &token(json!({})));
    for message in [r#"{"wsgate":"refreshed","token":"x"}"#, r#"{"wsgate":"#, r#"{"a":{"wsgate":"refresh"}}"#] {
        wire.text(message);
        assert_eq!(wire.next_text(), message);
    }
}

#[test]
fn without_refresh_such_a_message_is_one_like_any_other() {
    let gateway = start(None, "", "");
    let mut wire = open(&gateway, &token(json!({})));
    wire.text(&refresh("x"));
    assert_eq!(wire.next_text(), refresh("x"));
}

#[test]
fn a_secret_that_can_be_guessed_keeps_the_gateway_from_starting() {
    let setup = Setup::new();
    setup.publish("secret", b"too short");
    let listeners = "[[listeners]]\naddress = \"127.0.0.1:0\"\n[admin]\naddress = \"127.0.0.1:0\"\n";
    let failure = setup.fails(&format!("{listeners}{}", config(None, "", "")));
    assert_eq!(failure.status.code(), Some(78));
    assert!(failure.stderr.contains("9 bytes") && failure.stderr.contains("at least 32"), "{}", failure.stderr);
}

const SILENT: usize = 5_000;

/// Half of the clients answer the Close; the others neither read nor write any more.
#[test]
fn five_thousand_silent_connections_whose_tokens_end_together_are_closed_together() {
    let gateway = start(None, "", "");
    let quiet = gateway.settled_fds();
    let expires = now() + 20;
    let short = token(json!({ "exp": expires }));
    let request = {
        let mut lines = wire::request(gateway.address(), "/");
        lines.extend(bearer(&short));
        format!("{}\r\n\r\n", lines.join("\r\n"))
    };
    let mut sockets: Vec<TcpStream> = (0..SILENT).map(|_| opened(&gateway, &request)).collect();
    assert!(now() < expires, "opening took too long");
    let mut calm = open(&gateway, &token(json!({})));
    let mut times = Vec::new();
    let mut closed = 0;
    let deadline = Instant::now() + Duration::from_secs(expires - now()) + Duration::from_secs(10);
    let mut answering = sockets.split_off(SILENT / 2);
    while gateway.fds() > quiet + 8 {
        assert!(Instant::now() < deadline, "{} descriptors left, {closed} closes seen", gateway.fds() - quiet);
        answering.retain_mut(|socket| {
            let mut frame = [0; 64];
            match socket.read(&mut frame) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => true,
                Ok(length) if length > 4 => {
                    assert_eq!((frame[0], &frame[2..4]), (0x88, &4401u16.to_be_bytes()[..]));
                    closed += 1;
                    let _ = socket.write_all(&[0x88, 0x82, 0, 0, 0, 0, 0x11, 0x31]);
                    let _ = socket.shutdown(Shutdown::Write);
                    true
                }
                _ => false,
            }
        });
        let begin = Instant::now();
        calm.text("tick");
        assert_eq!(calm.next_text(), "tick");
        times.push(begin.elapsed());
        std::thread::sleep(Duration::from_millis(5));
    }
    times.sort();
    let late = now() - expires;
    let (p99, worst) = (times[times.len() * 99 / 100], times[times.len() - 1]);
    println!("figure: {SILENT} expired together: {closed} answered closes, all descriptors back {late} s later");
    println!("figure: another connection meanwhile: p99 {p99:?}, worst {worst:?} of {}", times.len());
    assert_eq!(closed, SILENT / 2);
    drop(sockets);
}

pub(crate) fn opened(gateway: &Gateway, request: &str) -> TcpStream {
    let mut socket = TcpStream::connect(gateway.address()).unwrap();
    socket.write_all(request.as_bytes()).unwrap();
    let mut head = [0; 1024];
    let length = socket.read(&mut head).unwrap();
    assert!(head[..length].starts_with(b"HTTP/1.1 101"), "{}", String::from_utf8_lossy(&head[..length]));
    socket.set_nonblocking(true).unwrap();
    socket
}
