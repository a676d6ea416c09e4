//! Named filters and their files, while connections stay open.

use std::{fs, io::Write as _, time::Duration};

use serde_json::json;

use crate::filter::{
    FilterState, LoadError, NotAFilter,
    generation::Digest256,
    test_support::{Bed, Started, Worker, guest, hear, say, until},
};

fn reloads(started: &Started, filter: &str, result: &str) -> f64 {
    let line = format!(r#"wsgate_filter_reloads_total{{filter="{filter}",result="{result}"}}"#);
    started.metric(&line).unwrap_or(0.0)
}

/// Waits until the filter `main` is guest-faulty, which says so.
async fn until_faulty(worker: &Worker) {
    let end = tokio::time::Instant::now() + Duration::from_secs(20);
    while say(&worker.open().await, "resumed").await != "client opened" {
        assert!(tokio::time::Instant::now() < end);
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

fn swapping() -> Bed {
    Bed::new().filter("main", "stamp", json!({})).route(&["main"])
}

#[test]
fn a_file_that_is_replaced_by_a_rename_is_loaded() {
    swapping().run(async |started, worker| {
        assert_eq!(hear(&worker.open().await, "m").await, "pass m #1");
        let before = started.status("main");
        assert_eq!((before.state, before.routes.as_slice()), (FilterState::Serving, ["main".to_owned()].as_slice()));
        started.replace("main.wasm", "guest_faulty");
        until_faulty(&worker).await;
        let after = started.status("main");
        assert_ne!(after.generation, before.generation);
        assert!(after.loaded_at_unix_ms >= before.loaded_at_unix_ms);
        assert_eq!(after.wasm_bytes as u64, fs::metadata(guest("guest_faulty")).unwrap().len());
        assert_eq!(reloads(started, "main", "ok"), 1.0);
        assert_eq!(started.metric(r#"wsgate_filter_generation{filter="main"}"#), Some(2.0));
    });
}

#[test]
fn a_file_that_is_written_slowly_in_place_is_loaded_when_it_is_whole() {
    swapping().run(async |started, worker| {
        let bytes = fs::read(guest("guest_faulty")).unwrap();
        let mut file = fs::File::create(started.path("main.wasm")).unwrap();
        for piece in bytes.chunks(bytes.len() / 5 + 1) {
            file.write_all(piece).unwrap();
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        drop(file);
        until_faulty(&worker).await;
        assert_eq!((reloads(started, "main", "ok"), reloads(started, "main", "error")), (1.0, 0.0));
    });
}

#[test]
fn the_same_bytes_again_do_nothing() {
    swapping().run(async |started, worker| {
        let before = worker.instances.live();
        started.replace("main.wasm", "stamp");
        // Something that is noticed later than the rename.
        fs::copy(guest("redact"), started.path("other.wasm")).unwrap();
        until("the other file is seen", || started.catalogue.status().len() == 2).await;
        until("it is loaded", || started.status("other").state == FilterState::Unused).await;
        assert!(std::ptr::eq(&*before, &*worker.instances.live()));
        assert_eq!(reloads(started, "main", "ok"), 0.0);
    });
}

#[test]
fn a_broken_file_keeps_the_old_generation_and_says_so() {
    swapping().run(async |started, worker| {
        let chain = worker.open().await;
        let before = started.status("main");
        fs::write(started.path(".new"), "not a component").unwrap();
        fs::rename(started.path(".new"), started.path("main.wasm")).unwrap();
        until("the file is refused", || started.status("main").state == FilterState::Failed).await;
        let status = started.status("main");
        assert_eq!(status.generation, before.generation);
        assert!(status.error.unwrap().contains("not WebAssembly"));
        // It is refused once, however often it is looked at.
        fs::copy(guest("redact"), started.path("other.wasm")).unwrap();
        until("the other file is loaded", || started.catalogue.status().len() == 2).await;
        until("it is unused", || started.status("other").state == FilterState::Unused).await;
        assert_eq!(reloads(started, "main", "error"), 1.0);
        assert_eq!(hear(&chain, "m").await, "pass m #1");
        assert_eq!(hear(&worker.open().await, "m").await, "pass m #1");
        // The good one again: nothing is loaded anew, and the error is gone.
        started.replace("main.wasm", "stamp");
        until("the error is gone", || started.status("main").state == FilterState::Serving).await;
        assert_eq!(started.status("main").generation, before.generation);
        assert_eq!(reloads(started, "main", "ok"), 0.0);
    });
}

#[test]
fn a_file_whose_init_fails_keeps_the_old_generation() {
    // guest-faulty does not know stamp's keys.
    let bed = Bed::new().filter("main", "stamp", json!({"key": "n"})).route(&["main"]);
    bed.run(async |started, worker| {
        started.replace("main.wasm", "guest_faulty");
        until("the file is refused", || started.status("main").state == FilterState::Failed).await;
        let error = started.status("main").error.unwrap();
        assert!(error.contains("init refused the configuration") && error.contains("key"), "{error}");
        assert_eq!(hear(&worker.open().await, "m").await, "pass m #1");
    });
}

#[test]
fn a_file_that_vanishes_is_missing_and_serves_on() {
    swapping().run(async |started, worker| {
        fs::remove_file(started.path("main.wasm")).unwrap();
        until("it is missing", || started.status("main").state == FilterState::Missing).await;
        assert_eq!(started.metric(r#"wsgate_filter_missing{filter="main"}"#), Some(1.0));
        assert_eq!(hear(&worker.open().await, "m").await, "pass m #1");
        assert!(started.catalogue.ready());
        started.replace("main.wasm", "guest_faulty");
        until_faulty(&worker).await;
        assert_eq!(started.metric(r#"wsgate_filter_missing{filter="main"}"#), Some(0.0));
    });
}

#[test]
fn a_config_map_swap_is_followed() {
    let bed = swapping();
    let folder = bed.folder.path().to_owned();
    let version = |name: &str, from: &str| {
        fs::create_dir(folder.join(name)).unwrap();
        fs::copy(guest(from), folder.join(name).join("main.wasm")).unwrap();
    };
    version("..1", "stamp");
    version("..2", "guest_faulty");
    std::os::unix::fs::symlink("..1", folder.join("..data")).unwrap();
    fs::remove_file(folder.join("main.wasm")).unwrap();
    std::os::unix::fs::symlink("..data/main.wasm", folder.join("main.wasm")).unwrap();
    bed.run(async |started, worker| {
        assert_eq!(hear(&worker.open().await, "m").await, "pass m #1");
        std::os::unix::fs::symlink("..2", started.path("..tmp")).unwrap();
        fs::rename(started.path("..tmp"), started.path("..data")).unwrap();
        until_faulty(&worker).await;
    });
}

#[test]
fn an_open_session_moves_and_keeps_its_count() {
    let config = json!({"show_version": true, "version": "v1"});
    let bed = Bed::new().filter("main", "stamp", config).route(&["main"]);
    bed.run(async |started, worker| {
        let mut chain = worker.open().await;
        assert_eq!(hear(&chain, "m").await, "pass m #1 v1");
        let before = worker.instances.live();
        // Other bytes, the same filter: a custom section changes nothing but the hash.
        let mut bytes = fs::read(guest("stamp")).unwrap();
        bytes.extend([0, 2, 1, b'x']);
        fs::write(started.path(".new"), bytes).unwrap();
        fs::rename(started.path(".new"), started.path("main.wasm")).unwrap();
        until("the new one is live", || !std::ptr::eq(&*before, &*worker.instances.live())).await;
        assert!(!chain.is_settled(&worker.instances.live().chain("main")));
        assert!(worker.migrate(&mut chain).await);
        assert_eq!(hear(&chain, "m").await, "pass m #2 v1");
        assert_eq!(started.status("main").state, FilterState::Serving);
    });
}

#[test]
fn files_that_no_route_uses_are_loaded_and_listed() {
    let bed = swapping();
    fs::copy(guest("redact"), bed.folder.path().join("spare.wasm")).unwrap();
    fs::write(bed.folder.path().join("bad.wasm"), "bad").unwrap();
    bed.run(async |started, _| {
        assert_eq!(started.status("spare").state, FilterState::Unused);
        assert_eq!(started.status("bad").state, FilterState::Failed);
        assert_eq!(started.status("spare").routes, Vec::<String>::new());
        fs::remove_file(started.path("spare.wasm")).unwrap();
        until("it is no longer listed", || started.catalogue.status().len() == 2).await;
    });
}

#[test]
fn a_named_filter_has_to_load_at_the_start() {
    let bed = swapping();
    fs::remove_file(bed.folder.path().join("main.wasm")).unwrap();
    match bed.try_start() {
        Err(error @ LoadError::Read { .. }) => assert!(error.to_string().contains("main.wasm"), "{error}"),
        other => panic!("{:?}", other.map(|_| ())),
    }
    let bed = swapping();
    fs::write(bed.folder.path().join("main.wasm"), "bad").unwrap();
    assert!(matches!(bed.try_start().map(|_| ()), Err(LoadError::NotAFilter { source: NotAFilter::Garbage(_), .. })));
}

#[test]
fn a_second_filter_of_the_same_file_is_compiled_once() {
    let bed = Bed::new()
        .filter("one", "stamp", json!({"version": "1", "show_version": true}))
        .filter("two", "stamp", json!({"version": "2", "show_version": true}))
        .route(&["one", "two"]);
    bed.run(async |_, worker| {
        let spec = worker.instances.live().chain("main");
        let component = |i: usize| spec.filters()[i].pre().instance_pre().component().image_range();
        assert_eq!(component(0), component(1));
        assert_eq!(hear(&worker.open().await, "m").await, "pass m #1 2 #1 1");
    });
}

#[test]
fn a_pinned_file_is_the_only_one_that_is_accepted() {
    let pinned = |to: &str| {
        let digest = Digest256::of(&fs::read(guest(to)).unwrap());
        Bed::new().tuned("main", "stamp", json!({}), |filter| filter.sha256 = Some(digest.0)).route(&["main"])
    };
    let refused = pinned("redact").try_start().map(|_| ());
    assert!(matches!(refused, Err(LoadError::NotAFilter { source: NotAFilter::Pin(_), .. })), "{refused:?}");
    pinned("stamp").run(async |started, worker| {
        started.replace("main.wasm", "guest_faulty");
        until("the file is refused", || started.status("main").state == FilterState::Failed).await;
        assert!(started.status("main").error.unwrap().contains("sha256"));
        assert_eq!(hear(&worker.open().await, "m").await, "pass m #1");
    });
}
