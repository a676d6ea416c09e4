//! What a guest does wrong, and what becomes of its connection and of its neighbours.

use std::{
    task::Poll,
    time::{Duration, Instant},
};

use serde_json::json;

use crate::{
    config::{FailurePolicy, Filter, OnStateLoss},
    filter::{
        Closer,
        fault::{Fault, FaultKind},
        test_support::{Bed, cpu_time, say, until, words},
    },
    message::CloseFrame,
};

const FAULT: &str = "close 1011 filter failed (faulty fault)";

fn faulty(tune: impl FnOnce(&mut Filter)) -> Bed {
    Bed::new().tuned("faulty", "guest_faulty", json!({}), tune).route(&["faulty"])
}

fn short(filter: &mut Filter) {
    filter.cpu_timeout = Duration::from_millis(50);
    filter.wait_timeout = Duration::from_millis(100);
}

/// One client's message ends the instance: that client is closed, its neighbour is resumed without state.
fn ends_the_instance(command: &str, kind: &str) {
    // Filling memory takes longer than a loop is let run.
    let patient = |filter: &mut Filter| filter.cpu_timeout = Duration::from_secs(10);
    faulty(|filter| if kind == "cpu_timeout" || kind == "wait_timeout" { short(filter) } else { patient(filter) }).run(
        async |started, worker| {
            let (chain, neighbour) = (worker.open().await, worker.open().await);
            assert_eq!(say(&neighbour, "count").await, "client count 1");
            assert_eq!(say(&chain, command).await, FAULT, "{command}");
            assert_eq!(started.faults("faulty", kind), 1.0, "{command}: {:?}", kinds(started));
            assert_eq!(say(&neighbour, "resumed").await, "client resumed cause=fault state=none", "{command}");
            assert_eq!(say(&neighbour, "count").await, "client count 2", "{command}");
            // And nothing else went wrong.
            assert_eq!(kinds(started), [(kind.to_owned(), 1.0)], "{command}");
            chain.close(Closer::Filter, CloseFrame::new(1011, "")).await;
            neighbour.close(Closer::Client, CloseFrame::new(1000, "")).await;
            let generation = &started.status("faulty").generations[0];
            assert_eq!((generation.sessions, generation.instances), (0, 1), "{command}");
        },
    );
}

fn kinds(started: &crate::filter::test_support::Started) -> Vec<(String, f64)> {
    let kinds = [
        "error",
        "verdict",
        "trap",
        "stack",
        "cpu_timeout",
        "wait_timeout",
        "memory",
        "fuel",
        "handles",
        "instance",
        "state_loss",
    ];
    let counted = kinds.map(|kind| (kind.to_owned(), started.faults("faulty", kind)));
    counted.into_iter().filter(|(_, count)| *count > 0.0).collect()
}

#[test]
fn a_trap_ends_the_instance() {
    ends_the_instance("trap", "trap");
}

#[test]
fn a_panic_ends_the_instance() {
    ends_the_instance("panic:told to", "trap");
}

#[test]
fn an_exit_ends_the_instance() {
    ends_the_instance("exit", "trap");
}

#[test]
fn deep_recursion_ends_the_instance() {
    ends_the_instance("recurse", "stack");
}

#[test]
fn a_memory_bomb_ends_the_instance() {
    ends_the_instance("grow", "memory");
}

/// `(loop (drop (table.grow 0 (ref.null func) (i32.const 1000))) (br 0))`, which no compiler of guests here can be made to write.
const GROWS_A_TABLE: &[u8] =
    b"\0asm\x01\0\0\0\x01\x04\x01\x60\0\0\x03\x02\x01\0\x04\x04\x01\x70\0\0\x07\x08\x01\x04grow\0\0\
    \x0a\x12\x01\x10\0\x03\x40\xd0\x70\x41\xe8\x07\xfc\x0f\0\x1a\x0c\0\x0b\x0b";

