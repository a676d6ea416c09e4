//! One wasmtime engine a process, its linker and its clock.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError, Weak},
};

use wasmtime::{Config, InstanceAllocationStrategy, PoolingAllocationConfig, component::Linker};

use super::{
    bindings::{FilterHttp, FilterHttpPre},
    catalogue::LoadError,
    fault::FaultBook,
    generation::Digest256,
    host::{Host, HostData, custom::CustomMetrics},
    limits,
    room::{self, Room},
    ticker::Ticker,
};
use crate::telemetry::metrics::Metrics;

/// A pool of fewer instances than this is no use: then they are made on demand.
const LEAST_POOLED: usize = 256;

/// What every generation is compiled with and every instance runs in.
pub(super) struct Engine {
    core: Arc<Core>,
    pub(super) ticker: Ticker,
    /// How many instances the process can hold.
    pub(super) room: Arc<Room>,
    pub(super) metrics: Arc<Metrics>,
    pub(super) custom: Arc<CustomMetrics>,
    pub(super) faults: FaultBook,
}

/// What belongs to no catalogue in particular.
struct Core {
    wasm: wasmtime::Engine,
    /// Instances that the process can hold.
    instances: usize,
    linker: Linker<Host>,
    /// By the hash of the file: filters that differ in their settings only are compiled once.
    compiled: Mutex<HashMap<Digest256, Weak<Code>>>,
}

/// A compiled component, ready to be instantiated.
pub(super) struct Code(pub(super) FilterHttpPre<Host>);

impl Engine {
    /// Reserves address space for pooled instances, or falls back to making each on demand where there is too little.
    pub(super) fn new(metrics: &Arc<Metrics>) -> Result<Arc<Self>, LoadError> {
        let core = Core::new()?;
        let room = Room::new(core.instances);
        Self::with_room(core, room, metrics)
    }

    /// With room for so many instances.
    #[cfg(test)]
    pub(super) fn holding(instances: usize, metrics: &Arc<Metrics>) -> Result<Arc<Self>, LoadError> {
        Self::with_room(Core::new()?, Room::new(instances), metrics)
    }

    fn with_room(core: Arc<Core>, room: Arc<Room>, metrics: &Arc<Metrics>) -> Result<Arc<Self>, LoadError> {
        let ticker = Ticker::start(&core.wasm).map_err(|error| LoadError::Engine(error.into()))?;
        let custom = CustomMetrics::register(metrics.registry()).map_err(|error| LoadError::Engine(error.into()))?;
        Ok(Arc::new(Self { core, ticker, room, metrics: metrics.clone(), custom, faults: FaultBook::default() }))
    }

    pub(super) fn wasm(&self) -> &wasmtime::Engine {
        &self.core.wasm
    }

    pub(super) fn linker(&self) -> &Linker<Host> {
        &self.core.linker
    }

    /// What these bytes were compiled to, or what this makes of them.
    pub(super) fn compiled<E>(
        &self,
        digest: Digest256,
        compile: impl FnOnce() -> Result<FilterHttpPre<Host>, E>,
    ) -> Result<Arc<Code>, E> {
        let mut compiled = self.core.compiled.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(code) = compiled.get(&digest).and_then(Weak::upgrade) {
            return Ok(code);
        }
        let code = Arc::new(Code(compile()?));
        compiled.retain(|_, code| code.strong_count() > 0);
        compiled.insert(digest, Arc::downgrade(&code));
        Ok(code)
    }
}

impl Core {
    #[cfg(not(test))]
    fn new() -> Result<Arc<Self>, LoadError> {
        Self::make().map(Arc::new)
    }

    /// The tests share one, and with it what was compiled.
    #[cfg(test)]
    fn new() -> Result<Arc<Self>, LoadError> {
        static SHARED: Mutex<Option<Arc<Core>>> = Mutex::new(None);
        let mut shared = SHARED.lock().unwrap();
        if shared.is_none() {
            *shared = Some(Arc::new(Self::make()?));
        }
        Ok(shared.clone().unwrap())
    }

