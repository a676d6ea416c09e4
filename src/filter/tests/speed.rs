//! Not tests: figures, for whoever changes the hot path. `cargo test --release --lib speed -- --ignored --nocapture`.

use std::hint::black_box;

use serde_json::json;

use crate::{
    filter::{
        bindings::{FilterHttp, wsgate::filter::types},
        generation::Generation,
        instance::{self, Instance},
        limits::Meter,
        request::with_handshake,
        room::{Purpose, Ticket, maps_in_use},
        test_support::{Bed, Started, cpu_time, opening_request},
    },
    message::{Direction, Message},
};

const ROUNDS: u32 = 300_000;

/// Nanoseconds a round, the best of five.
pub(super) async fn best(rounds: u32, mut round: impl AsyncFnMut()) -> f64 {
    let mut best = f64::MAX;
    for _ in 0..5 {
        let begin = cpu_time();
        for _ in 0..rounds {
            round().await;
        }
        best = best.min((cpu_time() - begin).as_nanos() as f64 / f64::from(rounds));
    }
    best
}

fn forwarding() -> Started {
    Bed::new().always("forward", "forward").route(&["forward"]).start()
}

#[test]
#[ignore = "prints figures"]
fn speed_of_a_forward() {
    forwarding().run(async |_, worker| {
        let chain = worker.open().await;
        let message = Message::binary(vec![7; 64]);
        let run = chain.on_message(Direction::ToUpstream, message.clone());
        println!("a run is {} bytes", size_of_val(&*run));
        if std::env::var_os("PROFILE").is_some() {
            for _ in 0..5_000_000 {
                black_box(chain.on_message(Direction::ToUpstream, message.clone()).await);
            }
        }
        black_box(run.await);
        let took = best(ROUNDS, async || {
            black_box(chain.on_message(Direction::ToUpstream, message.clone()).await);
        });
        println!("forward 64 B: {:.0} ns", took.await);
        let clock = best(ROUNDS, async || {
            black_box(std::time::Instant::now());
        });
        println!("clock: {:.0} ns", clock.await);
        let unwanted = best(ROUNDS, async || {
            black_box(chain.wants(Direction::ToUpstream, message.kind()));
        });
        println!("wants: {:.0} ns", unwanted.await);
    });
}

/// The table of `docs/filters.md`.
#[test]
#[ignore = "prints figures"]
fn speed_of_each_call() {
    println!("| call | 64 B | 1 KiB | 16 KiB | 256 KiB |\n|---|---:|---:|---:|---:|");
    forwarding().run(async |_, worker| {
        let chain = worker.open().await;
        sizes("`on-message`, forward", async |message| {
            black_box(chain.on_message(Direction::ToUpstream, message).await);
        })
        .await;
    });
    let delivered = Bed::new().filter("topics", "guest_faulty", json!({"mode": "delivery"})).route(&["topics"]);
    delivered.run(async |_, worker| {
        let chain = worker.open().await;
        sizes("`on-delivery`, forward", async |message| {
            black_box(chain.on_delivery("topic", message).await);
        })
        .await;
    });
    Bed::new().filter("stamp", "stamp", json!({})).route(&["stamp"]).run(async |_, worker| {
        let chain = worker.open().await;
        sizes("`on-message`, replace (`stamp` appends a number)", async |message| {
            black_box(chain.on_message(Direction::ToClient, message).await);
        })
        .await;
        let spec = worker.instances.live().chain("main");
        println!("\n| call | µs |\n|---|---:|");
        let mut chains = Vec::new();
        let open = best(190, async || chains.push(worker.open().await)).await;
        println!("| `open` on a shared instance | {:.1} |", open / 1_000.0);
        let made = best(200, async || {
            black_box(Instance::make(&spec.filters()[0], ticket(&spec.filters()[0])).await.unwrap());
        });
        println!("| an instance of its own: instantiate and `init` | {:.1} |", made.await / 1_000.0);
    });
}

/// A row: nanoseconds for text of each size.
async fn sizes(call: &str, mut made: impl AsyncFnMut(Message)) {
    let mut row = format!("| {call} |");
    for size in [64, 1 << 10, 16 << 10, 256 << 10] {
        let message = Message::text("x".repeat(size));
        let took = best(ROUNDS / 10 / (1 + (size >> 14)) as u32, async || made(message.clone()).await).await;
        row.push_str(&format!(" {:.2} µs |", took / 1_000.0));
    }
    println!("{row}");
}

