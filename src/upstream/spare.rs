//! Connections to one endpoint that are dialled ahead, TLS included, so that a handshake need not wait for them.
//!
//! All workers share them: a connection moves to the worker that takes it. A share for each worker would need as many
//! times more of them for the same luck, and the endpoint would hold them all. The gateway's own thread dials them and
//! looks after them, so that this work delays no session.

mod backoff;

use std::{
    collections::VecDeque,
    future::poll_fn,
    os::fd::AsFd,
    pin::Pin,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use prometheus::Histogram;
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    io::Errno,
};
use rustls::ClientConfig;
use tokio::{
    io::{AsyncRead, ReadBuf},
    runtime::Handle,
    sync::Notify,
    task::JoinSet,
    time::{Instant, sleep_until},
};

use self::backoff::Backoff;
use super::{
    connect::{Address, Place, connect},
    endpoint::AbortOnDrop,
    error::ConnectError,
};
use crate::{config, descriptors::is_reserved, telemetry::metrics::SpareMetrics, transport::Transport};

/// A spare connection is thrown away when it has been silent for this long. Servers hang up on who sends no request:
/// uWebSockets, Bun, Python's `websockets` and this gateway after 10 s, Apache after 20 s, nginx and Node after 60 s.
const MAX_AGE: Duration = Duration::from_secs(8);
/// Up to this much sooner, so that those which were dialled together do not end together.
const MAX_AGE_JITTER: Duration = Duration::from_secs(2);
/// An endpoint that closes a spare connection sooner than this does not want it: as if it had refused.
const UNWANTED: Duration = Duration::from_secs(1);
/// Dialled at once to one endpoint.
const MAX_DIALS: usize = 16;

/// The one way to an endpoint: over connections that are there already, or over new ones.
pub(super) struct Dialler {
    shared: Arc<Shared>,
    /// Dials ahead, once it is to.
    keeper: Mutex<Option<AbortOnDrop>>,
}

/// What those who take connections and the task that dials them have in common.
struct Shared {
    /// At least one; those after the first are tried where it takes no connection.
    addresses: Vec<Address>,
    connect_timeout: Duration,
    wanted: usize,
    /// The oldest first.
    idle: Mutex<VecDeque<Spare>>,
    /// Something was taken away.
    changed: Notify,
    /// Since the last look, a spare connection was used or reached its age: the endpoint takes them.
    proven: AtomicBool,
    metrics: SpareMetrics,
    connect_duration_seconds: Histogram,
}

struct Spare {
    transport: Transport,
    since: Instant,
    expires: Instant,
    /// What its TLS handshake began with.
    tls: Option<Arc<ClientConfig>>,
}

impl Dialler {
    /// Nothing is dialled yet. Nothing is ever dialled ahead to a Unix socket, which takes no time.
    pub(super) fn new(
        addresses: Vec<Address>,
        config: &config::Upstream,
        metrics: SpareMetrics,
        connect_duration_seconds: Histogram,
    ) -> Self {
        let is_unix = addresses.iter().any(|address| matches!(address.place, Place::Unix(_)));
        let shared = Arc::new(Shared {
            addresses,
            connect_timeout: config.connect_timeout,
            wanted: if is_unix { 0 } else { config.spare_connections },
            idle: Mutex::default(),
            changed: Notify::new(),
            proven: AtomicBool::new(false),
            metrics,
            connect_duration_seconds,
        });
        Self { shared, keeper: Mutex::default() }
    }

    /// Where it connects to, in this order.
    pub(super) fn places(&self) -> impl Iterator<Item = &Place> {
        self.shared.addresses.iter().map(|address| &address.place)
    }

    /// From now on connections are dialled ahead on this runtime, where any are wanted.
    pub(super) fn start(&self, runtime: &Handle) {
        let mut keeper = self.keeper.lock().unwrap_or_else(PoisonError::into_inner);
        if self.shared.wanted > 0 && keeper.is_none() {
            *keeper = Some(AbortOnDrop(runtime.spawn(keep(Arc::clone(&self.shared))).abort_handle()));
        }
    }

    /// From now on none are, and those that are there are closed.
    pub(super) fn stop(&self) {
        *self.keeper.lock().unwrap_or_else(PoisonError::into_inner) = None;
        self.shared.clear();
    }

    /// A connection that was dialled ahead, if there is one that lives. It may be dead before it is used: then see
    /// [`Dialler::lost`], and [`Dialler::connect_measured`] for another.
    pub(super) fn take(&self) -> Option<Transport> {
        self.shared.take()
    }

    /// One that was taken had been closed before the endpoint answered anything.
    pub(super) fn lost(&self) {
        self.shared.metrics.lost.inc();
    }

    /// A new connection.
    pub(super) async fn connect(&self, deadline: Instant) -> Result<Transport, ConnectError> {
        self.shared.connect(deadline).await
    }

    /// The same, for a client.
    pub(super) async fn connect_measured(&self, deadline: Instant) -> Result<Transport, ConnectError> {
        self.shared.connect_measured(deadline).await
    }
}

impl Shared {
    async fn connect(&self, deadline: Instant) -> Result<Transport, ConnectError> {
        let mut failed = ConnectError::NoAddress;
        for address in &self.addresses {
            match connect(address, self.connect_timeout, deadline).await {
                Ok(transport) => return Ok(transport),
                Err(error) => failed = error,
            }
        }
        Err(failed)
    }

    async fn connect_measured(&self, deadline: Instant) -> Result<Transport, ConnectError> {
        let start = Instant::now();
        let transport = self.connect(deadline).await?;
        self.connect_duration_seconds.observe(start.elapsed().as_secs_f64());
        Ok(transport)
    }

