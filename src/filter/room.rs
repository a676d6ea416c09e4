//! How many instances the process can hold, over all workers and filters.
//!
//! What runs out first are memory maps: the kernel gives a process `vm.max_map_count` of them, and who asks for one more
//! gets no memory, whoever it is. So each instance takes its maps from this room before it is made, and sockets, queues
//! and threads never miss them.

use std::{fs, sync::Arc, time::Duration};

use rustix::process::{Resource, getrlimit};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, TryAcquireError},
    time::timeout,
};
use wasmtime::component::Component;

/// Linux's default of `vm.max_map_count`, where it cannot be read.
const DEFAULT_MAPS: usize = 65_530;
/// Left to everything that is not an instance: threads, large blocks of the allocator, compiled code. A quarter of all
/// where that is less.
const OTHER_MAPS: usize = 8_192;
/// A memory in its slot: its image, the pages before and after that, and those that are not accessible.
pub(super) const MAPS_PER_MEMORY: usize = 4;
/// The stack that an instance keeps for its calls, and the guard page below.
const MAPS_PER_STACK: usize = 2;
/// Of an instance with one memory, as nearly all have.
pub(super) const MAPS_PER_INSTANCE: usize = MAPS_PER_STACK + MAPS_PER_MEMORY;
/// Tables that the pool holds for each instance; who has more pays for a further instance.
pub(super) const TABLES_PER_INSTANCE: usize = 4;
/// Instances at the very most: the pool reserves 6 GiB for each of the 128 TiB of addresses that a process has.
const MOST_INSTANCES: usize = 12_000;
/// Address space of an instance that is made on demand: its stack, and a memory of one or two megabytes.
const ON_DEMAND_BYTES: usize = 4 << 20;
/// One part in so many of the room is not for new sessions: while a reload migrates, sessions have two instances for a
/// moment, and one that lost its instance needs another.
const RESERVE_PART: usize = 8;
/// One part in so many is not for shadows.
const SHADOW_PART: usize = 2;
/// How long a session that is open already waits for room.
const LONGEST_WAIT: Duration = Duration::from_secs(10);

/// The maps that instances may take.
pub(super) struct Room {
    free: Arc<Semaphore>,
    all_maps: usize,
    reserve_maps: usize,
    longest_wait: Duration,
}

/// The maps of one instance, given back when dropped.
pub(super) struct Ticket {
    permit: OwnedSemaphorePermit,
}

/// For whom an instance is made.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Purpose {
    /// A new session, which may be turned away.
    Open,
    /// Sessions that are open already, or an instance that many are to share.
    Keep,
    /// A session of a shadow, which nobody may be turned away for.
    Shadow,
}

/// There is no room.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("the process holds no more filter instances (vm.max_map_count)")]
pub(super) struct NoRoom;

impl Room {
    pub(super) fn new(instances: usize) -> Arc<Self> {
        Self::with(instances, LONGEST_WAIT)
    }

    fn with(instances: usize, longest_wait: Duration) -> Arc<Self> {
        let all_maps = instances * MAPS_PER_INSTANCE;
        Arc::new(Self {
            free: Arc::new(Semaphore::new(all_maps.min(Semaphore::MAX_PERMITS))),
            all_maps,
            reserve_maps: all_maps / RESERVE_PART,
            longest_wait,
        })
    }

    /// Sessions at once of a chain whose instances of its own take so many maps.
    pub(super) fn sessions(&self, maps: usize) -> usize {
        (self.all_maps - self.reserve_maps) / maps.max(1)
    }

    /// Room for an instance, without waiting.
    ///
    /// # Errors
    /// There is none; for a new session that is so while only the reserve is left, for a shadow while only half is.
    pub(super) fn try_take(&self, maps: usize, purpose: Purpose) -> Result<Ticket, NoRoom> {
        let kept = match purpose {
            Purpose::Open => self.reserve_maps,
            Purpose::Keep => 0,
            Purpose::Shadow => self.all_maps / SHADOW_PART,
        };
        // Several workers at once may go a little into the reserve, which is no harm.
        if self.free.available_permits() < maps.saturating_add(kept) {
            return Err(NoRoom);
        }
        match self.free.clone().try_acquire_many_owned(number(maps)) {
            Ok(permit) => Ok(Ticket { permit }),
            Err(TryAcquireError::NoPermits | TryAcquireError::Closed) => Err(NoRoom),
        }
    }

    /// Room for sessions that are open already: waits, in order, until others have given enough back. Who needs several
    /// instances asks for all at once: two that each hold a part of what the other waits for would wait for ever.
    ///
    /// # Errors
    /// There was none for too long.
    pub(super) async fn take(&self, maps: usize) -> Result<Ticket, NoRoom> {
        if maps > self.all_maps {
            return Err(NoRoom);
        }
        match timeout(self.longest_wait, self.free.clone().acquire_many_owned(number(maps))).await {
            Ok(Ok(permit)) => Ok(Ticket { permit }),
            Ok(Err(_)) | Err(_) => Err(NoRoom),
        }
    }
}