#[test]
fn a_table_that_grows_without_end_is_a_fault() {
    faulty(|_| {}).run(async |_, worker| {
        let live = worker.instances.live().chain("main");
        let generation = &live.filters()[0];
        let mut store = crate::filter::instance::store(generation, &crate::filter::limits::Meter::new());
        store.set_epoch_deadline(1_000_000);
        let module = wasmtime::Module::new(generation.engine().wasm(), GROWS_A_TABLE).unwrap();
        let instance = wasmtime::Instance::new_async(&mut store, &module, &[]).await.unwrap();
        let grow = instance.get_typed_func::<(), ()>(&mut store, "grow").unwrap();
        let fault = Fault::from(grow.call_async(&mut store, ()).await.unwrap_err());
        assert_eq!(fault.kind, FaultKind::Memory);
        assert!(fault.cause.starts_with("a table of 66000 elements wanted"), "{}", fault.cause);
    });
}

#[test]
fn memory_up_to_the_limit_is_granted() {
    let patient = |filter: &mut Filter| filter.cpu_timeout = Duration::from_secs(10);
    faulty(patient).run(async |started, worker| {
        let chain = worker.open().await;
        assert_eq!(say(&chain, "hold:50").await, "client held");
        assert_eq!(say(&chain, "hold:20").await, FAULT);
        assert_eq!(kinds(started), [("memory".to_owned(), 1.0)]);
    });
}

#[test]
fn a_loop_ends_the_instance() {
    ends_the_instance("spin", "cpu_timeout");
}

#[test]
fn a_wait_without_end_ends_the_instance() {
    ends_the_instance("sleep:60000", "wait_timeout");
}

#[test]
fn a_giant_string_to_the_host_ends_the_instance() {
    ends_the_instance("log-big:33554432", "fuel");
}

#[test]
fn a_giant_result_ends_the_instance() {
    ends_the_instance("reply-size:33554432", "fuel");
}

#[test]
fn leaked_handles_end_the_instance() {
    ends_the_instance("handles:100000", "handles");
}

#[test]
fn a_loop_is_stopped_within_ten_milliseconds_of_its_budget() {
    faulty(short).run(async |_, worker| {
        let chain = worker.open().await;
        // Processor time: other programs on the machine may take any time in between.
        let begin = cpu_time();
        assert_eq!(say(&chain, "spin").await, FAULT);
        let used = (cpu_time() - begin).as_millis();
        assert!((50..60).contains(&used), "{used}");
    });
}

#[test]
fn a_loop_leaves_the_worker_to_others_every_millisecond() {
    faulty(|filter| filter.cpu_timeout = Duration::from_millis(200)).run(async |_, worker| {
        let chain = worker.open().await;
        let spinning = tokio::task::spawn_local(async move { say(&chain, "spin").await });
        tokio::task::yield_now().await;
        let mut turns = 0;
        while !spinning.is_finished() {
            tokio::task::yield_now().await;
            turns += 1;
        }
        assert_eq!(spinning.await.unwrap(), FAULT);
        assert!(turns > 50, "{turns}");
    });
}

#[test]
fn time_within_the_budget_is_no_fault() {
    faulty(|filter| {
        filter.cpu_timeout = Duration::from_millis(500);
        filter.wait_timeout = Duration::from_millis(500);
    })
    .run(async |started, worker| {
        let chain = worker.open().await;
        assert_eq!(say(&chain, "spin:20").await, "pass spin:20");
        assert_eq!(say(&chain, "sleep:20").await, "client slept");
        assert_eq!(kinds(started), []);
    });
}

#[test]
fn waiting_does_not_count_as_guest_time() {
    faulty(|filter| {
        filter.cpu_timeout = Duration::from_millis(30);
        filter.wait_timeout = Duration::from_secs(5);
    })
    .run(async |_, worker| {
        let chain = worker.open().await;
        assert_eq!(say(&chain, "sleep:200").await, "client slept");
    });
}

