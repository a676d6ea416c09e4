//! How a worker hears that its sessions have mail: once for many of them.

use std::sync::{Arc, Mutex};

use tokio::sync::Notify;

use super::locked;

/// Of one worker. Who puts mail into many mailboxes rings once a worker, which then wakes its sessions by itself: waking
/// a task of another thread is dear, waking one's own is not.
#[derive(Debug, Default)]
pub struct Doorbell {
    /// The registry's keys of sessions that have mail. Each is here once at most: a mailbox rings for its first message.
    rung: Mutex<Vec<usize>>,
    notify: Notify,
}

impl Doorbell {
    /// A worker's bell.
    #[must_use]
    pub fn new() -> Arc<Self> {
        Arc::default()
    }

    pub(super) fn ring(&self, keys: impl IntoIterator<Item = usize>) {
        let mut rung = locked(&self.rung);
        let heard = !rung.is_empty();
        rung.extend(keys);
        let ring = !heard && !rung.is_empty();
        drop(rung);
        if ring {
            self.notify.notify_one();
        }
    }

    /// Waits until somebody rings, and answers for which sessions. `keys` is replaced; keep it, its room is used again.
    pub async fn answer(&self, keys: &mut Vec<usize>) {
        keys.clear();
        while keys.is_empty() {
            self.notify.notified().await;
            std::mem::swap(&mut *locked(&self.rung), keys);
        }
    }
}
