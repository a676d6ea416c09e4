//! Not tests: the table "library filters" of `docs/filters.md`. `cargo test --release --lib speed_of_the_library -- --ignored --nocapture`.

use std::hint::black_box;

use serde_json::{Value, json};

use super::speed::best;
use crate::{
    filter::test_support::Bed,
    message::{Direction, Message},
};

const ROUNDS: u32 = 20_000;

/// A message to the upstream of this many bytes.
fn chat(bytes: usize) -> String {
    let head = r#"{"type":"chat.send","id":7,"room":"red","text":""#;
    format!("{head}{}\"}}", "x".repeat(bytes - head.len() - 2))
}

/// A row: what a message of each size takes.
fn row(what: &str, guest: &str, config: Value) {
    let name = guest.replace('_', "-");
    Bed::new().filter(&name, guest, config).route(&[&name]).run(async |_, worker| {
        let chain = worker.open().await;
        let mut row = format!("| `{name}`, {what} |");
        for bytes in [64, 1_024] {
            let message = Message::text(chat(bytes));
            let took = best(ROUNDS, async || {
                black_box(chain.on_message(Direction::ToUpstream, message.clone()).await);
            });
            row.push_str(&format!(" {:.2} µs |", took.await / 1_000.0));
        }
        println!("{row}");
    });
}

#[test]
#[ignore = "prints figures"]
fn speed_of_the_library() {
    println!("| filter | 64 B | 1 KiB |\n|---|---:|---:|");
    let when = |pattern: &str| json!({ "/type": pattern });
    let rules = json!([{ "when": when("admin.*"), "action": "deny" }, { "when": when("billing.*"), "action": "deny" }, { "when": when("chat.*") }]);
    row("three rules, allowed", "authorize", json!({ "messages": { "rules": rules } }));
    let schema = json!({ "type": "object", "required": ["id", "text"], "properties": { "id": { "type": "integer" }, "text": { "type": "string", "maxLength": 4096 } } });
    row("one schema, matched", "json_schema", json!({ "schemas": [{ "when": when("chat.send"), "schema": schema }] }));
    let rules = json!([{ "when": when("billing.*"), "then": "drop" }, { "when": when("search.*"), "then": "drop" }, { "when": when("admin"), "then": "drop" }]);
    row("three rules, none holds", "message_router", json!({ "rules": rules }));
    let rules =
        json!([{ "set": "/user", "from": "client_ip" }, { "rename": "/text", "to": "body" }, { "remove": "/id" }]);
    row("`set`, `rename` and `remove`", "rewrite", json!({ "rules": rules }));
}
