//! What scripts were made to, kept beside the machine code: a restart needs neither the compiler of scripts nor its time.

use super::{
    Cache, Draft, MADE,
    entry::{self, ScriptKey},
    take,
};
use crate::filter::generation::Digest256;

/// A component that was made of a script, and the name of the file that keeps it.
pub(in crate::filter) struct Made {
    pub(in crate::filter) component: Vec<u8>,
    pub(in crate::filter) entry: String,
}

impl Cache {
    /// What this script was made to by that compiler; without a compiler, by any.
    pub(in crate::filter) fn made(&self, script: &Digest256, compiler: Option<&Digest256>) -> Option<Made> {
        let names = match compiler {
            Some(compiler) => vec![file_name(&ScriptKey { script: *script, compiler: *compiler })],
            None => self.folder.names().unwrap_or_default(),
        };
        let own = script.hex();
        names.into_iter().filter(|name| name.starts_with(&own) && name.ends_with(MADE)).find_map(|entry| {
            let component = self.read_or_remove(&entry, |file| entry::made(take(file)?, script, compiler))?;
            Some(Made { component, entry })
        })
    }
}

impl Draft<'_> {
    /// Keeps what a script was made to.
    ///
    /// # Errors
    /// It cannot be written.
    pub(in crate::filter) fn keep_made(self, key: &ScriptKey, component: Vec<u8>) -> std::io::Result<Made> {
        std::io::Write::write_all(&mut &self.file, &entry::encode_made(key, &component))?;
        let entry = file_name(key);
        self.keep(&entry)?;
        Ok(Made { component, entry })
    }
}

fn file_name(key: &ScriptKey) -> String {
    format!("{}-{}{MADE}", key.script.hex(), &key.compiler.hex()[..16])
}
