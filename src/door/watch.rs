//! The thread that watches the files of certificates.

use std::{
    io,
    path::Path,
    sync::{
        Arc, Weak,
        mpsc::{RecvTimeoutError, sync_channel},
    },
    thread,
};

use super::{Certificate, Door};
use crate::file_watch::{FileWatch, RESCAN, quiet_down};

/// Watches the certificates of these doors for as long as there is one. Nothing is started where none has any.
///
/// # Errors
/// The thread cannot be made.
pub fn watch(doors: &[Arc<Door>]) -> io::Result<()> {
    let certificates: Vec<Weak<Certificate>> =
        doors.iter().filter_map(|door| door.certificate.as_ref()).map(Arc::downgrade).collect();
    if certificates.is_empty() {
        return Ok(());
    }
    let (wake, woken) = sync_channel(1);
    let mut files = FileWatch::new(wake, "certificates");
    follow(&mut files, &certificates);
    thread::Builder::new().name("wsgate-certs".to_owned()).spawn(move || {
        loop {
            match woken.recv_timeout(RESCAN) {
                Ok(()) => quiet_down(&woken),
                Err(RecvTimeoutError::Timeout) => {}
                // Nobody watches: then it is looked at all the same.
                Err(RecvTimeoutError::Disconnected) => thread::sleep(RESCAN),
            }
            let mut any = false;
            for certificate in certificates.iter().filter_map(Weak::upgrade) {
                any = true;
                certificate.look();
            }
            if !any {
                return;
            }
            follow(&mut files, &certificates);
        }
    })?;
    Ok(())
}

fn follow(files: &mut FileWatch, certificates: &[Weak<Certificate>]) {
    let live: Vec<Arc<Certificate>> = certificates.iter().filter_map(Weak::upgrade).collect();
    let folders = live.iter().flat_map(|certificate| certificate.files()).filter_map(Path::parent);
    files.follow(folders.map(Path::to_owned).collect());
}
