//! The files under `tests/configs`, and what holds between the code, the schema and the documentation.

use std::{fmt::Write, fs, path::PathBuf};

use super::*;

mod documented;
mod values;

/// Set it to have the expected files written instead of compared.
const UPDATE: &str = "WSGATE_UPDATE";

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn variable(name: &str) -> Option<String> {
    let value = match name {
        "PORT" => "8080",
        "HOST" => "chat.internal",
        "SIZE" => "2MiB",
        "TOKEN" => "hunter2",
        "CONTROL" => "hunter2\n",
        _ => return None,
    };
    Some(value.to_owned())
}

fn read(text: &str) -> Result<(Config, Vec<Warning>), ConfigErrors> {
    Config::parse_with(text, "wsgate.toml", &root().join("tests/configs/valid"), &variable)
}

fn read_file(path: &Path) -> Result<(Config, Vec<Warning>), ConfigErrors> {
    let name = path.file_name().unwrap().to_str().unwrap();
    Config::parse_with(&fs::read_to_string(path).unwrap(), name, path.parent().unwrap(), &variable)
}

/// Every `.toml` in a folder below `tests/configs`, with the text expected of it and the text that it gave.
fn compare(folder: &str, shown: impl Fn(&Path) -> String) {
    let folder = root().join("tests/configs").join(folder);
    let mut differences = String::new();
    let mut count = 0;
    for entry in fs::read_dir(&folder).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|extension| extension != "toml") {
            continue;
        }
        count += 1;
        let given = shown(&path).replace(folder.to_str().unwrap(), "[folder]");
        differences.push_str(&difference(&path.with_extension("stderr"), &given));
    }
    assert!(count >= 5, "only {count} files in {}", folder.display());
    assert!(differences.is_empty(), "{differences}\nSet {UPDATE}=1 to accept what was given, and read the diff.");
}

fn difference(file: &Path, given: &str) -> String {
    let expected = fs::read_to_string(file).unwrap_or_default();
    if expected == given {
        return String::new();
    }
    if std::env::var_os(UPDATE).is_some() {
        fs::write(file, given).unwrap();
        return String::new();
    }
    format!("\n{}\n--- expected\n{expected}--- given\n{given}", file.display())
}

#[test]
fn every_invalid_file_is_refused_with_the_text_beside_it() {
    compare("invalid", |path| match read_file(path) {
        Ok(_) => panic!("{} is accepted", path.display()),
        Err(errors) => format!("{errors}\n"),
    });
}

#[test]
fn every_valid_file_is_accepted_with_the_warnings_beside_it() {
    compare("valid", |path| match read_file(path) {
        Ok((_, warnings)) => warnings.iter().fold(String::new(), |mut text, warning| {
            writeln!(text, "{warning}").unwrap();
            text
        }),
        Err(errors) => panic!("{errors}"),
    });
}
