//! Not tests: figures, for whoever changes the hot path. `cargo test --release speed -- --ignored --nocapture`.

use std::{hint::black_box, time::Instant};

use serde_json::json;

use crate::{
    filter::test_support::Bed,
    message::{Direction, Message},
};

#[test]
#[ignore = "prints figures"]
fn speed_of_a_forward() {
    let bed = Bed::new().always("forward", "forward").route(&["forward"]);
    bed.run(async |_, worker| {
        let chain = worker.open().await;
        let message = Message::binary(vec![7; 64]);
        for _ in 0..5 {
            let (begin, rounds) = (Instant::now(), 300_000_u32);
            for _ in 0..rounds {
                black_box(chain.on_message(Direction::ToUpstream, message.clone()).await);
            }
            println!("forward 64 B: {:.0} ns", begin.elapsed().as_nanos() as f64 / f64::from(rounds));
        }
    });
}

#[test]
#[ignore = "prints figures"]
fn speed_of_an_instance() {
    let bed = Bed::new().filter("redact", "redact", json!({})).route(&["redact"]);
    bed.run(async |_, worker| {
        let spec = worker.instances.live().chain("main");
        let generation = &spec.filters()[0];
        let begin = Instant::now();
        for _ in 0..200 {
            black_box(crate::filter::instance::Instance::make(generation).await.unwrap());
        }
        println!("instance: {:.0} µs", begin.elapsed().as_micros() as f64 / 200.0);
        let begin = Instant::now();
        let mut chains = Vec::new();
        for _ in 0..500 {
            chains.push(worker.open().await);
        }
        println!("open: {:.1} µs", begin.elapsed().as_micros() as f64 / 500.0);
    });
}
