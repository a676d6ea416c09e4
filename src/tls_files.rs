//! What is made of PEM files for TLS, and made anew when they change: what listeners show, and what upstreams are shown.

mod pem;
mod watch;

use std::{
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use arc_swap::ArcSwap;
use thiserror::Error;

pub use self::{
    pem::{PemFiles, certified_key, not_after, roots},
    watch::{Look, watch},
};

/// A certificate and its key are two files: what does not fit together counts as wrong only once it has stayed so this
/// long.
const SETTLING: Duration = Duration::from_secs(1);

/// Why a certificate cannot be used.
#[derive(Debug, Error)]
pub enum CertificateError {
    /// A file cannot be read.
    #[error("cannot read {}", file.display())]
    Read {
        /// The file.
        file: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// What is in a file is not what is wanted.
    #[error("{}: {why}", file.display())]
    Unfit {
        /// The file.
        file: PathBuf,
        /// What is wrong, and what would be right.
        why: String,
    },
}

impl CertificateError {
    /// What is in this file is not what is wanted.
    #[must_use]
    pub fn unfit(file: &Path, why: impl Into<String>) -> Self {
        Self::Unfit { file: file.to_owned(), why: why.into() }
    }
}

/// Something that is made of PEM files.
pub trait FromPem: Send + Sync + 'static {
    /// What.
    type Made: Send + Sync + 'static;

    /// The files, absolute.
    fn files(&self) -> Vec<&Path>;

    /// Makes it of what is in them.
    ///
    /// # Errors
    /// They do not do.
    fn make(&self, pem: &PemFiles) -> Result<Self::Made, CertificateError>;

    /// From now on this serves; the first time, too.
    fn serves(&self, made: &Self::Made);

    /// The files have changed: what was made of them serves, or they do not do and what was made before serves on.
    fn changed(&self, result: Result<(), &CertificateError>);
}

/// What was made of files last.
pub struct Watched<S: FromPem> {
    source: S,
    serving: ArcSwap<S::Made>,
    seen: Mutex<Seen>,
}

/// What the files held when they were last looked at.
struct Seen {
    /// What serves.
    good: PemFiles,
    /// What does not, since when, and whether that was said.
    bad: Option<(Bad, Instant, bool)>,
}

/// Contents, or why they cannot be read.
#[derive(Eq, PartialEq)]
enum Bad {
    Contents(PemFiles),
    Unreadable(String),
}

impl<S: FromPem> Watched<S> {
    /// Reads the files for the first time.
    ///
    /// # Errors
    /// They cannot be read, or do not do.
    pub fn load(source: S) -> Result<Self, CertificateError> {
        let good = PemFiles::read(&source.files())?;
        let made = source.make(&good)?;
        source.serves(&made);
        Ok(Self { source, serving: ArcSwap::from_pointee(made), seen: Mutex::new(Seen { good, bad: None }) })
    }

    /// What serves now.
    pub fn serving(&self) -> Arc<S::Made> {
        self.serving.load_full()
    }

    fn refuse(&self, seen: &mut Seen, found: Bad, error: &CertificateError) {
        match &mut seen.bad {
            Some((bad, since, said)) if *bad == found => {
                if !*said && since.elapsed() >= SETTLING {
                    *said = true;
                    self.source.changed(Err(error));
                }
            }
            Some(_) | None => seen.bad = Some((found, Instant::now(), false)),
        }
    }
}

impl<S: FromPem> Look for Watched<S> {
    fn files(&self) -> Vec<PathBuf> {
        self.source.files().into_iter().map(Path::to_owned).collect()
    }

    fn look(&self) {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let pem = match PemFiles::read(&self.source.files()) {
            Ok(pem) if pem == seen.good => {
                seen.bad = None;
                return;
            }
            Ok(pem) => pem,
            Err(error) => return self.refuse(&mut seen, Bad::Unreadable(error.to_string()), &error),
        };
        match self.source.make(&pem) {
            Ok(made) => {
                *seen = Seen { good: pem, bad: None };
                let made = Arc::new(made);
                self.serving.store(Arc::clone(&made));
                self.source.changed(Ok(()));
                self.source.serves(&made);
            }
            Err(error) => self.refuse(&mut seen, Bad::Contents(pem), &error),
        }
    }
}
