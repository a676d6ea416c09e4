//! What the log says of faults and of what guests write.

use std::{
    io,
    sync::{Arc, Mutex},
};

use serde_json::json;
use tracing_subscriber::fmt::MakeWriter;

use crate::filter::test_support::{Bed, Started, Worker, say};

#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Log {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}

/// The lines that are written on this thread while a test runs on a worker.
pub(super) fn lines(bed: Bed, test: impl AsyncFnOnce(&Started, Worker)) -> Vec<String> {
    let log = Log::default();
    let started = bed.start();
    let subscriber = tracing_subscriber::fmt().with_writer(log.clone()).with_ansi(false).without_time().finish();
    tracing::subscriber::with_default(subscriber, || started.run(test));
    let bytes = log.0.lock().unwrap().clone();
    String::from_utf8(bytes).unwrap().lines().map(ToOwned::to_owned).collect()
}

fn faulty() -> Bed {
    Bed::new().filter("faulty", "guest_faulty", json!({})).route(&["faulty"])
}

#[test]
fn a_fault_is_one_line_that_says_all() {
    let lines = lines(faulty(), async |started, worker| {
        let generation = started.status("faulty").generation.unwrap();
        let _ = say(&worker.open().await, "trap").await;
        tracing::info!("generation {generation}");
    });
    let [fault, generation] = &lines[..] else { panic!("{lines:#?}") };
    let generation = generation.split_whitespace().last().unwrap();
    for part in
        ["filter=\"faulty\"", "hook=\"on_message\"", "kind=\"trap\"", "connection=\"c1\"", "unreachable", "abort"]
    {
        assert!(fault.contains(part), "{part} in {fault}");
    }
    assert!(fault.contains(&format!("generation=\"{generation}\"")), "{fault}");
}

#[test]
fn a_panic_brings_its_message_to_the_log() {
    let lines = lines(faulty(), async |_, worker| {
        let _ = say(&worker.open().await, "panic:what happened").await;
    });
    assert!(lines.iter().any(|line| line.contains("what happened")), "{lines:#?}");
}

#[test]
fn the_error_of_a_guest_cannot_forge_a_line() {
    let lines = lines(faulty(), async |_, worker| {
        let _ = say(&worker.open().await, "error:a\nERROR forged \u{1b}[31m").await;
        let _ = say(&worker.open().await, "log:b\nERROR forged \u{1b}[31m").await;
    });
    assert_eq!(lines.len(), 2, "{lines:#?}");
    assert!(lines.iter().all(|line| line.contains(r"\nERROR forged \u{1b}[31m")), "{lines:#?}");
}

#[test]
fn floods_are_cut_and_suppressed() {
    let bed = Bed::new().tuned("faulty", "guest_faulty", json!({}), |filter| {
        filter.cpu_timeout = std::time::Duration::from_secs(20);
    });
    let lines = lines(bed.route(&["faulty"]), async |_, worker| {
        let chain = worker.open().await;
        let _ = say(&chain, "log-big:100000").await;
        let _ = say(&chain, "log-fields:1000").await;
        let _ = say(&chain, "log-flood:10000").await;
        let _ = say(&chain, "stdout-flood:10000").await;
    });
    assert!((100..200).contains(&lines.len()), "{}", lines.len());
    assert!(lines[0].contains(&"x".repeat(2048)) && lines[0].len() < 2300, "{}", lines[0].len());
    assert_eq!(lines[1].matches("field=").count(), 16);
}

#[test]
fn faults_without_end_do_not_flood_the_log() {
    let bed = Bed::new().tuned("faulty", "guest_faulty", json!({}), |filter| {
        filter.failure_policy = crate::config::FailurePolicy::FailOpen;
    });
    let lines = lines(bed.route(&["faulty"]), async |started, worker| {
        let chain = worker.open().await;
        for _ in 0..5_000 {
            let _ = say(&chain, "error:again").await;
        }
        assert_eq!(started.faults("faulty", "error"), 5_000.0);
    });
    assert!((100..300).contains(&lines.len()), "{}", lines.len());
}
