//! From the bytes of a file to a generation: refused with a reason, compiled, checked against the contract, and tried
//! out in an instance of its own.

use std::{path::Path, sync::Arc, time::Duration};

use wasmtime::component::Component;

use super::{
    bindings::FilterHttpPre,
    compiler::NotCompiled,
    engine::{Code, Engine},
    generation::{Digest256, Generation, Role, Settings},
    host::Host,
    instance::Instance,
    room::Purpose,
};
use crate::config::is_script;

/// The largest file that is read.
pub(super) const FILE_BYTES: u64 = 128 << 20;
/// The longest script, as `wsgate-js` has it too: what people write has a hundredth of it.
pub(super) const SCRIPT_BYTES: usize = 1 << 20;

/// Bound of instantiation and `init` together, whatever they do.
const CANARY_TIMEOUT: Duration = Duration::from_secs(5);

const MAGIC: &[u8] = b"\0asm";
pub(super) const PACKAGE: &str = "wsgate:filter/";
/// The version of the contract that is served.
const VERSION: &str = "0.1.0";
pub(super) const HANDLER: &str = "wsgate:filter/handler@0.1.0";
/// What a program exports that is to be run by itself.
const COMMAND: &str = "wasi:cli/run@";

/// Why a file is not a filter.
#[derive(Debug, thiserror::Error)]
pub enum NotAFilter {
    /// Nothing in it.
    #[error("the file is empty")]
    Empty,
    /// Not WebAssembly.
    #[error("not WebAssembly: the file begins with {0}")]
    Garbage(String),
    /// A core module.
    #[error(
        "a core WebAssembly module, not a component: build for wasm32-wasip2, or wrap it with `wasm-tools component new`, \
         so that it exports {HANDLER}"
    )]
    CoreModule,
    /// Not the file that the configuration names.
    #[error("its SHA-256 is {0}, not the configured one (sha256)")]
    Pin(String),
    /// Machine code.
    #[error("precompiled machine code (.cwasm) is not accepted: give the .wasm component it was made from")]
    Precompiled,
    /// Cut off.
    #[error("the file ends too early: {0}")]
    Truncated(String),
    /// Not a valid component.
    #[error("not a valid component: {0}")]
    Invalid(String),
    /// JavaScript that nobody wrote by hand.
    #[error("the script is larger than {} MiB", SCRIPT_BYTES >> 20)]
    LongScript,
    /// It is no JavaScript, or threw: file, line, column and why.
    #[error("{0}")]
    Script(String),
    /// There is no machine code for it.
    #[error("it was not compiled: {0}")]
    NotCompiled(NotCompiled),
    /// Another version of the contract.
    #[error(
        "made for version {version} of the contract ({found}); this gateway serves {VERSION}: build it with the SDK of \
         that version"
    )]
    Version {
        /// The version.
        version: String,
        /// What the component exports or imports.
        found: String,
    },
    /// The export is not there.
    #[error("it does not export {HANDLER}, which every filter does (it exports {exports}{hint})", hint = hint(exports))]
    NoHandler {
        /// What it exports instead.
        exports: String,
    },
    /// The export is not as it should be.
    #[error("its export {HANDLER} differs from the contract: {0}")]
    WrongHandler(String),
    /// It wants something that there is not.
    #[error("an import is not provided: {0}")]
    Import(String),
    /// `init` returned an error.
    #[error("init refused the configuration: {0}")]
    Init(String),
    /// It trapped, or took too long, or wants more than it may have.
    #[error("it failed when it was tried out: {0}")]
    Canary(String),
}

/// What a file held when it was read.
pub(super) struct Content<'a> {
    path: &'a Path,
    bytes: &'a [u8],
    pub(super) digest: Digest256,
}

impl<'a> Content<'a> {
    pub(super) fn new(path: &'a Path, bytes: &'a [u8]) -> Self {
        Self { path, bytes, digest: Digest256::of(bytes) }
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes.len()
    }
}

