//! A candidate that serves a share of the new connections.

use std::{collections::BTreeMap, fs, sync::Arc};

use serde_json::json;

use crate::{
    config::Candidate,
    filter::{
        Chain, FilterState, GenerationRole,
        test_support::{Bed, Started, Worker, guest, hear, say, until},
    },
};

/// `main` from this guest, with a canary from another.
fn with_canary(from: &str, canary: &str, percent: u8, config: serde_json::Value) -> Bed {
    let bed = Bed::new();
    let file = bed.folder.path().join("main-v2.wasm");
    fs::copy(guest(canary), &file).unwrap();
    bed.tuned("main", from, config, |filter| filter.canary = Some(Candidate { file, percent })).route(&["main"])
}

async fn versions(worker: &Worker, connections: usize) -> BTreeMap<String, usize> {
    let mut versions = BTreeMap::new();
    for _ in 0..connections {
        let said = hear(&worker.open().await, "m").await;
        *versions.entry(said).or_default() += 1;
    }
    versions
}

fn stamps(percent: u8) -> Bed {
    with_canary("stamp", "stamp-v2", percent, json!({"show_version": true}))
}

#[test]
fn exactly_its_share_of_the_connections_is_served_by_it() {
    for (percent, expected) in [(0, 0..=0), (5, 9..=11), (50, 99..=101), (100, 200..=200)] {
        stamps(percent).run(async |started, worker| {
            let versions = versions(&worker, 200).await;
            let canary = versions.get("pass m #1 v2").copied().unwrap_or(0);
            assert!(expected.contains(&canary), "{percent}: {versions:?}");
            assert_eq!(canary + versions.get("pass m #1 v1").copied().unwrap_or(0), 200, "{versions:?}");
            let listed: Vec<_> = started.catalogue.status().iter().map(|status| status.name.clone()).collect();
            assert_eq!(listed, ["main"], "its file is no filter of its own");
        });
    }
}

fn role(chain: &Started, role: GenerationRole) -> Vec<usize> {
    let generations = chain.status("main").generations;
    generations.iter().filter(|generation| generation.role == role).map(|generation| generation.sessions).collect()
}

async fn opened_by_canary(worker: &Worker) -> Chain {
    loop {
        let chain = worker.open().await;
        if hear(&chain, "m").await == "pass m #1 v2" {
            return chain;
        }
    }
}

#[test]
fn sessions_stay_with_what_they_opened_with_and_each_follows_its_own_file() {
    stamps(50).run(async |started, worker| {
        let mut canary = opened_by_canary(&worker).await;
        assert_eq!(role(started, GenerationRole::Canary), [1]);
        // The main file changes: the canary's session stays, a new version of the canary moves it.
        for (file, letter, expected) in [("main.wasm", b'x', "pass m #2 v2"), ("main-v2.wasm", b'y', "pass m #3 v2")] {
            let before = worker.instances.live();
            let mut bytes = fs::read(started.path(file)).unwrap();
            bytes.extend([0, 2, 1, letter]);
            started.write(file, &bytes);
            until("it is live", || !Arc::ptr_eq(&before, &worker.instances.live())).await;
            worker.migrate(&mut canary).await;
            assert_eq!(hear(&canary, "m").await, expected);
        }
        let status = started.status("main");
        assert_eq!(status.canary.as_ref().unwrap().state, FilterState::Serving);
        assert_eq!((role(started, GenerationRole::Serving), role(started, GenerationRole::Canary)), (vec![0], vec![1]));

        // The file is taken away: its share goes back, the open session stays.
        let before = worker.instances.live();
        fs::remove_file(started.path("main-v2.wasm")).unwrap();
        until("it is live", || !Arc::ptr_eq(&before, &worker.instances.live())).await;
        assert_eq!(started.status("main").canary.unwrap().state, FilterState::Missing);
        worker.migrate(&mut canary).await;
        assert_eq!(hear(&canary, "m").await, "pass m #4 v2");
        assert_eq!(versions(&worker, 20).await.keys().collect::<Vec<_>>(), ["pass m #1 v1"]);
    });
}