    /// What TLS handshakes with it begin with now.
    fn tls_now(&self) -> Option<Arc<ClientConfig>> {
        self.addresses.first().and_then(Address::tls_now)
    }

    fn clear(&self) {
        let left = std::mem::take(&mut *self.idle()).len();
        self.metrics.connections.sub(i64::try_from(left).unwrap_or(i64::MAX));
    }

    async fn dial_spare(self: Arc<Self>) -> Result<Spare, ConnectError> {
        // Before: what changes meanwhile is noticed when the connection is taken.
        let tls = self.tls_now();
        let transport = self.connect_measured(Instant::now() + self.connect_timeout).await?;
        let since = Instant::now();
        let expires = since + MAX_AGE - MAX_AGE_JITTER.mul_f64(rand::random());
        Ok(Spare { transport, since, expires, tls })
    }

    /// The oldest that is fit for use: the younger ones have more time left.
    fn take(&self) -> Option<Transport> {
        if self.wanted == 0 {
            return None;
        }
        let (now, tls) = (Instant::now(), self.tls_now());
        loop {
            let spare = self.idle().pop_front()?;
            let spares = &self.metrics;
            spares.connections.dec();
            self.changed.notify_one();
            if spare.expires <= now || !same(spare.tls.as_ref(), tls.as_ref()) {
                spares.expired.inc();
            } else if !is_silent(&spare.transport) {
                spares.closed.inc();
            } else if let Ok(transport) = spare.transport.moved_here().and_then(outside_reserve) {
                spares.used.inc();
                self.proven.store(true, Ordering::Relaxed);
                return Some(transport);
            }
        }
    }

    fn put(&self, spare: Spare) {
        self.idle().push_back(spare);
        self.metrics.connections.inc();
    }

    /// Throws away what is too old.
    fn expire(&self, now: Instant) {
        self.idle().retain(|spare| {
            let keep = spare.expires > now;
            if !keep {
                self.metrics.connections.dec();
                self.metrics.expired.inc();
                self.proven.store(true, Ordering::Relaxed);
            }
            keep
        });
    }

    fn next_expiry(&self) -> Option<Instant> {
        self.idle().iter().map(|spare| spare.expires).min()
    }

    /// Throws away those that the endpoint closed, or on which it speaks unasked. Ready once there was one; whether one
    /// was closed so soon that the endpoint seems not to want any.
    fn poll_closed(&self, context: &mut Context<'_>) -> Poll<bool> {
        let (mut any, mut unwanted) = (false, false);
        self.idle().retain_mut(|spare| {
            let mut byte = [0];
            // Below TLS there may be something to read at any time: session tickets come after the handshake.
            let heard = Pin::new(&mut spare.transport).poll_read(context, &mut ReadBuf::new(&mut byte));
            if heard.is_ready() {
                self.metrics.connections.dec();
                self.metrics.closed.inc();
                any = true;
                unwanted |= spare.since.elapsed() < UNWANTED;
            }
            heard.is_pending()
        });
        if any { Poll::Ready(unwanted) } else { Poll::Pending }
    }

    fn idle(&self) -> MutexGuard<'_, VecDeque<Spare>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        self.clear();
    }
}

/// Dials what is missing, and throws away what is dead, for as long as it is polled.
async fn keep(shared: Arc<Shared>) {
    let mut dials = JoinSet::new();
    let mut backoff = Backoff::default();
    loop {
        let now = Instant::now();
        shared.expire(now);
        if shared.proven.swap(false, Ordering::Relaxed) {
            backoff.reset();
        }
        let pause = backoff.pause(now);
        while pause.is_none() && dials.len() < MAX_DIALS && shared.idle().len() + dials.len() < shared.wanted {
            dials.spawn(Arc::clone(&shared).dial_spare());
        }
        tokio::select! {
            Some(dialled) = dials.join_next() => match dialled {
                Ok(Ok(spare)) => shared.put(spare),
                Ok(Err(error)) => {
                    let error = &error as &dyn std::error::Error;
                    tracing::debug!(error, "no spare connection");
                    backoff.failed(Instant::now());
                }
                Err(error) => {
                    tracing::error!(%error, "dialling ahead");
                    backoff.failed(Instant::now());
                }
            },
            unwanted = poll_fn(|context| shared.poll_closed(context)) => if unwanted { backoff.failed(Instant::now()) },
            () = shared.changed.notified() => {}
            () = sleep_until(shared.next_expiry().unwrap_or(now + MAX_AGE)) => {}
            () = sleep_until(pause.unwrap_or(now)), if pause.is_some() => {}
        }
    }
}

/// Is there nothing to read, not even the end?
fn is_silent(transport: &Transport) -> bool {
    let mut socket = [PollFd::new(transport, PollFlags::IN | PollFlags::RDHUP)];
    poll(&mut socket, Some(&Timespec { tv_sec: 0, tv_nsec: 0 })) == Ok(0)
}

fn outside_reserve(transport: Transport) -> std::io::Result<Transport> {
    if is_reserved(&transport.as_fd()) { Err(Errno::MFILE.into()) } else { Ok(transport) }
}

fn same(one: Option<&Arc<ClientConfig>>, other: Option<&Arc<ClientConfig>>) -> bool {
    match (one, other) {
        (None, None) => true,
        (Some(one), Some(other)) => Arc::ptr_eq(one, other),
        (Some(_), None) | (None, Some(_)) => false,
    }
}
