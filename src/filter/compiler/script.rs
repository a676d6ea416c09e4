//! The program that makes components of scripts: where it is, which one it is, and what it is run for.

use std::{
    env,
    fs::{self, Metadata},
    io,
    os::unix::fs::{MetadataExt, PermissionsExt},
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
    time::Instant,
};

use super::{Compiler, NotCompiled, Place, not_written, process};
use crate::filter::{
    cache::{Made, ScriptKey},
    engine::Engine,
    generation::Digest256,
};

/// How the program is called that is looked for.
const PROGRAM: &str = "wsgate-js";
/// Folders of `PATH` that are looked into.
const PATH_FOLDERS: usize = 64;

/// What makes components of scripts.
pub(super) struct ScriptCompiler {
    /// `js_compiler`
    configured: Option<PathBuf>,
    /// Beside the gateway's program, as it was when that started.
    beside: Option<PathBuf>,
    /// The hash of the program that was last used, which has thirty megabytes, and what it was the hash of.
    hashed: Mutex<Option<(Identity, Digest256)>>,
}

#[derive(Clone, Eq, PartialEq)]
struct Identity {
    path: PathBuf,
    file: (u64, u64),
    bytes: u64,
    modified: (i64, i64),
}

impl Identity {
    fn new(path: &Path, metadata: &Metadata) -> Self {
        Self {
            path: path.to_owned(),
            file: (metadata.dev(), metadata.ino()),
            bytes: metadata.len(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
        }
    }
}

impl ScriptCompiler {
    pub(super) fn new(configured: Option<PathBuf>) -> Self {
        let own = env::current_exe().ok();
        let beside = own.and_then(|own| Some(own.parent()?.join(PROGRAM)));
        Self { configured, beside, hashed: Mutex::new(None) }
    }

    /// The program and its hash.
    fn find(&self) -> Result<(PathBuf, Digest256), NotCompiled> {
        if let Some(configured) = &self.configured {
            let found = program(configured);
            let (path, metadata) = found
                .ok_or_else(|| NotCompiled::NoScriptCompiler(format!("js_compiler names {}", configured.display())))?;
            return self.identified(path, &metadata);
        }
        let folders = env::var_os("PATH").unwrap_or_default();
        let folders = env::split_paths(&folders).filter(|folder| folder.is_absolute()).take(PATH_FOLDERS);
        let in_path = folders.map(|folder| folder.join(PROGRAM));
        match self.beside.iter().cloned().chain(in_path).find_map(|path| program(&path)) {
            Some((path, metadata)) => self.identified(path, &metadata),
            None => {
                let beside = self.beside.as_ref().map(|beside| format!("{}, ", beside.display())).unwrap_or_default();
                Err(NotCompiled::NoScriptCompiler(format!("looked for {beside}{PROGRAM} in PATH")))
            }
        }
    }

    fn identified(&self, path: PathBuf, metadata: &Metadata) -> Result<(PathBuf, Digest256), NotCompiled> {
        let identity = Identity::new(&path, metadata);
        let mut hashed = self.hashed.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((known, digest)) = hashed.as_ref()
            && *known == identity
        {
            return Ok((path, *digest));
        }
        let bytes = fs::read(&path).map_err(|cause| NotCompiled::Start { program: path.clone(), cause })?;
        let digest = Digest256::of(&bytes);
        *hashed = Some((identity, digest));
        Ok((path, digest))
    }
}

/// The file, if it can be run.
fn program(path: &Path) -> Option<(PathBuf, Metadata)> {
    let metadata = fs::metadata(path).ok()?;
    let runs = metadata.is_file() && metadata.permissions().mode() & 0o111 != 0;
    runs.then(|| (path.to_owned(), metadata))
}

impl Compiler {
    /// The component that this script, whose name and content have that hash, is made to. What was made before is found
    /// again; where there is no compiler, also what another one made.
    pub(in crate::filter) fn script(
        &self,
        engine: &Engine,
        name: &str,
        source: &[u8],
        script: Digest256,
    ) -> Result<Made, NotCompiled> {
        let cache = self.cache()?;
        let compiler = self.scripts.find();
        let by = compiler.as_ref().ok().map(|(_, digest)| digest);
        if let Some(made) = cache.made(&script, by) {
            return Ok(made);
        }
        let made = compiler.and_then(|(program, compiler)| {
            let begin = Instant::now();
            let component = self.make(&program, name, source)?;
            let ms = begin.elapsed().as_millis();
            tracing::debug!(name, ms, "script made a component");
            let key = ScriptKey { script, compiler };
            let written = |cause: io::Error| not_written(&cache, cause);
            cache.draft().and_then(|draft| draft.keep_made(&key, component)).map_err(written)
        });
        if made.is_err() {
            engine.metrics.compilation("error");
        }
        made
    }

