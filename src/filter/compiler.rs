//! Machine code for components: found in the cache, or made by a process of its own that has limits. Compilation cannot
//! be stopped from within, and takes what memory it likes; a process can be stopped, and dies alone.

mod child;
mod process;
mod script;

use std::{
    collections::HashSet,
    io,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
    time::Instant,
};

use wasmtime::component::Component;

pub use child::{compile_script, compile_stdin};

use super::{
    cache::{self, Cache, Damage, Draft, Key, MachineCode},
    engine::Engine,
    generation::Digest256,
};
use crate::state_dir::{StateDir, StateDirError};
use script::ScriptCompiler;

/// The smallest component. It is compiled at the start, to see whether filters can be.
const EMPTY_COMPONENT: &[u8] = b"\0asm\x0d\0\x01\0";

/// Why there is no machine code for a component.
#[derive(Debug, thiserror::Error)]
pub enum NotCompiled {
    /// It is not valid: what the engine says.
    #[error("{0}")]
    Invalid(String),
    /// The script is at fault: what its compiler says.
    #[error("{0}")]
    Script(String),
    /// A script, and nothing to make a component of it with.
    #[error(
        "wsgate-js, which makes filters of .js files, is not there: {0}; put it beside wsgate, or name it with [server] js_compiler"
    )]
    NoScriptCompiler(String),
    /// It spent its processor time.
    #[error("compiling it takes more than {} s of processor time", child::CPU_SECONDS)]
    Cpu,
    /// It took too long.
    #[error("compiling it takes more than {} s", process::TIME.as_secs())]
    Time,
    /// It wanted more memory.
    #[error("compiling it takes more than {} MiB of memory", child::MEMORY_BYTES >> 20)]
    Memory,
    /// It makes too much of it.
    #[error("its machine code is larger than {} MiB", cache::ENTRY_BYTES >> 20)]
    Size,
    /// The compiler did not survive it.
    #[error("the compiler failed on it: {0}")]
    Crash(String),
    /// There is no compiler.
    #[error("the process that compiles filters cannot be started ({program}): {cause}", program = program.display())]
    Start {
        /// What was to be started.
        program: PathBuf,
        /// Why it was not.
        cause: io::Error,
    },
    /// The compiler is not the one of this engine.
    #[error("the process that compiles filters does not do what this one expects: {0}")]
    Foreign(String),
    /// No place to keep it.
    #[error(transparent)]
    StateDir(#[from] StateDirError),
    /// No place to write it to.
    #[error("machine code cannot be written to {folder}: {cause}", folder = folder.display())]
    Write {
        /// The folder of the cache.
        folder: PathBuf,
        /// Why.
        cause: io::Error,
    },
}

impl NotCompiled {
    /// Would the same component be refused again? If not, it is the machine's fault, which may pass.
    pub(super) fn is_final(&self) -> bool {
        match self {
            Self::Invalid(_)
            | Self::Script(_)
            | Self::Cpu
            | Self::Time
            | Self::Memory
            | Self::Size
            | Self::Crash(_) => true,
            Self::NoScriptCompiler(_)
            | Self::Start { .. }
            | Self::Foreign(_)
            | Self::StateDir(_)
            | Self::Write { .. } => false,
        }
    }
}

/// Who compiles.
enum Place {
    /// This program, started once more for each component.
    Child(PathBuf),
    /// The test itself: the binary of unit tests is not the gateway's.
    #[cfg(test)]
    InProcess,
}

/// Makes machine code, or finds it. One a process.
pub struct Compiler {
    place: Place,
    scripts: ScriptCompiler,
    state_dir: Arc<StateDir>,
    /// Opened when it is first needed: a gateway without filters writes nothing.
    cache: Mutex<Option<Arc<Cache>>>,
}

impl Compiler {
    /// Compiles in further processes of this program.
    #[must_use]
    pub fn new(state_dir: Arc<StateDir>) -> Self {
        Self::at(Place::Child(process::this_program()), state_dir)
    }

    /// Scripts are made components by this program.
    #[must_use]
    pub fn with_js_compiler(mut self, program: Option<PathBuf>) -> Self {
        self.scripts = ScriptCompiler::new(program);
        self
    }

    /// Compiles in this process, for unit tests.
    #[cfg(test)]
    pub(crate) fn in_process(state_dir: Arc<StateDir>) -> Self {
        Self::at(Place::InProcess, state_dir)
    }

