//! What a script may import: the SDK. Nothing is read from the file system.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use wasmtime::component::Linker;

use crate::script::Script;

/// The interface through which QuickJS asks. Only while the script is compiled.
pub(crate) const LOADER: &str = "local:init/module-loader";

/// What comes first and joins script and SDK. The script is a module of its own, so that its lines are those of its file.
pub(crate) const ENTRY: &str = "sdk/entry";

/// Names have a slash, which the name of a file has not.
const SDK: [(&str, &str, &str); 2] = [
    ("wsgate", "sdk/wsgate.js", include_str!("../../wsgate.js")),
    ("wsgate/http", "sdk/http/wsgate.js", include_str!("../../http.js")),
];

type Answer = wasmtime::Result<(Result<String, String>,)>;

/// The source of the module that comes first.
pub(crate) fn entry(script: &Script) -> String {
    let name = quoted(&script.name);
    format!(
        "import {{ component }} from \"wsgate\";\nimport * as script from {name};\nexport const handler = component(script);\n"
    )
}

/// Answers what QuickJS asks for. Returned is whether the script imports the SDK's HTTP client.
pub(crate) fn add_to_linker<T: 'static>(linker: &mut Linker<T>, script: &Script) -> wasmtime::Result<Arc<AtomicBool>> {
    let http = Arc::new(AtomicBool::new(false));
    let (name, source, asked) = (script.name.clone(), script.source.clone(), http.clone());
    let resolve = move |referrer: &str, specifier: &str| -> Result<String, String> {
        if specifier == name && referrer == ENTRY {
            return Ok(name.clone());
        }
        let found = SDK.iter().find(|(import, ..)| *import == specifier);
        found.map(|(_, module, _)| (*module).to_owned()).ok_or_else(|| not_there(specifier))
    };
    let script = script.name.clone();
    let load = move |module: &str| -> Result<String, String> {
        if module == script {
            return Ok(source.clone());
        }
        let found = SDK.iter().find(|(_, name, _)| *name == module).ok_or_else(|| not_there(module))?;
        if found.0 == "wsgate/http" {
            asked.store(true, Ordering::Relaxed);
        }
        Ok(found.2.to_owned())
    };
    let mut loader = linker.instance(LOADER)?;
    loader.func_wrap("resolve", move |_, (referrer, specifier): (String, String)| -> Answer {
        Ok((resolve(&referrer, &specifier),))
    })?;
    loader.func_wrap("load", move |_, (module,): (String,)| -> Answer { Ok((load(&module),)) })?;
    Ok(http)
}

fn not_there(specifier: &str) -> String {
    format!(
        "cannot import {}: a file by itself has \"wsgate\" and \"wsgate/http\" to import; for more, make a project with \
         `wsgate filter new --lang js`",
        quoted(specifier)
    )
}

/// As JavaScript writes it.
fn quoted(text: &str) -> String {
    let mut quoted = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => quoted.extend(['\\', c]),
            c if (c as u32) < 0x20 || c == '\u{2028}' || c == '\u{2029}' => {
                quoted.push_str(&format!("\\u{:04x}", c as u32));
            }
            c => quoted.push(c),
        }
    }
    quoted.push('"');
    quoted
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_cannot_end_the_string_that_it_is_in() {
        assert_eq!(quoted("a\"b\\c\nd"), r#""a\"b\\c\u000ad""#);
    }
}
