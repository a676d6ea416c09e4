//! What a guest may use: memory, tables, handles, bytes that it hands to the host, and time.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use prometheus::IntGauge;
use wasmtime::ResourceLimiter;

/// Stack of the guest's own frames.
pub(super) const GUEST_STACK_BYTES: usize = 512 << 10;
/// Stack that a call runs on: the guest's and that of the host functions it calls.
pub(super) const FIBER_STACK_BYTES: usize = 1 << 20;
/// Core instances of a component (a Python guest has some twenty).
pub(super) const CORE_INSTANCES: u32 = 64;
/// Linear memories of a component.
pub(super) const MEMORIES: u32 = 8;
/// Tables of a component.
pub(super) const TABLES: u32 = 32;
/// Elements of one table (CPython's function table has some ten thousand).
pub(super) const TABLE_ELEMENTS: usize = 64 << 10;
/// WASI resources (streams, pollables) that a guest holds at once.
pub(super) const WASI_RESOURCES: usize = 64;
/// Handles beyond one a session: those of a call that is being made, and WASI's.
pub(super) const SPARE_HANDLES: usize = 64 + WASI_RESOURCES;
/// Bytes that one call to `wasi:random` may ask for.
pub(super) const RANDOM_BYTES: u64 = 64 << 10;
/// Instantiation and `init`.
pub(super) const LOAD: Budget = Budget { cpu: Duration::from_secs(5), wait: Duration::from_secs(5) };

/// The limits of one generation's instances.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub(super) struct Limits {
    /// All linear memories of an instance together.
    pub(super) memory_bytes: usize,
    /// Sessions of one instance.
    pub(super) sessions: usize,
    /// Bytes that one host call, or the result of one call, may carry out of the guest.
    pub(super) fuel_bytes: usize,
    /// Time of one call.
    pub(super) call: Budget,
}

impl Limits {
    /// Host-call fuel: room for what a call may emit.
    pub(super) fn fuel_for(largest_payload_bytes: usize) -> usize {
        largest_payload_bytes.saturating_mul(2).saturating_add(64 << 10)
    }
}

/// Time that a call may take.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub(super) struct Budget {
    /// Guest code, and host functions that do not wait.
    pub(super) cpu: Duration,
    /// Waiting in host functions.
    pub(super) wait: Duration,
}

/// A limit that a guest ran into; the reason why its instance was ended.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub(super) enum Exhausted {
    /// Guest time.
    #[error("the call used more than {} ms of guest time (cpu_timeout)", .0.as_millis())]
    Cpu(Duration),
    /// Waiting.
    #[error("the call waited for more than {} ms in host functions (wait_timeout)", .0.as_millis())]
    Wait(Duration),
    /// Linear memory.
    #[error("{wanted} bytes of memory wanted, {limit} allowed (memory_limit)")]
    Memory {
        /// What the guest would have had.
        wanted: usize,
        /// The setting.
        limit: usize,
    },
    /// A table.
    #[error("a table of {wanted} elements wanted, {TABLE_ELEMENTS} allowed")]
    Table {
        /// What the guest would have had.
        wanted: usize,
    },
}

/// Bounds memories and tables of one Store and counts its memory.
pub(super) struct Limiter {
    limit_bytes: usize,
    used_bytes: usize,
    growing_bytes: usize,
    gauge: IntGauge,
}

impl Limiter {
    pub(super) fn new(limits: &Limits, gauge: IntGauge) -> Self {
        Self { limit_bytes: limits.memory_bytes, used_bytes: 0, growing_bytes: 0, gauge }
    }
}

impl ResourceLimiter for Limiter {
    fn memory_growing(&mut self, current: usize, desired: usize, maximum: Option<usize>) -> wasmtime::Result<bool> {
        let growing = desired.saturating_sub(current);
        let wanted = self.used_bytes.saturating_add(growing);
        if wanted > self.limit_bytes {
            // Most guests abort when told that there is no memory; ended here, the cause is on record.
            return Err(Exhausted::Memory { wanted, limit: self.limit_bytes }.into());
        }
        if maximum.is_some_and(|maximum| desired > maximum) {
            return Ok(false);
        }
        self.used_bytes = wanted;
        self.growing_bytes = growing;
        self.gauge.add(growing as i64);
        Ok(true)
    }