    /// Compiles with another program.
    #[cfg(test)]
    pub(super) fn with_program(program: PathBuf, state_dir: Arc<StateDir>) -> Self {
        Self::at(Place::Child(program), state_dir)
    }

    fn at(place: Place, state_dir: Arc<StateDir>) -> Self {
        Self { place, scripts: ScriptCompiler::new(None), state_dir, cache: Mutex::new(None) }
    }

    /// Compiles next to nothing, to see now what would go wrong later.
    ///
    /// # Errors
    /// Filters cannot be compiled here.
    pub(super) fn try_out(&self, engine: &Engine) -> Result<(), NotCompiled> {
        let key = Key { component: Digest256::of(EMPTY_COMPONENT), engine: *engine.compatibility() };
        let cache = self.cache()?;
        let draft = self.draft(&cache)?;
        self.compile(engine, EMPTY_COMPONENT, &key, &cache, &draft).map(drop)
    }

    /// The component, ready to be instantiated, and the file of the cache that has its code. These other files stay in the
    /// cache.
    pub(super) fn component(
        &self,
        engine: &Engine,
        bytes: &[u8],
        component: Digest256,
        in_use: &[String],
    ) -> Result<(Component, String), NotCompiled> {
        let key = Key { component, engine: *engine.compatibility() };
        let entry = cache::file_name(&key);
        let cache = self.cache()?;
        if let Some(code) = cache.get(&key) {
            match code.load(engine.wasm()) {
                Ok(found) => {
                    engine.metrics.compilation("cached");
                    return Ok((found, entry));
                }
                Err(error) => tracing::warn!("compiled code in the cache is not for this engine: {error:#}"),
            }
        }
        let compiled = self.compiled(engine, bytes, &key, &cache, in_use);
        engine.metrics.compilation(if compiled.is_ok() { "compiled" } else { "error" });
        compiled.map(|component| (component, entry))
    }

    fn compiled(
        &self,
        engine: &Engine,
        bytes: &[u8],
        key: &Key,
        cache: &Cache,
        in_use: &[String],
    ) -> Result<Component, NotCompiled> {
        let begin = Instant::now();
        let draft = self.draft(cache)?;
        let code = self.compile(engine, bytes, key, cache, &draft)?;
        let entry = cache::file_name(key);
        draft.keep(&entry).map_err(|cause| not_written(cache, cause))?;
        let in_use: HashSet<_> = in_use.iter().cloned().chain([entry]).collect();
        cache.tidy(&in_use);
        let (sha256, ms) = (key.component.hex(), begin.elapsed().as_millis());
        tracing::debug!(sha256, ms, "component compiled");
        code.load(engine.wasm()).map_err(|error| NotCompiled::Foreign(format!("{error:#}")))
    }

    /// Has it compiled into the draft, and checks what came.
    fn compile(
        &self,
        engine: &Engine,
        bytes: &[u8],
        key: &Key,
        cache: &Cache,
        draft: &Draft<'_>,
    ) -> Result<MachineCode, NotCompiled> {
        match &self.place {
            Place::Child(program) => {
                process::compile(program, engine.memories(), bytes, &draft.file).map_err(|error| match error {
                    NotCompiled::Write { cause, .. } => not_written(cache, cause),
                    error => error,
                })?;
            }
            #[cfg(test)]
            Place::InProcess => {
                let entry =
                    child::entry(engine.wasm(), bytes).map_err(|error| NotCompiled::Invalid(error.to_string()))?;
                io::Write::write_all(&mut &draft.file, &entry).map_err(|cause| not_written(cache, cause))?;
            }
        }
        draft.check(key).map_err(|damage| match damage {
            Damage::TooLarge => NotCompiled::Size,
            damage => NotCompiled::Foreign(damage.to_string()),
        })
    }

    fn draft<'a>(&self, cache: &'a Cache) -> Result<Draft<'a>, NotCompiled> {
        cache.draft().map_err(|cause| not_written(cache, cause))
    }

    fn cache(&self) -> Result<Arc<Cache>, StateDirError> {
        let mut cache = self.cache.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(cache) = cache.as_ref().filter(|cache| !cache.is_gone()) {
            return Ok(cache.clone());
        }
        let opened = Arc::new(Cache::open(&self.state_dir)?);
        *cache = Some(opened.clone());
        Ok(opened)
    }
}

fn not_written(cache: &Cache, cause: io::Error) -> NotCompiled {
    NotCompiled::Write { folder: cache.path().to_owned(), cause }
}