#[test]
fn while_one_waits_others_of_the_instance_queue_in_order() {
    faulty(|_| {}).run(async |_, worker| {
        let (first, second) = (worker.open().await, worker.open().await);
        let waiting = tokio::task::spawn_local(async move { say(&first, "sleep:50").await });
        tokio::task::yield_now().await;
        let (a, b) = (second.clone(), second);
        let queued = tokio::task::spawn_local(async move { say(&a, "count").await });
        tokio::task::yield_now().await;
        assert_eq!(say(&b, "count").await, "client count 2");
        assert_eq!(queued.await.unwrap(), "client count 1");
        assert_eq!(waiting.await.unwrap(), "client slept");
    });
}

#[test]
fn those_that_queued_behind_a_fault_are_resumed() {
    faulty(short).run(async |started, worker| {
        let (first, second, third) = (worker.open().await, worker.open().await, worker.open().await);
        let waiting = tokio::task::spawn_local(async move { say(&first, "sleep:60000").await });
        tokio::task::yield_now().await;
        let queued = tokio::task::spawn_local(async move { say(&second, "resumed").await });
        assert_eq!(say(&third, "resumed").await, "client resumed cause=fault state=none");
        assert_eq!(queued.await.unwrap(), "client resumed cause=fault state=none");
        assert_eq!(waiting.await.unwrap(), FAULT);
        assert_eq!(kinds(started), [("wait_timeout".to_owned(), 1.0)]);
    });
}

#[test]
fn an_error_is_that_messages_fault_alone() {
    faulty(|_| {}).run(async |started, worker| {
        let (chain, neighbour) = (worker.open().await, worker.open().await);
        assert_eq!(say(&chain, "error:no").await, FAULT);
        assert_eq!(say(&neighbour, "resumed").await, "client opened");
        assert_eq!(say(&chain, "resumed").await, "client opened");
        assert_eq!(kinds(started), [("error".to_owned(), 1.0)]);
    });
}

#[test]
fn fail_open_passes_the_message_as_it_came() {
    let open = |filter: &mut Filter| {
        short(filter);
        filter.failure_policy = FailurePolicy::FailOpen;
    };
    for command in ["error:no", "trap", "spin"] {
        faulty(open).run(async |_, worker| {
            let chain = worker.open().await;
            assert_eq!(say(&chain, command).await, format!("pass {command}"));
            let resumed = if command == "error:no" { "client opened" } else { "client resumed cause=fault state=none" };
            assert_eq!(say(&chain, "resumed").await, resumed, "{command}");
        });
    }
}

#[test]
fn a_fault_under_fail_open_passes_the_message_to_the_next_filter() {
    let bed = Bed::new()
        .tuned("faulty", "guest_faulty", json!({}), |filter| filter.failure_policy = FailurePolicy::FailOpen)
        .filter("redact", "redact", json!({"patterns": ["secret"]}))
        .route(&["faulty", "redact"]);
    bed.run(async |_, worker| {
        assert_eq!(say(&worker.open().await, "panic:secret").await, "pass panic:[redacted]");
    });
}

#[test]
fn lost_state_closes_where_so_configured() {
    for policy in [FailurePolicy::FailClosed, FailurePolicy::FailOpen] {
        let close = |filter: &mut Filter| {
            filter.failure_policy = policy;
            filter.on_state_loss = OnStateLoss::Close;
        };
        faulty(close).run(async |started, worker| {
            let (chain, neighbour) = (worker.open().await, worker.open().await);
            say(&chain, "trap").await;
            assert_eq!(say(&neighbour, "hello").await, FAULT);
            assert_eq!(started.faults("faulty", "state_loss"), 1.0);
            // A new connection is none that lost anything.
            assert_eq!(say(&worker.open().await, "resumed").await, "client opened");
        });
    }
}

#[test]
fn faults_of_ticks_follow_the_failure_policy() {
    for (mode, kind) in [("tick-error", "error"), ("tick-trap", "trap"), ("tick-spin", "cpu_timeout")] {
        let bed = Bed::new().filter("faulty", "guest_faulty", json!({"modes": ["tick", mode]})).route(&["faulty"]);
        bed.run(async |started, worker| {
            let chain = worker.open().await;
            assert_eq!(words(chain.on_tick(chain.next_tick().unwrap()).await), FAULT, "{mode}");
            assert_eq!(started.faults("faulty", kind), 1.0, "{mode}");
        });
    }
}

