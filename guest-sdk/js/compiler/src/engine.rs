//! Runs a script's top level in QuickJS and keeps the memory that it leaves: the component that comes out has it in place
//! when an instance begins.

use std::{sync::atomic::Ordering, thread, time::Duration};

use anyhow::Context as _;
use rustix::time::{ClockId, clock_gettime};
use wasmtime::{
    Config, Engine, OptLevel, Store, StoreLimits, StoreLimitsBuilder,
    component::{Linker, ResourceTable},
};
use wasmtime_wasi::{WasiCtx, WasiCtxBuilder, WasiCtxView, WasiView};
use wasmtime_wizer::{WasmtimeWizerComponent, Wizer};

use crate::{close::close, contract, machine_code, modules, report, script::Script};

/// Processor time of this process until a top level must have ended. What people write takes milliseconds; the rest is
/// for a QuickJS that has to be compiled first.
pub(crate) const CPU: Duration = Duration::from_secs(8);
/// How often that is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// Linear memory of the top level. An instance in the gateway has 64 MiB unless it is given more.
pub(crate) const MEMORY_BYTES: usize = 256 << 20;

const HTTP_CLIENT: &str = "wsgate:filter/http-client@0.1.0";

struct Host {
    wasi: WasiCtx,
    table: ResourceTable,
    limits: StoreLimits,
}

impl WasiView for Host {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        WasiCtxView { ctx: &mut self.wasi, table: &mut self.table }
    }
}

/// The component of a script. The outer error is this program's, the inner one the script's.
pub(crate) async fn component(script: &Script) -> anyhow::Result<Result<Vec<u8>, String>> {
    let contract = contract::link()?;
    let wizer = Wizer::new();
    let (context, instrumented) = wizer.instrument_component(&contract.component)?;
    let engine = engine()?;
    let quickjs = machine_code::load(&engine, &instrumented).context("QuickJS cannot be compiled")?;
    let mut store = store(&engine);
    let mut linker = Linker::new(&engine);
    linker.allow_shadowing(true);
    // The gateway is not there yet.
    linker.define_unknown_imports_as_traps(&quickjs)?;
    wasmtime_wasi::p2::add_to_linker_async(&mut linker)?;
    let http = modules::add_to_linker(&mut linker, script)?;
    let instance = linker.instantiate_async(&mut store, &quickjs).await?;
    let init = componentize_qjs::Init::new(&mut store, &instance)?;
    let entry = modules::entry(script);
    match init.call_init(&mut store, &contract.shim, &entry, Some(modules::ENTRY), false).await {
        Ok(Ok(())) => {}
        Ok(Err(thrown)) => return Ok(Err(report::thrown(&script.name, &thrown))),
        Err(trap) => return report::trapped(&script.name, trap).map(Err),
    }
    let mut state = WasmtimeWizerComponent { store: &mut store, instance };
    let snapshot = wizer.snapshot_component(context, &mut state).await?;
    let wants_http = http.load(Ordering::Relaxed) || script.names_http_client();
    close(&snapshot, |import| import == modules::LOADER || (import == HTTP_CLIENT && !wants_http)).map(Ok)
}

/// The settings that machine code depends on: of any processor of this kind, and quickly made.
pub(crate) fn engine() -> anyhow::Result<Engine> {
    let mut config = Config::new();
    config.cranelift_opt_level(OptLevel::None);
    config.epoch_interruption(true);
    // The address space of the process is limited, and a memory that moves whenever it grows takes seconds to grow.
    config.memory_reservation(MEMORY_BYTES as u64).memory_guard_size(64 << 10).memory_reservation_for_growth(0);
    let target = format!("{}-unknown-linux-gnu", std::env::consts::ARCH);
    config.target(&target)?;
    Ok(Engine::new(&config)?)
}

/// QuickJS as it is compiled.
pub(crate) fn instrumented() -> anyhow::Result<Vec<u8>> {
    let contract = contract::link()?;
    Ok(Wizer::new().instrument_component(&contract.component)?.1)
}

fn store(engine: &Engine) -> Store<Host> {
    let limits = StoreLimitsBuilder::new().memory_size(MEMORY_BYTES).build();
    let host = Host { wasi: WasiCtxBuilder::new().build(), table: ResourceTable::new(), limits };
    let mut store = Store::new(engine, host);
    store.limiter(|host| &mut host.limits);
    store.set_epoch_deadline(1);
    let engine = engine.clone();
    // Ends with the process.
    thread::spawn(move || {
        while cpu_time() < CPU {
            thread::sleep(LOOK_EVERY);
        }
        engine.increment_epoch();
    });
    store
}

fn cpu_time() -> Duration {
    let spent = clock_gettime(ClockId::ProcessCPUTime);
    Duration::try_from(spent).unwrap_or(Duration::MAX)
}
