//! What filters do to messages, seen from both ends.

use serde_json::Value;

use crate::support::{
    Gateway, SOON, Setup,
    peer::{LIBRARIES, PeerClient, PeerServer, PythonWebsockets},
    upstream::{ECHO, route_to},
    wire::{BINARY, CLOSE, PING, TEXT, Wire},
};

/// `faulty` on the echo route: it answers commands as the guest's documentation says.
fn faulty(config: &str) -> Gateway {
    let setup = Setup::new().guest("filters/faulty.wasm", "guest_faulty");
    setup.start(&format!("{ECHO}\nfilters = [\"faulty\"]\n[filters.faulty]\nconfig = {{ {config} }}"))
}

fn say(wire: &mut Wire, text: &str) -> String {
    wire.text(text);
    wire.next_text()
}

#[test]
fn redact_and_stamp_work_through_an_upstream_with_every_peer() {
    for upstream in LIBRARIES {
        let server = PeerServer::start(upstream);
        let setup = Setup::new().guest("filters/redact.wasm", "redact").guest("filters/stamp.wasm", "stamp");
        let filters = "filters = [\"redact\", \"stamp\"]\n[filters.redact]\nconfig = { patterns = [\"\\\\d{16}\"] }";
        let gateway = setup.start(&format!("{}\n{filters}", route_to(&server.url(""))));
        for client in LIBRARIES {
            let client = PeerClient::connected(client, &gateway.url("/"));
            client.send("card 1234567890123456");
            assert_eq!(client.receive(), "card [redacted] #1");
            client.send("{\"card\":\"1234567890123456\"}");
            assert_eq!(client.receive(), "{\"card\":\"[redacted]\",\"seq\":2}");
            client.send("!push 2 news");
            assert_eq!([client.receive(), client.receive()], ["news 0 #3", "news 1 #4"]);
            // Neither filter asked for binary messages.
            client.roundtrips("binary", 100, 1000, 10);
        }
    }
}

#[test]
fn each_verdict_is_carried_out() {
    let gateway = faulty("");
    let mut wire = Wire::open(gateway.address(), "/echo");
    assert_eq!(say(&mut wire, "forward"), "forward");
    assert_eq!(say(&mut wire, "replace:other"), "other");
    assert_eq!(say(&mut wire, "reply:back"), "back");
    wire.text("drop");
    assert_eq!(say(&mut wire, "count"), "count 5", "nothing came back of what was dropped");
    wire.text("replace-binary:3");
    let binary = wire.next().unwrap();
    assert_eq!((binary.opcode(), binary.payload), (BINARY, vec![0; 3]));
    wire.text("act:client:one|upstream:two|client:three");
    let mut three = [wire.next_text(), wire.next_text(), wire.next_text()];
    // What is sent to the client needs no way to the echo target and back.
    assert_eq!((three[0].as_str(), three[1].as_str()), ("one", "three"));
    assert_eq!(three[2], "two");
    three.sort();
    wire.text("act:client:last|close:4001:that is all|client:never");
    assert_eq!(wire.next_text(), "last");
    assert_eq!(wire.next_close(), (4001, "that is all".to_owned()));
}

#[test]
fn a_reply_does_not_reach_the_upstream_and_a_drop_reaches_nobody() {
    let gateway = faulty("");
    let mut wire = Wire::open(gateway.address(), "/echo");
    for text in ["reply:a", "drop", "reply:b"] {
        wire.text(text);
    }
    assert_eq!([wire.next_text(), wire.next_text()], ["a", "b"]);
    assert_eq!(say(&mut wire, "after"), "after");
}

#[test]
fn a_filters_close_code_must_be_sendable() {
    let gateway = faulty("");
    for (code, expected) in
        [(1000, 1000), (1013, 1013), (3000, 3000), (4999, 4999), (1005, 1011), (2999, 1011), (7, 1011)]
    {
        let mut wire = Wire::open(gateway.address(), "/echo");
        wire.text(&format!("close:{code}:by the filter"));
        assert_eq!(wire.next_close().0, expected, "{code}");
    }
}

#[test]
fn a_filters_close_reason_is_cut_to_what_a_frame_carries() {
    let gateway = faulty("");
    let mut wire = Wire::open(gateway.address(), "/echo");
    wire.text(&format!("close:4000:{}", "é".repeat(100)));
    assert_eq!(wire.next_close(), (4000, "é".repeat(61)));
}

#[test]
fn to_the_upstream_filters_run_in_order_and_to_the_client_in_reverse() {
    let setup = Setup::new().guest("filters/stamp.wasm", "stamp");
    let filter = |name: &str| {
        let config = format!("{{ direction = \"both\", version = \"{name}\" }}");
        format!("[filters.{name}]\nfile = \"filters/stamp.wasm\"\nconfig = {config}\n")
    };
    let chain = "filters = [\"first\", \"second\"]\n";
    let gateway = setup.start(&format!("{ECHO}{chain}{}{}", filter("first"), filter("second")));
    let mut wire = Wire::open(gateway.address(), "/echo");
    assert_eq!(say(&mut wire, "m"), "m #1 first #1 second #1 second #1 first");
}

#[test]
fn a_reply_passes_only_the_filters_before_the_one_that_gave_it() {
    let setup = Setup::new().guest("filters/stamp.wasm", "stamp").guest("filters/faulty.wasm", "guest_faulty");
    let stamp =
        |name: &str| format!("[filters.{name}]\nfile = \"filters/stamp.wasm\"\nconfig = {{ version = \"{name}\" }}\n");
    let chain = "filters = [\"before\", \"faulty\", \"after\"]\n";
    let gateway = setup.start(&format!("{ECHO}{chain}{}{}", stamp("before"), stamp("after")));
    let mut wire = Wire::open(gateway.address(), "/echo");
    assert_eq!(say(&mut wire, "reply:x"), "x #1 before");
    assert_eq!(say(&mut wire, "hello"), "hello #1 after #2 before");
}

