//! Who is ejected, for how long, and who never.

use std::{io, sync::Arc, time::Duration};

use tokio::time::Instant;

use super::{
    super::Upstream,
    balance::{Chooser, weights},
};
use crate::config::{self, OutlierDetection};

fn chooser(count: usize, max_ejection_percent: u32) -> Chooser {
    let detection =
        OutlierDetection { consecutive_failures: 3, base_ejection_time: Duration::from_secs(10), max_ejection_percent };
    Chooser::new(config::Upstream { outlier_detection: Some(detection), ..weights(&vec![1; count]) })
}

fn fail(upstream: &Upstream, index: usize, times: usize, now: Instant) {
    let endpoint = Arc::clone(&upstream.set.load().endpoints[index]);
    (0..times).for_each(|_| upstream.failed(&endpoint, &io::Error::other("refused"), now));
}

fn ejected(chooser: &Chooser) -> Vec<usize> {
    let set = chooser.upstream.set.load();
    (0..set.endpoints.len()).filter(|index| set.endpoints[*index].state.standing().is_ejected(chooser.now)).collect()
}

/// Seconds of the present ejection.
fn lasts(chooser: &Chooser, index: usize) -> f64 {
    let until = chooser.upstream.set.load().endpoints[index].state.standing().ejected_until.unwrap();
    until.saturating_duration_since(chooser.now).as_secs_f64()
}

#[test]
fn failures_in_a_row_eject_and_a_success_between_does_not() {
    let chooser = chooser(4, 50);
    fail(&chooser.upstream, 1, 2, chooser.now);
    chooser.upstream.set.load().endpoints[1].state.succeeded();
    fail(&chooser.upstream, 1, 2, chooser.now);
    assert_eq!(ejected(&chooser), Vec::<usize>::new());
    fail(&chooser.upstream, 1, 1, chooser.now);
    assert_eq!(ejected(&chooser), [1]);
    assert_eq!(chooser.upstream.set.load().endpoints[1].state.last_error().unwrap().text, "refused");
}

#[test]
fn whoever_fails_again_is_left_alone_for_longer_and_whoever_was_well_for_long_is_forgiven() {
    let mut chooser = chooser(4, 50);
    fail(&chooser.upstream, 0, 3, chooser.now);
    for times in [1.0, 2.0, 3.0] {
        let lasts = lasts(&chooser, 0);
        assert!((10.0 * times..=11.0 * times).contains(&lasts), "{times}: {lasts}");
        // What was under way when it was ejected changes nothing.
        fail(&chooser.upstream, 0, 5, chooser.now);
        chooser.now += Duration::from_secs_f64(lasts);
        assert_eq!(ejected(&chooser), Vec::<usize>::new());
        // Back again: one failure is enough.
        fail(&chooser.upstream, 0, 1, chooser.now);
        assert_eq!(ejected(&chooser), [0]);
    }
    chooser.now += Duration::from_secs_f64(lasts(&chooser, 0)) + Duration::from_secs(40);
    chooser.upstream.set.load().endpoints[0].state.succeeded();
    fail(&chooser.upstream, 0, 3, chooser.now);
    assert!((10.0..=11.0).contains(&lasts(&chooser, 0)));
    for _ in 0..40 {
        chooser.now += Duration::from_secs_f64(lasts(&chooser, 0));
        fail(&chooser.upstream, 0, 1, chooser.now);
    }
    assert!(lasts(&chooser, 0) <= 330.0, "an ejection is bounded");
}

#[test]
fn no_more_than_the_share_are_ejected_and_never_the_last() {
    for (count, percent, most) in
        [(1, 100, 0), (2, 50, 1), (2, 100, 1), (4, 50, 2), (5, 50, 2), (3, 1, 1), (4, 0, 0), (4, 100, 3)]
    {
        let mut chooser = chooser(count, percent);
        (0..count).for_each(|index| fail(&chooser.upstream, index, 9, chooser.now));
        assert_eq!(ejected(&chooser).len(), most, "{count} endpoints, {percent}%");
        assert!(chooser.choose().is_some());
    }
}

#[test]
fn the_last_that_is_healthy_is_not_ejected() {
    let mut chooser = chooser(3, 100);
    chooser.set_healthy(0, false);
    chooser.set_healthy(1, false);
    fail(&chooser.upstream, 2, 9, chooser.now);
    assert_eq!((ejected(&chooser), chooser.choose()), (vec![], Some(2)));
}

#[test]
fn without_detection_nobody_is_ejected() {
    let mut config = weights(&[1, 1]);
    config.outlier_detection = None;
    let chooser = Chooser::new(config);
    fail(&chooser.upstream, 0, 100, chooser.now);
    assert_eq!(ejected(&chooser), Vec::<usize>::new());
}
