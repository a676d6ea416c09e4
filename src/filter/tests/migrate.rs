//! Open sessions and newer filters.

use std::sync::Arc;

use serde_json::{Value, json};

use crate::{
    config::{ChainSource, OnReload},
    filter::{
        Chain, Closer, Migration,
        generation::Generation,
        live::{ChainSpec, Lacking},
        test_support::{Bed, Started, Worker, hear, say, until},
    },
    message::CloseFrame,
};

/// Filters from which tests make chains: a name may come several times, as generations of one filter.
fn generations(filters: &[(&str, &str, Value)]) -> (Bed, Vec<String>) {
    let mut bed = Bed::new();
    let mut names = Vec::new();
    for (i, (_, from, config)) in filters.iter().enumerate() {
        let name = format!("f{i}");
        bed = bed.filter(&name, from, config.clone());
        names.push(name);
    }
    (bed, names)
}

/// Runs a test with these generations, each under the filter name that is given with it.
fn with(filters: &[(&str, &str, Value)], test: impl AsyncFnOnce(&Started, &Worker, Vec<Arc<Generation>>)) {
    let (bed, names) = generations(filters);
    let names: Vec<_> = names.iter().map(String::as_str).collect();
    bed.route(&names).run(async |started, worker| {
        let live = worker.instances.live().chain("main");
        let generations = live.filters();
        let named = generations.iter().zip(filters).map(|(generation, (name, _, _))| generation.renamed(name));
        test(started, &worker, named.collect()).await;
    });
}

fn spec(filters: &[&Arc<Generation>]) -> Arc<ChainSpec> {
    let limits = Bed::new().route(&[]).config.routes[0].limits;
    let slots = filters.iter().map(|generation| (*generation).clone().into());
    Arc::new(ChainSpec::new(slots.collect(), Vec::new(), &limits))
}

async fn open(worker: &Worker, filters: &[&Arc<Generation>]) -> Chain {
    let request = std::rc::Rc::new(crate::filter::test_support::opening_request());
    Chain::open(worker.instances.clone(), spec(filters), request).await.unwrap().0
}

/// Stamps what goes to the client.
fn stamp(version: &str) -> (&'static str, &'static str, Value) {
    ("stamp", "stamp", json!({"version": version, "show_version": true}))
}

fn faulty(modes: &[&str]) -> (&'static str, &'static str, Value) {
    ("faulty", "guest_faulty", json!({"modes": modes}))
}

async fn moved(chain: &Chain, to: &Arc<ChainSpec>) -> Chain {
    match chain.migrate(to.clone()).await {
        Migration::Moved(chain) => chain,
        Migration::Kept => panic!("kept"),
        Migration::Close { frame, .. } => panic!("{frame:?}"),
    }
}

#[test]
fn a_chain_that_lacks_a_filter_is_not_moved_to() {
    with(&[stamp("v1")], async |_, worker, g| {
        let chain = open(worker, &[&g[0]]).await;
        let limits = Bed::new().route(&[]).config.routes[0].limits;
        let control = g[0].control().clone();
        let lacking = Lacking { filter: "gone".into(), control };
        let to = Arc::new(ChainSpec::new(Vec::new(), vec![lacking], &limits));
        assert!(matches!(chain.migrate(to).await, Migration::Kept));
        assert_eq!(hear(&chain, "m").await, "pass m #1 v1");
    });
}

#[test]
fn state_goes_along() {
    with(&[stamp("v1"), stamp("v2")], async |_, worker, g| {
        let chain = open(worker, &[&g[0]]).await;
        assert_eq!(hear(&chain, "m").await, "pass m #1 v1");
        let to = spec(&[&g[1]]);
        let chain = moved(&chain, &to).await;
        assert!(Arc::ptr_eq(chain.spec(), &to));
        assert_eq!(hear(&chain, "m").await, "pass m #2 v2");
        until("the old session is released", || g[0].sessions.load(std::sync::atomic::Ordering::Relaxed) == 0).await;
    });
}

