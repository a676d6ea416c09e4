//! Open connections, counted.

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
};

use super::{
    Limit, RouteLimiter,
    key::{self, Key},
};
use crate::{config::ConnectionLimits, identity::Identity};

/// Parts of a map, each with a lock of its own.
const PARTS: usize = 16;

/// What is open, and how much may be. Keys are there for as long as something of theirs is open.
pub(super) struct Counter {
    open: AtomicUsize,
    most: Option<usize>,
    addresses: Option<Keyed>,
    users: Option<Keyed>,
}

struct Keyed {
    most: usize,
    parts: [Mutex<HashMap<Key, usize>>; PARTS],
}

/// What a connection counts as.
#[derive(Clone, Copy)]
pub(super) enum Counted {
    Connection,
    Address(Key),
    User(Key),
}

impl Counter {
    pub(super) fn new(limits: &ConnectionLimits) -> Self {
        let keyed = |most: Option<usize>| most.map(|most| Keyed { most, parts: Default::default() });
        Self {
            open: AtomicUsize::new(0),
            most: limits.connections,
            addresses: keyed(limits.connections_per_ip),
            users: keyed(limits.connections_per_user),
        }
    }

    /// Takes a place for a connection that is open already, also beyond the limit. Answers as [`Counter::take`].
    fn take_anyway(&self, counted: Counted) -> bool {
        let keyed = match counted {
            Counted::Connection => {
                if self.most.is_some() {
                    self.open.fetch_add(1, Ordering::Relaxed);
                }
                return self.most.is_some();
            }
            Counted::Address(_) => &self.addresses,
            Counted::User(_) => &self.users,
        };
        let (Some(keyed), Counted::Address(key) | Counted::User(key)) = (keyed, counted) else { return false };
        *keyed.part(&key).lock().unwrap_or_else(PoisonError::into_inner).entry(key).or_default() += 1;
        true
    }

    /// True where a place was taken; false where none is needed.
    fn take(&self, counted: Counted) -> Result<bool, Limit> {
        let (keyed, key, limit) = match counted {
            Counted::Connection => {
                let Some(most) = self.most else { return Ok(false) };
                let more = |open: usize| (open < most).then_some(open + 1);
                let taken = self.open.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more);
                return taken.map(|_| true).map_err(|_| Limit::Connections);
            }
            Counted::Address(key) => (&self.addresses, key, Limit::ConnectionsPerIp),
            Counted::User(key) => (&self.users, key, Limit::ConnectionsPerUser),
        };
        match keyed {
            None => Ok(false),
            Some(keyed) if keyed.take(key) => Ok(true),
            Some(_) => Err(limit),
        }
    }

    fn give_back(&self, counted: Counted) {
        match counted {
            Counted::Connection => {
                self.open.fetch_sub(1, Ordering::Relaxed);
            }
            Counted::Address(key) => self.addresses.iter().for_each(|keyed| keyed.give_back(key)),
            Counted::User(key) => self.users.iter().for_each(|keyed| keyed.give_back(key)),
        }
    }
}

impl Keyed {
    /// An address ends in zeros, a digest does not: both have something in these bytes.
    fn part(&self, key: &Key) -> &Mutex<HashMap<Key, usize>> {
        let mixed = key.iter().fold(0u8, |mixed, byte| mixed.rotate_left(3) ^ byte);
        &self.parts[usize::from(mixed) % PARTS]
    }

    fn take(&self, key: Key) -> bool {
        let mut part = self.part(&key).lock().unwrap_or_else(PoisonError::into_inner);
        let open = part.entry(key).or_default();
        if *open >= self.most {
            return false;
        }
        *open += 1;
        true
    }

    fn give_back(&self, key: Key) {
        let mut part = self.part(&key).lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(open) = part.get_mut(&key) {
            *open -= 1;
            if *open == 0 {
                part.remove(&key);
                // What a crowd needed is given back when it has gone.
                if part.capacity() > 1024 && part.len() < part.capacity() / 8 {
                    let room = part.len() * 2;
                    part.shrink_to(room);
                }
            }
        }
    }

    #[cfg(test)]
    fn len(&self) -> usize {
        self.parts.iter().map(|part| part.lock().unwrap_or_else(PoisonError::into_inner).len()).sum()
    }
}

/// The places of one connection, given back when this is dropped.
#[derive(Default)]
pub struct Places(Vec<(Arc<RouteLimiter>, Counted)>);

impl Places {
    pub(super) fn take(&mut self, limiter: &Arc<RouteLimiter>, counted: Counted) -> Result<(), Limit> {
        if limiter.connections.take(counted)? {
            self.0.push((Arc::clone(limiter), counted));
        }
        Ok(())
    }

    /// Counts the connection against the limits of another configuration, from which it is not refused any more.
    pub fn move_to(
        &mut self,
        route: &Arc<RouteLimiter>,
        all: &Arc<RouteLimiter>,
        client: IpAddr,
        user: Option<&Identity>,
    ) {
        let mut moved = Self::default();
        let address = Counted::Address(key::address(client));
        let user = user.map(|user| Counted::User(key::user(user, client)));
        let of_route = [Some(address), Some(Counted::Connection), user].map(|counted| (route, counted));
        let of_all = [Some(address), Some(Counted::Connection)].map(|counted| (all, counted));
        for (limiter, counted) in of_route.into_iter().chain(of_all) {
            if let Some(counted) = counted.filter(|counted| limiter.connections.take_anyway(*counted)) {
                moved.0.push((Arc::clone(limiter), counted));
            }
        }
        *self = moved;
    }
}

impl Drop for Places {
    fn drop(&mut self) {
        for (limiter, counted) in &self.0 {
            limiter.connections.give_back(*counted);
        }
    }
}

#[cfg(test)]
impl RouteLimiter {
    pub(super) fn open(&self) -> (usize, usize) {
        (self.connections.open.load(Ordering::Relaxed), self.connections.addresses.as_ref().map_or(0, Keyed::len))
    }
}
