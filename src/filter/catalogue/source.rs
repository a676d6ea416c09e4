//! One file that is, or was, a filter.

use std::{
    fs::{self, File, Metadata},
    io::{self, Read},
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    sync::{Arc, Weak},
    time::{Duration, Instant, SystemTime},
};

use super::{LoadError, quarantine::Quarantine, rollback::Good};
use crate::filter::{
    compile::{self, Content, NotAFilter},
    control::Control,
    engine::Engine,
    generation::{Digest256, Generation, Role, Settings},
};

/// Two reads this far apart have to agree before a file counts as written.
const SETTLE: Duration = Duration::from_millis(40);
/// A file that ends too early gets this long after its last change to become whole.
const WRITING: Duration = Duration::from_secs(1);
/// File times are too coarse to tell changes apart that are closer together than this.
const COARSE: Duration = Duration::from_secs(3);
/// What failed for the machine's sake is tried again after this long: a full disk may have room by then. Each time it is
/// compiled before that shows.
const RETRY: Duration = Duration::from_secs(if cfg!(test) { 1 } else { 30 });

/// A file and what was made of it.
pub(super) struct Source {
    pub(super) name: Arc<str>,
    pub(super) role: Role,
    /// How metrics and logs name it.
    pub(super) label: Arc<str>,
    pub(super) path: PathBuf,
    pub(super) settings: Settings,
    pub(super) control: Arc<Control>,
    /// The only content that is accepted.
    pin: Option<Digest256>,
    /// The generation that serves, the last good one.
    pub(super) current: Option<Arc<Generation>>,
    pub(super) loaded_at: Option<SystemTime>,
    pub(super) wasm_bytes: usize,
    /// Generations before, as long as sessions have them.
    pub(super) older: Vec<Weak<Generation>>,
    /// What served before, oldest first: what a rollback goes back to.
    pub(super) history: Vec<Good>,
    /// Why the file's present content does not serve.
    pub(super) error: Option<String>,
    pub(super) missing: bool,
    /// The file's present content was rolled back from.
    pub(super) quarantined: bool,
    /// What was last read to the end of its treatment.
    seen: Option<Fingerprint>,
    /// Content that was refused, so that it is refused once.
    refused: Option<Digest256>,
    /// Content that could not be compiled for the machine's sake is left alone until then.
    postponed: Option<(Digest256, Instant)>,
    /// What the last read found, waiting to be found again.
    unsettled: Option<Digest256>,
}

/// What looking at a file came to.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Checked {
    Unchanged,
    /// There is a new generation, or news for the status.
    Changed,
    /// It is being written: look again after this long.
    Again(Duration),
}

/// Other settings for a file that is known.
pub(super) struct Settled {
    settings: Settings,
    pin: Option<Digest256>,
    /// What serves with them, where something does.
    generation: Option<Arc<Generation>>,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
struct Fingerprint {
    device: u64,
    inode: u64,
    bytes: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl From<&Metadata> for Fingerprint {
    fn from(metadata: &Metadata) -> Self {
        Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            bytes: metadata.len(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        }
    }
}

impl Source {
    pub(super) fn new(
        engine: &Engine,
        name: Arc<str>,
        role: Role,
        path: PathBuf,
        settings: Settings,
        pin: Option<Digest256>,
    ) -> Self {
        Self {
            control: engine.controls.of(&name),
            label: role.label(&name),
            name,
            role,
            path,
            settings,
            pin,
            current: None,
            loaded_at: None,
            wasm_bytes: 0,
            older: Vec::new(),
            history: Vec::new(),
            error: None,
            missing: false,
            quarantined: false,
            seen: None,
            refused: None,
            postponed: None,
            unsettled: None,
        }
    }

    /// Loads the file as it is now. One that is quarantined is not loaded, which is no error.
    ///
    /// # Errors
    /// It cannot be read, or is not a filter. The status says so too.
    pub(super) fn load_now(&mut self, engine: &Arc<Engine>, quarantine: &Quarantine) -> Result<(), LoadError> {
        let (bytes, metadata) = match read(&self.path) {
            Ok(read) => read,
            Err(source) => {
                if source.kind() == io::ErrorKind::NotFound {
                    self.missing = true;
                    engine.metrics.filter(&self.label).missing.set(1);
                }
                self.error = Some(source.to_string());
                return Err(LoadError::Read { filter: self.name.to_string(), file: self.path.clone(), source });
            }
        };
        let path = self.path.clone();
        let content = Content::new(&path, &bytes);
        let code = content.digest;
        self.seen = Some(Fingerprint::from(&metadata));
        if self.is_quarantined(quarantine, &code) {
            self.keep_out(&code);
            return Ok(());
        }
        self.load(engine, &content).map_err(|source| {
            self.error = Some(source.to_string());
            self.refuse(&source, code);
            LoadError::NotAFilter { filter: self.name.to_string(), file: self.path.clone(), source }
        })
    }

