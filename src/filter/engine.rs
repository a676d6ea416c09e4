//! One wasmtime engine a process, its linker and its clock.

use std::sync::Arc;

use wasmtime::{Config, InstanceAllocationStrategy, PoolingAllocationConfig, component::Linker};

use super::{
    bindings::FilterHttp,
    catalogue::LoadError,
    host::{Host, HostData, custom::CustomMetrics},
    limits,
    ticker::Ticker,
};
use crate::telemetry::metrics::Metrics;

/// Instances of all filters and workers together, where they are pooled.
const POOLED_INSTANCES: u32 = 2_000;

/// What every generation is compiled with and every instance runs in.
pub(super) struct Engine {
    wasm: wasmtime::Engine,
    linker: Linker<Host>,
    pub(super) ticker: Ticker,
    pub(super) metrics: Arc<Metrics>,
    pub(super) custom: Arc<CustomMetrics>,
}

impl Engine {
    /// Reserves address space for pooled instances, or falls back to making each on demand where there is too little.
    pub(super) fn new(metrics: &Arc<Metrics>) -> Result<Arc<Self>, LoadError> {
        let wasm = match wasmtime::Engine::new(&pooled()) {
            Ok(engine) => engine,
            Err(error) => {
                tracing::info!(
                    error = %format_args!("{error:#}"),
                    "too little address space to pool filter instances: they are made on demand"
                );
                wasmtime::Engine::new(&on_demand()).map_err(|error| LoadError::Engine(error.into()))?
            }
        };
        let mut linker = Linker::new(&wasm);
        wasmtime_wasi::p2::add_to_linker_async(&mut linker)
            .and_then(|()| FilterHttp::add_to_linker::<Host, HostData>(&mut linker, |host| host))
            .map_err(|error| LoadError::Engine(error.into()))?;
        let ticker = Ticker::start(&wasm).map_err(|error| LoadError::Engine(error.into()))?;
        let custom = CustomMetrics::register(metrics.registry()).map_err(|error| LoadError::Engine(error.into()))?;
        Ok(Arc::new(Self { wasm, linker, ticker, metrics: metrics.clone(), custom }))
    }

    pub(super) fn wasm(&self) -> &wasmtime::Engine {
        &self.wasm
    }

    pub(super) fn linker(&self) -> &Linker<Host> {
        &self.linker
    }
}

fn base() -> Config {
    let mut config = Config::new();
    // Without this each call costs 0.8 µs more; nothing in the contract is a stream or a future.
    config.concurrency_support(false);
    config.epoch_interruption(true);
    config.memory_init_cow(true);
    config.max_wasm_stack(limits::GUEST_STACK_BYTES);
    config.async_stack_size(limits::FIBER_STACK_BYTES);
    config
}

fn pooled() -> Config {
    let mut pool = PoolingAllocationConfig::new();
    pool.total_component_instances(POOLED_INSTANCES)
        .total_core_instances(POOLED_INSTANCES * 8)
        .total_memories(POOLED_INSTANCES)
        .total_tables(POOLED_INSTANCES * 4)
        .total_stacks(POOLED_INSTANCES)
        .max_core_instances_per_component(limits::CORE_INSTANCES)
        .max_memories_per_component(limits::MEMORIES)
        .max_tables_per_component(limits::TABLES)
        .table_elements(limits::TABLE_ELEMENTS)
        .max_memory_size(1 << 32);
    let mut config = base();
    config.allocation_strategy(InstanceAllocationStrategy::Pooling(pool));
    config
}

fn on_demand() -> Config {
    let mut config = base();
    // No 4 GiB reserved for each memory; its bounds are then checked in code.
    config.memory_reservation(0).memory_guard_size(64 << 10).memory_reservation_for_growth(1 << 20);
    config.allocation_strategy(InstanceAllocationStrategy::OnDemand);
    config
}
