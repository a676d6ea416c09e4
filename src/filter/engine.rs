//! One wasmtime engine a process, its linker and its clock.

use std::{
    collections::HashMap,
    fmt,
    hash::{Hash, Hasher},
    str::FromStr,
    sync::{Arc, Mutex, PoisonError, Weak},
};

use sha2::{Digest, Sha256};
use wasmtime::{Config, InstanceAllocationStrategy, PoolingAllocationConfig, component::Linker};

use super::{
    bindings::{FilterHttp, FilterHttpPre},
    catalogue::LoadError,
    compiler::Compiler,
    control::Controls,
    fault::FaultBook,
    generation::Digest256,
    host::{Host, HostData, custom::CustomMetrics},
    limits,
    recorder::Recorder,
    room::{self, Room},
    ticker::Ticker,
};
use crate::{config, http_client::Clients, store::Stores, telemetry::metrics::Metrics, topic::Hub};

/// A pool of fewer instances than this is no use: then they are made on demand.
const LEAST_POOLED: usize = 256;

/// The import of filters that wait for others.
pub(super) const HTTP_CLIENT: &str = "wsgate:filter/http-client@0.1.0";
/// Instances per worker of such a filter, where no number is configured.
const INSTANCES_OF_HTTP_CLIENTS: usize = 8;

/// What every generation is compiled with and every instance runs in.
pub(super) struct Engine {
    core: Arc<Core>,
    pub(super) ticker: Ticker,
    /// How many instances the process can hold.
    pub(super) room: Arc<Room>,
    pub(super) metrics: Arc<Metrics>,
    pub(super) custom: Arc<CustomMetrics>,
    compiler: Compiler,
    pub(super) controls: Controls,
    /// What filters send past the connection that they serve.
    pub(super) hub: Arc<Hub>,
    pub(super) stores: Stores,
    pub(super) http: Clients,
    pub(super) faults: FaultBook,
    /// Where it is, what filters do stays within the process.
    pub(super) recorder: Option<Arc<Recorder>>,
}

/// What belongs to no catalogue in particular.
struct Core {
    wasm: wasmtime::Engine,
    memories: Memories,
    /// Instances that the process can hold.
    instances: usize,
    compatibility: Digest256,
    linker: Linker<Host>,
    /// By the hash of the file: filters that differ in their settings only are compiled once.
    compiled: Mutex<HashMap<Digest256, Weak<Code>>>,
}

/// A compiled component, ready to be instantiated.
pub(super) struct Code {
    pub(super) pre: FilterHttpPre<Host>,
    /// The files of the cache that it is made from.
    pub(super) entries: Vec<String>,
}

impl Code {
    /// Instances per worker where the configuration names no number: a call that waits for an HTTP response keeps its
    /// instance from making another.
    pub(super) fn default_instances(&self, engine: &Engine) -> usize {
        let component = self.pre.instance_pre().component();
        let imports_http = component.component_type().imports(engine.wasm()).any(|(name, _)| name == HTTP_CLIENT);
        if imports_http { INSTANCES_OF_HTTP_CLIENTS } else { 1 }
    }
}

impl Engine {
    /// Reserves address space for pooled instances, or falls back to making each on demand where there is too little.
    pub(super) fn new(
        config: &config::Config,
        metrics: &Arc<Metrics>,
        compiler: Compiler,
        hub: &Arc<Hub>,
    ) -> Result<Arc<Self>, LoadError> {
        let core = Core::new()?;
        let room = Room::new(core.instances);
        Self::with_room(core, room, config, metrics, compiler, hub, None)
    }

    /// One in which everything is written down and nothing leaves the process. It shares compiled code with `other`, and
    /// nothing else that a filter could notice.
    pub(super) fn recording(
        other: Option<&Self>,
        config: &config::Config,
        metrics: &Arc<Metrics>,
        compiler: Compiler,
        hub: &Arc<Hub>,
    ) -> Result<Arc<Self>, LoadError> {
        let (core, room) = match other {
            Some(other) => (other.core.clone(), other.room.clone()),
            None => {
                let core = Core::new()?;
                let room = Room::new(core.instances);
                (core, room)
            }
        };
        Self::with_room(core, room, config, metrics, compiler, hub, Some(Arc::default()))
    }

