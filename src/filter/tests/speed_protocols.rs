//! Figures of the filters of `filters/`: the rows of `docs/filters.md`.
//! `cargo test --release --lib speed_of_topics -- --ignored --nocapture`.

use std::{hint::black_box, rc::Rc};

use serde_json::json;

use super::speed::best;
use crate::{
    filter::{
        Chain, OpeningRequest,
        test_support::{Bed, Worker, opening_request},
    },
    message::{Direction, Message},
};

const ROUNDS: u32 = 30_000;

async fn open(worker: &Worker, subprotocol: &str) -> Chain {
    let request = OpeningRequest { subprotocols: vec![subprotocol.to_owned()], ..opening_request() };
    let spec = worker.instances.live().chain("main");
    Chain::open(worker.instances.clone(), spec, Rc::new(request)).await.unwrap().0
}

/// A row: nanoseconds for a message of 64 B and of 1 KiB, which `made` turns into what is sent.
async fn row(filter: &str, chain: &Chain, made: impl Fn(usize) -> Vec<Message>) {
    let mut row = format!("| `{filter}` |");
    for size in [64, 1 << 10] {
        let messages = made(size);
        let took = best(ROUNDS, async || {
            for message in &messages {
                black_box(chain.on_message(Direction::ToUpstream, message.clone()).await);
            }
        });
        row.push_str(&format!(" {:.0} ns |", took.await));
    }
    println!("{row}");
}

#[test]
#[ignore = "prints figures"]
fn speed_of_topics_operations_and_quotas() {
    let rules = json!({"publish": ["a/#", "b/+", "c/d", "sensors/+/temperature"]});
    Bed::new().filter("acl", "topic_acl", rules).route(&["acl"]).run(async |_, worker| {
        let chain = open(&worker, "mqtt").await;
        let connect = b"\x10\x0e\0\x04MQTT\x04\x02\0\0\0\x02id";
        chain.on_message(Direction::ToUpstream, Message::binary(connect.to_vec())).await;
        row("topic-acl", &chain, |size| {
            let body = [b"\0\x15sensors/7/temperature".as_slice(), &vec![b'x'; size - 25]].concat();
            let length = [(body.len() & 0x7f) as u8 | 0x80, (body.len() >> 7) as u8];
            vec![Message::binary([b"\x30".as_slice(), &length, &body].concat())]
        })
        .await;
    });
    Bed::new().filter("graphql", "graphql_ws", json!({})).route(&["graphql"]).run(async |_, worker| {
        let chain = open(&worker, "graphql-transport-ws").await;
        chain.on_message(Direction::ToUpstream, Message::text(r#"{"type":"connection_init"}"#.to_owned())).await;
        chain.on_message(Direction::ToClient, Message::text(r#"{"type":"connection_ack"}"#.to_owned())).await;
        row("graphql-ws", &chain, |size| {
            let fields = "name ".repeat((size - 59) / 5);
            let subscribe = format!(r#"{{"id":"1","type":"subscribe","payload":{{"query":"{{a {fields}}}"}}}}"#);
            let complete = r#"{"id":"1","type":"complete"}"#.to_owned();
            vec![Message::text(subscribe), Message::text(complete)]
        })
        .await;
    });
    let quota = json!({"store": "s", "quotas": [
        {"name": "q", "count": "messages", "limit": 1_000_000_000, "window": "month", "by": "address"}
    ]});
    let allow = |filter: &mut crate::config::Filter| filter.allow.key_value = vec!["s".to_owned()];
    Bed::new().tuned("quota", "quota", quota, allow).route(&["quota"]).run(async |_, worker| {
        let chain = open(&worker, "chat").await;
        row("quota", &chain, |size| vec![Message::text("x".repeat(size))]).await;
    });
}
