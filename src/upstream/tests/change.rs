//! What stays of an upstream when its configuration changes.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use rustls::RootCertStore;
use tokio::{net::TcpListener, runtime::Handle, time::Instant};

use super::{
    super::{Lease, Upstreams},
    balance::weights,
    fake::{PLENTY, configured, endpoint, run},
};
use crate::{
    config::{self, Balance, HealthCheck, Probe},
    telemetry::metrics::Metrics,
};

fn made(upstream: config::Upstream, metrics: &Arc<Metrics>, before: Option<&Upstreams>) -> Upstreams {
    let roots = Arc::new(RootCertStore::empty());
    Upstreams::trusting(&BTreeMap::from([("chat".to_owned(), upstream)]), metrics, &roots, before).unwrap()
}

fn sessions(upstreams: &Upstreams) -> Vec<usize> {
    upstreams.status()[0].endpoints.iter().map(|endpoint| endpoint.live_sessions).collect()
}

fn open(upstreams: &Upstreams, index: usize) -> Lease {
    Lease::dial(&upstreams.by_name["chat"].set.load().endpoints[index].state).open()
}

fn exposed(metrics: &Metrics) -> String {
    String::from_utf8(metrics.encode().unwrap()).unwrap()
}

#[test]
fn an_unchanged_upstream_is_the_same() {
    let metrics = Arc::new(Metrics::new().unwrap());
    let before = made(weights(&[1, 1]), &metrics, None);
    let after = made(weights(&[1, 1]), &metrics, Some(&before));
    assert!(Arc::ptr_eq(&before.by_name["chat"], &after.by_name["chat"]));
    let changed = made(config::Upstream { balance: Balance::Random, ..weights(&[1, 1]) }, &metrics, Some(&before));
    assert!(!Arc::ptr_eq(&before.by_name["chat"], &changed.by_name["chat"]));
}

#[test]
fn endpoints_that_stay_keep_their_sessions_and_their_ejections() {
    let metrics = Arc::new(Metrics::new().unwrap());
    let before = made(weights(&[1, 1]), &metrics, None);
    let leases = vec![open(&before, 0), open(&before, 1), open(&before, 1)];
    let until = Instant::now() + Duration::from_secs(60);
    let first = Arc::clone(&before.by_name["chat"].set.load().endpoints[0].state);
    first.change(Instant::now(), |standing| standing.ejected_until = Some(until));

    let after = made(weights(&[2, 1, 1]), &metrics, Some(&before));
    assert_eq!(sessions(&after), [1, 2, 0]);
    assert!(after.status()[0].endpoints[0].ejected_until_unix_ms.is_some());
    let _new = open(&after, 2);
    drop(before);
    drop(first);
    drop(leases);
    assert_eq!(sessions(&after), [0, 0, 1]);
}

#[test]
fn an_endpoint_that_goes_and_comes_back_still_has_its_sessions() {
    let metrics = Arc::new(Metrics::new().unwrap());
    let before = made(weights(&[1, 1]), &metrics, None);
    let lease = open(&before, 1);
    let without = made(weights(&[1]), &metrics, Some(&before));
    drop(before);
    assert!(exposed(&metrics).contains("upstream_connections{endpoint=\"127.0.0.1:2\",upstream=\"chat\"} 1"));
    let after = made(weights(&[1, 1]), &metrics, Some(&without));
    drop(without);
    assert_eq!(sessions(&after), [0, 1]);
    drop(after);
    drop(lease);
    let left = exposed(&metrics);
    assert!(!left.contains("endpoint=\"127.0.0.1"), "nobody has them any more: {left}");
}

#[test]
fn a_new_endpoint_is_warmed_up_where_others_have_served() {
    let slow = |upstream| config::Upstream { slow_start: Some(Duration::from_secs(60)), ..upstream };
    let metrics = Arc::new(Metrics::new().unwrap());
    let before = made(slow(weights(&[1])), &metrics, None);
    assert_eq!(before.status()[0].endpoints[0].slow_start_percent, 100);
    let after = made(slow(weights(&[1, 1])), &metrics, Some(&before));
    let percent: Vec<_> = after.status()[0].endpoints.iter().map(|endpoint| endpoint.slow_start_percent).collect();
    assert_eq!(percent, [100, 10]);
}

#[test]
fn checks_end_with_the_configuration_that_wanted_them() {
    run(async {
        let (kept, gone) =
            (TcpListener::bind("127.0.0.1:0").await.unwrap(), TcpListener::bind("127.0.0.1:0").await.unwrap());
        let (first, second) = (endpoint(kept.local_addr().unwrap()), endpoint(gone.local_addr().unwrap()));
        let check = HealthCheck {
            probe: Probe::Connect,
            interval: Duration::from_millis(20),
            timeout: Duration::from_secs(5),
            healthy_threshold: 1,
            unhealthy_threshold: 1,
        };
        let checked = |endpoints| config::Upstream { health_check: Some(check.clone()), ..configured(endpoints) };
        let metrics = Arc::new(Metrics::new().unwrap());
        let before = made(checked(vec![first.clone(), second]), &metrics, None);
        before.start(None, &Handle::current());
        let accepted = async |listener: &TcpListener| {
            tokio::time::timeout(Duration::from_millis(300), listener.accept()).await.is_ok()
        };
        // What was under way still comes.
        let silent = async |listener: &TcpListener| {
            let deadline = Instant::now() + PLENTY;
            while accepted(listener).await {
                assert!(Instant::now() < deadline, "it is still checked");
            }
        };
        assert!(accepted(&kept).await && accepted(&gone).await);

        let after = made(checked(vec![first.clone()]), &metrics, Some(&before));
        after.start(Some(&before), &Handle::current());
        silent(&gone).await;
        assert!(accepted(&kept).await);

        // Even while somebody still has the old ones.
        let unchecked = made(configured(vec![first]), &metrics, Some(&after));
        unchecked.start(Some(&after), &Handle::current());
        silent(&kept).await;
        assert_eq!((before.status().len(), after.status().len()), (1, 1));
    });
}
