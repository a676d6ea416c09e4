//! The thread that watches the files.

use std::{
    io,
    path::PathBuf,
    sync::{
        Weak,
        mpsc::{RecvTimeoutError, sync_channel},
    },
    thread,
};

use crate::file_watch::{FileWatch, RESCAN, quiet_down};

/// Something that looks at its files when it is told to.
pub trait Look: Send + Sync {
    /// Which, absolute.
    fn files(&self) -> Vec<PathBuf>;

    /// Looks at them again. What is new and good serves from now on; what is not changes nothing, and is said once.
    fn look(&self);
}

/// Watches the files of all of these for as long as there is one. Nothing is started where there is none.
///
/// # Errors
/// The thread cannot be made.
pub fn watch(watched: Vec<Weak<dyn Look>>) -> io::Result<()> {
    if watched.is_empty() {
        return Ok(());
    }
    let (wake, woken) = sync_channel(1);
    let mut files = FileWatch::new(wake, "certificates");
    follow(&mut files, &watched);
    thread::Builder::new().name("wsgate-certs".to_owned()).spawn(move || {
        loop {
            match woken.recv_timeout(RESCAN) {
                Ok(()) => quiet_down(&woken),
                Err(RecvTimeoutError::Timeout) => {}
                // Nobody watches: then it is looked at all the same.
                Err(RecvTimeoutError::Disconnected) => thread::sleep(RESCAN),
            }
            let mut any = false;
            for one in watched.iter().filter_map(Weak::upgrade) {
                any = true;
                one.look();
            }
            if !any {
                return;
            }
            follow(&mut files, &watched);
        }
    })?;
    Ok(())
}

fn follow(files: &mut FileWatch, watched: &[Weak<dyn Look>]) {
    let all = watched.iter().filter_map(Weak::upgrade).flat_map(|one| one.files());
    files.follow(all.filter_map(|file| file.parent().map(PathBuf::from)).collect());
}
