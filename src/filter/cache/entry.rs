//! What a file of the cache holds: whose content it is, how long, its hash, and the content: machine code, or the
//! component that a script was made to.

use std::io;

use wasmtime::component::Component;

use super::ENTRY_BYTES;
use crate::filter::generation::Digest256;

const MACHINE_CODE: &[u8; 8] = b"wsgate\0c";
const MADE_COMPONENT: &[u8; 8] = b"wsgate\0j";
/// Of this layout. What an engine can run is in the key.
const VERSION: u32 = 1;
/// Magic, version, key, length and hash of the content.
const HEADER_BYTES: usize = 8 + 4 + 32 + 32 + 8 + 32;
/// Where the second half of the key is.
const MAKER: std::ops::Range<usize> = 44..76;

/// What machine code is made from and for.
#[derive(Clone, Copy, Eq, PartialEq)]
pub(in crate::filter) struct Key {
    /// SHA-256 of the component.
    pub(in crate::filter) component: Digest256,
    /// SHA-256 of everything about the engine that machine code depends on.
    pub(in crate::filter) engine: Digest256,
}

/// What a component is made from and by.
#[derive(Clone, Copy, Eq, PartialEq)]
pub(in crate::filter) struct ScriptKey {
    /// SHA-256 of the script and its name.
    pub(in crate::filter) script: Digest256,
    /// SHA-256 of the program that made it.
    pub(in crate::filter) compiler: Digest256,
}

/// Why a file is not the machine code that it should be.
#[derive(Debug, thiserror::Error)]
pub(in crate::filter) enum Damage {
    #[error("it cannot be read: {0}")]
    Unreadable(io::Error),
    #[error("it is larger than {} MiB", ENTRY_BYTES >> 20)]
    TooLarge,
    #[error("it has no header of this version")]
    Header,
    #[error("it was made from another component or for another engine")]
    Key,
    #[error("it has {found} bytes of {promised}")]
    Length { found: usize, promised: u64 },
    #[error("its hash is not that of its content")]
    Hash,
}

/// Machine code whose hash was checked.
pub(in crate::filter) struct MachineCode {
    file: Vec<u8>,
}

impl MachineCode {
    /// The content of a file.
    pub(in crate::filter) fn encode(key: &Key, code: &[u8]) -> Vec<u8> {
        encode(MACHINE_CODE, [&key.component, &key.engine], code)
    }

    /// Is this the content of the file with that key?
    pub(super) fn check(file: Vec<u8>, key: &Key) -> Result<Self, Damage> {
        check(MACHINE_CODE, [&key.component, &key.engine], &file)?;
        Ok(Self { file })
    }

    /// What the engine runs. The bytes are copied: what was checked is what runs, whatever becomes of the file.
    ///
    /// # Errors
    /// The engine says that the code is not for it.
    #[expect(
        unsafe_code,
        reason = "machine code is believed, not checked. A process of this very program wrote it, into a folder that \
                  nobody but this user can write to, and its hash is right"
    )]
    pub(in crate::filter) fn load(&self, engine: &wasmtime::Engine) -> wasmtime::Result<Component> {
        // SAFETY: `self` is only made of what `encode` made of the output of `precompile_component`, see the reason above.
        unsafe { Component::deserialize(engine, &self.file[HEADER_BYTES..]) }
    }
}

/// The file that keeps what a script was made to.
pub(super) fn encode_made(key: &ScriptKey, component: &[u8]) -> Vec<u8> {
    encode(MADE_COMPONENT, [&key.script, &key.compiler], component)
}

/// The component in the file, if it was made of this script, and by that compiler, where one is named.
pub(super) fn made(mut file: Vec<u8>, script: &Digest256, compiler: Option<&Digest256>) -> Result<Vec<u8>, Damage> {
    let mut maker = Digest256([0; 32]);
    maker.0.copy_from_slice(file.get(MAKER).ok_or(Damage::Header)?);
    check(MADE_COMPONENT, [script, compiler.unwrap_or(&maker)], &file)?;
    file.drain(..HEADER_BYTES);
    Ok(file)
}

fn encode(magic: &[u8; 8], key: [&Digest256; 2], content: &[u8]) -> Vec<u8> {
    let mut file = header(magic, key, content).to_vec();
    file.extend_from_slice(content);
    file
}

fn check(magic: &[u8; 8], key: [&Digest256; 2], file: &[u8]) -> Result<(), Damage> {
    if file.len() as u64 > ENTRY_BYTES {
        return Err(Damage::TooLarge);
    }
    let (Some(found), Some(content)) = (file.get(..HEADER_BYTES), file.get(HEADER_BYTES..)) else {
        return Err(Damage::Header);
    };
    let wanted = header(magic, key, content);
    let differ = |from: usize, to: usize| found[from..to] != wanted[from..to];
    if differ(0, 12) {
        return Err(Damage::Header);
    }
    if differ(12, 76) {
        return Err(Damage::Key);
    }
    if differ(76, 84) {
        let mut promised = [0; 8];
        promised.copy_from_slice(&found[76..84]);
        return Err(Damage::Length { found: content.len(), promised: u64::from_le_bytes(promised) });
    }
    if differ(84, HEADER_BYTES) {
        return Err(Damage::Hash);
    }
    Ok(())
}

fn header(magic: &[u8; 8], key: [&Digest256; 2], content: &[u8]) -> [u8; HEADER_BYTES] {
    let mut header = [0; HEADER_BYTES];
    header[..8].copy_from_slice(magic);
    header[8..12].copy_from_slice(&VERSION.to_le_bytes());
    header[12..44].copy_from_slice(&key[0].0);
    header[MAKER].copy_from_slice(&key[1].0);
    header[76..84].copy_from_slice(&(content.len() as u64).to_le_bytes());
    header[84..].copy_from_slice(&Digest256::of(content).0);
    header
}
