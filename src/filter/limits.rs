//! What a guest may use: memory, tables, handles, bytes that it hands to the host, and time.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use prometheus::IntGauge;
use rustix::time::{ClockId, clock_gettime};
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

    /// Of all memories.
    pub(super) fn used_bytes(&self) -> usize {
        self.used_bytes
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

/// Guest time of the call that an instance is making, by the processor clock of the thread: what other threads and
/// programs take away does not count. That clock is slow to read, so it is read first when a call runs into a tick;
/// the part of a millisecond before is given away.
///
/// Written where the call is polled and in the epoch callback, which has to be `Send`: hence atomics, although one thread
/// alone uses them.
pub(super) struct Meter {
    /// Nanoseconds of the thread's clock up to which the guest's time is counted.
    counted_to: AtomicU64,
    /// Nanoseconds that the call has used.
    used: AtomicU64,
    /// Nanoseconds that it may use.
    allowed: AtomicU64,
    /// Nanoseconds that it may still wait in host functions.
    wait_left: AtomicU64,
    /// The guest stopped because its slice was over, not to wait.
    yielded: AtomicBool,
}

/// The clock was not read yet in this call.
const UNREAD: u64 = u64::MAX;

impl Meter {
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self {
            counted_to: AtomicU64::new(UNREAD),
            used: AtomicU64::new(0),
            allowed: AtomicU64::new(0),
            wait_left: AtomicU64::new(0),
            yielded: AtomicBool::new(false),
        })
    }

    /// A call begins.
    pub(super) fn start(&self, budget: &Budget) {
        self.counted_to.store(UNREAD, Ordering::Relaxed);
        self.used.store(0, Ordering::Relaxed);
        self.allowed.store(nanos(budget.cpu), Ordering::Relaxed);
        self.wait_left.store(nanos(budget.wait), Ordering::Relaxed);
        self.yielded.store(false, Ordering::Relaxed);
    }

    /// The call goes on after it had yielded or waited.
    pub(super) fn resume(&self) {
        self.yielded.store(false, Ordering::Relaxed);
        self.counted_to.store(thread_time(), Ordering::Relaxed);
    }

    /// The guest stopped: true where it was because its slice was over.
    pub(super) fn pause(&self) -> bool {
        if self.yielded.load(Ordering::Relaxed) {
            return true;
        }
        if self.counted_to.load(Ordering::Relaxed) != UNREAD {
            self.count();
        }
        false
    }

    /// A slice of guest time is over.
    ///
    /// # Errors
    /// The budget is spent.
    pub(super) fn slice(&self) -> Result<(), Exhausted> {
        let (used, allowed) = (self.count(), self.allowed.load(Ordering::Relaxed));
        self.yielded.store(true, Ordering::Relaxed);
        if used >= allowed { Err(Exhausted::Cpu(Duration::from_nanos(allowed))) } else { Ok(()) }
    }

    /// The call has waited for so long.
    pub(super) fn waited(&self, time: Duration) {
        let left = self.wait_left.load(Ordering::Relaxed).saturating_sub(nanos(time));
        self.wait_left.store(left, Ordering::Relaxed);
    }

    /// How long the call may still wait.
    pub(super) fn wait_left(&self) -> Duration {
        Duration::from_nanos(self.wait_left.load(Ordering::Relaxed))
    }

    fn count(&self) -> u64 {
        let now = thread_time();
        let from = self.counted_to.swap(now, Ordering::Relaxed);
        let more = if from == UNREAD { 0 } else { now.saturating_sub(from) };
        self.used.fetch_add(more, Ordering::Relaxed) + more
    }
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

/// Nanoseconds of processor time of this thread.
fn thread_time() -> u64 {
    let now = clock_gettime(ClockId::ThreadCPUTime);
    u64::try_from(now.tv_sec).unwrap_or(0) * 1_000_000_000 + u64::try_from(now.tv_nsec).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limiter(memory_bytes: usize) -> (Limiter, IntGauge) {
        let gauge = IntGauge::new("memory", "memory").unwrap();
        let limits = Limits { memory_bytes, sessions: 1, fuel_bytes: 1, call: LOAD };
        (Limiter::new(&limits, gauge.clone()), gauge)
    }

    #[test]
    fn memories_are_limited_together() {
        let (mut limiter, gauge) = limiter(100);
        assert!(limiter.memory_growing(0, 60, None).unwrap());
        assert!(limiter.memory_growing(0, 40, None).unwrap());
        let error = limiter.memory_growing(60, 61, None).unwrap_err();
        assert_eq!(error.downcast_ref(), Some(&Exhausted::Memory { wanted: 101, limit: 100 }));
        assert_eq!(gauge.get(), 100);
        drop(limiter);
        assert_eq!(gauge.get(), 0);
    }

    #[test]
    fn a_growth_that_fails_is_not_counted() {
        let (mut limiter, gauge) = limiter(100);
        assert!(limiter.memory_growing(0, 60, None).unwrap());
        limiter.memory_grow_failed(wasmtime::Error::msg("no memory")).unwrap();
        assert_eq!(gauge.get(), 0);
        assert!(limiter.memory_growing(0, 100, None).unwrap());
    }

    #[test]
    fn what_the_guest_declared_as_its_maximum_is_no_fault() {
        let (mut limiter, _) = limiter(100);
        assert!(!limiter.memory_growing(0, 60, Some(50)).unwrap());
        assert!(!limiter.table_growing(0, 60, Some(50)).unwrap());
    }

    #[test]
    fn a_table_is_limited() {
        let (mut limiter, _) = limiter(100);
        assert!(limiter.table_growing(0, TABLE_ELEMENTS, None).unwrap());
        let error = limiter.table_growing(0, TABLE_ELEMENTS + 1, None).unwrap_err();
        assert_eq!(error.downcast_ref(), Some(&Exhausted::Table { wanted: TABLE_ELEMENTS + 1 }));
    }

    #[test]
    fn guest_time_is_that_of_the_thread() {
        let meter = Meter::new();
        meter.start(&Budget { cpu: Duration::from_millis(20), wait: Duration::ZERO });
        meter.slice().unwrap();
        std::thread::sleep(Duration::from_millis(40));
        meter.slice().unwrap();
        let begin = std::time::Instant::now();
        let spent = loop {
            match meter.slice() {
                Ok(()) => assert!(begin.elapsed() < Duration::from_secs(20)),
                Err(spent) => break spent,
            }
        };
        assert_eq!(spent, Exhausted::Cpu(Duration::from_millis(20)));
    }
}