#[test]
#[ignore = "prints figures"]
fn speed_of_the_engine_alone() {
    forwarding().run(async |_, worker| {
        let spec = worker.instances.live().chain("main");
        let generation = &spec.filters()[0];
        let mut store = instance::store(generation, &Meter::new());
        let guest: FilterHttp = generation.pre().instantiate_async(&mut store).await.unwrap();
        let handler = guest.wsgate_filter_handler();
        handler.call_init(&mut store, &generation.settings().config_json).await.unwrap().unwrap();
        store.set_epoch_deadline(1_000_000);
        let request = opening_request();
        let opened = with_handshake(&request, async |handshake| handler.call_open(&mut store, handshake).await).await;
        let Ok(Ok(admission)) = opened else { panic!() };
        let bytes = vec![7; 64];
        let took = best(ROUNDS, async || {
            let message = types::MessageParam::Binary(&bytes);
            let direction = types::Direction::ToUpstream;
            let session = handler.session();
            let call = session.call_on_message(&mut store, admission.session, direction, message);
            black_box(call.await.unwrap().unwrap());
        });
        println!("engine alone, 64 B: {:.0} ns", took.await);
    });
}

#[test]
#[ignore = "prints figures"]
fn speed_of_an_instance() {
    for (guest, config) in [("redact", json!({"patterns": ["a"]})), ("stamp", json!({})), ("guest_faulty", json!({}))] {
        Bed::new().filter("made", guest, config).route(&["made"]).run(async |_, worker| {
            let spec = worker.instances.live().chain("main");
            let generation = &spec.filters()[0];
            let instance = best(200, async || {
                black_box(Instance::make(generation, ticket(generation)).await.unwrap());
            });
            println!("instance of {guest}: {:.0} µs", instance.await / 1_000.0);
            let mut kept = Vec::new();
            let (before, maps_before) = (resident(), maps_in_use());
            for _ in 0..200 {
                kept.push(Instance::make(generation, ticket(generation)).await.unwrap());
            }
            println!("memory: {:.1} KiB", (resident() - before) as f64 / 200.0);
            println!("memory maps: {:.1}", (maps_in_use() - maps_before) as f64 / 200.0);
            drop(kept);
            let mut chains = Vec::new();
            let open = best(190, async || chains.push(worker.open().await));
            println!("open: {:.1} µs", open.await / 1_000.0);
        });
    }
}

/// The table of languages in `docs/filters.md`: the filter of `tests/languages.rs`. `make guests` builds all four.
#[test]
#[ignore = "prints figures"]
fn speed_of_each_language() {
    let object = json!({ "text": "x".repeat((1 << 10) - 11) }).to_string();
    println!("| | `on-message`, forward 64 B | replace 1 KiB of JSON | `open` | an instance | its memory |");
    let guests =
        ["guest_four_rust", "../../languages/four-c", "../../languages/four-js", "../../languages/four-python"];
    for guest in guests {
        Bed::new().filter("four", guest, json!({})).route(&["four"]).run(async |_, worker| {
            let spec = worker.instances.live().chain("main");
            let generation = &spec.filters()[0];
            let chain = worker.open().await;
            let call = async |text: &str, rounds| {
                let message = Message::text(text.to_owned());
                let round = async || {
                    black_box(chain.on_message(Direction::ToUpstream, message.clone()).await);
                };
                best(rounds, round).await / 1_000.0
            };
            let (forward, replace) = (call(&"x".repeat(64), 5_000).await, call(&object, 2_000).await);
            let mut chains = Vec::new();
            let open = best(100, async || chains.push(worker.open().await)).await / 1_000.0;
            let made = best(5, async || {
                black_box(Instance::make(generation, ticket(generation)).await.unwrap());
            });
            let (made, mut kept, before) = (made.await / 1_000.0, Vec::new(), resident());
            for _ in 0..20 {
                kept.push(Instance::make(generation, ticket(generation)).await.unwrap());
            }
            let memory = (resident() - before) / kept.len();
            println!("| {guest} | {forward:.2} µs | {replace:.2} µs | {open:.1} µs | {made:.0} µs | {memory} KiB |");
        });
    }
}

fn ticket(generation: &Generation) -> Ticket {
    generation.engine().room.try_take(generation.maps(), Purpose::Keep).unwrap()
}

/// KiB of the process.
fn resident() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

#[test]
#[ignore = "prints figures"]
fn speed_of_a_start() {
    let before = resident();
    let begin = std::time::Instant::now();
    let bed = Bed::new().filter("stamp", "stamp", json!({})).route(&["stamp"]);
    let started = bed.start();
    println!("start with one filter: {} ms, {} KiB", begin.elapsed().as_millis(), resident() - before);
    println!("maps: {}", maps_in_use());
    drop(started);
}