#[test]
fn what_did_not_change_keeps_its_session() {
    with(&[faulty(&[]), stamp("v1"), stamp("v2")], async |_, worker, g| {
        let chain = open(worker, &[&g[0], &g[1]]).await;
        assert_eq!(say(&chain, "count").await, "client count 1");
        let chain = moved(&chain, &spec(&[&g[0], &g[2]])).await;
        assert_eq!(say(&chain, "resumed").await, "client opened");
        assert_eq!(say(&chain, "count").await, "client count 3");
        // Also in another place.
        let chain = moved(&chain, &spec(&[&g[2], &g[0]])).await;
        let chain = moved(&chain, &spec(&[&g[0], &g[2]])).await;
        assert_eq!(say(&chain, "count").await, "client count 4");
    });
}

#[test]
fn an_added_filter_is_resumed_and_a_removed_one_hears_the_end() {
    with(&[stamp("v1"), faulty(&[])], async |started, worker, g| {
        let chain = open(worker, &[&g[0]]).await;
        let chain = moved(&chain, &spec(&[&g[1], &g[0]])).await;
        assert_eq!(say(&chain, "resumed").await, "client resumed cause=added state=none");
        let chain = moved(&chain, &spec(&[&g[0]])).await;
        assert_eq!(hear(&chain, "m").await, "pass m #1 v1");
        let heard = r#"wsgate_filter_calls_total{filter="faulty",hook="on_close",verdict="ok"}"#;
        until("on-close is called", || started.metric(heard) == Some(1.0)).await;
    });
}

#[test]
fn a_reload_says_so_and_hands_the_state_over() {
    with(&[faulty(&["save:7"]), faulty(&[])], async |_, worker, g| {
        let chain = open(worker, &[&g[0]]).await;
        let chain = moved(&chain, &spec(&[&g[1]])).await;
        assert_eq!(say(&chain, "resumed").await, "client resumed cause=reload state=7");
    });
}

#[test]
fn keep_old_keeps_the_whole_chain() {
    with(&[stamp("v1"), faulty(&[]), stamp("v2"), faulty(&["resume-keep"])], async |started, worker, g| {
        let chain = open(worker, &[&g[0], &g[1]]).await;
        let to = spec(&[&g[2], &g[3]]);
        assert!(!chain.is_settled(&to));
        assert!(matches!(chain.migrate(to.clone()).await, Migration::Kept));
        assert!(chain.is_settled(&to));
        assert_eq!(hear(&chain, "m").await, "pass m #1 v1");
        assert_eq!(started.faults("faulty", "error"), 0.0);
        // The session that had been resumed for nothing is gone.
        until("the new session is released", || g[2].sessions.load(std::sync::atomic::Ordering::Relaxed) == 0).await;
    });
}

#[test]
fn a_filter_may_close_the_connection_that_it_takes_over() {
    let closing = &["resume-close:4003:not any more"];
    with(&[stamp("v1"), faulty(closing), faulty(&["resume-close:1005"])], async |_, worker, g| {
        let chain = open(worker, &[&g[0]]).await;
        match chain.migrate(spec(&[&g[1], &g[0]])).await {
            Migration::Close { frame, filter } => {
                assert_eq!((frame.code, &*frame.reason, &*filter), (Some(4003), "not any more", "faulty"));
            }
            Migration::Moved(_) | Migration::Kept => panic!(),
        }
        match chain.migrate(spec(&[&g[2], &g[0]])).await {
            Migration::Close { frame, .. } => assert_eq!(frame.code, Some(1011)),
            Migration::Moved(_) | Migration::Kept => panic!(),
        }
        chain.close(Closer::Filter, CloseFrame::new(4003, "")).await;
    });
}

