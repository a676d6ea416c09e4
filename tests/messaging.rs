//! Topics and messages between connections, seen by the clients.

use crate::support::{
    Gateway, SOON, Setup, guest,
    peer::{LIBRARIES, PeerClient},
    until,
    wire::{CLOSE, Wire, request},
};

/// `guest-room` on a route without an upstream, on two workers. `more` goes to the route, `filters` before the room.
fn room(config: &str, more: &str, filters: &str) -> Gateway {
    let setup = Setup::new().guest("filters/room.wasm", "guest_room").guest("filters/redact.wasm", "redact");
    setup.start(&format!(
        "[server]\nworkers = 2\n[[routes]]\nname = \"chat\"\npath = \"/chat/{{room}}\"\ntarget = \"filters\"\n\
         filters = [{filters}\"room\"]\n{more}\n\
         [filters.room]\nconfig = {{ {config} }}\nallow = {{ topics = [\"room.*\"], send = true }}\n\
         [filters.redact]\nconfig = {{ patterns = [\"\\\\d{{16}}\"] }}"
    ))
}

fn join(gateway: &Gateway, room: &str) -> Wire {
    Wire::open(gateway.address(), &format!("/chat/{room}"))
}

fn say(wire: &mut Wire, text: &str) -> String {
    wire.text(text);
    wire.next_text()
}

fn id(wire: &mut Wire) -> String {
    say(wire, "!id")
}

/// What this connection was sent so far is over when the answer to this comes.
fn heard_nothing(wire: &mut Wire) {
    assert_eq!(say(wire, "!publish room.nobody.hears x"), "ok");
}

#[test]
fn clients_of_every_library_hear_each_other_and_not_themselves() {
    let gateway = room("", "", "");
    let clients = LIBRARIES.map(|library| PeerClient::connected(library, &gateway.url("/chat/lobby")));
    let elsewhere = PeerClient::connected(LIBRARIES[0], &gateway.url("/chat/other"));
    for (speaker, listener) in [(0, 1), (1, 0)] {
        for number in 0..5 {
            clients[speaker].send(&format!("{speaker} says {number}"));
        }
        for number in 0..5 {
            assert_eq!(clients[listener].receive(), format!("{speaker} says {number}"));
        }
    }
    elsewhere.send("!id");
    assert_eq!(elsewhere.receive().len(), 26, "nothing came from the other room");
    assert_eq!(clients[0].close(Some((1000, "done"))), (1000, "done".to_owned()));
}

#[test]
fn who_wants_to_hears_himself_after_the_answer_of_his_filter() {
    let gateway = room("hear_own = true", "", "");
    let mut wire = join(&gateway, "lobby");
    assert_eq!(say(&mut wire, "hello"), "hello");
    assert_eq!(say(&mut wire, "!self later"), "before");
    assert_eq!(wire.next_text(), "later");
}

#[test]
fn a_connection_is_subscribed_and_sent_to_before_it_is_open() {
    let gateway = room("", "", "");
    let mut first = join(&gateway, "lobby");
    let mut second = Wire::open(gateway.address(), "/chat/lobby?greet");
    assert_eq!(second.next_text(), "welcome");
    assert_eq!(first.next_text(), "joined");
    assert_eq!(Wire::connect(gateway.address()).ask(&request("x", "/chat/lobby?refuse")).status, 403);
    assert_eq!(Wire::connect(gateway.address()).ask(&request("x", "/chat/lobby?fault")).status, 500);
    second.text("after the refusals");
    assert_eq!(first.next_text(), "after the refusals");
    gateway.wait_metric("wsgate_topic_subscriptions", &[], 2.0);
}

#[test]
fn deliveries_and_messages_of_others_pass_the_filters_on_their_way_to_the_client() {
    let gateway = room("mark = \"> \"", "", "\"redact\", ");
    let mut listener = join(&gateway, "lobby");
    let listener_id = id(&mut listener);
    let mut speaker = join(&gateway, "lobby");
    // The second goes round the chain of the speaker, which would redact it.
    speaker.text("card 1234567890123456");
    assert_eq!(listener.next_text(), "> card [redacted]");
    assert_eq!(say(&mut speaker, &format!("!send {listener_id} hello")), "ok");
    assert_eq!(listener.next_text(), "hello", "a message for one connection is no delivery");
}