    /// What serves, made anew with these settings. `None`: they are those that it has, or nothing serves yet and the next
    /// load will use them.
    ///
    /// # Errors
    /// It does not start with them, or is not the content that they accept.
    pub(super) fn try_settings(
        &self,
        engine: &Arc<Engine>,
        settings: Settings,
        pin: Option<Digest256>,
    ) -> Result<Option<Settled>, LoadError> {
        if settings.same(&self.settings) && pin == self.pin {
            return Ok(None);
        }
        let Some(current) = &self.current else { return Ok(Some(Settled { settings, pin, generation: None })) };
        let refused = |source| LoadError::NotAFilter { filter: self.name.to_string(), file: self.path.clone(), source };
        if pin.is_some_and(|pin| pin != *current.content()) {
            return Err(refused(NotAFilter::Pin(current.content().hex())));
        }
        if settings.same(&self.settings) {
            return Ok(Some(Settled { settings, pin, generation: None }));
        }
        let (content, code) = (*current.content(), current.code().clone());
        let revived = compile::revive(engine, &self.name, self.role, content, settings.clone(), code);
        let generation = revived.map_err(refused)?;
        // It is still the one that a rollback went back to.
        generation.set_restored(current.is_restored());
        Ok(Some(Settled { settings, pin, generation: Some(generation) }))
    }

    /// Goes on with these settings.
    pub(super) fn adopt(&mut self, settled: Settled) {
        let Settled { settings, pin, generation } = settled;
        // A rollback goes back to other code, not to other settings.
        self.history.iter_mut().for_each(|good| good.follow(&settings));
        self.settings = settings;
        self.pin = pin;
        // With other settings a file may be accepted that was not.
        self.refused = None;
        self.seen = None;
        if let Some(generation) = generation {
            tracing::info!(filter = &*self.label, generation = generation.digest().short(), "filter settings changed");
            self.publish(generation, self.wasm_bytes);
        }
    }

    /// Looks whether the file changed, and loads it if it did.
    pub(super) fn check(&mut self, engine: &Arc<Engine>, quarantine: &Quarantine) -> Checked {
        let before = (self.missing, self.error.clone());
        let checked = match fs::metadata(&self.path) {
            Ok(metadata) => self.present(engine, quarantine, &metadata),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                self.vanished(engine);
                Checked::Unchanged
            }
            Err(error) => {
                self.unreadable(&error);
                Checked::Unchanged
            }
        };
        match checked {
            Checked::Unchanged if before != (self.missing, self.error.clone()) => Checked::Changed,
            Checked::Unchanged | Checked::Changed | Checked::Again(_) => checked,
        }
    }

    fn present(&mut self, engine: &Arc<Engine>, quarantine: &Quarantine, metadata: &Metadata) -> Checked {
        if self.missing {
            self.missing = false;
            engine.metrics.filter(&self.label).missing.set(0);
        }
        let unsure = metadata.modified().is_ok_and(|at| at.elapsed().is_ok_and(|age| age < COARSE));
        if self.seen == Some(Fingerprint::from(metadata)) && !unsure {
            return Checked::Unchanged;
        }
        let (bytes, metadata) = match read(&self.path) {
            Ok(read) => read,
            Err(error) => {
                self.unreadable(&error);
                return Checked::Unchanged;
            }
        };
        let path = self.path.clone();
        let content = Content::new(&path, &bytes);
        let code = content.digest;
        let digest = self.settings.digest(&code);
        if self.current.as_ref().is_some_and(|current| *current.digest() == digest) {
            // Also when the good content came back after a bad one.
            self.settle(&metadata, None);
            return Checked::Unchanged;
        }
        if self.is_quarantined(quarantine, &code) {
            self.keep_out(&code);
            self.settle(&metadata, self.error.clone());
            self.quarantined = true;
            return Checked::Unchanged;
        }
        if self.refused == Some(code) {
            self.settle(&metadata, self.error.clone());
            return Checked::Unchanged;
        }
        if let Some((postponed, until)) = self.postponed
            && postponed == code
            && let Some(wait) = until.checked_duration_since(Instant::now())
        {
            return Checked::Again(wait);
        }
        if self.unsettled.replace(code) != Some(code) {
            return Checked::Again(SETTLE);
        }
        self.reload(engine, &content, &metadata)
    }

