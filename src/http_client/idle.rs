//! Connections that wait for their next request: few, and not for long.

use std::{
    collections::HashMap,
    hash::Hash,
    sync::{Arc, PoisonError, Weak},
    time::Duration,
};

use bytes::Bytes;
use http_body_util::Full;
use hyper::client::conn::http1::SendRequest;
use tokio::time::Instant;

use super::{Client, request::Origin};

/// To one server.
const IDLE_OF_ONE: usize = 16;
/// To all servers.
const IDLE: usize = 128;
/// Less than the five seconds after which many servers close, so that requests seldom meet a close under way.
const IDLE_TIME: Duration = Duration::from_secs(4);
/// Those that waited for too long are removed this often.
pub const SWEEP_IDLE: Duration = Duration::from_secs(1);

pub(super) type Sender = SendRequest<Full<Bytes>>;

/// A connection that another request can be sent on.
pub trait Reusable {
    /// Has the server closed it?
    fn is_closed(&self) -> bool;
}

impl<B> Reusable for SendRequest<B> {
    fn is_closed(&self) -> bool {
        SendRequest::is_closed(self)
    }
}

/// The idle connections of one runtime, by the server that they lead to.
pub struct Idle<K, C> {
    by_server: HashMap<K, Vec<(C, Instant)>>,
    count: usize,
    /// A task removes those that waited for too long.
    swept: bool,
}

impl<K, C> Default for Idle<K, C> {
    fn default() -> Self {
        Self { by_server: HashMap::new(), count: 0, swept: false }
    }
}

impl<K: Eq + Hash, C: Reusable> Idle<K, C> {
    /// One to this server.
    pub fn take(&mut self, server: &K) -> Option<C> {
        let waiting = self.by_server.get_mut(server)?;
        // The one that was used last is the least likely to be closed.
        while let Some((connection, since)) = waiting.pop() {
            self.count -= 1;
            if !connection.is_closed() && since.elapsed() < IDLE_TIME {
                return Some(connection);
            }
        }
        self.by_server.remove(server);
        None
    }

    /// Keeps one, if there is room. True: nobody calls [`Idle::sweep`] yet.
    #[must_use]
    pub fn put(&mut self, server: K, connection: C) -> bool {
        if connection.is_closed() {
            return false;
        }
        let waiting = self.by_server.entry(server).or_default();
        if self.count < IDLE && waiting.len() < IDLE_OF_ONE {
            waiting.push((connection, Instant::now()));
            self.count += 1;
        }
        !std::mem::replace(&mut self.swept, true)
    }

    /// Removes those that waited for too long, each [`SWEEP_IDLE`]. False: there is none left, and nobody has to call
    /// it any more.
    pub fn sweep(&mut self) -> bool {
        self.by_server.retain(|_, waiting| {
            waiting.retain(|(connection, since)| !connection.is_closed() && since.elapsed() < IDLE_TIME);
            !waiting.is_empty()
        });
        self.count = self.by_server.values().map(Vec::len).sum();
        self.swept = self.count > 0;
        self.swept
    }
}

impl Client {
    /// A connection to this origin, if one is idle.
    pub(super) fn take_idle(&self, origin: &Origin) -> Option<Sender> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).take(origin)
    }

    /// Keeps a connection whose response was read to its end.
    pub(super) fn put_idle(self: &Arc<Self>, origin: &Origin, sender: Sender) {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        if idle.put(origin.clone(), sender) {
            tokio::spawn(sweep(Arc::downgrade(self)));
        }
    }

    #[cfg(test)]
    pub(super) fn idle_count(&self) -> usize {
        self.idle.lock().unwrap().count
    }
}

/// Runs while there are idle connections.
async fn sweep(client: Weak<Client>) {
    loop {
        tokio::time::sleep(SWEEP_IDLE).await;
        let Some(client) = client.upgrade() else { return };
        if !client.idle.lock().unwrap_or_else(PoisonError::into_inner).sweep() {
            return;
        }
    }
}