    fn memory_grow_failed(&mut self, _error: wasmtime::Error) -> wasmtime::Result<()> {
        self.used_bytes -= self.growing_bytes;
        self.gauge.sub(self.growing_bytes as i64);
        self.growing_bytes = 0;
        Ok(())
    }

    fn table_growing(&mut self, _current: usize, desired: usize, maximum: Option<usize>) -> wasmtime::Result<bool> {
        if desired > TABLE_ELEMENTS {
            return Err(Exhausted::Table { wanted: desired }.into());
        }
        Ok(maximum.is_none_or(|maximum| desired <= maximum))
    }

    fn instances(&self) -> usize {
        CORE_INSTANCES as usize
    }

    fn tables(&self) -> usize {
        TABLES as usize
    }

    fn memories(&self) -> usize {
        MEMORIES as usize
    }
}

impl Drop for Limiter {
    fn drop(&mut self) {
        self.gauge.sub(self.used_bytes as i64);
    }
}

/// Guest time of the call that an instance is making. Written where the call is polled and in the epoch callback, which
/// has to be `Send`: hence atomics, although one thread alone uses them.
pub(super) struct Meter {
    base: Instant,
    /// Nanoseconds after `base` at which the guest was last resumed.
    resumed_at: AtomicU64,
    /// CPU time of the thread at that moment; zero in the first slice of a call, where nobody has asked for it.
    thread_at: AtomicU64,
    /// Nanoseconds of guest time up to then.
    used: AtomicU64,
    /// The guest stopped because its slice was over, not to wait.
    yielded: AtomicBool,
    cpu: AtomicU64,
}

impl Meter {
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self {
            base: Instant::now(),
            resumed_at: AtomicU64::new(0),
            thread_at: AtomicU64::new(0),
            used: AtomicU64::new(0),
            yielded: AtomicBool::new(false),
            cpu: AtomicU64::new(0),
        })
    }

    /// A call begins.
    pub(super) fn start(&self, budget: &Budget, now: Instant) {
        self.used.store(0, Ordering::Relaxed);
        self.cpu.store(nanos(budget.cpu), Ordering::Relaxed);
        self.thread_at.store(0, Ordering::Relaxed);
        self.run_from(now);
    }

    /// The guest goes on from now.
    pub(super) fn resume(&self, now: Instant) {
        self.thread_at.store(thread_nanos(), Ordering::Relaxed);
        self.run_from(now);
    }

    fn run_from(&self, now: Instant) {
        self.yielded.store(false, Ordering::Relaxed);
        self.resumed_at.store(nanos(now.saturating_duration_since(self.base)), Ordering::Relaxed);
    }

    /// The guest stopped: true where it was because its slice was over.
    pub(super) fn pause(&self, now: Instant) -> bool {
        if self.yielded.load(Ordering::Relaxed) {
            return true;
        }
        self.charge(now);
        false
    }

    /// A slice of guest time is over.
    ///
    /// # Errors
    /// The budget is spent.
    pub(super) fn slice(&self, now: Instant) -> Result<(), Exhausted> {
        let (used, allowed) = (self.charge(now), self.cpu.load(Ordering::Relaxed));
        self.yielded.store(true, Ordering::Relaxed);
        if used >= allowed { Err(Exhausted::Cpu(Duration::from_nanos(allowed))) } else { Ok(()) }
    }

    /// A guest is not to blame for a thread that the kernel runs late, so what counts is the thread's CPU time. Asking for
    /// it costs as much as a short call; most calls never do, and a first slice counts by the clock, up to its length.
    fn charge(&self, now: Instant) -> u64 {
        let now = nanos(now.saturating_duration_since(self.base));
        let elapsed = now.saturating_sub(self.resumed_at.swap(now, Ordering::Relaxed));
        let thread_now = thread_nanos();
        let slice = match self.thread_at.swap(thread_now, Ordering::Relaxed) {
            0 => elapsed.min(FIRST_SLICE_MAX_NANOS),
            thread_at => elapsed.min(thread_now.saturating_sub(thread_at)),
        };
        self.used.fetch_add(slice, Ordering::Relaxed) + slice
    }
}

/// Two ticks: a guest that runs looks at the epoch within one.
const FIRST_SLICE_MAX_NANOS: u64 = 2_000_000;

/// CPU time of this thread since it began.
fn thread_nanos() -> u64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    seconds.saturating_mul(1_000_000_000).saturating_add(u64::try_from(time.tv_nsec).unwrap_or(0)).max(1)
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}
