//! The component that every script becomes a part of: QuickJS and its bindings to the contract. It is the same for all.

use anyhow::Context;
use wasi_preview1_component_adapter_provider::WASI_SNAPSHOT_PREVIEW1_REACTOR_ADAPTER;
use wit_component::{Linker, StringEncoding};
use wit_parser::Resolve;

const CONTRACT: &str = include_str!("../../../../wit/0.1.0/filter.wit");
/// With all imports that there are; those that a script does not want are closed afterwards.
const WORLD: &str = "filter-http";

/// QuickJS, linked with what calls it and what it calls.
pub(crate) struct Contract {
    pub(crate) component: Vec<u8>,
    /// JavaScript that comes first.
    pub(crate) shim: String,
}

/// Links it.
pub(crate) fn link() -> anyhow::Result<Contract> {
    let mut resolve = Resolve::default();
    let package = resolve.push_str("filter.wit", CONTRACT).context("the contract cannot be read")?;
    let world = resolve.select_world(&[package], Some(WORLD))?;
    let (mut bindings, metadata) = wit_dylib::create_with_metadata(&resolve, world, None);
    let shim = componentize_qjs::codegen::generate_shim(&resolve, &metadata);
    wit_component::embed_component_metadata(&mut bindings, &resolve, world, StringEncoding::UTF8)?;
    let mut linker = Linker::default();
    // The gateway does when it compiles.
    linker.encoder().validate(false);
    linker.library("quickjs.wasm", componentize_qjs::opt_size_sync_runtime_wasm(), false)?;
    linker.library("bindings.wasm", &bindings, false)?;
    linker.encoder().adapter("wasi_snapshot_preview1", WASI_SNAPSHOT_PREVIEW1_REACTOR_ADAPTER)?;
    let component = linker.encode().context("QuickJS cannot be linked")?;
    Ok(Contract { component, shim })
}