/// Compiles, checks and tries. Takes long: never on a worker.
pub(super) fn load(
    engine: &Arc<Engine>,
    filter: &Arc<str>,
    role: Role,
    content: &Content<'_>,
    settings: Settings,
) -> Result<Arc<Generation>, NotAFilter> {
    let Content { path, bytes, digest } = *content;
    let code = if is_script(path) { compiled_script(engine, path, bytes)? } else { code(engine, bytes, digest)? };
    revive(engine, filter, role, digest, settings, code)
}

/// A script is made a component, which is compiled as any other.
fn compiled_script(engine: &Engine, path: &Path, bytes: &[u8]) -> Result<Arc<Code>, NotAFilter> {
    if bytes.is_empty() {
        return Err(NotAFilter::Empty);
    }
    if bytes.len() > SCRIPT_BYTES {
        return Err(NotAFilter::LongScript);
    }
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let script = script_digest(&name, bytes);
    engine.compiled(script, |in_use| {
        let made = engine.compiler().script(engine, &name, bytes, script)?;
        let mut code = compile(engine, &made.component, Digest256::of(&made.component), in_use)?;
        code.entries.push(made.entry);
        Ok(code)
    })
}

/// The file's name is in what is compiled: errors tell of it.
fn script_digest(name: &str, bytes: &[u8]) -> Digest256 {
    Digest256::of(&[b"script\0", name.as_bytes(), b"\0", bytes].concat())
}

/// Compiles and checks.
pub(super) fn code(engine: &Engine, bytes: &[u8], content: Digest256) -> Result<Arc<Code>, NotAFilter> {
    check_header(bytes)?;
    engine.compiled(content, |in_use| compile(engine, bytes, content, in_use))
}

/// Tries out what was compiled before.
pub(super) fn revive(
    engine: &Arc<Engine>,
    filter: &Arc<str>,
    role: Role,
    content: Digest256,
    settings: Settings,
    code: Arc<Code>,
) -> Result<Arc<Generation>, NotAFilter> {
    let generation = Arc::new(Generation::new(engine, filter.clone(), role, content, settings, code));
    canary(&generation)?;
    Ok(generation)
}

impl NotAFilter {
    /// Would the same bytes be refused again? If not, it is the machine's fault, which may pass.
    pub(super) fn is_final(&self) -> bool {
        if let Self::NotCompiled(error) = self { error.is_final() } else { true }
    }
}

impl From<NotCompiled> for NotAFilter {
    fn from(error: NotCompiled) -> Self {
        match error {
            NotCompiled::Invalid(text) => invalid(text),
            NotCompiled::Script(text) => Self::Script(text),
            error => Self::NotCompiled(error),
        }
    }
}

/// `in_use` are the files of the cache from which others were loaded.
fn compile(engine: &Engine, bytes: &[u8], code: Digest256, in_use: &[String]) -> Result<Code, NotAFilter> {
    let (component, entry) = engine.compiler().component(engine, bytes, code, in_use)?;
    Ok(Code { pre: linked(engine, &component)?, entries: vec![entry] })
}

fn linked(engine: &Engine, component: &Component) -> Result<FilterHttpPre<Host>, NotAFilter> {
    check_world(&Names::of(engine, component))?;
    let pre = engine.linker().instantiate_pre(component).map_err(|error| NotAFilter::Import(one_line(&error)))?;
    FilterHttpPre::new(pre).map_err(|error| NotAFilter::WrongHandler(one_line(&error)))
}

