//! Hearing of changes to files: their folders are watched, because editors and orchestrators put other files in their
//! place. Whoever listens looks again from time to time all the same: not every file system tells.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    os::unix::fs::MetadataExt,
    path::PathBuf,
    sync::mpsc::{Receiver, SyncSender},
    time::{Duration, Instant},
};

use notify::{RecommendedWatcher, RecursiveMode, Watcher};

/// Files are looked at this often even when nothing is heard.
pub const RESCAN: Duration = Duration::from_secs(2);
/// After the first event, so long without another.
const QUIET: Duration = Duration::from_millis(50);
/// But no longer than this.
const NOISE: Duration = Duration::from_millis(500);

/// The folders that are watched.
pub struct FileWatch {
    watcher: Option<RecommendedWatcher>,
    /// With device and inode: a folder may be replaced by another.
    folders: BTreeMap<PathBuf, (u64, u64)>,
}

impl FileWatch {
    /// Puts a message into `wake` when something in a folder changes. `what` is for the log.
    #[must_use]
    pub fn new(wake: SyncSender<()>, what: &str) -> Self {
        let heard = move |event: notify::Result<notify::Event>| {
            // Reading a file is an event too.
            if !event.is_ok_and(|event| event.kind.is_access()) {
                // Full: a message is waiting already.
                let _ = wake.try_send(());
            }
        };
        let watcher = notify::recommended_watcher(heard);
        if let Err(error) = &watcher {
            tracing::warn!("{what} are looked at every 2 s instead of watched: {error}");
        }
        Self { watcher: watcher.ok(), folders: BTreeMap::new() }
    }

    /// Watches these folders and no others. One that is not there is watched once it is, if it is named again.
    pub fn follow(&mut self, wanted: BTreeSet<PathBuf>) {
        let Some(watcher) = &mut self.watcher else { return };
        self.folders.retain(|path, _| {
            let keep = wanted.contains(path);
            if !keep {
                // It may be gone altogether.
                let _ = watcher.unwatch(path);
            }
            keep
        });
        for path in wanted {
            let Ok(metadata) = fs::metadata(&path) else { continue };
            let identity = (metadata.dev(), metadata.ino());
            if self.folders.get(&path) == Some(&identity) {
                continue;
            }
            let _ = watcher.unwatch(&path);
            match watcher.watch(&path, RecursiveMode::NonRecursive) {
                Ok(()) => {
                    self.folders.insert(path, identity);
                }
                Err(error) => {
                    tracing::debug!(path = %path.display(), "looked at every 2 s instead of watched: {error}")
                }
            }
        }
    }
}

/// Lets a series of changes come to its end.
pub fn quiet_down(woken: &Receiver<()>) {
    let end = Instant::now() + NOISE;
    while Instant::now() < end && woken.recv_timeout(QUIET).is_ok() {}
}
