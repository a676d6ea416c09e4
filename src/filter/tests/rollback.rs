//! Back to the generation that served before, and the quarantine of what came after it.

use std::{fs, sync::Arc};

use serde_json::json;

use crate::filter::{
    FilterState, NotAdmitted, OrderError,
    test_support::{Bed, Started, Worker, guest, hear, keep_compiled, say, until},
};

/// A build of a guest that differs from the guest in nothing but its hash.
fn build(of: &str, letter: u8) -> Vec<u8> {
    let mut bytes = fs::read(guest(of)).unwrap();
    // A custom section with a name of one byte.
    bytes.extend([0, 2, 1, letter]);
    bytes
}

async fn publish(started: &Started, worker: &Worker, file: &str, bytes: &[u8]) {
    let before = worker.instances.live();
    let listed = || {
        let mut all = started.catalogue.status().into_iter();
        all.find(|status| status.file.ends_with(file)).map(|status| status.generation)
    };
    let listed_before = listed();
    started.write(file, bytes);
    until("it is live", || !Arc::ptr_eq(&before, &worker.instances.live())).await;
    until("it is listed", || listed() != listed_before).await;
    keep_compiled(&worker.instances.live());
}

fn stamp() -> Bed {
    Bed::new().filter("stamp", "stamp", json!({})).route(&["stamp"])
}

#[test]
fn open_sessions_go_back_with_their_state_and_the_bad_content_stays_out() {
    stamp().run(async |started, worker| {
        let mut chain = worker.open().await;
        assert_eq!(hear(&chain, "m").await, "pass m #1");
        let first = started.status("stamp");
        assert_eq!(first.rollback_to, None);
        let bad = build("stamp", b'b');
        publish(started, &worker, "stamp.wasm", &bad).await;
        assert!(worker.migrate(&mut chain).await);
        assert_eq!(hear(&chain, "m").await, "pass m #2");
        assert_eq!(started.status("stamp").rollback_to, first.generation);

        let done = started.catalogue.roll_back("stamp").await.unwrap();
        assert_eq!((done.len(), Some(&done[0].to), done[0].persisted), (1, first.generation.as_ref(), false));
        let status = started.status("stamp");
        assert_eq!((status.state, &status.generation), (FilterState::Quarantined, &first.generation));
        assert!(status.error.unwrap().contains("quarantined by rollback"));
        assert_eq!(status.quarantine[0].sha256, done[0].quarantined);
        until("the worker knows", || !chain.is_settled(&worker.instances.live().chain("main"))).await;
        assert!(worker.migrate(&mut chain).await);
        assert_eq!(hear(&chain, "m").await, "pass m #3");
        let reloads = r#"wsgate_filter_reloads_total{filter="stamp",result="rollback"}"#;
        assert_eq!(started.metric(reloads), Some(1.0));

        // The same bytes again, however they come: they are not loaded.
        started.write("stamp.wasm", &bad);
        fs::copy(guest("redact"), started.path("other.wasm")).unwrap();
        until("a later file is seen", || started.catalogue.status().len() == 2).await;
        assert_eq!(started.status("stamp").generation, first.generation);
        // Another file is loaded as ever, and then these bytes are still kept out.
        publish(started, &worker, "stamp.wasm", &build("stamp", b'c')).await;
        assert_eq!(started.status("stamp").state, FilterState::Serving);
        started.write("stamp.wasm", &bad);
        until("it is kept out", || started.status("stamp").state == FilterState::Quarantined).await;
    });
}

#[test]
fn the_filter_hears_that_it_is_a_rollback() {
    let bed = Bed::new().filter("faulty", "guest_faulty", json!({"modes": ["save:7"]})).route(&["faulty"]);
    bed.run(async |started, worker| {
        let mut chain = worker.open().await;
        publish(started, &worker, "faulty.wasm", &build("guest_faulty", b'b')).await;
        assert!(worker.migrate(&mut chain).await);
        assert_eq!(say(&chain, "resumed").await, "client resumed cause=reload state=7");
        let mut opened_later = worker.open().await;
        started.catalogue.roll_back("faulty").await.unwrap();
        until("the worker knows", || !chain.is_settled(&worker.instances.live().chain("main"))).await;
        for chain in [&mut chain, &mut opened_later] {
            assert!(worker.migrate(chain).await);
            assert_eq!(say(chain, "resumed").await, "client resumed cause=rollback state=7");
        }
        publish(started, &worker, "faulty.wasm", &build("guest_faulty", b'c')).await;
        assert!(worker.migrate(&mut chain).await);
        assert_eq!(say(&chain, "resumed").await, "client resumed cause=reload state=7");
    });
}

