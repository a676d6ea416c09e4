//! Tokens that no longer count although nothing is wrong with them: revoked by their `jti`, their login (`sid`) or their
//! subject (`sub`), until a time. With a `state_dir` a restart knows them again.

mod entry;
mod journal;

use std::{
    collections::BTreeMap,
    io,
    path::PathBuf,
    sync::{
        Mutex, PoisonError, RwLock,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use tokio::sync::watch;

pub use self::entry::{Key as Cursor, Malformed, Revocation};
use self::{
    entry::{Claim, Key},
    journal::Journal,
};
use crate::{
    identity::Identity,
    state_dir::{StateDir, StateDirError},
    telemetry::metrics::RevocationMetrics,
};

/// Revocations of one order.
pub const MAX_BATCH: usize = 10_000;
/// Revocations that are held at once. With names of 36 bytes, such as UUIDs, so many take about 200 MB.
const MAX_ENTRIES: usize = 1_000_000;
/// What they may take together, counted as the names and [`ENTRY_BYTES`] for each.
const MAX_BYTES: usize = 256 << 20;
/// A place in a tree of them, and the allocations of the names, rounded up.
const ENTRY_BYTES: usize = 160;
/// Each has a lock of its own, which is held for one look-up, one change, or the removal of what is over in one of them.
const SHARDS: usize = 256;
/// What is over is removed this often.
const SWEEP_INTERVAL: Duration = Duration::from_secs(60);

/// Why earlier revocations are not known. Without them a token might count that was revoked.
#[derive(Debug, thiserror::Error)]
pub enum RevocationsError {
    /// Their folder cannot be used.
    #[error("state_dir")]
    Folder(#[from] StateDirError),
    /// Their file cannot be read, or written anew.
    #[error("{}", file.display())]
    File {
        /// Which.
        file: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
}

/// Why an order was not carried out, or only in part.
#[derive(Debug, thiserror::Error)]
pub enum NotRevoked {
    /// There is no room for all of them; none was taken.
    #[error(
        "there is no room for these: at most {MAX_ENTRIES} revocations of {MAX_BYTES} bytes together are held, until \
         their time is over"
    )]
    Full,
    /// They count, but the file does not have them.
    #[error("they count from now on, but a restart will not know them, because they cannot be written")]
    NotWritten(#[source] io::Error),
}

type Shard = BTreeMap<Key, Revocation>;

/// Everything that is revoked. One a process.
pub struct Revocations {
    shards: Vec<RwLock<Shard>>,
    entries: AtomicUsize,
    bytes: AtomicUsize,
    /// Counts up with each order, from 1.
    revision: AtomicU64,
    changes: watch::Sender<u64>,
    /// `None` where a restart forgets. Locked while an order is carried out: the file is in the same order.
    journal: Mutex<Option<Journal>>,
    is_kept: bool,
    metrics: RevocationMetrics,
}

impl Revocations {
    /// None, and none that a restart would know.
    #[must_use]
    pub fn in_memory(metrics: RevocationMetrics) -> Self {
        Self {
            shards: std::iter::repeat_with(RwLock::default).take(SHARDS).collect(),
            entries: AtomicUsize::new(0),
            bytes: AtomicUsize::new(0),
            revision: AtomicU64::new(1),
            changes: watch::Sender::new(1),
            journal: Mutex::new(None),
            is_kept: false,
            metrics,
        }
    }

    /// Those that earlier processes left, where there is a configured `state_dir`.
    ///
    /// # Errors
    /// Something is there that cannot be read or written.
    pub fn open(state_dir: &StateDir, metrics: RevocationMetrics) -> Result<Self, RevocationsError> {
        let mut revocations = Self::in_memory(metrics);
        if state_dir.is_kept() {
            let folder = state_dir.private_folder("revocations")?;
            let journal = Journal::open(folder, &revocations)?;
            revocations.is_kept = true;
            revocations.journal = Mutex::new(Some(journal));
        }
        Ok(revocations)
    }

    /// Does a restart know them?
    #[must_use]
    pub fn is_kept(&self) -> bool {
        self.is_kept
    }

    /// How many are held.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.load(Ordering::Relaxed)
    }

    /// Is nothing revoked?
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Changes with each order. Who has seen it need not ask again for the same identity.
    #[must_use]
    pub fn revision(&self) -> u64 {
        self.revision.load(Ordering::Acquire)
    }

    /// Hears of orders.
    #[must_use]
    pub fn subscribe(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    /// What is counted where something was revoked.
    #[must_use]
    pub fn metrics(&self) -> &RevocationMetrics {
        &self.metrics
    }

    /// Is this one's token, login or subject revoked?
    #[must_use]
    pub fn holds(&self, identity: &Identity) -> bool {
        if self.is_empty() {
            return false;
        }
        let now = unix_now();
        let claims =
            [(Claim::Jti, &identity.token_id), (Claim::Sid, &identity.session_id), (Claim::Sub, &identity.subject)];
        claims.into_iter().any(|(claim, value)| {
            let Some(value) = value else { return false };
            let issuer = identity.issuer.as_deref();
            self.counts(&Key::of(claim, value, None), now)
                || issuer.is_some_and(|issuer| self.counts(&Key::of(claim, value, Some(issuer)), now))
        })
    }

    /// Revokes all of these, or none; one that is revoked already gets the new time. Blocks on the file.
    ///
    /// # Errors
    /// See [`NotRevoked`].
    pub fn revoke(&self, list: &[Revocation]) -> Result<(), NotRevoked> {
        let mut journal = self.journal.lock().unwrap_or_else(PoisonError::into_inner);
        let added = list.iter().filter(|revocation| !self.has(&revocation.key()));
        let (count, bytes) = added.fold((0, 0), |(count, bytes), one| (count + 1, bytes + cost(one)));
        if self.len() + count > MAX_ENTRIES || self.bytes.load(Ordering::Relaxed) + bytes > MAX_BYTES {
            return Err(NotRevoked::Full);
        }
        let written = journal.as_mut().map_or(Ok(()), |journal| journal.add(self, list));
        list.iter().for_each(|revocation| self.put(revocation.clone()));
        // After the entries: who sees the revision finds them.
        let revision = self.revision.fetch_add(1, Ordering::AcqRel) + 1;
        self.changes.send_replace(revision);
        written.map_err(NotRevoked::NotWritten)
    }

    /// Up to `limit` of those that count, after the one with this cursor, and the cursor of the last one if there may be
    /// more.
    #[must_use]
    pub fn page(&self, after: Option<Key>, limit: usize) -> (Vec<Revocation>, Option<Key>) {
        let now = unix_now();
        let mut page = Vec::new();
        let first = after.map_or(0, |key| key.shard());
        for shard in &self.shards[first..] {
            let shard = shard.read().unwrap_or_else(PoisonError::into_inner);
            let rest = shard.iter().filter(|(key, one)| after.is_none_or(|after| **key > after) && one.until > now);
            for (key, revocation) in rest {
                if page.len() == limit {
                    let last = page.last().map(Revocation::key);
                    return (page, last);
                }
                page.push(revocation.clone());
                debug_assert_eq!(*key, revocation.key());
            }
        }
        (page, None)
    }

    /// Removes what is over, for as long as it is polled.
    pub async fn sweep(self: std::sync::Arc<Self>) {
        loop {
            tokio::time::sleep(SWEEP_INTERVAL).await;
            let revocations = std::sync::Arc::clone(&self);
            if tokio::task::spawn_blocking(move || revocations.remove_old(unix_now())).await.is_err() {
                tracing::error!("revocations whose time is over are no longer removed");
                return;
            }
        }
    }

    fn remove_old(&self, now: u64) {
        for shard in &self.shards {
            let mut shard = shard.write().unwrap_or_else(PoisonError::into_inner);
            shard.retain(|_, revocation| {
                let stays = revocation.until > now;
                if !stays {
                    self.entries.fetch_sub(1, Ordering::Relaxed);
                    self.bytes.fetch_sub(cost(revocation), Ordering::Relaxed);
                }
                stays
            });
        }
        self.metrics.entries.set(i64::try_from(self.len()).unwrap_or(i64::MAX));
        let mut journal = self.journal.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(journal) = journal.as_mut()
            && let Err(error) = journal.tidy(self)
        {
            tracing::error!(%error, "the file of revocations cannot be written anew; it is as it was");
        }
    }

    fn shard(&self, key: &Key) -> &RwLock<Shard> {
        &self.shards[key.shard()]
    }

    fn counts(&self, key: &Key, now: u64) -> bool {
        let shard = self.shard(key).read().unwrap_or_else(PoisonError::into_inner);
        shard.get(key).is_some_and(|revocation| revocation.until > now)
    }

    fn has(&self, key: &Key) -> bool {
        self.shard(key).read().unwrap_or_else(PoisonError::into_inner).contains_key(key)
    }

    fn put(&self, revocation: Revocation) {
        let key = revocation.key();
        let bytes = cost(&revocation);
        let mut shard = self.shard(&key).write().unwrap_or_else(PoisonError::into_inner);
        if shard.insert(key, revocation).is_none() {
            self.bytes.fetch_add(bytes, Ordering::Relaxed);
            let entries = self.entries.fetch_add(1, Ordering::Relaxed) + 1;
            self.metrics.entries.set(i64::try_from(entries).unwrap_or(i64::MAX));
        }
    }

    /// Calls it with each, until it fails.
    fn try_each<E>(&self, mut call: impl FnMut(&Revocation) -> Result<(), E>) -> Result<(), E> {
        for shard in &self.shards {
            shard.read().unwrap_or_else(PoisonError::into_inner).values().try_for_each(&mut call)?;
        }
        Ok(())
    }
}

fn cost(revocation: &Revocation) -> usize {
    ENTRY_BYTES + revocation.name_bytes()
}

/// Seconds of Unix time.
pub fn unix_now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}

#[cfg(test)]
mod tests;