#[test]
fn what_no_filter_asked_for_never_enters_the_sandbox() {
    let gateway = faulty("");
    let mut wire = Wire::open(gateway.address(), "/echo");
    wire.send(BINARY, b"not text");
    assert_eq!(wire.next().unwrap().opcode(), BINARY);
    wire.send(PING, b"");
    wire.next();
    let calls = || gateway.metrics().sum("wsgate_filter_calls_total", &[("filter", "faulty"), ("hook", "on_message")]);
    assert_eq!(calls(), 0.0);
    say(&mut wire, "text");
    assert_eq!(calls(), 1.0, "one to the upstream, none on the way back");
}

#[test]
fn a_narrower_interest_of_one_connection_is_honoured() {
    let gateway = faulty("mode = \"narrow\"");
    let mut wire = Wire::open(gateway.address(), "/echo");
    assert_eq!(say(&mut wire, "replace:x"), "replace:x");
}

#[test]
fn open_sees_the_request_and_edits_both_sides() {
    let server = PeerServer::start(PythonWebsockets);
    let modes = "modes = [\"upstream-header:x-user:ann\", \"remove-upstream-header:cookie\", \
                 \"client-header:x-greeting:hello\", \"subprotocol:chat.v1\"]";
    let setup = Setup::new().guest("filters/faulty.wasm", "guest_faulty");
    let config = format!(
        "[upstreams.main]\nendpoints = [\"{}\"]\n[[routes]]\nname = \"rooms\"\npath = \"/rooms/{{room}}\"\n\
         upstream = \"main\"\nfilters = [\"faulty\"]\n[filters.faulty]\nconfig = {{ {modes} }}",
        server.url("")
    );
    let gateway = setup.start(&config);
    let mut lines = crate::support::wire::request("app.example.com", "/rooms/blue?x=1");
    lines.extend(["Cookie: a=b".to_owned(), "Sec-WebSocket-Protocol: chat.v2, chat.v1".to_owned()]);
    let (mut wire, response) = Wire::open_with(gateway.address(), &lines);
    assert_eq!(response.header("x-greeting"), Some("hello"));
    assert_eq!(response.header("sec-websocket-protocol"), Some("chat.v1"));
    let seen = server.opened()["headers"].clone();
    assert_eq!(seen["x-user"], "ann");
    assert!(seen["cookie"].is_null(), "{seen}");
    let request: Value = serde_json::from_str(&say(&mut wire, "handshake")).unwrap();
    assert_eq!(request["route"], "rooms");
    assert_eq!(request["path"], "/rooms/blue");
    assert_eq!(request["query"], "x=1");
    assert_eq!(request["host"], "app.example.com");
    assert_eq!(request["parameters"]["room"], "blue");
    assert_eq!(request["subprotocols"], serde_json::json!(["chat.v2", "chat.v1"]));
    assert!(request["client"].as_str().unwrap().starts_with("127.0.0.1:"), "{request}");
}

#[test]
fn open_can_refuse_with_a_status_of_its_own() {
    for (mode, expected) in [("refuse:403:not you", 403), ("refuse:599:odd", 599), ("refuse:200:fine", 500)] {
        let gateway = faulty(&format!("mode = \"{mode}\""));
        let client = PeerClient::start(PythonWebsockets);
        let refused = client.connect(serde_json::json!({ "url": gateway.url("/echo") }));
        assert_eq!(refused["status"], expected, "{refused}");
        if expected == 403 {
            assert_eq!((&refused["body"], &refused["headers"]["x-refused-by"]), (&"not you".into(), &"faulty".into()));
        }
    }
}

#[test]
fn ticks_send_messages_of_their_own() {
    let gateway = faulty("mode = \"tick:50\"");
    let mut wire = Wire::open(gateway.address(), "/echo");
    for number in 1..=3 {
        assert_eq!(wire.next_text(), format!("tick {number}"));
    }
}

#[test]
fn on_close_hears_who_ended_it_and_how() {
    let gateway = faulty("");
    let mut wire = Wire::open(gateway.address(), "/echo");
    wire.close(4321, "client says bye");
    wire.next_close();
    gateway.wait_log(&["closed", "client", "4321", "client says bye"]);
}

#[test]
fn a_filter_has_no_rights_of_its_own() {
    let setup = Setup::new().guest("filters/probe.wasm", "guest_probe");
    let gateway = setup.start(&format!("{ECHO}\nfilters = [\"probe\"]"));
    let mut wire = Wire::open(gateway.address(), "/echo");
    assert_eq!(say(&mut wire, "all"), "fs:denied env:0 args:0 net:denied stdin:0");
}

#[test]
fn what_a_filter_makes_of_a_message_is_bounded_like_any_other() {
    let gateway = faulty("");
    let mut wire = Wire::open(gateway.address(), "/echo");
    wire.text("reply-size:1000000");
    assert_eq!(wire.next().unwrap().payload.len(), 1_000_000);
    wire.text("million");
    let end = loop {
        let frame = wire.next().expect("a Close frame");
        if frame.opcode() == CLOSE {
            break frame.close();
        }
        assert_eq!(frame.opcode(), TEXT);
    };
    assert_eq!(end.0, 1011);
    let mut fresh = Wire::open(gateway.address(), "/echo");
    assert_eq!(say(&mut fresh, "still here"), "still here");
    let held = || gateway.metrics().sum("wsgate_queue_bytes", &[]);
    crate::support::until("nothing is held", SOON, || held() == 0.0);
}