    /// Makes a component of a script, only to see whether it can be.
    ///
    /// # Errors
    /// It cannot.
    pub(in crate::filter) fn try_script(&self, name: &str, source: &[u8]) -> Result<(), NotCompiled> {
        let (program, _) = self.scripts.find()?;
        self.make(&program, name, source).map(drop)
    }

    /// What the program makes of the script.
    fn make(&self, program: &Path, name: &str, source: &[u8]) -> Result<Vec<u8>, NotCompiled> {
        match &self.place {
            Place::Child(own) => process::script(Some(own), program, name, source),
            #[cfg(test)]
            Place::InProcess => process::script(None, program, name, source),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::state_dir::StateDir;

    /// A program of the shell instead of the compiler, and what is told of a script.
    fn told(program: &str) -> Result<(), NotCompiled> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(PROGRAM);
        fs::write(&path, format!("#!/bin/sh\n{program}\n")).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        let compiler = Compiler::in_process(Arc::new(StateDir::new(None))).with_js_compiler(Some(path));
        compiler.try_script("a.js", b"source")
    }

    #[test]
    fn the_script_goes_in_with_its_name_and_a_component_comes_out() {
        told(r#"[ "$*" = "--name a.js" ] && [ "$(cat)" = source ] && printf '\0asm\015\0\001\0'"#).unwrap();
    }

    #[test]
    fn what_the_compiler_says_of_a_script_is_told() {
        let error = told("echo 'a.js:1:2: no' >&2; exit 1").unwrap_err();
        assert!(matches!(error, NotCompiled::Script(_)) && error.is_final(), "{error:?}");
        assert_eq!(error.to_string(), "a.js:1:2: no");
    }

    #[test]
    fn a_compiler_that_fails_is_not_the_scripts_fault() {
        let error = told("echo broken >&2; exit 70").unwrap_err();
        assert!(matches!(error, NotCompiled::Foreign(_)) && !error.is_final(), "{error:?}");
        let error = told("true").unwrap_err();
        assert!(error.to_string().contains("no component"), "{error}");
        assert!(told("kill -KILL $$").unwrap_err().to_string().contains("it was killed"));
    }

    #[test]
    fn a_compiler_that_is_not_there_is_told_with_its_place() {
        let compiler = |path: &str| {
            let compiler = Compiler::in_process(Arc::new(StateDir::new(None))).with_js_compiler(Some(path.into()));
            compiler.try_script("a.js", b"").unwrap_err()
        };
        // The second is no program.
        for path in ["/nowhere/wsgate-js", "/etc/passwd"] {
            let error = compiler(path);
            assert!(!error.is_final());
            assert!(error.to_string().contains(path), "{error}");
        }
    }

    #[test]
    fn another_program_has_another_hash() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(PROGRAM);
        let scripts = ScriptCompiler::new(Some(path.clone()));
        let hash = |content: &str| {
            fs::write(folder.path().join("new"), content).unwrap();
            fs::set_permissions(folder.path().join("new"), fs::Permissions::from_mode(0o755)).unwrap();
            fs::rename(folder.path().join("new"), &path).unwrap();
            scripts.find().unwrap().1
        };
        let first = hash("one");
        assert!(first == Digest256::of(b"one") && first == scripts.find().unwrap().1);
        assert!(hash("two") == Digest256::of(b"two"));
    }
}
