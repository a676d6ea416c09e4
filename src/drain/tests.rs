use super::*;

const LONG: Duration = Duration::from_secs(3600);

/// Runs a test beside a drain of a gateway without workers.
fn with<F: Future<Output = ()>>(delay: Duration, test: impl FnOnce(Arc<Drain>) -> F) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let drain = Arc::new(Drain::new(Box::new(move || (delay, LONG)), Arc::new([])));
        let running = Arc::clone(&drain);
        tokio::spawn(async move { running.run().await });
        test(drain).await;
    });
}

#[test]
fn an_order_counts_from_when_it_is_given_and_leads_through_the_delay() {
    with(Duration::from_millis(20), |drain| async move {
        assert!(!drain.is_draining());
        assert_eq!(drain.status().phase, Phase::Serving);
        drain.start();
        assert!(drain.is_draining());
        let status = drain.status();
        assert_eq!((status.phase, status.leaving), (Phase::Delay, false));
        drain.drained().await;
        assert_eq!(drain.status().phase, Phase::Drained);
        drain.start();
        assert_eq!(drain.status().phase, Phase::Drained, "a second order does not begin anew");
    });
}

#[test]
fn it_is_taken_back_before_and_after_the_end() {
    with(LONG, |drain| async move {
        drain.call_off().unwrap();
        for _ in 0..2 {
            drain.start();
            drain.reached(&[Phase::Delay]).await;
            assert!(drain.status().remaining_ms.is_some_and(|left| left > 3_500_000), "{:?}", drain.status());
            drain.call_off().unwrap();
            drain.reached(&[Phase::Serving]).await;
            assert!(!drain.is_draining());
        }
    });
    with(Duration::ZERO, |drain| async move {
        drain.start();
        drain.drained().await;
        drain.call_off().unwrap();
        drain.reached(&[Phase::Serving]).await;
        assert_eq!(drain.status().remaining_ms, None);
    });
}

#[test]
fn on_the_way_down_nothing_is_taken_back() {
    with(LONG, |drain| async move {
        drain.start();
        drain.leave();
        assert_eq!(drain.call_off(), Err(Leaving));
        drain.start();
        assert_eq!(drain.call_off(), Err(Leaving));
        drain.skip_delay();
        drain.closing().await;
        drain.drained().await;
        assert!(drain.status().leaving);
    });
}