    fn make() -> Result<Self, LoadError> {
        let mut pooled_instances = room::instances();
        while pooled_instances >= LEAST_POOLED {
            match wasmtime::Engine::new(&pooled(pooled_instances)) {
                Ok(engine) => return Self::with(engine, pooled_instances),
                Err(error) => {
                    let error = format!("{error:#}");
                    tracing::debug!(error, pooled_instances, "too little address space to pool filter instances");
                    pooled_instances /= 2;
                }
            }
        }
        tracing::info!("too little address space to pool filter instances: they are made on demand");
        let wasm = wasmtime::Engine::new(&on_demand()).map_err(|error| LoadError::Engine(error.into()))?;
        Self::with(wasm, room::instances_on_demand())
    }

    fn with(wasm: wasmtime::Engine, instances: usize) -> Result<Self, LoadError> {
        let mut linker = Linker::new(&wasm);
        wasmtime_wasi::p2::add_to_linker_async(&mut linker)
            .and_then(|()| FilterHttp::add_to_linker::<Host, HostData>(&mut linker, |host| host))
            .map_err(|error| LoadError::Engine(error.into()))?;
        Ok(Self { wasm, instances, linker, compiled: Mutex::default() })
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

/// The room is what bounds instances: the pool has a slot for everything that fits into it.
fn pooled(instances: usize) -> Config {
    let number = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
    let mut pool = PoolingAllocationConfig::new();
    pool.total_component_instances(number(instances))
        .total_core_instances(number(instances).saturating_mul(limits::CORE_INSTANCES))
        .total_memories(number(instances * room::MAPS_PER_INSTANCE / room::MAPS_PER_MEMORY))
        .total_tables(number(instances * room::TABLES_PER_INSTANCE))
        .total_stacks(number(instances))
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        config::Filter,
        filter::{
            compile,
            generation::{Generation, Settings},
            instance::Instance,
            room::Purpose,
            test_support::guest,
        },
    };

    /// Loads a filter and tries it out, in an engine of this configuration.
    fn load(config: &Config) -> Arc<Generation> {
        let metrics = Arc::new(Metrics::new().unwrap());
        let core = Arc::new(Core::with(wasmtime::Engine::new(config).unwrap(), LEAST_POOLED).unwrap());
        let engine = Arc::new(Engine {
            ticker: Ticker::start(&core.wasm).unwrap(),
            custom: CustomMetrics::register(metrics.registry()).unwrap(),
            room: Room::new(LEAST_POOLED),
            faults: FaultBook::default(),
            core,
            metrics,
        });
        let bytes = std::fs::read(guest("stamp")).unwrap();
        let settings = Settings::new(&Filter::with_defaults("stamp.wasm".into()), 1 << 20);
        compile::load(&engine, &"stamp".into(), &bytes, Digest256::of(&bytes), settings).unwrap()
    }

    /// Makes 200 instances; answers how many maps each took, and how many are counted for it.
    fn fill(generation: &Arc<Generation>) -> (f64, f64) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        let before = room::maps_in_use();
        let make = async || {
            let ticket = generation.engine().room.try_take(generation.maps(), Purpose::Keep).unwrap();
            Instance::make(generation, ticket).await.unwrap()
        };
        let mut kept = Vec::new();
        runtime.block_on(async {
            for _ in 0..200 {
                kept.push(make().await);
            }
        });
        let used = (room::maps_in_use() - before) as f64 / 200.0;
        println!("{used:.1} maps an instance, {} counted", generation.maps());
        (used, generation.maps() as f64)
    }

    #[test]
    fn filters_run_pooled() {
        let (used, counted) = fill(&load(&pooled(LEAST_POOLED)));
        assert!(used <= counted);
    }

    #[test]
    fn filters_run_without_reserved_address_space() {
        let (used, counted) = fill(&load(&on_demand()));
        assert!(used <= counted * 1.5);
    }
}
