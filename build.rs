//! Lists the templates of filter projects, so that `wsgate filter new` has them without this repository.

use std::{
    env,
    error::Error,
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
};

/// Language, its SDK's folder, the template in it.
const TEMPLATES: [(&str, &str, &str); 5] = [
    ("rust", "guest-sdk/rust", "template"),
    ("js", "guest-sdk/js", "template"),
    ("ts", "guest-sdk/js", "template-ts"),
    ("python", "guest-sdk/python", "template"),
    ("c", "guest-sdk/c", "template"),
];
/// Names, relative to the SDK's folder, of the files and folders that a project takes along.
const VENDOR: &str = ".vendor";

fn main() -> Result<(), Box<dyn Error>> {
    let root = PathBuf::from(env::var("CARGO_MANIFEST_DIR")?);
    println!("cargo::rerun-if-changed=build.rs");
    let mut out = String::from("static TEMPLATES: &[Template] = &[\n");
    for (language, sdk, template) in TEMPLATES {
        let (sdk, folder) = (root.join(sdk), root.join(sdk).join(template));
        // One that appears later counts.
        println!("cargo::rerun-if-changed={}", folder.display());
        if !folder.is_dir() {
            continue;
        }
        let mut files = below(&folder)?;
        files.retain(|file| !file.ends_with(VENDOR));
        let list = fs::read_to_string(folder.join(VENDOR))?;
        let mut vendor = Vec::new();
        for name in list.lines().map(str::trim).filter(|name| !name.is_empty() && !name.starts_with('#')) {
            let path = sdk.join(name);
            println!("cargo::rerun-if-changed={}", path.display());
            vendor.extend(if path.is_dir() { below(&path)? } else { vec![path] });
        }
        write!(out, "Template {{ language: {language:?}, files: {}", listed(&folder, &files)?)?;
        writeln!(out, ", vendor: {} }},", listed(&sdk, &vendor)?)?;
    }
    let wit = root.join("wit");
    println!("cargo::rerun-if-changed={}", wit.display());
    let contract = listed(&wit, &below(&wit)?)?;
    writeln!(out, "];\nstatic CONTRACT: &[(&str, &[u8])] = {contract};")?;
    fs::write(Path::new(&env::var("OUT_DIR")?).join("templates.rs"), out)?;
    Ok(())
}

/// Every file, in order; not what a build leaves there.
fn below(folder: &Path) -> Result<Vec<PathBuf>, Box<dyn Error>> {
    let mut files = Vec::new();
    let mut entries: Vec<_> = fs::read_dir(folder)?.collect::<Result<_, _>>()?;
    entries.sort_by_key(fs::DirEntry::file_name);
    for entry in entries {
        let path = entry.path();
        let made = ["target", "node_modules", "dist", "__pycache__"].iter().any(|name| entry.file_name() == *name);
        if path.is_dir() && !made {
            files.extend(below(&path)?);
        } else if path.is_file() {
            files.push(path);
        }
    }
    Ok(files)
}

/// A slice of names and contents.
fn listed(base: &Path, files: &[PathBuf]) -> Result<String, Box<dyn Error>> {
    let mut list = String::from("&[");
    for file in files {
        let name = file.strip_prefix(base)?.to_str().ok_or("a file's name is not UTF-8")?;
        write!(list, "({name:?}, include_bytes!({file:?})), ")?;
    }
    list.push(']');
    Ok(list)
}