#[test]
fn any_fault_keeps_the_old_chain() {
    for mode in ["resume-trap", "resume-spin"] {
        with(&[stamp("v1"), faulty(&[]), stamp("v2"), faulty(&[mode])], async |started, worker, g| {
            let chain = open(worker, &[&g[0], &g[1]]).await;
            assert_eq!(say(&chain, "count").await, "client count 1 #1 v1");
            assert!(matches!(chain.migrate(spec(&[&g[2], &g[3]])).await, Migration::Kept), "{mode}");
            assert_eq!(say(&chain, "count").await, "client count 2 #2 v1", "{mode}");
            assert_eq!(started.faults("faulty", "trap") + started.faults("faulty", "cpu_timeout"), 1.0);
        });
    }
    for mode in ["save-trap", "save-spin"] {
        with(&[faulty(&[mode]), faulty(&[])], async |_, worker, g| {
            let chain = open(worker, &[&g[0]]).await;
            assert!(matches!(chain.migrate(spec(&[&g[1]])).await, Migration::Kept), "{mode}");
            // The instance of the old session went with the fault: it goes on in another of the old generation.
            assert_eq!(say(&chain, "resumed").await, "client resumed cause=fault state=none", "{mode}");
        });
    }
}

#[test]
fn a_pinned_session_stays_with_the_generation_that_admitted_it() {
    let bed = Bed::new()
        .tuned("old", "stamp", json!({"version": "v1", "show_version": true}), |f| f.on_reload = OnReload::Pin)
        .filter("new", "stamp", json!({"version": "v2", "show_version": true}))
        .route(&["old", "new"]);
    bed.run(async |_, worker| {
        let live = worker.instances.live().chain("main");
        let g: Vec<_> = live.filters().iter().map(|generation| generation.renamed("stamp")).collect();
        let chain = open(&worker, &[&g[0]]).await;
        let to = spec(&[&g[1]]);
        let chain = moved(&chain, &to).await;
        assert_eq!(hear(&chain, "m").await, "pass m #1 v1");
        assert!(chain.is_settled(&to));
    });
}

#[test]
fn a_session_whose_instance_is_lost_moves_without_state() {
    with(&[faulty(&["save:7"]), faulty(&[])], async |_, worker, g| {
        let (chain, neighbour) = (open(worker, &[&g[0]]).await, open(worker, &[&g[0]]).await);
        assert!(say(&chain, "trap").await.starts_with("close 1011"));
        let neighbour = moved(&neighbour, &spec(&[&g[1]])).await;
        assert_eq!(say(&neighbour, "resumed").await, "client resumed cause=reload state=none");
    });
}

#[test]
fn an_old_generation_is_freed_with_its_last_session() {
    let bed = Bed::new().filter("stamp", "stamp", json!({})).route(&["stamp"]);
    bed.run(async |started, worker| {
        let (mut first, mut second) = (worker.open().await, worker.open().await);
        let old = Arc::downgrade(&worker.instances.live().chain("main").filters()[0]);
        assert_eq!(hear(&first, "m").await, "pass m #1");
        started.replace("stamp.wasm", "guest_faulty");
        // guest-faulty takes the same name; what it saves and resumes is another matter.
        until("the new generation is live", || {
            !std::ptr::eq(Arc::as_ptr(&worker.instances.live().chain("main").filters()[0]), old.as_ptr())
        })
        .await;
        // It is on record a moment after it is live.
        until("both are on record", || started.status("stamp").generations.len() == 2).await;
        assert!(worker.migrate(&mut first).await);
        assert!(old.upgrade().is_some());
        assert!(worker.migrate(&mut second).await);
        until("the old generation is freed", || old.upgrade().is_none()).await;
        assert_eq!(started.status("stamp").generations.len(), 1);
    });
}

#[test]
fn a_spec_is_not_replaced_where_nothing_changed() {
    let bed = Bed::new().filter("stamp", "stamp", json!({})).filter("other", "guest_faulty", json!({}));
    let mut bed = bed.route(&["stamp"]);
    let mut second = bed.config.routes[0].clone();
    second.name = "second".to_owned();
    second.filters = ChainSource::Names(vec!["other".to_owned()]);
    bed.config.routes.push(second);
    bed.run(async |started, worker| {
        let before = worker.instances.live();
        started.replace("other.wasm", "stamp");
        until("the other chain is live", || {
            !Arc::ptr_eq(&before.chain("second"), &worker.instances.live().chain("second"))
        })
        .await;
        assert!(Arc::ptr_eq(&before.chain("main"), &worker.instances.live().chain("main")));
    });
}
