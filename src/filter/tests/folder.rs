//! A `filters_folder`: what is dropped in joins the chain, what is removed leaves it after a while.

use std::{fs, time::Duration};

use crate::filter::{
    LoadError,
    test_support::{Bed, Started, Worker, guest, hear, until},
};

const SHORT: Duration = Duration::from_millis(200);

fn folder(required: &[&str], grace: Duration, files: &[&str]) -> Bed {
    let bed = Bed::new().folder_route("chat.d", required, grace);
    for file in files {
        fs::copy(guest("stamp"), bed.folder.path().join("chat.d").join(file)).unwrap();
    }
    bed
}

fn put(started: &Started, file: &str, from: &str) {
    fs::copy(guest(from), started.path(".new")).unwrap();
    fs::rename(started.path(".new"), started.path("chat.d").join(file)).unwrap();
}

fn names(worker: &Worker) -> Vec<String> {
    worker.instances.live().chain("main").names().map(ToOwned::to_owned).collect()
}

#[test]
fn files_are_a_chain_in_name_order() {
    folder(&[], SHORT, &["20-second.wasm", "10-first.wasm", "third.wasm", "note.txt"]).run(async |_, worker| {
        assert_eq!(names(&worker), ["first", "second", "third"]);
    });
}

#[test]
fn a_file_that_is_dropped_in_joins_open_sessions() {
    folder(&[], SHORT, &[]).run(async |started, worker| {
        let mut chain = worker.open().await;
        assert_eq!(hear(&chain, "m").await, "pass m");
        put(started, "20-stamp.wasm", "stamp");
        until("it is in the chain", || names(&worker) == ["stamp"]).await;
        assert!(worker.migrate(&mut chain).await);
        assert_eq!(hear(&chain, "m").await, "pass m #1");
        // Another place in the order, the same filter: its sessions keep their state.
        put(started, "10-redact.wasm", "redact");
        until("it is in the chain", || names(&worker) == ["redact", "stamp"]).await;
        assert!(worker.migrate(&mut chain).await);
        assert_eq!(hear(&chain, "m").await, "pass m #2");
        fs::rename(started.path("chat.d/20-stamp.wasm"), started.path("chat.d/05-stamp.wasm")).unwrap();
        until("the order changes", || names(&worker) == ["stamp", "redact"]).await;
        assert!(worker.migrate(&mut chain).await);
        assert_eq!(hear(&chain, "m").await, "pass m #3");
        assert_eq!(started.catalogue.status().len(), 2);
    });
}

#[test]
fn a_removal_counts_after_its_grace() {
    folder(&[], Duration::from_secs(1), &["a.wasm", "b.wasm"]).run(async |started, worker| {
        let mut chain = worker.open().await;
        let begin = std::time::Instant::now();
        fs::remove_file(started.path("chat.d/a.wasm")).unwrap();
        until("it is removed", || names(&worker) == ["b"]).await;
        assert!(begin.elapsed() >= Duration::from_secs(1));
        assert!(worker.migrate(&mut chain).await);
        assert_eq!(hear(&chain, "m").await, "pass m #1");
    });
}

#[test]
fn what_comes_back_in_time_was_never_gone() {
    folder(&[], Duration::from_secs(2), &["a.wasm", "b.wasm"]).run(async |started, worker| {
        let before = worker.instances.live();
        fs::rename(started.path("chat.d/a.wasm"), started.path("kept")).unwrap();
        until("it is missing", || started.status("a").state == crate::filter::FilterState::Missing).await;
        fs::rename(started.path("kept"), started.path("chat.d/a.wasm")).unwrap();
        until("it is back", || started.status("a").state == crate::filter::FilterState::Serving).await;
        tokio::time::sleep(Duration::from_millis(2500)).await;
        assert!(std::ptr::eq(&*before, &*worker.instances.live()));
    });
}

#[test]
fn required_filters_stay_and_an_empty_folder_changes_nothing() {
    folder(&["a"], Duration::from_millis(1), &["a.wasm", "b.wasm"]).run(async |started, worker| {
        fs::remove_file(started.path("chat.d/a.wasm")).unwrap();
        until("it is missing", || started.status("a").state == crate::filter::FilterState::Missing).await;
        assert_eq!(names(&worker), ["a", "b"]);
        fs::remove_file(started.path("chat.d/b.wasm")).unwrap();
        // Long enough for two scans.
        tokio::time::sleep(Duration::from_millis(2500)).await;
        assert_eq!(names(&worker), ["a", "b"]);
        fs::remove_dir(started.path("chat.d")).unwrap();
        tokio::time::sleep(Duration::from_millis(2500)).await;
        assert_eq!(names(&worker), ["a", "b"]);
        assert!(started.catalogue.ready());
        // It is followed again when it is back.
        fs::create_dir(started.path("chat.d")).unwrap();
        put(started, "a.wasm", "redact");
        until("b is removed", || names(&worker) == ["a"]).await;
    });
}

#[test]
fn two_files_of_one_name_keep_the_old_chain() {
    folder(&[], SHORT, &["10-a.wasm"]).run(async |started, worker| {
        put(started, "20-a.wasm", "redact");
        put(started, "30-b.wasm", "redact");
        tokio::time::sleep(Duration::from_millis(500)).await;
        assert_eq!(names(&worker), ["a"]);
        fs::remove_file(started.path("chat.d/20-a.wasm")).unwrap();
        until("the folder counts again", || names(&worker) == ["a", "b"]).await;
    });
    let error = folder(&[], SHORT, &["10-a.wasm", "20-a.wasm"]).try_start().map(|_| ());
    assert!(matches!(error, Err(LoadError::Duplicate { .. })), "{error:?}");
}

#[test]
fn a_broken_file_joins_no_chain_and_replaces_nothing() {
    folder(&[], SHORT, &["10-a.wasm"]).run(async |started, worker| {
        fs::write(started.path("chat.d/20-b.wasm"), "broken").unwrap();
        until("it is refused", || {
            started.catalogue.status().iter().any(|s| s.name == "b" && s.state == crate::filter::FilterState::Failed)
        })
        .await;
        assert_eq!(names(&worker), ["a"]);
        // Under another number and broken at once: the last good one serves on, in the new place.
        fs::write(started.path(".new"), "broken").unwrap();
        fs::rename(started.path(".new"), started.path("chat.d/30-a.wasm")).unwrap();
        fs::remove_file(started.path("chat.d/10-a.wasm")).unwrap();
        put(started, "20-b.wasm", "redact");
        until("the order changes", || names(&worker) == ["b", "a"]).await;
        assert_eq!(hear(&worker.open().await, "m").await, "pass m #1");
    });
}

#[test]
fn a_required_filter_has_to_be_there_at_the_start() {
    let error = folder(&["authz"], SHORT, &["a.wasm"]).try_start().map(|_| ());
    assert!(matches!(error, Err(LoadError::Required { .. })), "{error:?}");
}

#[test]
fn settings_apply_by_name() {
    let mut bed = folder(&[], SHORT, &["10-stamp.wasm"]);
    let mut filter = crate::config::Filter::with_defaults(bed.folder.path().join("stamp.wasm"));
    filter.config = serde_json::json!({"show_version": true, "version": "v9"});
    bed.config.filters.insert("stamp".to_owned(), filter);
    bed.run(async |started, worker| {
        assert_eq!(hear(&worker.open().await, "m").await, "pass m #1 v9");
        assert_eq!(started.catalogue.status().len(), 1);
    });
}