    /// With room for so many instances.
    #[cfg(test)]
    pub(super) fn holding(
        instances: usize,
        config: &config::Config,
        metrics: &Arc<Metrics>,
        compiler: Compiler,
        hub: &Arc<Hub>,
    ) -> Result<Arc<Self>, LoadError> {
        Self::with_room(Core::new()?, Room::new(instances), config, metrics, compiler, hub, None)
    }

    fn with_room(
        core: Arc<Core>,
        room: Arc<Room>,
        config: &config::Config,
        metrics: &Arc<Metrics>,
        compiler: Compiler,
        hub: &Arc<Hub>,
        recorder: Option<Arc<Recorder>>,
    ) -> Result<Arc<Self>, LoadError> {
        let ticker = Ticker::start(&core.wasm).map_err(|error| LoadError::Engine(error.into()))?;
        let custom = CustomMetrics::register(metrics.registry()).map_err(|error| LoadError::Engine(error.into()))?;
        let controls = Controls::new(metrics);
        let stores = Stores::new(config, metrics).map_err(|error| LoadError::Engine(error.into()))?;
        let http = Clients::new(config).map_err(LoadError::Tls)?;
        let (metrics, hub, faults) = (metrics.clone(), hub.clone(), FaultBook::default());
        Ok(Arc::new(Self {
            core,
            ticker,
            room,
            metrics,
            custom,
            compiler,
            controls,
            hub,
            stores,
            http,
            faults,
            recorder,
        }))
    }

    pub(super) fn compiler(&self) -> &Compiler {
        &self.compiler
    }

    /// How its memories are had.
    pub(super) fn memories(&self) -> Memories {
        self.core.memories
    }

    /// Machine code made by an engine with the same hash runs in this one.
    pub(super) fn compatibility(&self) -> &Digest256 {
        &self.core.compatibility
    }

    pub(super) fn wasm(&self) -> &wasmtime::Engine {
        &self.core.wasm
    }

    pub(super) fn linker(&self) -> &Linker<Host> {
        &self.core.linker
    }

    /// What these bytes were compiled to, or what this makes of them; it is told which files of the cache are in use.
    pub(super) fn compiled<E>(
        &self,
        digest: Digest256,
        compile: impl FnOnce(&[String]) -> Result<Code, E>,
    ) -> Result<Arc<Code>, E> {
        let mut compiled = self.core.compiled.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(code) = compiled.get(&digest).and_then(Weak::upgrade) {
            return Ok(code);
        }
        compiled.retain(|_, code| code.strong_count() > 0);
        let there = compiled.values().filter_map(Weak::upgrade);
        let in_use: Vec<_> = there.flat_map(|code| code.entries.clone()).collect();
        let code = Arc::new(compile(&in_use)?);
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
                Ok(engine) => return Self::with(engine, Memories::Pooled, pooled_instances),
                Err(error) => {
                    let error = format!("{error:#}");
                    tracing::debug!(error, pooled_instances, "too little address space to pool filter instances");
                    pooled_instances /= 2;
                }
            }
        }
        tracing::info!("too little address space to pool filter instances: they are made on demand");
        let wasm = compiling(Memories::OnDemand).map_err(|error| LoadError::Engine(error.into()))?;
        Self::with(wasm, Memories::OnDemand, room::instances_on_demand())
    }

    fn with(wasm: wasmtime::Engine, memories: Memories, instances: usize) -> Result<Self, LoadError> {
        let mut linker = Linker::new(&wasm);
        wasmtime_wasi::p2::add_to_linker_async(&mut linker)
            .and_then(|()| FilterHttp::add_to_linker::<Host, HostData>(&mut linker, |host| host))
            .map_err(|error| LoadError::Engine(error.into()))?;
        let compatibility = compatibility(&wasm);
        Ok(Self { wasm, memories, instances, compatibility, linker, compiled: Mutex::default() })
    }
}

/// How an engine has its memories. Machine code depends on it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Memories {
    /// Address space for all is reserved: bounds need no checks.
    Pooled,
    /// Each is had when it is needed: bounds are checked in code.
    OnDemand,
}

impl fmt::Display for Memories {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Pooled => "pooled",
            Self::OnDemand => "on-demand",
        })
    }
}