impl Ticket {
    /// Takes the maps of one instance out of what was taken for several.
    pub(super) fn split(&mut self, maps: usize) -> Option<Self> {
        self.permit.split(maps).map(|permit| Self { permit })
    }
}

/// The maps that an instance of this component takes.
pub(super) fn maps_of(component: &Component) -> usize {
    // A component that imports modules is refused before it comes here.
    let Some(required) = component.resources_required() else { return MAPS_PER_INSTANCE };
    let memories = usize::try_from(required.num_memories).unwrap_or(usize::MAX).max(1);
    let tables = usize::try_from(required.num_tables).unwrap_or(usize::MAX);
    let for_memories = MAPS_PER_STACK.saturating_add(memories.saturating_mul(MAPS_PER_MEMORY));
    for_memories.max(tables.div_ceil(TABLES_PER_INSTANCE).saturating_mul(MAPS_PER_INSTANCE))
}

/// How many instances of one memory there is room for, now that only what every process has is mapped.
pub(super) fn instances() -> usize {
    let limit = max_map_count();
    let others = OTHER_MAPS.min(limit / 4);
    let free = limit.saturating_sub(maps_in_use()).saturating_sub(others);
    (free / MAPS_PER_INSTANCE).clamp(1, MOST_INSTANCES)
}

/// The same where instances are made on demand because the process may have little address space: half of that is theirs.
/// Each then has mappings of its own, which do not merge with others: half as many maps again as are counted for it.
pub(super) fn instances_on_demand() -> usize {
    let bytes =
        getrlimit(Resource::As).current.map_or(usize::MAX, |bytes| usize::try_from(bytes).unwrap_or(usize::MAX));
    (instances() * 2 / 3).min(bytes / 2 / ON_DEMAND_BYTES).max(1)
}

/// `vm.max_map_count`
pub(super) fn max_map_count() -> usize {
    let text = fs::read_to_string("/proc/sys/vm/max_map_count").unwrap_or_default();
    text.trim().parse().unwrap_or(DEFAULT_MAPS)
}

/// Maps of this process; 0 where the system does not say.
pub(super) fn maps_in_use() -> usize {
    fs::read("/proc/self/maps").map_or(0, |maps| maps.iter().filter(|byte| **byte == b'\n').count())
}

fn number(maps: usize) -> u32 {
    u32::try_from(maps).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn block_on<T>(future: impl Future<Output = T>) -> T {
        tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(future)
    }

    #[test]
    fn new_sessions_leave_the_reserve_to_those_that_are_open() {
        let room = Room::new(16);
        assert_eq!(room.sessions(MAPS_PER_INSTANCE), 14);
        let open: Vec<_> = (0..14).map(|_| room.try_take(MAPS_PER_INSTANCE, Purpose::Open).unwrap()).collect();
        assert!(room.try_take(MAPS_PER_INSTANCE, Purpose::Open).is_err());
        let kept: Vec<_> = (0..2).map(|_| room.try_take(MAPS_PER_INSTANCE, Purpose::Keep).unwrap()).collect();
        assert!(room.try_take(MAPS_PER_INSTANCE, Purpose::Keep).is_err());
        drop((open, kept));
        assert!(room.try_take(MAPS_PER_INSTANCE, Purpose::Open).is_ok());
    }

    #[test]
    fn a_shadow_leaves_half_of_the_room() {
        let room = Room::new(16);
        let shadows: Vec<_> = (0..8).map(|_| room.try_take(MAPS_PER_INSTANCE, Purpose::Shadow).unwrap()).collect();
        assert!(room.try_take(MAPS_PER_INSTANCE, Purpose::Shadow).is_err());
        assert!(room.try_take(MAPS_PER_INSTANCE, Purpose::Open).is_ok());
        drop(shadows);
    }

    #[test]
    fn who_waits_gets_what_others_give_back_and_not_for_ever() {
        block_on(async {
            let room = Room::with(2, Duration::from_millis(200));
            let (first, second) = (room.take(6).await.unwrap(), room.take(6).await.unwrap());
            let both = room.take(12);
            tokio::pin!(both);
            assert!(timeout(Duration::from_millis(2), &mut both).await.is_err());
            drop(first);
            assert!(timeout(Duration::from_millis(2), &mut both).await.is_err());
            drop(second);
            let mut both = both.await.unwrap();
            assert!(room.take(1).await.is_err(), "after the longest wait");
            drop(both.split(6).unwrap());
            assert!(room.take(6).await.is_ok());
            assert!(both.split(7).is_none());
            assert!(room.take(13).await.is_err(), "more than there is");
        });
    }
}
