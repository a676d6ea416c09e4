//! The keys of one `[jwt.*]` table as they are now, while others may be on their way.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use arc_swap::ArcSwapOption;
use tokio::{
    sync::{Notify, watch},
    time::timeout,
};

use super::keys::Keys;
use crate::telemetry::metrics::KeyMetrics;

/// Tokens that name an unknown key have the set fetched at most this often: anybody can make up such tokens.
pub(super) const UNKNOWN_KEY_PAUSE: Duration = Duration::from_secs(30);
/// Whoever brings one waits at most this long for the set.
const UNKNOWN_KEY_WAIT: Duration = Duration::from_secs(5);

/// See the module.
pub(super) struct KeyRing {
    held: ArcSwapOption<Held>,
    fetching: Option<Fetching>,
    metrics: KeyMetrics,
}

/// Keys that count.
struct Held {
    keys: Keys,
    /// Until then; `None`: for ever.
    until: Option<Instant>,
}

/// How those who verify and the one who fetches speak with each other.
#[derive(Default)]
struct Fetching {
    state: Mutex<State>,
    asked: Notify,
    /// Counts the fetches that ended.
    rounds: watch::Sender<u64>,
}

#[derive(Default)]
struct State {
    /// A fetch is under way, or will be at once.
    under_way: bool,
    /// When a token last had the set fetched.
    asked_at: Option<Instant>,
}

impl KeyRing {
    /// Keys of a file.
    pub(super) fn fixed(keys: Keys, metrics: KeyMetrics) -> Self {
        let ring = Self { held: ArcSwapOption::empty(), fetching: None, metrics };
        ring.put(keys, None);
        ring
    }

    /// Keys that will be fetched; none yet.
    pub(super) fn fetched(metrics: KeyMetrics) -> Self {
        Self { held: ArcSwapOption::empty(), fetching: Some(Fetching::default()), metrics }
    }

    /// Were there ever any?
    pub(super) fn is_filled(&self) -> bool {
        self.held.load().is_some()
    }

    pub(super) fn metrics(&self) -> &KeyMetrics {
        &self.metrics
    }

    /// Hands the keys out if they count; `None` where there are none that do.
    pub(super) fn with<T>(&self, use_them: impl FnOnce(&Keys) -> T) -> Option<T> {
        let held = self.held.load();
        let held = held.as_ref()?;
        held.until.is_none_or(|until| Instant::now() < until).then(|| use_them(&held.keys))
    }

    /// Replaces the keys. They count until then; `None`: for ever.
    pub(super) fn put(&self, keys: Keys, until: Option<Instant>) {
        self.held.store(Some(Arc::new(Held { keys, until })));
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        self.metrics.timestamp_seconds.set(i64::try_from(now).unwrap_or(i64::MAX));
    }

    /// What to compare with after a token named an unknown key; see [`KeyRing::refetched`].
    pub(super) fn round(&self) -> u64 {
        self.fetching.as_ref().map_or(0, |fetching| *fetching.rounds.borrow())
    }

    /// A token that was verified after this round named an unknown key. Is there another set since, or in a moment? One
    /// fetch at a time: whoever comes while one is under way waits for that.
    pub(super) async fn refetched(&self, round: u64) -> bool {
        let Some(fetching) = &self.fetching else { return false };
        let mut rounds = {
            let mut state = fetching.state();
            if *fetching.rounds.borrow() != round {
                return true;
            }
            if !state.under_way {
                if state.asked_at.is_some_and(|at| at.elapsed() < UNKNOWN_KEY_PAUSE) {
                    return false;
                }
                state.asked_at = Some(Instant::now());
                state.under_way = true;
                fetching.asked.notify_one();
            }
            fetching.rounds.subscribe()
        };
        matches!(timeout(UNKNOWN_KEY_WAIT, rounds.changed()).await, Ok(Ok(())))
    }

    /// Waits until a token wants the set to be fetched.
    pub(super) async fn asked(&self) {
        match &self.fetching {
            Some(fetching) => fetching.asked.notified().await,
            None => std::future::pending().await,
        }
    }

    /// A fetch begins.
    pub(super) fn begin(&self) {
        if let Some(fetching) = &self.fetching {
            fetching.state().under_way = true;
        }
    }

    /// It has ended, well or not.
    pub(super) fn end(&self) {
        if let Some(fetching) = &self.fetching {
            let mut state = fetching.state();
            state.under_way = false;
            fetching.rounds.send_modify(|rounds| *rounds += 1);
        }
    }
}

impl Fetching {
    fn state(&self) -> MutexGuard<'_, State> {
        // Two words and no panic between.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use tokio::runtime::Builder;

    use super::*;
    use crate::telemetry::metrics::Metrics;

    fn with_ring<F: Future<Output = ()>>(test: impl FnOnce(Arc<KeyRing>) -> F) {
        let ring = Arc::new(KeyRing::fetched(Metrics::new().unwrap().auth.keys("main")));
        Builder::new_current_thread().enable_all().build().unwrap().block_on(test(ring));
    }

    fn is_asked(ring: &KeyRing) -> bool {
        std::pin::pin!(ring.asked()).poll(&mut std::task::Context::from_waker(std::task::Waker::noop())).is_ready()
    }

    #[test]
    fn a_thousand_tokens_with_unknown_keys_cause_one_fetch_and_all_wait_for_it() {
        with_ring(|ring| async move {
            let round = ring.round();
            let waiting: Vec<_> = (0..1000)
                .map(|_| {
                    let ring = Arc::clone(&ring);
                    tokio::spawn(async move { ring.refetched(round).await })
                })
                .collect();
            tokio::task::yield_now().await;
            assert!(is_asked(&ring) && !is_asked(&ring));
            ring.end();
            for waiting in waiting {
                assert!(waiting.await.unwrap());
            }
            // Those that saw the old set look again at once; those that saw the new one are not to cause another fetch yet.
            assert!(ring.refetched(round).await);
            assert!(!ring.refetched(ring.round()).await);
            assert!(!is_asked(&ring));
        });
    }

    #[test]
    fn after_the_pause_an_unknown_key_causes_another_fetch() {
        with_ring(|ring| async move {
            let fetching = ring.fetching.as_ref().unwrap();
            fetching.state().asked_at = Instant::now().checked_sub(UNKNOWN_KEY_PAUSE - Duration::from_secs(5));
            assert!(!ring.refetched(ring.round()).await);
            fetching.state().asked_at = Instant::now().checked_sub(UNKNOWN_KEY_PAUSE);
            let waiting = tokio::spawn({
                let ring = Arc::clone(&ring);
                async move { ring.refetched(ring.round()).await }
            });
            ring.asked().await;
            ring.end();
            assert!(waiting.await.unwrap());
        });
    }

    #[test]
    fn a_fetch_that_is_under_way_anyway_is_waited_for() {
        with_ring(|ring| async move {
            ring.begin();
            let round = ring.round();
            let waiting = tokio::spawn({
                let ring = Arc::clone(&ring);
                async move { ring.refetched(round).await }
            });
            tokio::task::yield_now().await;
            assert!(!is_asked(&ring));
            ring.end();
            assert!(waiting.await.unwrap());
        });
    }
}
