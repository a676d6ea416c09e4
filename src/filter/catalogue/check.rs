//! What `wsgate check` says of scripts: whether each can be made a component.

use std::{collections::BTreeSet, fs, path::PathBuf, sync::Arc};

use super::folder::filter_files;
use crate::{
    config::{ChainSource, Config, filter_file, is_script},
    filter::compiler::Compiler,
    state_dir::StateDir,
};

/// Has every script that the configuration leads to made a component, and answers what went wrong, by file.
#[must_use]
pub fn check_scripts(config: &Config) -> Vec<(PathBuf, String)> {
    let scripts = scripts(config);
    let compiler = Compiler::new(Arc::new(StateDir::new(None))).with_js_compiler(config.server.js_compiler.clone());
    let check = |path: PathBuf| {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let made = fs::read(&path).map_err(|error| error.to_string());
        let made = made.and_then(|source| compiler.try_script(&name, &source).map_err(|error| error.to_string()));
        made.err().map(|error| (path, error))
    };
    scripts.into_iter().filter_map(check).collect()
}

fn scripts(config: &Config) -> BTreeSet<PathBuf> {
    let mut files = BTreeSet::new();
    for filter in config.filters.values() {
        files.insert(filter.file.clone());
        files.extend([&filter.canary, &filter.shadow].into_iter().flatten().map(|candidate| candidate.file.clone()));
    }
    for route in &config.routes {
        match &route.filters {
            ChainSource::Names(names) => {
                files.extend(names.iter().map(|name| filter_file(&config.server.filter_dir, name)));
            }
            ChainSource::Folder { path, .. } => {
                files.extend(filter_files(path).unwrap_or_default().iter().map(|name| path.join(name)));
            }
        }
    }
    files.retain(|file| is_script(file) && file.is_file());
    files
}
