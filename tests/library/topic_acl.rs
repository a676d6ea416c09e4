//! `topic-acl`: mqtt.js against mosquitto, stompjs against a small server of its own.

use std::process::Command;

use serde_json::{Value, json};
use tempfile::TempDir;

use super::{gateway, token};
use crate::support::{
    Gateway, SOON,
    peer::{NodeWs, Script},
    process::Process,
};

/// Debian's broker with a WebSocket listener on a free port.
struct Mosquitto {
    _process: Process,
    _folder: TempDir,
    url: String,
}

impl Mosquitto {
    fn start() -> Self {
        let folder = TempDir::with_prefix("wsgate-mosquitto-").unwrap();
        let config = folder.path().join("mosquitto.conf");
        // Version 2.0.11 ends at once where every listener is for WebSocket.
        let other = folder.path().join("socket");
        let lines = [
            "allow_anonymous true",
            // libwebsockets says which port it got.
            "websockets_log_level 255",
            "log_dest stderr",
            "log_type all",
            // Another user, which it becomes where it is started as root, may not write here.
            "user root",
            "listener 0 127.0.0.1",
            "socket_domain ipv4",
            "protocol websockets",
            &format!("listener 0 {}", other.display()),
        ];
        std::fs::write(&config, lines.join("\n")).unwrap();
        let mut command = Command::new(program());
        let process = Process::start("mosquitto", command.arg("-c").arg(&config));
        let port = process.stderr.wait(SOON, |lines| {
            let ready = lines.iter().any(|line| line.contains("running"));
            let port =
                lines.iter().find_map(|line| line.split("Listening on port ").nth(1)?.trim().parse::<u16>().ok());
            port.filter(|_| ready)
        });
        let port = port.unwrap_or_else(|| panic!("mosquitto did not start\n{}", process.stderr.text()));
        Self { _process: process, _folder: folder, url: format!("ws://127.0.0.1:{port}") }
    }
}

fn program() -> &'static str {
    let places = ["/usr/sbin/mosquitto", "/usr/local/sbin/mosquitto", "/opt/homebrew/sbin/mosquitto"];
    let found = places.into_iter().find(|place| std::path::Path::new(place).exists());
    found.expect("mosquitto is missing; install it with `apt-get install mosquitto`")
}

const CONFIG: &str = r#"
    [filters.topic-acl.config]
    publish = ["sensors/{claim:sub}/#", "/queue/{claim:sub}"]
    subscribe = ["sensors/{claim:sub}/#", "news/+", "/queue/{claim:sub}"]
    client_ids = ["{claim:sub}", "{claim:sub}-*"]
"#;

fn mqtt(gateway: &Gateway, version: u8, user: &str, more: Value) -> (Script, Value) {
    let client = Script::driven(NodeWs.command("mqtt"));
    let mut command = json!({ "do": "connect", "url": gateway.url("/mqtt"), "token": token(user), "version": version });
    command["id"] = format!("{user}-1").into();
    for (name, value) in more.as_object().unwrap() {
        command[name] = value.clone();
    }
    let answer = client.call(&command);
    (client, answer)
}

fn publish(client: &Script, topic: &str, payload: &str, qos: u8) -> Value {
    client.call(&json!({ "do": "publish", "topic": topic, "payload": payload, "qos": qos }))
}

#[test]
fn mqtt_clients_use_their_own_topics_and_learn_of_others_what_their_version_can_say() {
    let broker = Mosquitto::start();
    let gateway = gateway(&broker.url, "topic-acl", "topic_acl", CONFIG);
    for (version, refused, published) in [(4, 128, [0, 0]), (5, 135, [135, 135])] {
        let (ann, connected) = mqtt(&gateway, version, "ann", json!({}));
        assert_eq!(connected["connack"], 0, "{connected}");
        let filters = ["sensors/ann/#", "sensors/bob/#", "sensors/#", "news/+", "#", "$SYS/#"];
        let answer = ann.call(&json!({ "do": "subscribe", "filters": filters }));
        assert_eq!(answer["codes"], json!([1, refused, refused, 1, refused, refused]));
        let answer = ann.call(&json!({ "do": "subscribe", "filters": ["sensors/bob/1"] }));
        assert_eq!(answer["codes"], json!([refused]));

        // Bob may not publish into ann's topics, ann may. What is refused at no quality reaches anybody.
        let (bob, _) = mqtt(&gateway, version, "bob", json!({}));
        assert_eq!(publish(&bob, "sensors/ann/1", "forged", 0)["code"], 0);
        assert_eq!(publish(&bob, "sensors/ann/1", "forged", 1)["code"], published[0]);
        assert_eq!(publish(&bob, "sensors/ann/1", "forged", 2)["code"], published[1]);
        assert_eq!(publish(&bob, "sensors/bob/1", "his own", 2)["code"], 0);
        for qos in 0..3 {
            assert_eq!(publish(&ann, "sensors/ann/1", &format!("quality {qos}"), qos)["code"], 0);
            let message = ann.call(&json!({ "do": "receive" }));
            assert_eq!(message, json!({ "topic": "sensors/ann/1", "payload": format!("quality {qos}") }));
        }

        let will = json!({ "topic": "sensors/bob/gone", "payload": "", "qos": 0 });
        let (_, refused) = mqtt(&gateway, version, "ann", json!({ "id": "ann-2", "will": will }));
        assert_eq!(refused["connack"], if version == 5 { 135 } else { 5 }, "{refused}");
        let (_, refused) = mqtt(&gateway, version, "ann", json!({ "id": "bob-1" }));
        assert_eq!(refused["connack"], if version == 5 { 133 } else { 2 }, "{refused}");
        ann.call(&json!({ "do": "end" }));
        bob.call(&json!({ "do": "end" }));
    }
    let metrics = gateway.metrics();
    let refusals =
        |action: &str| metrics.sum("wsgate_filter_custom_refusals_total", &[("protocol", "mqtt"), ("action", action)]);
    assert_eq!((refusals("publish"), refusals("subscribe")), (6.0, 4.0));
    assert_eq!((refusals("will"), refusals("client_id")), (2.0, 2.0));
    assert_eq!(metrics.sum("wsgate_filter_reasons_total", &[("reason", "will_denied")]), 2.0);
    gateway.wait_log(&["closed", "filter_reason=topic-acl:will_denied", "code=1008"]);
}