#[test]
fn a_fault_in_on_close_changes_nothing_for_the_end() {
    for mode in ["close-trap", "close-spin"] {
        let bed = Bed::new().filter("faulty", "guest_faulty", json!({"modes": [mode]})).route(&["faulty"]);
        bed.run(async |started, worker| {
            let (chain, neighbour) = (worker.open().await, worker.open().await);
            chain.close(Closer::Client, CloseFrame::new(1000, "")).await;
            assert_eq!(say(&neighbour, "resumed").await, "client resumed cause=fault state=none");
            assert_eq!(started.status("faulty").generations[0].sessions, 1);
        });
    }
}

#[test]
fn a_resume_that_fails_follows_the_failure_policy() {
    for mode in ["resume-trap", "resume-spin", "resume-keep"] {
        let bed = Bed::new().filter("faulty", "guest_faulty", json!({"modes": [mode]})).route(&["faulty"]);
        bed.run(async |_, worker| {
            let (chain, neighbour) = (worker.open().await, worker.open().await);
            assert_eq!(say(&chain, "trap").await, FAULT);
            assert_eq!(say(&neighbour, "hello").await, FAULT, "{mode}");
        });
    }
    let bed = Bed::new().filter("faulty", "guest_faulty", json!({"mode": "resume-close:4003:gone"})).route(&["faulty"]);
    bed.run(async |_, worker| {
        let (chain, neighbour) = (worker.open().await, worker.open().await);
        assert_eq!(say(&chain, "trap").await, FAULT);
        assert_eq!(say(&neighbour, "hello").await, "close 4003 gone (faulty)");
    });
}

#[test]
fn a_crash_loop_that_nobody_is_to_blame_for_is_slowed_down() {
    let unguarded = |filter: &mut Filter| {
        filter.failure_policy = FailurePolicy::FailOpen;
        filter.max_client_faults = None;
    };
    faulty(unguarded).run(async |started, worker| {
        let chain = worker.open().await;
        let begin = Instant::now();
        for _ in 0..30 {
            assert_eq!(say(&chain, "trap").await, "pass trap");
        }
        // Twenty are free, then there is one each 50 ms.
        assert!(begin.elapsed() > Duration::from_millis(400), "{:?}", begin.elapsed());
        assert_eq!(started.faults("faulty", "trap"), 30.0);
    });
}

#[test]
fn a_run_that_is_dropped_half_done_only_ends_the_instance() {
    faulty(|_| {}).run(async |started, worker| {
        let (chain, neighbour) = (worker.open().await, worker.open().await);
        let gave_up = tokio::time::timeout(Duration::from_millis(5), say(&chain, "sleep:60000")).await;
        assert!(gave_up.is_err());
        assert_eq!(say(&neighbour, "resumed").await, "client resumed cause=fault state=none");
        until("the dead instance is gone", || started.status("faulty").generations[0].instances == 1).await;
    });
}

#[test]
fn a_runtime_that_ends_in_the_middle_of_calls_does_not_panic() {
    faulty(|_| {}).run(async |_, worker| {
        let chain = worker.open().await;
        let slow = chain.clone();
        tokio::task::spawn_local(async move { say(&slow, "sleep:60000").await });
        tokio::task::spawn_local(async move { say(&chain, "hello").await });
        tokio::task::spawn_local(async move { worker.try_open().await.map(|_| ()) });
        tokio::task::yield_now().await;
    });
}

#[test]
fn an_end_while_a_call_waits_is_told_after_it() {
    faulty(|_| {}).run(async |started, worker| {
        let chain = worker.open().await;
        let mut run =
            chain.on_message(crate::message::Direction::ToUpstream, crate::message::Message::text("sleep:50"));
        let begun = std::future::poll_fn(|cx| Poll::Ready(run.as_mut().poll(cx))).await;
        assert!(begun.is_pending());
        crate::filter::finish(run);
        chain.close(Closer::Client, CloseFrame::new(1000, "")).await;
        assert_eq!(started.status("faulty").generations[0].sessions, 0);
        assert_eq!(kinds(started), []);
    });
}
