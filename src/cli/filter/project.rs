//! A filter's project: which language it is in, and how its component is made.

use std::{
    fs,
    io::{self, BufRead, BufReader},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use serde_json::Value;
use thiserror::Error;

use crate::config::is_filter_name;

const TARGET: &str = "wasm32-wasip2";
/// Where every language leaves its component.
const DIST: &str = "dist";

/// Why there is no component.
#[derive(Debug, Error)]
pub(super) enum ProjectError {
    #[error("{}: not a filter's project: there is no Cargo.toml, package.json or Makefile; `wsgate filter new NAME --lang rust` makes one", .0.display())]
    NoProject(PathBuf),
    #[error("{}: cannot be read", .0.display())]
    Read(PathBuf, #[source] io::Error),
    #[error("{}: cannot be written", .0.display())]
    Write(PathBuf, #[source] io::Error),
    #[error("{}: {why}", file.display())]
    Manifest { file: PathBuf, why: String },
    #[error("{program} is not installed: {hint}")]
    NoProgram { program: &'static str, hint: &'static str },
    #[error("{program} cannot be started")]
    Start {
        program: &'static str,
        #[source]
        source: io::Error,
    },
    #[error("the Rust target {TARGET} is not installed: rustup target add {TARGET}")]
    NoTarget,
    #[error("`{0}` failed; what it said is above")]
    Failed(String),
    #[error("cargo built no component: Cargo.toml needs `[lib] crate-type = [\"cdylib\"]`")]
    NoComponent,
    #[error("{}: {why}", folder.display())]
    NoResult { folder: PathBuf, why: String },
}

/// How a project is built.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Kind {
    Cargo,
    Npm,
    Make,
}

/// A folder with a filter's sources.
#[derive(Debug)]
pub(super) struct Project {
    pub(super) folder: PathBuf,
    kind: Kind,
    /// Where the manifest says it.
    name: Option<String>,
}

/// A component that was built.
#[derive(Debug)]
pub(super) struct Built {
    pub(super) name: String,
    /// `dist/NAME.wasm`
    pub(super) file: PathBuf,
    pub(super) took: Duration,
}

impl Project {
    /// # Errors
    /// The folder has no project, or one without a usable name.
    pub(super) fn find(folder: &Path) -> Result<Self, ProjectError> {
        let has = |file: &str| folder.join(file).is_file();
        let (kind, name) = if has("Cargo.toml") {
            (Kind::Cargo, Some(toml_name(&folder.join("Cargo.toml"), "package")?))
        } else if has("package.json") {
            (Kind::Npm, Some(json_name(&folder.join("package.json"))?))
        } else if has("pyproject.toml") && has("Makefile") {
            (Kind::Make, Some(toml_name(&folder.join("pyproject.toml"), "project")?))
        } else if has("Makefile") {
            (Kind::Make, None)
        } else {
            return Err(ProjectError::NoProject(folder.to_owned()));
        };
        Ok(Self { folder: folder.to_owned(), kind, name })
    }

    /// Runs the language's own tools; what they say goes to stderr.
    ///
    /// # Errors
    /// A tool is not there, or it failed.
    pub(super) fn build(&self) -> Result<Built, ProjectError> {
        let begin = Instant::now();
        let (name, file) = match self.kind {
            Kind::Cargo => self.cargo()?,
            Kind::Npm => {
                if !self.folder.join("node_modules").is_dir() {
                    self.run("npm", &["install"], "it comes with Node.js, https://nodejs.org")?;
                }
                self.run("npm", &["run", "build"], "it comes with Node.js, https://nodejs.org")?;
                self.result()?
            }
            Kind::Make => {
                self.run("make", &["build"], "install make with the system's package manager")?;
                self.result()?
            }
        };
        Ok(Built { name, file, took: begin.elapsed() })
    }

    fn run(&self, program: &'static str, arguments: &[&str], hint: &'static str) -> Result<(), ProjectError> {
        let mut command = Command::new(program);
        command.args(arguments).current_dir(&self.folder).stdin(Stdio::null());
        // Its output is progress, not this command's result.
        command.stdout(io::stderr());
        let status = command.status().map_err(|error| not_started(program, hint, error))?;
        match status.success() {
            true => Ok(()),
            false => Err(ProjectError::Failed(format!("{program} {}", arguments.join(" ")))),
        }
    }

    /// Builds with cargo, and copies what it made to `dist`.
    fn cargo(&self) -> Result<(String, PathBuf), ProjectError> {
        let hint = "see https://rustup.rs";
        let mut rustc = Command::new("rustc");
        let sysroot = rustc.args(["--print", "sysroot"]).current_dir(&self.folder).stderr(Stdio::inherit()).output();
        let sysroot = sysroot.map_err(|error| not_started("rustc", hint, error))?;
        let sysroot = PathBuf::from(String::from_utf8_lossy(&sysroot.stdout).trim());
        if !sysroot.join("lib/rustlib").join(TARGET).is_dir() {
            return Err(ProjectError::NoTarget);
        }
        let arguments = ["build", "--release", "--target", TARGET, "--message-format", "json-render-diagnostics"];
        let mut cargo = Command::new("cargo");
        cargo.args(arguments).current_dir(&self.folder).stdin(Stdio::null()).stdout(Stdio::piped());
        let mut child = cargo.spawn().map_err(|error| not_started("cargo", hint, error))?;
        let failed = |source| ProjectError::Start { program: "cargo", source };
        let manifest = fs::canonicalize(self.folder.join("Cargo.toml")).ok();
        let mut made = None;
        if let Some(stdout) = child.stdout.take() {
            for line in BufReader::new(stdout).lines() {
                made = component(&line.map_err(failed)?, manifest.as_deref()).or(made);
            }
        }
        if !child.wait().map_err(failed)?.success() {
            return Err(ProjectError::Failed(format!("cargo build --release --target {TARGET}")));
        }
        let made = made.ok_or(ProjectError::NoComponent)?;
        let name = self.name.clone().unwrap_or_default();
        let folder = self.folder.join(DIST);
        fs::create_dir_all(&folder).map_err(|error| ProjectError::Write(folder.clone(), error))?;
        let file = folder.join(format!("{name}.wasm"));
        put(&made, &file)?;
        Ok((name, file))
    }

    /// What the build left in `dist`.
    fn result(&self) -> Result<(String, PathBuf), ProjectError> {
        let folder = self.folder.join(DIST);
        let none = |why: String| ProjectError::NoResult { folder: folder.clone(), why };
        if let Some(name) = &self.name {
            let file = folder.join(format!("{name}.wasm"));
            let why = || format!("the build did not make {name}.wasm in it");
            return file.is_file().then(|| (name.clone(), file)).ok_or_else(|| none(why()));
        }
        let entries = fs::read_dir(&folder).map_err(|error| none(format!("cannot be read: {error}")))?;
        let files = entries.flatten().map(|entry| entry.path());
        let mut components = files.filter(|file| file.extension().is_some_and(|extension| extension == "wasm"));
        let (Some(file), None) = (components.next(), components.next()) else {
            return Err(none("it has to hold exactly one .wasm file after `make build`".to_owned()));
        };
        let name = file.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default().to_owned();
        checked(name, &file).map(|name| (name, file))
    }
}

/// Copies a file to another name, so that whoever watches finds the old one or the new one, whole.
pub(super) fn put(from: &Path, to: &Path) -> Result<(), ProjectError> {
    let name = to.file_name().unwrap_or_default().to_string_lossy();
    let part = to.with_file_name(format!(".{name}.part"));
    let copied = fs::copy(from, &part).and_then(|_| fs::rename(&part, to));
    copied.map_err(|error| ProjectError::Write(to.to_owned(), error))
}

fn not_started(program: &'static str, hint: &'static str, source: io::Error) -> ProjectError {
    match source.kind() {
        io::ErrorKind::NotFound => ProjectError::NoProgram { program, hint },
        _ => ProjectError::Start { program, source },
    }
}

/// The component in a line of cargo's, if it is about this package.
fn component(line: &str, manifest: Option<&Path>) -> Option<PathBuf> {
    let message: Value = serde_json::from_str(line).ok()?;
    if message["reason"] != "compiler-artifact" || message["manifest_path"].as_str().map(Path::new) != manifest {
        return None;
    }
    let files = message["filenames"].as_array()?.iter().filter_map(Value::as_str);
    files.map(PathBuf::from).find(|file| file.extension().is_some_and(|extension| extension == "wasm"))
}

fn toml_name(file: &Path, table: &str) -> Result<String, ProjectError> {
    let refuse = |why: String| ProjectError::Manifest { file: file.to_owned(), why };
    let text = fs::read_to_string(file).map_err(|error| ProjectError::Read(file.to_owned(), error))?;
    let manifest: toml::Table = text.parse().map_err(|error| refuse(format!("not valid TOML: {error}")))?;
    let name = manifest.get(table).and_then(|table| table.get("name")).and_then(|name| name.as_str());
    let name = name.ok_or_else(|| refuse(format!("there is no name in [{table}]")))?;
    checked(name.to_owned(), file)
}

fn json_name(file: &Path) -> Result<String, ProjectError> {
    let refuse = |why: String| ProjectError::Manifest { file: file.to_owned(), why };
    let text = fs::read_to_string(file).map_err(|error| ProjectError::Read(file.to_owned(), error))?;
    let manifest: Value = serde_json::from_str(&text).map_err(|error| refuse(format!("not valid JSON: {error}")))?;
    let name = manifest["name"].as_str().ok_or_else(|| refuse("there is no \"name\"".to_owned()))?;
    checked(name.to_owned(), file)
}

fn checked(name: String, file: &Path) -> Result<String, ProjectError> {
    if is_filter_name(&name) {
        return Ok(name);
    }
    let why = format!("{name:?} is not the name of a filter; use up to 64 of a-z 0-9 _ -, first a letter or digit");
    Err(ProjectError::Manifest { file: file.to_owned(), why })
}
