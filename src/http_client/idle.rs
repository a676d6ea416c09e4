//! Connections that wait for their next request: few, and not for long.

use std::{
    collections::HashMap,
    sync::{Arc, PoisonError, Weak},
    time::Duration,
};

use bytes::Bytes;
use http_body_util::Full;
use hyper::client::conn::http1::SendRequest;
use tokio::time::Instant;

use super::{Client, request::Origin};

/// Of one origin.
const IDLE_OF_AN_ORIGIN: usize = 16;
/// Of all origins.
const IDLE: usize = 128;
/// Less than the five seconds after which many servers close, so that requests seldom meet a close under way.
const IDLE_TIME: Duration = Duration::from_secs(4);

pub(super) type Sender = SendRequest<Full<Bytes>>;

/// The idle connections of one runtime.
#[derive(Default)]
pub(super) struct Idle {
    by_origin: HashMap<Origin, Vec<(Sender, Instant)>>,
    count: usize,
    /// A task removes those that waited for too long.
    swept: bool,
}

impl Idle {
    fn take(&mut self, origin: &Origin) -> Option<Sender> {
        let senders = self.by_origin.get_mut(origin)?;
        // The one that was used last is the least likely to be closed.
        while let Some((sender, since)) = senders.pop() {
            self.count -= 1;
            if !sender.is_closed() && since.elapsed() < IDLE_TIME {
                return Some(sender);
            }
        }
        self.by_origin.remove(origin);
        None
    }

    fn put(&mut self, origin: &Origin, sender: Sender) {
        let senders = self.by_origin.entry(origin.clone()).or_default();
        if self.count < IDLE && senders.len() < IDLE_OF_AN_ORIGIN {
            senders.push((sender, Instant::now()));
            self.count += 1;
        }
    }

    fn sweep(&mut self) {
        self.by_origin.retain(|_, senders| {
            senders.retain(|(sender, since)| !sender.is_closed() && since.elapsed() < IDLE_TIME);
            !senders.is_empty()
        });
        self.count = self.by_origin.values().map(Vec::len).sum();
    }
}

impl Client {
    /// A connection to this origin, if one is idle.
    pub(super) fn take_idle(&self, origin: &Origin) -> Option<Sender> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).take(origin)
    }

    /// Keeps a connection whose response was read to its end.
    pub(super) fn put_idle(self: &Arc<Self>, origin: &Origin, sender: Sender) {
        if sender.is_closed() {
            return;
        }
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        idle.put(origin, sender);
        if !std::mem::replace(&mut idle.swept, true) {
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
        tokio::time::sleep(IDLE_TIME / 4).await;
        let Some(client) = client.upgrade() else { return };
        let mut idle = client.idle.lock().unwrap_or_else(PoisonError::into_inner);
        idle.sweep();
        if idle.count == 0 {
            idle.swept = false;
            return;
        }
    }
}
