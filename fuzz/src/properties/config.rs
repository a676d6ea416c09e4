//! A text is a valid configuration, or there are errors that say where; never both, never a panic, and each time the same.

use std::path::Path;

use crate::config::{Config, ConfigErrors, Target};

/// See the module.
pub fn run(input: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(input) else { return false };
    let parse = || Config::parse(text, "wsgate.toml", Path::new("/etc/wsgate"));
    let parsed = parse();
    match (&parsed, parse()) {
        (Ok((one, warnings)), Ok((other, again))) => assert!(*one == other && *warnings == again, "twice the same"),
        (Err(one), Err(other)) => assert_eq!(*one, other, "twice the same"),
        (Ok(_), Err(_)) | (Err(_), Ok(_)) => panic!("once valid, once not"),
    }
    match parsed {
        Ok((config, warnings)) => {
            holds_together(&config);
            warnings.iter().for_each(|warning| drop(warning.to_string()));
            true
        }
        Err(errors) => {
            explained(&errors, text);
            false
        }
    }
}

/// What other modules rely on.
fn holds_together(config: &Config) {
    assert!(!config.listeners.is_empty() && config.server.workers > 0);
    for route in &config.routes {
        if let Target::Upstream(name) = &route.target {
            assert!(config.upstreams.get(name).is_some_and(|upstream| !upstream.endpoints.is_empty()), "{name}");
        }
        if let Some(name) = &route.auth {
            assert!(config.jwt.contains_key(name), "{name}");
        }
        let limits = &route.limits;
        assert!(limits.queue_max_bytes >= limits.client_max_payload_bytes.max(limits.upstream_max_payload_bytes));
    }
    for jwt in config.jwt.values() {
        assert!(!jwt.algorithms.is_empty() && !jwt.from.is_empty());
    }
}

fn explained(errors: &ConfigErrors, text: &str) {
    assert!(!errors.errors().is_empty());
    let lines = text.split('\n').count();
    for error in errors.errors() {
        assert!(!error.message.is_empty());
        if let Some(position) = error.position {
            assert!((1..=lines).contains(&position.line) && position.column >= 1, "{error}");
        }
        // A file is no longer than what is said of it by much.
        assert!(error.to_string().len() <= 4096 + text.len(), "{error}");
    }
}

/// See [`crate::NAMED`].
pub fn seeds() -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/configs");
    let mut files = Vec::new();
    for kind in ["valid", "invalid"] {
        let entries = std::fs::read_dir(folder.join(kind)).into_iter().flatten().flatten();
        files.extend(
            entries.map(|entry| entry.path()).filter(|path| path.extension().is_some_and(|name| name == "toml")),
        );
    }
    files.sort();
    files.iter().filter_map(|file| std::fs::read(file).ok()).filter(|bytes| bytes.len() <= 8192).collect()
}
