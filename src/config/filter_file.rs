//! Which files are filters, and whose.

use std::path::{Path, PathBuf};

/// How the files of filters end: components, and JavaScript that is made one.
const EXTENSIONS: [&str; 2] = ["wasm", "js"];

/// What a file that is no filter's is told.
pub(super) const A_FILTER_FILE: &str = "a component or a script; write the path of a .wasm or .js file";

/// Can this be the file of a filter?
#[must_use]
pub fn is_filter_file(path: &Path) -> bool {
    path.extension().is_some_and(|extension| EXTENSIONS.iter().any(|known| extension == *known))
}

/// Is it JavaScript?
#[must_use]
pub fn is_script(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "js")
}

/// The file of a filter that has no other: `<name>.wasm` in this folder, or `<name>.js` where only that is there.
#[must_use]
pub fn filter_file(folder: &Path, name: &str) -> PathBuf {
    let [component, script] = EXTENSIONS.map(|extension| folder.join(format!("{name}.{extension}")));
    if script.is_file() && !component.is_file() { script } else { component }
}

/// The file of the other kind that would have the same name.
#[must_use]
pub fn twin(path: &Path) -> PathBuf {
    path.with_extension(if is_script(path) { "wasm" } else { "js" })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filter_is_a_component_or_a_script() {
        assert!(["a.wasm", "a.js", "/x/20-a.js"].iter().all(|path| is_filter_file(path.as_ref())));
        assert!(!["a", "js", "a.mjs", "a.js.part", ".js", "a.JS"].iter().any(|path| is_filter_file(path.as_ref())));
        assert_eq!((is_script("a.js".as_ref()), is_script("a.wasm".as_ref())), (true, false));
        assert_eq!((twin("x/a.js".as_ref()), twin("x/a.wasm".as_ref())), ("x/a.wasm".into(), "x/a.js".into()));
    }

    #[test]
    fn a_script_stands_in_where_there_is_no_component() {
        let folder = tempfile::tempdir().unwrap();
        let file = || filter_file(folder.path(), "a");
        assert_eq!(file(), folder.path().join("a.wasm"));
        std::fs::write(folder.path().join("a.js"), "").unwrap();
        assert_eq!(file(), folder.path().join("a.js"));
        std::fs::write(folder.path().join("a.wasm"), "").unwrap();
        assert_eq!(file(), folder.path().join("a.wasm"));
    }
}
