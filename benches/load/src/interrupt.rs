//! Ctrl-C and SIGTERM: a flag that everything which waits looks at, so that destructors run and end the children.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use anyhow::{Result, bail};
use tokio::runtime;
use tokio::signal::unix::{SignalKind, signal};

static INTERRUPTED: AtomicBool = AtomicBool::new(false);

/// Starts to listen for the signals.
pub fn listen() -> Result<()> {
    let runtime = runtime::Builder::new_current_thread().enable_io().build()?;
    let (mut interrupt, mut terminate) = {
        let _context = runtime.enter();
        (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?)
    };
    thread::spawn(move || {
        runtime.block_on(async {
            let first = Box::pin(interrupt.recv());
            futures_util::future::select(first, Box::pin(terminate.recv())).await;
        });
        INTERRUPTED.store(true, Ordering::Relaxed);
    });
    Ok(())
}

/// An error once a signal has come.
pub fn check() -> Result<()> {
    if INTERRUPTED.load(Ordering::Relaxed) {
        bail!("interrupted");
    }
    Ok(())
}
