//! Another configuration in the place of the one before.

use std::{fs, sync::Arc, time::Duration};

use serde_json::json;

use crate::{
    config::{ChainSource, Config},
    filter::{
        LoadError,
        test_support::{Bed, Started, Worker, guest, hear, until},
    },
};

/// Stamps what goes to the client.
fn bed() -> Bed {
    Bed::new().filter("stamp", "stamp", json!({"version": "v1", "show_version": true})).route(&["stamp"])
}

fn version(config: &mut Config, version: &str) {
    config.filters.get_mut("stamp").unwrap().config = json!({"version": version, "show_version": true});
}

/// Starts, and runs this with the configuration that it started with.
fn run(bed: Bed, test: impl AsyncFnOnce(&Started, Worker, Config)) {
    let config = bed.config.clone();
    bed.run(async |started, worker| test(started, worker, config).await);
}

async fn configure(started: &Started, config: &Config) -> Result<(), LoadError> {
    started.catalogue.configure(Arc::new(config.clone())).await
}

#[test]
fn open_sessions_move_to_the_new_settings_with_their_state() {
    run(bed(), async |started, worker, mut config| {
        let mut chain = worker.open().await;
        assert_eq!(hear(&chain, "m").await, "pass m #1 v1");
        version(&mut config, "v2");
        configure(started, &config).await.unwrap();
        until("it is published", || {
            worker.instances.live().chain("main").filters()[0].settings().config_json.contains("v2")
        })
        .await;
        assert!(worker.migrate(&mut chain).await);
        assert_eq!(hear(&chain, "m").await, "pass m #2 v2");
        // The same once more changes nothing.
        let before = started.status("stamp").generation;
        configure(started, &config).await.unwrap();
        assert_eq!(started.status("stamp").generation, before);
        assert!(chain.is_settled(&worker.instances.live().chain("main")));
    });
}

#[test]
fn a_filter_that_does_not_start_with_its_new_settings_changes_nothing() {
    let bed =
        bed().filter("other", "stamp", json!({"version": "o1", "show_version": true})).route_named("o", &["other"]);
    run(bed, async |started, worker, config| {
        let chain = worker.open().await;
        let before = worker.instances.live();
        let mut bad = config.clone();
        version(&mut bad, "v2");
        bad.filters.get_mut("other").unwrap().config = json!({"version": 1});
        let error = configure(started, &bad).await.unwrap_err();
        assert!(matches!(&error, LoadError::NotAFilter { filter, .. } if filter == "other"), "{error}");
        assert!(Arc::ptr_eq(&before.chain("main"), &worker.instances.live().chain("main")));
        assert_eq!(hear(&chain, "m").await, "pass m #1 v1");
        // A file that is changed now still meets the old settings.
        started.replace("stamp.wasm", "stamp");
        let mut missing = config.clone();
        missing.routes[0].filters = ChainSource::Names(vec!["stamp".to_owned(), "nowhere".to_owned()]);
        let error = configure(started, &missing).await.unwrap_err();
        assert!(matches!(&error, LoadError::Read { filter, .. } if filter == "nowhere"), "{error}");
        configure(started, &config).await.unwrap();
    });
}

#[test]
fn chains_grow_and_shrink_and_routes_come_and_go() {
    run(bed(), async |started, worker, mut config| {
        let mut chain = worker.open().await;
        fs::copy(guest("redact"), started.path("redact.wasm")).unwrap();
        config.routes[0].filters = ChainSource::Names(vec!["stamp".to_owned(), "redact".to_owned()]);
        let mut second = config.routes[0].clone();
        second.name = "second".to_owned();
        config.routes.push(second);
        configure(started, &config).await.unwrap();
        until("it is published", || worker.instances.live().chain_of("second").is_some()).await;
        assert_eq!(worker.instances.live().chain("main").names().collect::<Vec<_>>(), ["stamp", "redact"]);
        assert!(worker.migrate(&mut chain).await);
        assert_eq!(hear(&chain, "m").await, "pass m #1 v1");
        config.routes.remove(0);
        configure(started, &config).await.unwrap();
        until("it is gone", || worker.instances.live().chain_of("main").is_none()).await;
        // Its sessions still have their filters.
        assert_eq!(hear(&chain, "m").await, "pass m #2 v1");
    });
}

#[test]
fn a_folder_keeps_what_it_had_and_must_have_what_is_required() {
    let bed = Bed::new().folder_route("chat.d", &[], Duration::from_secs(60));
    let folder = bed.folder.path().join("chat.d");
    fs::copy(guest("stamp"), folder.join("10-stamp.wasm")).unwrap();
    run(bed, async |started, worker, mut config| {
        let chain = worker.open().await;
        assert_eq!(hear(&chain, "m").await, "pass m #1");
        // Its removal does not count yet, nor does another configuration make it count.
        fs::remove_file(folder.join("10-stamp.wasm")).unwrap();
        until("it is missed", || started.status("stamp").state == crate::filter::FilterState::Missing).await;
        config.routes[0].limits.send_timeout = Duration::from_secs(99);
        configure(started, &config).await.unwrap();
        assert_eq!(worker.instances.live().chain("main").names().collect::<Vec<_>>(), ["stamp"]);
        let required = |name: &str| ChainSource::Folder {
            path: folder.clone(),
            required: vec![name.to_owned()],
            removal_grace: Duration::from_secs(60),
        };
        config.routes[0].filters = required("authorize");
        let error = configure(started, &config).await.unwrap_err();
        assert!(matches!(&error, LoadError::Required { filter, .. } if filter == "authorize"), "{error}");
        config.routes[0].filters = required("stamp");
        configure(started, &config).await.unwrap();
    });
}

#[test]
fn a_rollback_after_other_settings_goes_back_to_other_code_only() {
    run(bed(), async |started, worker, mut config| {
        let first = started.status("stamp").generation;
        let mut newer = fs::read(guest("stamp")).unwrap();
        newer.extend([0, 2, 1, b'n']);
        started.write("stamp.wasm", &newer);
        until("the newer serves", || started.status("stamp").generation != first).await;
        version(&mut config, "v2");
        configure(started, &config).await.unwrap();
        started.catalogue.roll_back("stamp").await.unwrap();
        let chain = worker.open().await;
        assert_eq!(hear(&chain, "m").await, "pass m #1 v2");
        assert_ne!(started.status("stamp").generation, first);
        // What serves after a rollback goes along too, though the file is another.
        version(&mut config, "v3");
        configure(started, &config).await.unwrap();
        until("it is published", || {
            worker.instances.live().chain("main").filters()[0].settings().config_json.contains("v3")
        })
        .await;
        let chain = worker.open().await;
        assert_eq!(hear(&chain, "m").await, "pass m #1 v3");
        assert!(worker.instances.live().chain("main").filters()[0].is_restored());
    });
}
