//! Closes imports that must not be asked for in the end: each gets a component that provides it and traps.

use anyhow::Context;
use wasm_compose::graph::{Component, CompositionGraph, EncodeOptions};
use wasmparser::{Validator, WasmFeatures};
use wit_component::{ComponentEncoder, DecodedWasm, StringEncoding, decode, dummy_module, embed_component_metadata};
use wit_parser::{Docs, ManglingAndAbi, Resolve, Stability, World, WorldId, WorldItem};

/// The component without these imports.
pub(crate) fn close(component: &[u8], is_closed: impl Fn(&str) -> bool) -> anyhow::Result<Vec<u8>> {
    let DecodedWasm::Component(resolve, world) = decode(component).context("what was made cannot be read")? else {
        anyhow::bail!("what was made is no component");
    };
    let closing = closing(&resolve, world, is_closed).context("imports cannot be closed")?;
    let mut validator = Validator::new_with_features(WasmFeatures::all());
    let mut graph = CompositionGraph::new();
    let opened = graph.add_component(Component::from_bytes(&mut validator, "script", component)?)?;
    let closing = graph.add_component(Component::from_bytes(&mut validator, "closing", closing)?)?;
    let (opened, closing) = (graph.instantiate(opened)?, graph.instantiate(closing)?);
    let pairs: Vec<_> = {
        let (_, exporting) = graph.get_component_of_instance(closing).context("it is not in the graph")?;
        let (_, importing) = graph.get_component_of_instance(opened).context("it is not in the graph")?;
        let exports = exporting.exports().map(|(index, name, ..)| (index, name.to_owned()));
        let import = |name: &str| importing.import_by_name(name).map(|(index, _)| index);
        exports.filter_map(|(export, name)| Some((export, import(&name)?))).collect()
    };
    for (export, import) in pairs {
        graph.connect(closing, Some(export), opened, import)?;
    }
    graph.encode(EncodeOptions { define_components: true, export: Some(opened), validate: false })
}

/// A component that exports what is imported.
fn closing(resolve: &Resolve, world: WorldId, is_closed: impl Fn(&str) -> bool) -> anyhow::Result<Vec<u8>> {
    let all = &resolve.worlds[world].imports;
    let exports = all.clone().into_iter().filter(|(key, _)| is_closed(&resolve.name_world_key(key))).collect();
    // Interfaces without functions: what the others are made of.
    let is_types = |item: &WorldItem| matches!(item, WorldItem::Interface { id, .. } if resolve.interfaces[*id].functions.is_empty());
    let imports = all.clone().into_iter().filter(|(_, item)| is_types(item)).collect();
    let mut resolve = resolve.clone();
    let package = resolve.worlds[world].package;
    let world = resolve.worlds.alloc(World {
        name: "closing".to_owned(),
        imports,
        exports,
        package,
        docs: Docs::default(),
        stability: Stability::default(),
        includes: Vec::new(),
        span: Default::default(),
    });
    let mut module = dummy_module(&resolve, world, ManglingAndAbi::Standard32);
    embed_component_metadata(&mut module, &resolve, world, StringEncoding::UTF8)?;
    ComponentEncoder::default().module(&module)?.validate(false).encode()
}