impl FromStr for Memories {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        [Self::Pooled, Self::OnDemand].into_iter().find(|it| it.to_string() == text).ok_or("pooled or on-demand")
    }
}

/// An engine that makes machine code for one with such memories. It reserves none of them itself.
pub(super) fn compiling(memories: Memories) -> wasmtime::Result<wasmtime::Engine> {
    wasmtime::Engine::new(&settings(memories))
}

/// A hash of everything that machine code depends on: wasmtime's version, its settings, the processor.
pub(super) fn compatibility(engine: &wasmtime::Engine) -> Digest256 {
    struct Hashed(Sha256);

    impl Hasher for Hashed {
        fn write(&mut self, bytes: &[u8]) {
            self.0.update(bytes);
        }

        fn finish(&self) -> u64 {
            0
        }
    }

    let mut hashed = Hashed(Sha256::new());
    engine.precompile_compatibility_hash().hash(&mut hashed);
    Digest256(hashed.0.finalize().into())
}

fn settings(memories: Memories) -> Config {
    let mut config = Config::new();
    // Without this each call costs 0.8 µs more; nothing in the contract is a stream or a future.
    config.concurrency_support(false);
    config.epoch_interruption(true);
    config.memory_init_cow(true);
    config.max_wasm_stack(limits::GUEST_STACK_BYTES);
    config.async_stack_size(limits::FIBER_STACK_BYTES);
    config.allocation_strategy(InstanceAllocationStrategy::OnDemand);
    match memories {
        Memories::Pooled => {}
        // No 4 GiB reserved for each memory; its bounds are then checked in code.
        Memories::OnDemand => {
            config.memory_reservation(0).memory_guard_size(64 << 10).memory_reservation_for_growth(1 << 20);
        }
    }
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
    let mut config = settings(Memories::Pooled);
    config.allocation_strategy(InstanceAllocationStrategy::Pooling(pool));
    config
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        config::Filter,
        filter::{
            compile,
            generation::{Generation, Role, Settings},
            instance::Instance,
            room::Purpose,
            test_support::guest,
        },
        state_dir::StateDir,
    };

    /// Loads a filter and tries it out, in an engine of this configuration.
    fn load(config: &Config, memories: Memories) -> Arc<Generation> {
        let metrics = Arc::new(Metrics::new().unwrap());
        let core = Core::with(wasmtime::Engine::new(config).unwrap(), memories, LEAST_POOLED).unwrap();
        let core = Arc::new(core);
        let engine = Arc::new(Engine {
            ticker: Ticker::start(&core.wasm).unwrap(),
            custom: CustomMetrics::register(metrics.registry()).unwrap(),
            controls: Controls::new(&metrics),
            hub: Hub::new(1 << 20, metrics.topics()),
            room: Room::new(LEAST_POOLED),
            faults: FaultBook::default(),
            core,
            metrics,
            compiler: Compiler::in_process(Arc::new(StateDir::new(None))),
            stores: Stores::default(),
            http: Clients::trusting(None),
            recorder: None,
        });
        let bytes = std::fs::read(guest("stamp")).unwrap();
        let settings = Settings::new(&Filter::with_defaults("stamp.wasm".into()), 1 << 20);
        let file = compile::Content::new("stamp.wasm".as_ref(), &bytes);
        compile::load(&engine, &"stamp".into(), Role::Main, &file, settings).unwrap()
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
        let (used, counted) = fill(&load(&pooled(LEAST_POOLED), Memories::Pooled));
        assert!(used <= counted);
    }

    #[test]
    fn filters_run_without_reserved_address_space() {
        let (used, counted) = fill(&load(&settings(Memories::OnDemand), Memories::OnDemand));
        assert!(used <= counted * 1.5);
    }

    #[test]
    fn an_engine_that_only_compiles_makes_code_for_the_one_that_runs() {
        let of = |config: &Config| compatibility(&wasmtime::Engine::new(config).unwrap()).hex();
        let compiles = |memories: Memories| compatibility(&compiling(memories).unwrap()).hex();
        assert_eq!(compiles(Memories::Pooled), of(&pooled(LEAST_POOLED)));
        assert_ne!(compiles(Memories::Pooled), compiles(Memories::OnDemand));
    }
}