#[test]
fn a_message_for_one_connection_passes_redact_too() {
    // `redact` looks at what goes to the client alone.
    let setup = Setup::new().guest("filters/room.wasm", "guest_room").guest("filters/redact.wasm", "redact");
    let gateway = setup.start(
        "[server]\nworkers = 2\n[[routes]]\nname = \"chat\"\npath = \"/chat/{room}\"\ntarget = \"filters\"\n\
         filters = [\"redact\", \"room\"]\n[filters.room]\nallow = { topics = [\"room.*\"], send = true }\n\
         [filters.redact]\nconfig = { patterns = [\"\\\\d{16}\"], direction = \"to_client\" }",
    );
    let mut listener = join(&gateway, "lobby");
    let listener_id = id(&mut listener);
    let mut speaker = join(&gateway, "lobby");
    speaker.text("card 1234567890123456");
    assert_eq!(listener.next_text(), "card [redacted]");
    assert_eq!(say(&mut speaker, &format!("!send {listener_id} 6543210987654321")), "ok");
    assert_eq!(listener.next_text(), "[redacted]");
}

#[test]
fn who_unsubscribes_hears_nothing_more() {
    let gateway = room("", "", "");
    let (mut speaker, mut listener) = (join(&gateway, "lobby"), join(&gateway, "lobby"));
    speaker.text("one");
    assert_eq!(listener.next_text(), "one");
    assert_eq!(say(&mut listener, "!unsubscribe room.lobby"), "ok");
    assert_eq!(say(&mut listener, "!unsubscribe room.lobby"), "ok");
    gateway.wait_metric("wsgate_topic_subscriptions", &[], 1.0);
    speaker.text("two");
    heard_nothing(&mut speaker);
    heard_nothing(&mut listener);
    assert_eq!(say(&mut listener, "!subscribe room.lobby"), "ok");
    gateway.wait_metric("wsgate_topic_subscriptions", &[], 2.0);
    speaker.text("three");
    assert_eq!(listener.next_text(), "three");
}

#[test]
fn a_connection_that_is_gone_is_not_found() {
    let gateway = room("leave = true", "", "");
    let mut speaker = join(&gateway, "lobby");
    let mut leaver = join(&gateway, "lobby");
    let leaver_id = id(&mut leaver);
    assert_eq!(say(&mut speaker, &format!("!send {leaver_id} hello")), "ok");
    assert_eq!(leaver.next_text(), "hello");
    leaver.close(1000, "");
    assert_eq!(leaver.next_close().0, 1000);
    drop(leaver);
    assert_eq!(speaker.next_text(), "left", "what its end published");
    assert_eq!(say(&mut speaker, &format!("!send {leaver_id} hello")), "not-found");
    assert_eq!(say(&mut speaker, &format!("!close {leaver_id} 4000 x")), "not-found");
}

#[test]
fn a_filter_closes_another_connection_behind_what_it_was_sent() {
    let gateway = room("", "", "");
    let mut speaker = join(&gateway, "lobby");
    let mut closed = join(&gateway, "lobby");
    let closed_id = id(&mut closed);
    speaker.text("last words");
    assert_eq!(say(&mut speaker, &format!("!close {closed_id} 4001 kicked out")), "ok");
    assert_eq!(closed.next_text(), "last words");
    assert_eq!(closed.next_close(), (4001, "kicked out".to_owned()));
    closed.close(4001, "");
    gateway.wait_log(&["closed", "filter_dismissed", "code=4001", "by=\"filter\""]);
    gateway.wait_metric("wsgate_closes_total", &[("code", "4xxx"), ("by", "filter")], 1.0);
    assert_eq!(say(&mut speaker, &format!("!send {closed_id} hello")), "not-found");
}