#[test]
fn a_rollback_takes_the_same_bytes_away_from_the_canary_too() {
    stamps(50).run(async |started, worker| {
        let mut canary = opened_by_canary(&worker).await;
        let before = worker.instances.live();
        started.replace("main.wasm", "stamp-v2");
        until("it is live", || !Arc::ptr_eq(&before, &worker.instances.live())).await;
        until("it is listed", || started.status("main").rollback_to.is_some()).await;
        drop(before);
        started.catalogue.roll_back("main").await.unwrap();
        let status = started.status("main").canary.unwrap();
        assert_eq!((status.state, status.generation), (FilterState::Quarantined, None));
        assert!(status.error.unwrap().contains("no share"));
        until("the worker knows", || worker.instances.live().chain("main").slots()[0].canary.is_none()).await;
        assert!(worker.migrate(&mut canary).await);
        assert_eq!(hear(&canary, "m").await, "pass m #2 v1");
        assert_eq!(versions(&worker, 10).await.keys().collect::<Vec<_>>(), ["pass m #1 v1"]);
        until("the bad one is gone", || started.status("main").generations.len() == 1).await;
        // It stays away, and has its share again once it is another one.
        let sha256 = started.status("main").quarantine[0].sha256.clone();
        started.catalogue.lift_quarantine("main", &sha256).await.unwrap();
        until("it serves again", || started.status("main").canary.unwrap().state == FilterState::Serving).await;
    });
}

#[test]
fn a_canary_that_cannot_be_loaded_leaves_the_filter_alone() {
    let bed = stamps(100);
    fs::write(bed.folder.path().join("main-v2.wasm"), "broken").unwrap();
    bed.run(async |started, worker| {
        assert_eq!(versions(&worker, 5).await.keys().collect::<Vec<_>>(), ["pass m #1 v1"]);
        let canary = started.status("main").canary.unwrap();
        assert_eq!((canary.state, canary.generation), (FilterState::Failed, None));
        assert!(canary.error.unwrap().contains("not WebAssembly"));
        assert!(started.catalogue.ready());
        // It may come later.
        let before = worker.instances.live();
        started.replace("main-v2.wasm", "stamp-v2");
        until("it serves", || started.status("main").canary.unwrap().state == FilterState::Serving).await;
        until("it is live", || !Arc::ptr_eq(&before, &worker.instances.live())).await;
        assert_eq!(versions(&worker, 5).await.keys().collect::<Vec<_>>(), ["pass m #1 v2"]);
        // A broken one changes nothing.
        started.write("main-v2.wasm", b"broken");
        until("it is refused", || started.status("main").canary.unwrap().state == FilterState::Failed).await;
        assert_eq!(versions(&worker, 5).await.keys().collect::<Vec<_>>(), ["pass m #1 v2"]);
    });
}

#[test]
fn its_faults_have_a_name_of_their_own() {
    with_canary("stamp", "guest_faulty", 100, json!({})).run(async |started, worker| {
        assert!(say(&worker.open().await, "trap").await.starts_with("close 1011"));
        assert_eq!((started.faults("main", "trap"), started.faults("main@canary", "trap")), (0.0, 1.0));
    });
}

#[test]
fn a_candidate_in_a_folder_of_filters_is_no_link_of_the_chain() {
    let bed = Bed::new();
    let file = bed.folder.path().join("chat.d/20-next.wasm");
    let mut bed = bed.folder_route("chat.d", &[], std::time::Duration::ZERO);
    fs::copy(guest("stamp"), bed.folder.path().join("chat.d/10-main.wasm")).unwrap();
    fs::copy(guest("stamp-v2"), &file).unwrap();
    let mut filter = crate::config::Filter::with_defaults(bed.folder.path().join("main.wasm"));
    filter.config = json!({"show_version": true});
    filter.canary = Some(Candidate { file, percent: 100 });
    bed.config.filters.insert("main".to_owned(), filter);
    bed.run(async |_, worker| {
        assert_eq!(versions(&worker, 3).await.keys().collect::<Vec<_>>(), ["pass m #1 v2"]);
    });
}