    fn reload(&mut self, engine: &Arc<Engine>, content: &Content<'_>, metadata: &Metadata) -> Checked {
        let (filter, file) = (&*self.label.clone(), self.path.display().to_string());
        match self.load(engine, content) {
            Ok(()) => {
                self.settle(metadata, None);
                let generation = self.current.as_ref().map(|current| current.digest().short());
                tracing::info!(filter, file, generation, "filter loaded");
                engine.metrics.filter(filter).reload("ok");
            }
            Err(NotAFilter::Truncated(_) | NotAFilter::Empty) if is_being_written(metadata) => {
                return Checked::Again(WRITING / 4);
            }
            Err(error) => {
                let serving = self.current.as_ref().map_or("nothing".to_owned(), |current| current.digest().short());
                tracing::error!(filter, file, serving, "filter not loaded, the last good one serves on: {error}");
                engine.metrics.filter(filter).reload("error");
                self.settle(metadata, Some(error.to_string()));
                self.refuse(&error, content.digest);
            }
        }
        Checked::Changed
    }

    fn load(&mut self, engine: &Arc<Engine>, content: &Content<'_>) -> Result<(), NotAFilter> {
        let code = &content.digest;
        if self.pin.is_some_and(|pin| pin != *code) {
            return Err(NotAFilter::Pin(code.hex()));
        }
        let generation = compile::load(engine, &self.name, self.role, content, self.settings.clone())?;
        if self.role == Role::Main
            && let Some(before) = &self.current
        {
            self.remember(Good::new(before, self.wasm_bytes));
        }
        self.publish(generation, content.bytes());
        Ok(())
    }

    /// What is to become of content that was not loaded.
    fn refuse(&mut self, error: &NotAFilter, code: Digest256) {
        if error.is_final() {
            self.refused = Some(code);
        } else {
            self.postponed = Some((code, Instant::now() + RETRY));
            self.seen = None;
        }
    }

    /// A generation serves from now on.
    pub(super) fn publish(&mut self, generation: Arc<Generation>, wasm_bytes: usize) {
        generation.metrics().generation.inc();
        // One that sessions still had may serve again.
        self.older.retain(|older| older.as_ptr() != Arc::as_ptr(&generation));
        if let Some(before) = self.current.replace(generation) {
            self.older.push(Arc::downgrade(&before));
        }
        self.loaded_at = Some(SystemTime::now());
        self.wasm_bytes = wasm_bytes;
        self.refused = None;
    }

    /// The file has another name, or is to be read again whatever was known of it.
    pub(super) fn look_anew(&mut self, path: PathBuf) {
        self.path = path;
        self.seen = None;
    }

    fn settle(&mut self, metadata: &Metadata, error: Option<String>) {
        self.seen = Some(Fingerprint::from(metadata));
        self.unsettled = None;
        self.quarantined = false;
        if error.is_none() {
            self.refused = None;
        }
        self.error = error;
    }

    fn vanished(&mut self, engine: &Arc<Engine>) {
        self.seen = None;
        self.unsettled = None;
        if !self.missing {
            self.missing = true;
            engine.metrics.filter(&self.label).missing.set(1);
            let file = self.path.display().to_string();
            tracing::warn!(filter = &*self.label, file, "the file of a filter vanished: the last good one serves on");
        }
    }

    /// There is another file of the same name, and nothing says which is meant: neither is loaded.
    pub(super) fn has_twin(&mut self, twin: &Path) {
        let text = format!("{} has the same name: remove one of the two", twin.display());
        if self.error.as_ref() != Some(&text) {
            let file = self.path.display().to_string();
            tracing::error!(filter = &*self.label, file, "filter not loaded, the last good one serves on: {text}");
        }
        self.seen = None;
        self.error = Some(text);
    }

    fn unreadable(&mut self, error: &io::Error) {
        let text = error.to_string();
        if self.error.as_ref() != Some(&text) {
            let file = self.path.display().to_string();
            tracing::error!(filter = &*self.label, file, "filter not read, the last good one serves on: {error}");
        }
        self.seen = None;
        self.unsettled = None;
        self.error = Some(text);
    }
}

fn read(path: &Path) -> io::Result<(Vec<u8>, Metadata)> {
    let file = File::open(path)?;
    let metadata = file.metadata()?;
    if !metadata.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a file"));
    }
    let mut bytes = Vec::new();
    file.take(compile::FILE_BYTES + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > compile::FILE_BYTES {
        return Err(io::Error::new(
            io::ErrorKind::FileTooLarge,
            format!("larger than {} MiB", compile::FILE_BYTES >> 20),
        ));
    }
    Ok((bytes, metadata))
}

fn is_being_written(metadata: &Metadata) -> bool {
    let since = metadata.modified().ok().and_then(|at| at.elapsed().ok());
    since.is_some_and(|since| since < WRITING)
}

/// The instant after a wait.
pub(super) fn after(wait: Duration) -> Instant {
    Instant::now() + wait
}
