//! Machine code: where it comes from, what becomes of it, and what happens where there is none.

use std::{
    error::Error as _,
    fs,
    path::Path,
    sync::{Arc, Weak},
};

use serde_json::json;

use crate::filter::{
    Catalogue, FilterState, LoadError, NotCompiled,
    compiler::Compiler,
    generation::Digest256,
    test_support::{Bed, Started, Worker, guest, hear, until},
};
use crate::{config::Config, state_dir::StateDir, telemetry::metrics::Metrics, topic::Hub};

fn compilations(started: &Started, result: &str) -> f64 {
    started.metric(&format!(r#"wsgate_filter_compilations_total{{result="{result}"}}"#)).unwrap_or(0.0)
}

/// A filter, and a state directory that outlives the catalogue.
fn kept(state: &Path) -> Bed {
    let mut bed = Bed::new().filter("main", "stamp", json!({})).route(&["main"]);
    bed.config.server.state_dir = Some(state.to_owned());
    fs::write(bed.folder.path().join("main.wasm"), build("stamp")).unwrap();
    bed
}

/// A guest with a custom section: content that no other test of this process has compiled.
fn build(of: &str) -> Vec<u8> {
    let mut bytes = fs::read(guest(of)).unwrap();
    bytes.extend([0, 10, 1, b'u']);
    bytes.extend(rand::random::<[u8; 8]>());
    bytes
}

fn entries(state: &Path) -> Vec<std::path::PathBuf> {
    fs::read_dir(state.join("compiled")).unwrap().map(|entry| entry.unwrap().path()).collect()
}

/// Replaces the filter, until the worker has it and the one before is gone.
async fn publish(started: &Started, worker: &Worker, bytes: &[u8]) {
    let before = Arc::downgrade(&worker.instances.live());
    fs::write(started.path(".new"), bytes).unwrap();
    fs::rename(started.path(".new"), started.path("main.wasm")).unwrap();
    until("the new one is live", || !Weak::ptr_eq(&before, &Arc::downgrade(&worker.instances.live()))).await;
    until("the one before is gone", || started.status("main").generations.len() == 1).await;
}

fn start(config: &Arc<Config>, compiler: Compiler) -> Result<Catalogue, LoadError> {
    let metrics = metrics();
    Catalogue::start(config, &metrics, compiler, &Hub::new(1 << 20, metrics.topics()))
}

#[test]
fn code_is_kept_and_found_again() {
    let state = tempfile::tempdir().unwrap();
    kept(state.path()).run(async |started, worker| {
        assert_eq!((compilations(started, "compiled"), compilations(started, "cached")), (1.0, 0.0));
        // More than a rollback could go back to, whose code is kept in memory.
        let builds = ["stamp", "redact", "redact", "redact", "redact"].map(build);
        for build in builds.iter().chain([&builds[0]]) {
            publish(started, &worker, build).await;
        }
        assert_eq!(hear(&worker.open().await, "m").await, "pass m #1");
        assert_eq!(compilations(started, "cached"), 1.0);
        assert_eq!((compilations(started, "compiled"), entries(state.path()).len()), (6.0, 6));
    });
}

#[test]
fn damaged_code_is_compiled_anew() {
    let state = tempfile::tempdir().unwrap();
    let bytes = build("stamp");
    for place in 0..5 {
        let bed = kept(state.path());
        bed.run(async |started, worker| {
            publish(started, &worker, &bytes).await;
            // Not once is it taken from the cache, where it lies damaged from the second time on.
            assert_eq!(compilations(started, "compiled"), 2.0);
            assert_eq!(hear(&worker.open().await, "m").await, "pass m #1");
        });
        let sha256 = Digest256::of(&bytes).hex();
        let entry = entries(state.path()).into_iter().find(|entry| entry.to_str().unwrap().contains(&sha256)).unwrap();
        let mut code = fs::read(&entry).unwrap();
        let at = code.len() * place / 5;
        code[at] ^= 1;
        fs::write(&entry, code).unwrap();
    }
}

#[test]
fn an_entry_is_named_after_the_hash_of_its_component() {
    let state = tempfile::tempdir().unwrap();
    let bed = kept(state.path());
    let sha256 = Digest256::of(&fs::read(bed.folder.path().join("main.wasm")).unwrap()).hex();
    let _started = bed.start();
    let entry = entries(state.path()).pop().unwrap();
    assert!(entry.file_name().unwrap().to_str().unwrap().starts_with(&sha256), "{entry:?}");
}

#[test]
fn a_state_directory_that_is_cleared_away_is_made_again() {
    let state = tempfile::tempdir().unwrap();
    kept(state.path()).run(async |started, worker| {
        fs::remove_dir_all(state.path().join("compiled")).unwrap();
        started.replace("main.wasm", "guest_faulty");
        until("it is compiled", || compilations(started, "compiled") == 2.0).await;
        assert_eq!(entries(state.path()).len(), 1);
        drop(worker);
    });
}

#[test]
fn a_full_disk_is_no_reason_to_refuse_the_file_for_ever() {
    let state = tempfile::tempdir().unwrap();
    kept(state.path()).run(async |started, worker| {
        // A file where the folder was: nothing can be written, as on a full disk.
        fs::remove_dir_all(state.path().join("compiled")).unwrap();
        fs::write(state.path().join("compiled"), "").unwrap();
        started.replace("main.wasm", "guest_faulty");
        until("it fails", || started.status("main").state == FilterState::Failed).await;
        let error = started.status("main").error.unwrap();
        assert!(error.contains("it was not compiled") && error.contains("compiled"), "{error}");
        assert_eq!(hear(&worker.open().await, "m").await, "pass m #1");
        fs::remove_file(state.path().join("compiled")).unwrap();
        until("it is tried again", || started.status("main").state == FilterState::Serving).await;
        assert_eq!(compilations(started, "compiled"), 2.0);
    });
}

fn metrics() -> Arc<Metrics> {
    Arc::new(Metrics::new().unwrap())
}

#[test]
fn a_compiler_that_is_not_there_is_said_at_the_start() {
    let bed = Bed::new().filter("main", "stamp", json!({})).route(&["main"]);
    let config = Arc::new(bed.config);
    let refused = |program: &str| {
        let compiler = Compiler::with_program(program.into(), Arc::new(StateDir::new(None)));
        match start(&config, compiler) {
            Err(LoadError::Compiler(error)) => error,
            other => panic!("{:?}", other.map(|_| ())),
        }
    };
    let error = refused("/nowhere/wsgate");
    assert!(matches!(error, NotCompiled::Start { .. }));
    assert!(error.to_string().contains("cannot be started (/nowhere/wsgate): No such file"), "{error}");
    // It ends as if all were well, and has written nothing.
    let error = refused("/bin/true");
    assert!(matches!(error, NotCompiled::Foreign(_)), "{error}");
    let error = refused("/bin/false");
    assert!(matches!(error, NotCompiled::Crash(_)), "{error}");
    // It has its own idea of the arguments.
    let error = refused("/bin/cat");
    assert!(error.to_string().contains("unrecognized option"), "{error}");
}

#[test]
fn without_filters_no_compiler_is_needed() {
    let compiler = Compiler::with_program("/nowhere".into(), Arc::new(StateDir::new(None)));
    let config = Arc::new(Bed::new().route(&[]).config);
    assert!(start(&config, compiler).is_ok());
}

#[test]
fn a_state_directory_that_others_may_write_to_is_refused_at_the_start() {
    use std::os::unix::fs::PermissionsExt;
    let state = tempfile::tempdir().unwrap();
    fs::create_dir(state.path().join("compiled")).unwrap();
    fs::set_permissions(state.path().join("compiled"), fs::Permissions::from_mode(0o777)).unwrap();
    match kept(state.path()).try_start() {
        Err(error @ LoadError::Compiler(_)) => {
            let cause = error.source().unwrap().to_string();
            assert!(cause.contains("can be written to by other users"), "{cause}");
        }
        other => panic!("{:?}", other.map(|_| ())),
    }
}
