//! The project that `wsgate filter new --lang rust` writes.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

#[allow(unreachable_pub, reason = "what is here a module is there a library")]
#[path = "../../template/src/lib.rs"]
mod filter; // with its own tests

const ROOT: &str = env!("CARGO_MANIFEST_DIR");

fn read(path: &str) -> String {
    fs::read_to_string(Path::new(ROOT).join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// The files below a folder, named from the root of the SDK.
fn files(folder: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for entry in fs::read_dir(Path::new(ROOT).join(folder)).unwrap() {
        let entry = entry.unwrap();
        let path = format!("{folder}/{}", entry.file_name().to_str().unwrap());
        match entry.file_type().unwrap().is_dir() {
            true => found.extend(files(&path)),
            false => drop(found.insert(path)),
        }
    }
    found
}

#[test]
fn all_of_the_sdk_but_its_tests_is_copied() {
    let copied: BTreeSet<String> = read("template/.vendor").lines().map(str::to_owned).collect();
    let mut expected = files("src");
    expected.retain(|file| !file.ends_with("/tests.rs"));
    expected.insert("Cargo.toml".to_owned());
    assert_eq!(copied, expected, "template/.vendor is not up to date");
}

#[test]
fn what_is_copied_needs_no_workspace() {
    let manifest = read("Cargo.toml");
    assert!(!manifest.contains("workspace = true"), "it inherits from the workspace");
    // In a project the contract lies beside the SDK, as it does here.
    assert!(read("src/lib.rs").contains(r#"path: "../wit/0.1.0""#));
    assert!(Path::new(ROOT).join("../wit/0.1.0/filter.wit").exists());
}

#[test]
fn the_sdk_has_the_version_of_the_gateway() {
    let workspace = read("../../Cargo.toml");
    let version = format!("[workspace.package]\nversion = \"{}\"", env!("CARGO_PKG_VERSION"));
    assert!(workspace.contains(&version), "guest-sdk/rust/Cargo.toml has another version than the workspace");
}
