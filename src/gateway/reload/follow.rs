//! Signals and changes of the file that ask for another configuration.

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel},
    },
    thread,
    time::Duration,
};

use sha2::{Digest, Sha256};
use tokio::{
    runtime::Handle,
    signal::unix::{SignalKind, signal},
    task::AbortHandle,
};

use super::{FILE, Reloads, Wanted};
use crate::file_watch::{FileWatch, RESCAN, quiet_down};

/// Two reads this far apart have to agree before a change counts.
const SETTLE: Duration = Duration::from_millis(100);

/// Ends when it is dropped.
pub(in crate::gateway) struct Followed {
    signals: AbortHandle,
    stopped: Arc<AtomicBool>,
    wake: SyncSender<()>,
}

impl Drop for Followed {
    fn drop(&mut self) {
        self.signals.abort();
        self.stopped.store(true, Ordering::SeqCst);
        let _ = self.wake.try_send(());
    }
}

/// Asks for a reload at each SIGHUP, and when the file has another content.
///
/// # Errors
/// Neither signals nor threads can be had.
pub(in crate::gateway) fn follow(reloads: Reloads, file: Option<PathBuf>) -> io::Result<Followed> {
    let mut hangups = signal(SignalKind::hangup())?;
    let of_signals = reloads.clone();
    let signals = tokio::spawn(async move {
        while hangups.recv().await.is_some() {
            // It is logged.
            let _ = of_signals.ask(Wanted::Reload { cause: "SIGHUP" }).await;
        }
    });
    let stopped = Arc::<AtomicBool>::default();
    let (wake, woken) = sync_channel(1);
    if let Some(file) = file {
        let files = FileWatch::new(wake.clone(), "the configuration");
        let mut watch = Watch { seen: read(&file), file, files, reloads, runtime: Handle::current() };
        watch.follow_folders();
        let is_stopped = Arc::clone(&stopped);
        thread::Builder::new().name("wsgate-config".to_owned()).spawn(move || watch.run(&woken, &is_stopped))?;
    }
    Ok(Followed { signals: signals.abort_handle(), stopped, wake })
}

struct Watch {
    file: PathBuf,
    /// The content that was loaded last, or refused. `None`: it could not be read.
    seen: Option<Content>,
    files: FileWatch,
    reloads: Reloads,
    runtime: Handle,
}

impl Watch {
    fn run(&mut self, woken: &Receiver<()>, stopped: &AtomicBool) {
        let mut found = self.seen;
        while !stopped.load(Ordering::SeqCst) {
            match woken.recv_timeout(RESCAN) {
                Ok(()) => quiet_down(woken),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
            self.follow_folders();
            let now = read(&self.file);
            // A file that is being written is read twice before it counts; one that is away is waited for.
            let settled = std::mem::replace(&mut found, now) == now;
            if now.is_none() || now == self.seen || stopped.load(Ordering::SeqCst) {
                continue;
            }
            if !settled {
                thread::sleep(SETTLE);
                found = read(&self.file);
                if found != now {
                    continue;
                }
            }
            self.seen = now;
            // It is logged.
            let _ = self.runtime.block_on(self.reloads.ask(Wanted::Reload { cause: FILE }));
        }
    }

    /// Of the file, and of what it is a link to: a `ConfigMap` changes a link beside it.
    fn follow_folders(&mut self) {
        let target = fs::canonicalize(&self.file).ok();
        let folders = [Some(self.file.as_path()), target.as_deref()].into_iter().flatten().filter_map(Path::parent);
        let named = |folder: &Path| if folder.as_os_str().is_empty() { PathBuf::from(".") } else { folder.to_owned() };
        self.files.follow(folders.map(named).collect());
    }
}

/// A hash of the file.
pub(super) type Content = [u8; 32];

pub(super) fn read(file: &Path) -> Option<Content> {
    Some(Sha256::digest(fs::read(file).ok()?).into())
}
