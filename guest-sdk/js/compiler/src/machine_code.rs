//! QuickJS as machine code. Making it takes two seconds, and it is always the same: `--prepare` appends it to this
//! program's file, where every later start finds it.

use std::{
    fs::File,
    io::{Read, Seek, SeekFrom},
    os::unix::fs::FileExt,
};

use anyhow::Context;
use wasmtime::{Engine, component::Component};

use crate::engine;

/// The end of a prepared program: the length of the machine code as eight bytes, little end first, and this.
const MARK: &[u8; 16] = b"wsgate-js\0code\0\x01";
const TRAILER_BYTES: u64 = 8 + MARK.len() as u64;
/// The machine code is four MiB.
const MOST_BYTES: u64 = 256 << 20;

/// This program with machine code at its end.
pub(crate) fn prepared_program() -> anyhow::Result<Vec<u8>> {
    let mut program = Vec::new();
    let mut file = this_program()?;
    file.read_to_end(&mut program).context("this program cannot be read")?;
    if let Some(length) = length(&file, program.len() as u64)? {
        program.truncate(program.len() - usize::try_from(length + TRAILER_BYTES)?);
    }
    let code = engine::engine()?.precompile_component(&engine::instrumented()?)?;
    program.extend_from_slice(&code);
    program.extend_from_slice(&(code.len() as u64).to_le_bytes());
    program.extend_from_slice(MARK);
    Ok(program)
}

/// What this component was compiled to, or is compiled to now, where this program was not prepared or is on another kind
/// of processor.
pub(crate) fn load(engine: &Engine, component: &[u8]) -> anyhow::Result<Component> {
    if let Some(code) = appended()?
        && let Ok(component) = deserialize(engine, &code)
    {
        return Ok(component);
    }
    Ok(Component::new(engine, component)?)
}

#[expect(
    unsafe_code,
    reason = "machine code is believed, not checked. It is a part of this program's file, as the code that reads it is: \
              whoever can change the one can change the other"
)]
fn deserialize(engine: &Engine, code: &[u8]) -> wasmtime::Result<Component> {
    // SAFETY: only `prepared_program` puts anything there, the output of `precompile_component`; see the reason above.
    unsafe { Component::deserialize(engine, code) }
}

/// The machine code at the end of this program.
fn appended() -> anyhow::Result<Option<Vec<u8>>> {
    let mut file = this_program()?;
    let bytes = file.seek(SeekFrom::End(0))?;
    let Some(length) = length(&file, bytes)? else { return Ok(None) };
    let mut code = vec![0; usize::try_from(length)?];
    file.read_exact_at(&mut code, bytes - TRAILER_BYTES - length)?;
    Ok(Some(code))
}

fn length(file: &File, bytes: u64) -> anyhow::Result<Option<u64>> {
    let mut trailer = [0; TRAILER_BYTES as usize];
    let Some(at) = bytes.checked_sub(TRAILER_BYTES) else { return Ok(None) };
    file.read_exact_at(&mut trailer, at)?;
    let (length, mark) = trailer.split_at(8);
    let length = u64::from_le_bytes(length.try_into()?);
    Ok((mark == MARK && length <= at.min(MOST_BYTES)).then_some(length))
}

/// Even where its file was replaced meanwhile.
fn this_program() -> anyhow::Result<File> {
    File::open("/proc/self/exe").context("this program's own file (/proc/self/exe) cannot be opened")
}