#[test]
fn the_last_few_generations_are_kept_and_no_more() {
    stamp().run(async |started, worker| {
        let mut generations = vec![started.status("stamp").generation.unwrap()];
        for letter in b'b'..=b'f' {
            publish(started, &worker, "stamp.wasm", &build("stamp", letter)).await;
            generations.push(started.status("stamp").generation.unwrap());
        }
        for earlier in [4, 3, 2] {
            let done = started.catalogue.roll_back("stamp").await.unwrap();
            assert_eq!(done[0].to, generations[earlier]);
        }
        let nothing = started.catalogue.roll_back("stamp").await;
        assert!(matches!(nothing, Err(OrderError::NothingBefore)), "{nothing:?}");
        assert_eq!(started.status("stamp").quarantine.len(), 3);
        let unknown = started.catalogue.roll_back("other").await;
        assert!(matches!(unknown, Err(OrderError::UnknownFilter)), "{unknown:?}");
    });
}

#[test]
fn a_content_whose_quarantine_is_lifted_is_loaded() {
    stamp().run(async |started, worker| {
        publish(started, &worker, "stamp.wasm", &build("stamp", b'b')).await;
        let bad = started.status("stamp").generation;
        let done = started.catalogue.roll_back("stamp").await.unwrap();
        let other = started.catalogue.lift_quarantine("stamp", &"0".repeat(64)).await;
        assert!(matches!(other, Err(OrderError::NotQuarantined)), "{other:?}");
        let sha256 = done[0].quarantined.to_uppercase();
        assert!(!started.catalogue.lift_quarantine("stamp", &sha256).await.unwrap());
        until("it serves again", || started.status("stamp").generation == bad).await;
        let status = started.status("stamp");
        assert_eq!((status.state, status.quarantine.len()), (FilterState::Serving, 0));
    });
}

#[test]
fn the_quarantine_outlives_a_restart_and_the_route_refuses_rather_than_serve_without_the_filter() {
    let state_dir = tempfile::tempdir().unwrap();
    let mut bed = stamp();
    bed.config.server.state_dir = Some(state_dir.path().to_owned());
    let again = bed.config.clone();
    let started = bed.start();
    started.run(async |started, worker| {
        publish(started, &worker, "stamp.wasm", &build("stamp", b'b')).await;
        assert!(started.catalogue.roll_back("stamp").await.unwrap()[0].persisted);
    });
    let Started { folder, catalogue, .. } = started;
    drop(catalogue);
    let restarted = Bed { folder, config: again, holding: None }.start();
    restarted.run(async |started, worker| {
        let status = started.status("stamp");
        assert_eq!((status.state, status.generation), (FilterState::Quarantined, None));
        assert!(status.error.unwrap().contains("nothing serves"));
        assert!(!started.catalogue.ready());
        match worker.try_open().await {
            Err(NotAdmitted::Closed { filter }) => assert_eq!(&*filter, "stamp"),
            other => panic!("{:?}", other.map(|_| ())),
        }
        publish(started, &worker, "stamp.wasm", &build("stamp", b'c')).await;
        until("it is ready", || started.catalogue.ready()).await;
        assert_eq!(hear(&worker.open().await, "m").await, "pass m #1");
    });
}

#[test]
fn a_filter_of_a_folder_goes_back_also_after_its_file_was_renamed() {
    let bed = Bed::new().folder_route("chat.d", &[], std::time::Duration::from_secs(60));
    fs::copy(guest("stamp"), bed.folder.path().join("chat.d/10-stamp.wasm")).unwrap();
    bed.run(async |started, worker| {
        let first = started.status("stamp").generation;
        publish(started, &worker, "chat.d/10-stamp.wasm", &build("stamp", b'b')).await;
        fs::rename(started.path("chat.d/10-stamp.wasm"), started.path("chat.d/20-stamp.wasm")).unwrap();
        until("it has its new name", || started.status("stamp").file.ends_with("20-stamp.wasm")).await;
        assert_eq!(started.status("stamp").rollback_to, first);
        started.catalogue.roll_back("stamp").await.unwrap();
        assert_eq!(started.status("stamp").generation, first);
        assert_eq!(hear(&worker.open().await, "m").await, "pass m #1");
    });
}
