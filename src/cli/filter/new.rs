//! `wsgate filter new`

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use clap::{Args, ValueEnum};
use thiserror::Error;

use crate::config::is_filter_name;

// `TEMPLATES` and `CONTRACT`: the files below `guest-sdk/*/template*` with what they take along, and those below `wit`.
include!(concat!(env!("OUT_DIR"), "/templates.rs"));

/// A template of a project.
struct Template {
    language: &'static str,
    files: &'static [(&'static str, &'static [u8])],
    /// Copied to `vendor/wsgate`.
    vendor: &'static [(&'static str, &'static [u8])],
}

#[derive(Args, Debug)]
pub(in crate::cli) struct NewArguments {
    /// The filter's name, and the folder's
    name: String,
    /// The language that it is written in
    #[arg(long, value_enum)]
    lang: Language,
    /// Make the folder in this one
    #[arg(long, value_name = "DIR", default_value = ".")]
    dir: PathBuf,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(super) enum Language {
    Rust,
    /// JavaScript
    Js,
    /// TypeScript
    Ts,
    Python,
    C,
}

impl Language {
    fn label(self) -> &'static str {
        match self {
            Self::Rust => "rust",
            Self::Js => "js",
            Self::Ts => "ts",
            Self::Python => "python",
            Self::C => "c",
        }
    }
}

#[derive(Debug, Error)]
pub(super) enum NewError {
    #[error("{0:?} is not the name of a filter; use up to 64 of a-z 0-9 _ -, first a letter")]
    Name(String),
    #[error("{}: is there already; nothing was changed", .0.display())]
    Exists(PathBuf),
    #[error("{}: is not a folder", .0.display())]
    NoFolder(PathBuf),
    #[error("this build of wsgate has no template for {0}")]
    NoTemplate(&'static str),
    #[error("{}: cannot be written", .0.display())]
    Write(PathBuf, #[source] io::Error),
}

/// Answers what to print.
pub(super) fn run(arguments: &NewArguments) -> Result<String, NewError> {
    let NewArguments { name, lang, dir } = arguments;
    // A package of Rust, and a name in C, cannot begin with a digit.
    if !is_filter_name(name) || name.starts_with(|first: char| first.is_ascii_digit()) {
        return Err(NewError::Name(name.clone()));
    }
    let template = TEMPLATES.iter().find(|template| template.language == lang.label());
    let template = template.ok_or(NewError::NoTemplate(lang.label()))?;
    if !dir.is_dir() {
        return Err(NewError::NoFolder(dir.clone()));
    }
    let folder = dir.join(name);
    match fs::create_dir(&folder) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Err(NewError::Exists(folder)),
        Err(error) => return Err(NewError::Write(folder, error)),
    }
    for (path, content) in template.files {
        let filled_in = match std::str::from_utf8(content) {
            Ok(text) => filled(text, name).into_bytes(),
            Err(_) => content.to_vec(),
        };
        write(&folder.join(filled(path, name)), &filled_in)?;
    }
    for (path, content) in template.vendor {
        write(&folder.join("vendor/wsgate").join(path), content)?;
    }
    for (path, content) in CONTRACT {
        write(&folder.join("vendor/wit").join(path), content)?;
    }
    let shown = folder.strip_prefix(".").unwrap_or(&folder).display();
    Ok(format!(
        "made {shown}\n\n  cd {shown}\n  wsgate filter build\n  wsgate filter test\n  wsgate filter build --watch --into FOLDER\n"
    ))
}

fn filled(text: &str, name: &str) -> String {
    text.replace("{{name}}", name).replace("{{snake_name}}", &name.replace('-', "_"))
}

fn write(file: &Path, content: &[u8]) -> Result<(), NewError> {
    let folder = file.parent().unwrap_or(file);
    let written = fs::create_dir_all(folder).and_then(|()| fs::write(file, content));
    written.map_err(|error| NewError::Write(file.to_owned(), error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_spellings_of_the_name_are_filled_in() {
        assert_eq!(filled("{{name}} {{snake_name}} {{other}}", "my-filter"), "my-filter my_filter {{other}}");
    }

    #[test]
    fn no_template_has_another_placeholder() {
        assert!(!TEMPLATES.is_empty() && !CONTRACT.is_empty());
        for template in TEMPLATES {
            assert!(template.files.iter().any(|(path, _)| *path == "cases.toml"), "{}", template.language);
            for (path, content) in template.files {
                let text = filled(&String::from_utf8_lossy(content), "x");
                let left = text.lines().find(|line| line.contains("{{name") || line.contains("{{snake"));
                assert_eq!(left, None, "{}: {path}", template.language);
            }
        }
    }
}
