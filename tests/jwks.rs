//! Keys that an issuer publishes by URL: the first ones, rotation, and an issuer that is slow, down or talks nonsense.

use std::{
    net::TcpListener,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    thread,
    time::{Duration, Instant},
};

use data_encoding::BASE64URL_NOPAD;
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use rcgen::{KeyPair, PKCS_ED25519, PublicKeyData};
use serde_json::{Value, json};

use crate::{
    support::{
        Gateway, Setup, http,
        http_server::{Reply, Server, answer, certificate},
        until,
        wire::{self, Wire},
    },
    tokens::{ask, bearer, now, open, refresh},
};

/// The bound of the interval between two fetches, and some.
const NEXT_FETCH: Duration = Duration::from_secs(20);

/// A key pair of the issuer.
struct Key {
    kid: &'static str,
    private: EncodingKey,
    public: Value,
}

fn key(kid: &'static str) -> Key {
    let pair = KeyPair::generate_for(&PKCS_ED25519).unwrap();
    let x = BASE64URL_NOPAD.encode(pair.der_bytes());
    let private = EncodingKey::from_ed_pem(pair.serialize_pem().as_bytes()).unwrap();
    Key { kid, private, public: json!({"kty": "OKP", "crv": "Ed25519", "use": "sig", "kid": kid, "x": x}) }
}

impl Key {
    fn token(&self, more: &Value) -> String {
        let mut claims = json!({"iss": "https://id.example.com", "aud": "chat", "sub": "ann", "exp": now() + 300});
        claims.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let header = Header { kid: Some(self.kid.to_owned()), ..Header::new(Algorithm::EdDSA) };
        encode(&header, &claims, &self.private).unwrap()
    }
}

fn set(keys: &[&Key]) -> Vec<u8> {
    let keys: Vec<_> = keys.iter().map(|key| &key.public).collect();
    answer(200, "cache-control: max-age=1\r\n", &json!({ "keys": keys }).to_string())
}

type Says = Box<dyn Fn() -> Reply + Send>;

/// An issuer that answers as it was told last.
struct Issuer {
    server: Server,
    says: Arc<Mutex<Says>>,
}

impl Issuer {
    fn saying(reply: impl Fn() -> Reply + Send + 'static) -> Self {
        let says: Arc<Mutex<Says>> = Arc::new(Mutex::new(Box::new(reply)));
        let told = Arc::clone(&says);
        let server = Server::start(move |asked| {
            assert!(asked.head.starts_with("get /keys http/1.1\r\n"), "{}", asked.head);
            let reply = told.lock().unwrap();
            reply()
        });
        Self { server, says }
    }

    fn with(keys: &[&Key]) -> Self {
        let set = set(keys);
        Self::saying(move || Reply::Bytes(set.clone()))
    }

    fn says(&self, reply: impl Fn() -> Reply + Send + 'static) {
        *self.says.lock().unwrap() = Box::new(reply);
    }

    fn publishes(&self, keys: &[&Key]) {
        let set = set(keys);
        self.says(move || Reply::Bytes(set.clone()));
    }

    fn requests(&self) -> usize {
        self.server.requests.load(SeqCst)
    }
}

fn config(url: &str, more: &str) -> String {
    format!(
        r#"
        [jwt.main]
        issuer = "https://id.example.com"
        audience = ["chat"]
        jwks_url = "{url}"
        algorithms = ["EdDSA"]
        {more}
        [[routes]]
        name = "main"
        path = "/*"
        target = "echo"
        auth = "main"
        "#
    )
}

fn start(issuer: &Issuer, more: &str) -> Gateway {
    Setup::new().start(&config(&issuer.server.url("/keys"), more))
}

fn status(gateway: &Gateway, token: &str) -> u16 {
    ask(gateway, &bearer(token)).status
}

fn wait_ready(gateway: &Gateway) {
    until("ready", Duration::from_secs(10), || http::get(gateway.admin(), "/readyz").status == 200);
}

fn loads(gateway: &Gateway, result: &str) -> f64 {
    gateway.metrics().sum("wsgate_jwt_key_loads_total", &[("jwt", "main"), ("result", result)])
}

