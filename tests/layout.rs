//! The shape of the source: dependencies point one way, the big libraries are named in one place each, files stay small.
//! The order of the modules is the one in which `src/lib.rs` lists them.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

/// Lines of a file, at the very most.
const LONGEST_FILE: usize = 500;

/// `main → gateway → {listener, admin} → worker → handshake → session → filter → {topic, store, http_client} → upstream → message`, then `config`,
/// and last the words of HTTP, which need nothing.
const DESIGNED: [&[&str]; 14] = [
    &["cli", "gateway"],
    &["gateway", "admin", "worker"],
    &["gateway", "admin", "drain", "worker"],
    &["gateway", "listener", "worker"],
    &["worker", "handshake", "door", "transport"],
    &["worker", "handshake", "session"],
    &["session", "route", "config"],
    &["session", "upstream", "message"],
    &["session", "filter", "message"],
    &["filter", "topic", "message"],
    &["session", "filter", "store", "message"],
    &["filter", "http_client", "upstream"],
    &["message", "config"],
    &["telemetry", "config"],
];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Every Rust file below a folder of the repository, with its text.
fn sources(folder: &str) -> Vec<(PathBuf, String)> {
    let mut files = Vec::new();
    let mut folders = vec![root().join(folder)];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).into_iter().flatten() {
            let path = entry.unwrap().path();
            if path.is_dir() && !path.ends_with("target") {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = fs::read_to_string(&path).unwrap();
                files.push((path.strip_prefix(root()).unwrap().to_owned(), text));
            }
        }
    }
    files
}

/// The text without line comments. (`//` inside a string costs the rest of its line, which names no module.)
fn code(text: &str) -> String {
    text.lines().map(|line| line.split("//").next().unwrap_or_default()).collect::<Vec<_>>().join("\n")
}

/// `src/session/leg.rs` belongs to `session`.
fn module(path: &Path) -> String {
    let first = path.components().nth(1).unwrap().as_os_str().to_str().unwrap();
    first.trim_end_matches(".rs").to_owned()
}

/// The modules that stand behind `crate::`, also within braces.
fn used(code: &str) -> Vec<String> {
    let word = |text: &str| text.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect::<String>();
    let mut used = Vec::new();
    for rest in code.split("crate::").skip(1) {
        match rest.strip_prefix('{') {
            None => used.push(word(rest)),
            Some(group) => used.extend(top_level(group).iter().map(|part| word(part))),
        }
    }
    used
}

/// The parts of a braced group that no inner brace holds.
fn top_level(group: &str) -> Vec<String> {
    let (mut depth, mut parts) = (0, vec![String::new()]);
    for c in group.chars() {
        match c {
            '}' if depth == 0 => break,
            ',' if depth == 0 => parts.push(String::new()),
            _ => {
                depth += i32::from(c == '{') - i32::from(c == '}');
                parts.last_mut().unwrap().push(c);
            }
        }
    }
    parts.iter().map(|part| part.trim().to_owned()).filter(|part| !part.is_empty()).collect()
}

/// Each module's place in `src/lib.rs`.
fn order() -> BTreeMap<String, usize> {
    let lib = fs::read_to_string(root().join("src/lib.rs")).unwrap();
    let modules = lib.lines().filter_map(|line| line.trim_start_matches("pub ").strip_prefix("mod "));
    modules.map(|name| name.trim_end_matches(';').to_owned()).enumerate().map(|(place, name)| (name, place)).collect()
}

#[test]
fn dependencies_point_down_the_list_of_modules() {
    let order = order();
    let mut wrong = Vec::new();
    for (path, text) in sources("src") {
        let from = module(&path);
        for to in used(&code(&text)) {
            let allowed = match (from.as_str(), order.get(&from), order.get(&to)) {
                ("main" | "lib", ..) => true,
                (_, Some(from), Some(to)) => from <= to,
                // A macro or an item of the crate's root is no module.
                (_, Some(_), None) => !root().join("src").join(&to).with_extension("rs").exists(),
                (_, None, _) => false,
            };
            if !allowed {
                wrong.push(format!("{}: {from} -> {to}", path.display()));
            }
        }
    }
    assert_eq!(wrong, Vec::<String>::new());
}

#[test]
fn the_list_of_modules_is_the_designed_order() {
    let order = order();
    assert!(order.len() > 10, "{order:?}");
    for chain in DESIGNED {
        let places: Vec<usize> = chain.iter().map(|name| order[*name]).collect();
        assert!(places.is_sorted(), "{chain:?} in {order:?}");
    }
    let below: Vec<&str> =
        order.iter().filter(|(_, place)| **place > order["config"]).map(|(name, _)| &**name).collect();
    assert_eq!(below, ["http_head"], "config imports only the words of HTTP");
}

#[test]
fn each_big_library_is_named_in_one_place() {
    let places: [(&str, &[&str]); 2] = [
        ("wasmtime", &["src/filter.rs", "src/filter/"]),
        ("tungstenite", &["src/session.rs", "src/session/", "src/message.rs", "src/cli/connect.rs"]),
    ];
    let mut wrong = Vec::new();
    for (path, text) in sources("src") {
        let path = path.to_str().unwrap();
        for (library, allowed) in places {
            if code(&text).contains(library) && !allowed.iter().any(|prefix| path.starts_with(prefix)) {
                wrong.push(format!("{path} names {library}"));
            }
        }
    }
    assert_eq!(wrong, Vec::<String>::new());
}

#[test]
fn files_stay_small() {
    let folders = ["src", "tests", "filters", "guest-sdk", "benches"];
    let files: Vec<_> = folders.iter().flat_map(|folder| sources(folder)).collect();
    assert!(files.len() > 30);
    let long = files.iter().filter(|(_, text)| text.lines().count() > LONGEST_FILE);
    let long: Vec<String> = long.map(|(path, text)| format!("{}: {}", path.display(), text.lines().count())).collect();
    assert_eq!(long, Vec::<String>::new());
}

#[test]
fn what_the_checks_look_for_is_found() {
    assert_eq!(used("use crate::{\n    filter::{Chain, Live},\n    message::Message,\n};"), ["filter", "message"]);
    assert_eq!(used("use crate::config; fn f() -> crate::route::Route {}"), ["config", "route"]);
    assert_eq!(code("use a; // crate::b"), "use a; ");
    assert_eq!(module(Path::new("src/session/leg.rs")), "session");
    assert_eq!(module(Path::new("src/session.rs")), "session");
}

/// `filters/compiled/` is no package: a pattern that takes it for one breaks every build after the first `make run`.
#[test]
fn the_workspace_names_its_filters_one_by_one() {
    let manifest: toml::Table = fs::read_to_string(root().join("Cargo.toml")).unwrap().parse().unwrap();
    let members: Vec<&str> =
        manifest["workspace"]["members"].as_array().unwrap().iter().flat_map(|m| m.as_str()).collect();
    let named: Vec<&str> = members.iter().filter_map(|member| member.strip_prefix("filters/")).collect();
    let folders = fs::read_dir(root().join("filters")).unwrap().map(|entry| entry.unwrap().path());
    let mut packages: Vec<String> = folders
        .filter(|folder| folder.join("Cargo.toml").exists())
        .map(|folder| folder.file_name().unwrap().to_str().unwrap().to_owned())
        .collect();
    packages.sort();
    assert_eq!(named, packages);
}