#[test]
fn a_reload_in_the_middle_of_an_mqtt_session_loses_nothing() {
    let broker = Mosquitto::start();
    let gateway = gateway(&broker.url, "topic-acl", "topic_acl", CONFIG);
    let (ann, _) = mqtt(&gateway, 5, "ann", json!({}));
    ann.call(&json!({ "do": "subscribe", "filters": ["sensors/ann/#"] }));
    let say = |alias: &str| {
        let topic = if alias == "set" { "sensors/ann/1" } else { "" };
        ann.call(&json!({ "do": "publish", "topic": topic, "payload": alias, "qos": 1, "alias": 1 }))
    };
    assert_eq!(say("set")["code"], 0);
    let bytes = crate::support::guests::other(&crate::support::guest("topic_acl"));
    gateway.folder().publish("filters/topic-acl.wasm", &bytes);
    gateway.wait_metric("wsgate_filter_generation", &[("filter", "topic-acl")], 2.0);
    assert_eq!(say("used")["code"], 0);
    for payload in ["set", "used"] {
        assert_eq!(ann.call(&json!({ "do": "receive" })), json!({ "topic": "sensors/ann/1", "payload": payload }));
    }
}

#[test]
fn stomp_clients_get_an_error_frame_for_what_is_not_theirs() {
    let server = Script::driven(NodeWs.command("stomp-server"));
    let url = format!("ws://127.0.0.1:{}", server.next()["port"]);
    let gateway = gateway(&url, "topic-acl", "topic_acl", CONFIG);
    let connect = |split: Value| {
        let client = Script::driven(NodeWs.command("stomp"));
        let command = json!({ "do": "connect", "url": gateway.url("/stomp"), "token": token("ann"), "split": split });
        assert_eq!(client.call(&command), json!({ "version": "1.2" }));
        client
    };
    let receive = |client: &Script| client.call(&json!({ "do": "receive" }));

    // Frames that the client cuts into pieces, too.
    for split in [Value::Null, json!(7)] {
        let client = connect(split);
        client.call(&json!({ "do": "subscribe", "destination": "/queue/ann", "id": "s" }));
        client.call(&json!({ "do": "send", "destination": "/queue/bob", "body": "is dropped" }));
        client.call(&json!({ "do": "send", "destination": "/queue/ann", "body": "schön\n\nda" }));
        assert_eq!(receive(&client), json!({ "body": "schön\n\nda" }));

        let refused = json!({ "do": "send", "destination": "/queue/bob", "body": "x", "receipt": "r1" });
        client.call(&refused);
        let error = json!({ "stomp_error": "this destination may not be sent to", "receipt": "r1" });
        assert_eq!((receive(&client), receive(&client)), (error, json!({ "closed": 1008 })));
    }
    let client = connect(Value::Null);
    client.call(&json!({ "do": "subscribe", "destination": "/queue/*", "id": "s" }));
    assert_eq!(receive(&client)["stomp_error"], "this destination may not be subscribed to");
    assert_eq!(receive(&client), json!({ "closed": 1008 }));
    assert!(!server.seen().contains("/queue/bob"), "{}", server.seen());
}

#[test]
fn who_offers_neither_protocol_is_refused_before_the_broker_hears_of_it() {
    let gateway = gateway("ws://127.0.0.1:9", "topic-acl", "topic_acl", CONFIG);
    let client = crate::support::peer::PeerClient::start(NodeWs);
    let headers = json!({ "Authorization": format!("Bearer {}", token("ann")) });
    let answer = client.connect(json!({ "url": gateway.url("/"), "subprotocols": ["chat.v1"], "headers": headers }));
    assert_eq!(answer["status"], 400, "{answer}");
    gateway.wait_log(&["refused", "filter_reason=topic-acl:no_protocol"]);
}