#[test]
fn the_gateway_is_ready_once_the_first_keys_are_there() {
    let key = key("one");
    let issuer = Issuer::saying(|| Reply::Bytes(answer(503, "", "")));
    let gateway = start(&issuer, "");
    let answer = ask(&gateway, &bearer(&key.token(&json!({}))));
    assert_eq!(answer.status, 503);
    assert!(answer.header("retry-after").is_some());
    assert_eq!(status(&gateway, "x"), 503);
    let ready = http::get(gateway.admin(), "/readyz");
    assert_eq!((ready.status, ready.body.as_str()), (503, "not ready: the first keys of an issuer are not fetched\n"));
    gateway.wait_log(&["WARN", "the issuer's keys cannot be fetched", "503"]);
    issuer.publishes(&[&key]);
    wait_ready(&gateway);
    assert_eq!(status(&gateway, &key.token(&json!({}))), 101);
    assert_eq!((loads(&gateway, "ok"), loads(&gateway, "status") >= 1.0), (1.0, true));
    let at = gateway.metrics().sum("wsgate_jwt_keys_timestamp_seconds", &[("jwt", "main")]);
    assert!((at - now() as f64).abs() < 30.0, "{at}");
}

#[test]
fn a_new_key_counts_with_the_first_token_that_names_it_and_strangers_cause_no_further_fetch() {
    let (old, new, stranger) = (key("old"), key("new"), key("stranger"));
    let issuer = Issuer::with(&[&old]);
    // Nothing is fetched for other reasons meanwhile.
    let long = |keys: &[&Key]| {
        let set = String::from_utf8(set(keys)).unwrap().replace("max-age=1", "max-age=3000");
        move || Reply::After(Duration::from_millis(300), set.clone().into_bytes())
    };
    issuer.says(long(&[&old]));
    let gateway = start(&issuer, "refresh = true");
    wait_ready(&gateway);
    let mut live = open(&gateway, &old.token(&json!({})));
    issuer.says(long(&[&old, &new]));
    // While the one fetch is under way others wait for it.
    thread::scope(|scope| {
        for _ in 0..10 {
            scope.spawn(|| assert_eq!(status(&gateway, &new.token(&json!({}))), 101));
        }
    });
    assert_eq!(issuer.requests(), 2);
    for _ in 0..20 {
        assert_eq!(status(&gateway, &stranger.token(&json!({}))), 401);
    }
    assert_eq!(issuer.requests(), 2);
    live.text(&refresh(&new.token(&json!({}))));
    assert!(live.next_text().contains("refreshed"));
    assert_eq!(status(&gateway, &old.token(&json!({}))), 101);
}

#[test]
fn a_connection_refreshes_with_a_key_that_has_to_be_fetched_first() {
    let (old, new) = (key("old"), key("new"));
    let issuer = Issuer::with(&[&old]);
    let gateway = start(&issuer, "refresh = true");
    wait_ready(&gateway);
    let mut live = open(&gateway, &old.token(&json!({})));
    let both = set(&[&old, &new]);
    issuer.says(move || Reply::After(Duration::from_millis(500), both.clone()));
    let expires = now() + 400;
    live.text(&refresh(&new.token(&json!({ "exp": expires }))));
    // Meanwhile it is who it was.
    live.text("still");
    assert_eq!(live.next_text(), "still");
    let answer: Value = serde_json::from_str(&live.next_text()).unwrap();
    assert_eq!(answer, json!({"wsgate": "refreshed", "expires": expires}));
}

#[test]
fn a_key_that_was_withdrawn_does_not_count_after_the_next_fetch() {
    let (old, new) = (key("old"), key("new"));
    let issuer = Issuer::with(&[&old]);
    let gateway = start(&issuer, "");
    wait_ready(&gateway);
    let token = old.token(&json!({}));
    issuer.publishes(&[&new]);
    until("the old key is refused", NEXT_FETCH, || status(&gateway, &token) == 401);
    assert_eq!(status(&gateway, &new.token(&json!({}))), 101);
}