fn check_header(bytes: &[u8]) -> Result<(), NotAFilter> {
    match bytes {
        [] => Err(NotAFilter::Empty),
        [0x7f, b'E', b'L', b'F', ..] => Err(NotAFilter::Precompiled),
        [0, b'a', b's', b'm', 1, 0, 0, 0, ..] => Err(NotAFilter::CoreModule),
        [0, b'a', b's', b'm', _, _, 1, 0, ..] => Ok(()),
        _ if bytes.len() < 8 && (bytes.starts_with(MAGIC) || MAGIC.starts_with(bytes)) => {
            Err(NotAFilter::Truncated("it has no version".to_owned()))
        }
        [0, b'a', b's', b'm', version @ ..] => {
            Err(NotAFilter::Invalid(format!("unknown binary version {:02x?}", &version[..4])))
        }
        _ => Err(NotAFilter::Garbage(bytes[..bytes.len().min(16)].escape_ascii().to_string())),
    }
}

fn invalid(text: String) -> NotAFilter {
    // There is no type for this.
    if ["unexpected end", "unexpected EOF", "is out of bounds (bound"].iter().any(|sign| text.contains(sign)) {
        NotAFilter::Truncated(text)
    } else {
        NotAFilter::Invalid(text)
    }
}

pub(super) fn one_line(error: &wasmtime::Error) -> String {
    format!("{error:#}").replace('\n', " ")
}

/// The common mistakes, in words; everything else is found by the linker and the bindings.
fn check_world(names: &Names) -> Result<(), NotAFilter> {
    for name in names.exports.iter().chain(&names.imports) {
        let version =
            name.strip_prefix(PACKAGE).map(|name| name.split_once('@').map_or("none", |(_, version)| version));
        if let Some(version) = version.filter(|version| *version != VERSION) {
            return Err(NotAFilter::Version { version: version.to_owned(), found: name.clone() });
        }
    }
    if names.exports.iter().any(|name| name == HANDLER) {
        return Ok(());
    }
    let exports = if names.exports.is_empty() { "nothing".to_owned() } else { names.exports.join(", ") };
    Err(NotAFilter::NoHandler { exports })
}

fn hint(exports: &str) -> &'static str {
    if exports.contains(COMMAND) { ": it is a program; build a library" } else { "" }
}

/// What a component imports and exports.
#[derive(Default)]
pub(super) struct Names {
    pub(super) imports: Vec<String>,
    pub(super) exports: Vec<String>,
}

impl Names {
    fn of(engine: &Engine, component: &Component) -> Self {
        let ty = component.component_type();
        Self {
            imports: ty.imports(engine.wasm()).map(|(name, _)| name.to_owned()).collect(),
            exports: ty.exports(engine.wasm()).map(|(name, _)| name.to_owned()).collect(),
        }
    }
}

/// Looks at a component without trying it out. An error is one that leaves nothing to be looked at; else it comes beside
/// the names.
pub(super) fn look(
    engine: &Engine,
    bytes: &[u8],
    content: Digest256,
) -> Result<(Names, Option<NotAFilter>), NotAFilter> {
    check_header(bytes)?;
    let (component, _) = engine.compiler().component(engine, bytes, content, &[])?;
    Ok((Names::of(engine, &component), linked(engine, &component).err()))
}

/// One instance, on this thread.
fn canary(generation: &Arc<Generation>) -> Result<(), NotAFilter> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| NotAFilter::Canary(error.to_string()))?;
    let ticket = generation.engine().room.try_take(generation.maps(), Purpose::Keep);
    let ticket = ticket.map_err(|error| NotAFilter::Canary(error.to_string()))?;
    let made =
        runtime.block_on(async { tokio::time::timeout(CANARY_TIMEOUT, Instance::make(generation, ticket)).await });
    match made {
        Ok(Ok(_)) => Ok(()),
        Ok(Err(fault)) if fault.kind == super::fault::FaultKind::Error => Err(NotAFilter::Init(fault.cause)),
        Ok(Err(fault)) => Err(NotAFilter::Canary(fault.cause)),
        Err(_) => Err(NotAFilter::Canary(format!("init took more than {} s", CANARY_TIMEOUT.as_secs()))),
    }
}