#[test]
fn an_unsendable_code_closes_the_other_connection_with_1011() {
    let gateway = room("", "", "");
    let (mut speaker, mut closed) = (join(&gateway, "lobby"), join(&gateway, "lobby"));
    let closed_id = id(&mut closed);
    assert_eq!(say(&mut speaker, &format!("!close {closed_id} 1006 x")), "ok");
    assert_eq!(closed.next_close().0, 1011);
    gateway.wait_log(&["filter fault", "close code 1006 may not be sent"]);
    gateway.wait_metric("wsgate_filter_faults_total", &[("kind", "verdict")], 1.0);
}

#[test]
fn a_topic_without_a_right_is_denied_counted_and_logged() {
    let gateway = room("", "", "");
    let mut wire = join(&gateway, "lobby");
    assert_eq!(say(&mut wire, "!publish news hello"), "denied");
    assert_eq!(say(&mut wire, "!subscribe news"), "denied");
    gateway.wait_metric("wsgate_filter_denied_total", &[("filter", "room"), ("import", "messaging")], 2.0);
    gateway.wait_log(&["denied", "publish", "news"]);
}

#[test]
fn a_trap_takes_its_publication_along() {
    let gateway = room("", "", "");
    let mut listener = join(&gateway, "lobby");
    let mut speaker = join(&gateway, "lobby");
    speaker.text("!trap room.lobby lost");
    assert_eq!(speaker.next_close().0, 1011);
    let mut other = join(&gateway, "lobby");
    other.text("kept");
    assert_eq!(listener.next_text(), "kept");
}

#[test]
fn a_client_that_closes_gets_its_code_back_and_what_filters_forward_ends() {
    let setup = Setup::new().guest("filters/faulty.wasm", "guest_faulty");
    let gateway = setup.start(
        "[[routes]]\nname = \"end\"\npath = \"/end\"\ntarget = \"filters\"\nfilters = [\"faulty\"]\nsubprotocols = [\"b\"]",
    );
    assert!(gateway.announced().contains("filters  (filters faulty)"), "{}", gateway.announced());
    let mut lines = request(gateway.address(), "/end");
    lines.push("Sec-WebSocket-Protocol: a, b".to_owned());
    let (mut wire, response) = Wire::open_with(gateway.address(), &lines);
    assert_eq!(response.header("sec-websocket-protocol"), Some("b"));
    for _ in 0..100 {
        wire.text("forward");
    }
    assert_eq!(say(&mut wire, "reply:answer"), "answer");
    wire.text("act:upstream:a|client:b");
    assert_eq!(wire.next_text(), "b");
    wire.close(4000, "bye");
    let frame = wire.next().unwrap();
    assert_eq!((frame.opcode(), frame.close()), (CLOSE, (4000, "bye".to_owned())));
    gateway.wait_empty();
}

#[test]
fn the_filter_room_makes_rooms() {
    let setup = Setup::new().guest("filters/room.wasm", "room");
    let gateway = setup.start(
        "[[routes]]\nname = \"chat\"\npath = \"/chat/{room}\"\ntarget = \"filters\"\nfilters = [\"room\"]\n\
         [filters.room]\nallow = { topics = [\"room.*\"] }",
    );
    let mut ann = Wire::open(gateway.address(), "/chat/lobby?name=ann");
    let mut bob = Wire::open(gateway.address(), "/chat/lobby?name=bob");
    assert_eq!(ann.next_text(), "* bob joined");
    ann.text("hello");
    assert_eq!(bob.next_text(), "ann: hello");
    bob.close(1000, "");
    assert_eq!(bob.next_close().0, 1000);
    drop(bob);
    assert_eq!(ann.next_text(), "* bob left");
    assert_eq!(Wire::connect(gateway.address()).ask(&request("x", "/chat/lobby?name=%41")).status, 400);
    // A reload keeps the subscription.
    gateway.folder().publish("filters/room.wasm", &crate::support::guests::other(&guest("room")));
    until("a second generation", SOON, || gateway.metrics().sum("wsgate_filter_generation", &[]) == 2.0);
    let mut eve = Wire::open(gateway.address(), "/chat/lobby?name=eve");
    assert_eq!(ann.next_text(), "* eve joined");
    ann.text("still here");
    assert_eq!(eve.next_text(), "ann: still here");
}