#[test]
fn the_last_good_keys_count_for_a_bounded_time_whatever_the_issuer_does() {
    let key = key("one");
    let issuer = Issuer::with(&[&key]);
    let gateway = start(&issuer, "jwks_max_stale = \"8s\"");
    wait_ready(&gateway);
    let token = key.token(&json!({}));
    type Case = (&'static str, fn() -> Reply);
    let nonsense: [Case; 5] = [
        ("too_large", || Reply::Bytes(answer(200, "", &"x".repeat(10_000_000)))),
        ("unfit", || Reply::Bytes(answer(200, "", "<html>"))),
        ("unfit", || Reply::Bytes(answer(200, "", r#"{"keys":[]}"#))),
        ("unavailable", || Reply::Last(b"HTTP/9 what\r\n\r\n".to_vec())),
        ("status", || Reply::Bytes(answer(302, "location: http://127.0.0.1:1/\r\n", ""))),
    ];
    let round = AtomicUsize::new(0);
    issuer.says(move || nonsense[round.fetch_add(1, SeqCst) % nonsense.len()].1());
    let fetched = Instant::now();
    for (result, _) in nonsense {
        until(result, NEXT_FETCH + Duration::from_secs(10), || loads(&gateway, result) >= 1.0);
        if fetched.elapsed() < Duration::from_secs(15) {
            assert_eq!(status(&gateway, &token), 101, "{result}");
        }
    }
    until("the keys are too old", Duration::from_secs(30), || status(&gateway, &token) == 503);
    assert!(fetched.elapsed() > Duration::from_secs(15), "too early: {:?}", fetched.elapsed());
    issuer.publishes(&[&key]);
    until("the issuer is back", Duration::from_secs(40), || status(&gateway, &token) == 101);
}

#[test]
fn an_issuer_that_hangs_or_is_down_delays_nobody_whose_key_is_known() {
    let (key, stranger) = (key("one"), key("stranger"));
    let issuer = Issuer::with(&[&key]);
    let gateway = start(&issuer, "");
    wait_ready(&gateway);
    issuer.says(|| Reply::Silence(Vec::new()));
    let begun = Instant::now();
    thread::scope(|scope| {
        let waits = scope.spawn(|| status(&gateway, &stranger.token(&json!({}))));
        while !waits.is_finished() {
            let asked = Instant::now();
            assert_eq!(status(&gateway, &key.token(&json!({}))), 101);
            assert!(asked.elapsed() < Duration::from_secs(2), "{:?}", asked.elapsed());
        }
        assert_eq!(waits.join().unwrap(), 401);
    });
    assert!(begun.elapsed() < Duration::from_secs(9), "{:?}", begun.elapsed());
    until("the fetch is given up", Duration::from_secs(20), || loads(&gateway, "timeout") >= 1.0);
    assert_eq!(status(&gateway, &key.token(&json!({}))), 101);
}

#[test]
fn an_issuer_that_nobody_reaches_at_the_start_is_tried_again() {
    let key = key("one");
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let gateway = Setup::new().start(&config(&format!("http://{address}/keys"), ""));
    until("refused", Duration::from_secs(10), || loads(&gateway, "unavailable") >= 1.0);
    let listener = TcpListener::bind(address).unwrap();
    let set = set(&[&key]);
    thread::spawn(move || {
        use std::io::{Read, Write};
        for mut stream in listener.incoming().flatten() {
            let _ = stream.read(&mut [0; 4096]);
            let _ = stream.write_all(&set);
        }
    });
    wait_ready(&gateway);
    assert_eq!(status(&gateway, &key.token(&json!({}))), 101);
}

#[test]
fn an_issuer_proves_who_it_is() {
    let key = key("one");
    let (trusted, other) = (certificate(), certificate());
    let (good, bad) = (set(&[&key]), set(&[&key]));
    let good = Server::start_tls(&trusted, move |_| Reply::Bytes(good.clone()));
    let bad = Server::start_tls(&other, move |_| Reply::Bytes(bad.clone()));
    for (server, expected) in [(good, 101), (bad, 503)] {
        let setup = Setup::new();
        setup.publish("roots.pem", trusted.cert.pem().as_bytes());
        let roots = setup.path("roots.pem");
        let url = format!("https://localhost:{}/keys", server.address.port());
        let gateway = setup.with_env("SSL_CERT_FILE", &roots).start(&config(&url, ""));
        let result = if expected == 101 { "ok" } else { "unavailable" };
        until(result, Duration::from_secs(10), || loads(&gateway, result) >= 1.0);
        assert_eq!(status(&gateway, &key.token(&json!({}))), expected);
    }
}

#[test]
fn keys_in_a_file_count_anew_when_the_file_changes() {
    let (old, new) = (key("old"), key("new"));
    let file = |keys: &[&Key]| {
        json!({ "keys": keys.iter().map(|key| &key.public).collect::<Vec<_>>() }).to_string().into_bytes()
    };
    let setup = Setup::new();
    setup.publish("jwks.json", &file(&[&old]));
    let gateway = setup.start(&config("", "").replace("jwks_url = \"\"", "jwks_file = \"jwks.json\""));
    assert_eq!(status(&gateway, &old.token(&json!({}))), 101);
    let mut live = Wire::open_with(
        gateway.address(),
        &[wire::request(gateway.address(), "/"), bearer(&old.token(&json!({}))).to_vec()].concat(),
    )
    .0;
    gateway.folder().publish("jwks.json", b"{ \"keys\": [");
    gateway.wait_log(&["ERROR", "the new keys cannot be used", "jwks.json"]);
    assert_eq!(status(&gateway, &old.token(&json!({}))), 101);
    gateway.folder().publish("jwks.json", &file(&[&new]));
    until("the new key counts", Duration::from_secs(10), || status(&gateway, &new.token(&json!({}))) == 101);
    assert_eq!(status(&gateway, &old.token(&json!({}))), 401);
    live.text("on");
    assert_eq!(live.next_text(), "on");
}
