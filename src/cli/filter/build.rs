//! `wsgate filter build`

use std::{
    fs,
    path::{Path, PathBuf},
    process::ExitCode,
    sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel},
    time::Duration,
};

use clap::Args;
use notify::{EventKind, RecommendedWatcher, RecursiveMode, Watcher};
use thiserror::Error;

use super::{
    inspect::{allow, size},
    project::{Project, ProjectError, put},
};
use crate::{
    cli::{BAD_CONFIGURATION, failed, say},
    config::Config,
    filter::{WorkbenchError, inspect},
};

/// After a change, so long without another.
const QUIET: Duration = Duration::from_millis(100);
/// Folders whose content is made, not written; and names that begin with a dot.
const MADE: [&str; 5] = ["target", "dist", "node_modules", "build", "__pycache__"];
/// Files that builds write beside the sources.
const LOCKS: [&str; 3] = ["Cargo.lock", "package-lock.json", "uv.lock"];
/// Folders of a project that are watched.
const MAX_FOLDERS: usize = 1_000;

#[derive(Args, Debug)]
pub(in crate::cli) struct BuildArguments {
    /// The project
    #[arg(value_name = "DIR", default_value = ".")]
    folder: PathBuf,
    /// Build again whenever a source changes, until Ctrl-C
    #[arg(long)]
    watch: bool,
    /// Put the component there too, such as into a folder that a gateway watches
    #[arg(long, value_name = "FOLDER", conflicts_with = "config")]
    into: Option<PathBuf>,
    /// Put the component into the `filter_dir` of this configuration
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

#[derive(Debug, Error)]
pub(super) enum BuildError {
    #[error(transparent)]
    Project(#[from] ProjectError),
    #[error(transparent)]
    Workbench(#[from] WorkbenchError),
    #[error("{}: a gateway would not load it: {problem}", file.display())]
    NotAFilter { file: PathBuf, problem: String },
    #[error("{}: not a folder", .0.display())]
    NoFolder(PathBuf),
    #[error("the project cannot be watched")]
    Watch(#[source] notify::Error),
}

/// Builds, and goes on building where that is wanted.
pub(super) fn main(arguments: &BuildArguments) -> ExitCode {
    let into = match &arguments.config {
        None => arguments.into.clone(),
        Some(config) => match Config::load(config) {
            Ok((config, _)) => Some(config.server.filter_dir),
            Err(errors) => {
                say(&errors);
                return ExitCode::from(BAD_CONFIGURATION);
            }
        },
    };
    if let Some(folder) = into.as_ref().filter(|folder| !folder.is_dir()) {
        return failed(&BuildError::NoFolder(folder.clone()));
    }
    let once = || build(&arguments.folder, into.as_deref());
    if arguments.watch {
        return match watch(&arguments.folder, once) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => failed(&error),
        };
    }
    match once() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => failed(&error),
    }
}

fn build(folder: &Path, into: Option<&Path>) -> Result<(), BuildError> {
    let built = Project::find(folder)?.build()?;
    let bytes = fs::read(&built.file).map_err(|error| ProjectError::Read(built.file.clone(), error))?;
    let found = inspect(&bytes)?;
    if let Some(problem) = found.problem {
        return Err(BuildError::NotAFilter { file: built.file, problem });
    }
    let (file, took) = (built.file.strip_prefix(".").unwrap_or(&built.file), built.took.as_secs_f64());
    say(&format_args!(
        "built {}: {} in {took:.1} s; allow: {}",
        file.display(),
        size(bytes.len()),
        allow(&found.allow)
    ));
    if let Some(into) = into {
        let to = into.join(place(into, &built.name));
        put(&built.file, &to)?;
        say(&format_args!("put into {}", to.display()));
    }
    Ok(())
}

/// The filter's file in a folder: the one that is there may have a number before its name, for its place in the chain.
fn place(folder: &Path, name: &str) -> String {
    let usual = format!("{name}.wasm");
    let files =
        fs::read_dir(folder).into_iter().flatten().flatten().filter_map(|file| file.file_name().into_string().ok());
    let numbered = |file: &String| {
        let rest = file.strip_suffix(&usual).and_then(|number| number.strip_suffix('-'));
        rest.is_some_and(|number| !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit()))
    };
    files.into_iter().find(numbered).unwrap_or(usual)
}

/// Builds once and after each change. What fails is told, and built again after the next change.
fn watch(folder: &Path, build: impl Fn() -> Result<(), BuildError>) -> Result<(), BuildError> {
    Project::find(folder)?;
    let (wake, woken) = sync_channel(1);
    let mut watcher = watcher(wake).map_err(BuildError::Watch)?;
    loop {
        // Also folders that are new.
        for folder in folders(folder) {
            watcher.watch(&folder, RecursiveMode::NonRecursive).map_err(BuildError::Watch)?;
        }
        if let Err(error) = build() {
            failed(&error);
        }
        say(&"waiting for changes; Ctrl-C ends");
        if !changed(&woken) {
            return Ok(());
        }
    }
}

/// Waits for a change, and until there are no more. False where there can be none.
fn changed(woken: &Receiver<()>) -> bool {
    if woken.recv().is_err() {
        return false;
    }
    loop {
        match woken.recv_timeout(QUIET) {
            Ok(()) => {}
            Err(RecvTimeoutError::Timeout) => return true,
            Err(RecvTimeoutError::Disconnected) => return false,
        }
    }
}

fn watcher(wake: SyncSender<()>) -> notify::Result<RecommendedWatcher> {
    notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
        let matters = event.is_ok_and(|event| {
            let changes = match event.kind {
                EventKind::Access(_) => false,
                EventKind::Any
                | EventKind::Create(_)
                | EventKind::Modify(_)
                | EventKind::Remove(_)
                | EventKind::Other => true,
            };
            changes && event.paths.iter().any(|path| is_source(path))
        });
        if matters {
            // Full: a change is known of already.
            let _ = wake.try_send(());
        }
    })
}

/// By its own name: folders that are made are not watched.
fn is_source(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    !name.starts_with('.') && !MADE.contains(&&*name) && !LOCKS.contains(&&*name) && !name.ends_with('~')
}

/// A project's folders with sources.
fn folders(project: &Path) -> Vec<PathBuf> {
    let mut found = vec![project.to_owned()];
    let mut next = 0;
    while next < found.len() && found.len() < MAX_FOLDERS {
        let entries = fs::read_dir(&found[next]).into_iter().flatten().flatten();
        let below = entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
        found.extend(below.map(|entry| entry.path()).filter(|path| is_source(path)));
        next += 1;
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_before_the_name_stays() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(place(folder.path(), "shout"), "shout.wasm");
        for file in ["30-shout.wasm", "x-shout.wasm", "1-louder-shout.wasm"] {
            fs::write(folder.path().join(file), "").unwrap();
        }
        assert_eq!(place(folder.path(), "shout"), "30-shout.wasm");
    }

    #[test]
    fn what_is_made_is_not_watched() {
        let project = tempfile::tempdir().unwrap();
        for folder in ["src/deep", "target/debug", "node_modules/a", ".git/b", "dist"] {
            fs::create_dir_all(project.path().join(folder)).unwrap();
        }
        let mut names: Vec<_> = folders(project.path())
            .iter()
            .map(|folder| folder.strip_prefix(project.path()).unwrap().display().to_string())
            .collect();
        names.sort();
        assert_eq!(names, ["", "src", "src/deep"]);
        assert!(is_source(Path::new("a/lib.rs")) && !is_source(Path::new("a/Cargo.lock")));
        assert!(!is_source(Path::new("a/.lib.rs.swp")));
    }
}
