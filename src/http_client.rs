//! HTTP requests of the gateway itself: what filters ask for, bounded in size, number and time. Redirects are not
//! followed: a filter is allowed origins, and where a response points to is for the filter to decide.
//!
//! In reading order: what is sent and what comes back; checking a request; connections that wait for the next one; one
//! request on a connection; requests that are the gateway's own.

mod request;
mod idle;
mod exchange;
mod direct;

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, OnceLock, PoisonError, Weak,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use rustls::ClientConfig;
use tokio::{
    runtime::{self, Handle},
    task::JoinHandle,
    time::{Instant, timeout_at},
};

use crate::{
    config::Config,
    telemetry::metrics::FilterMetrics,
    upstream::{ConnectError, UpstreamsError, roots},
};
pub use direct::Direct;
use idle::Sender;
pub use idle::{Idle, Reusable, SWEEP_IDLE};
pub use request::{Call, Origin, Request};

/// Longest URL.
pub const URL_BYTES: usize = 8 << 10;
/// Most headers of a request.
pub const REQUEST_HEADERS: usize = 64;
/// Names and values of a request's headers together.
pub const REQUEST_HEADER_BYTES: usize = 16 << 10;
/// Largest body of a request.
pub const REQUEST_BODY_BYTES: usize = 4 << 20;
/// Most headers of a response.
pub const RESPONSE_HEADERS: usize = 100;
/// Status line and headers of a response.
pub const RESPONSE_HEAD_BYTES: usize = 64 << 10;
/// Largest body of a response.
pub const RESPONSE_BODY_BYTES: usize = 4 << 20;
/// Requests of one filter that are under way at once on one worker.
pub const CALLS_OF_A_FILTER: usize = 64;

/// What came back, of whatever status.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Response {
    /// 200-599, or whatever else the server makes up.
    pub status: u16,
    /// In order; without those of the connection.
    pub headers: Vec<(String, Vec<u8>)>,
    /// All of it.
    pub body: Vec<u8>,
}

/// Why there is no response.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum CallError {
    /// The request is none; nothing was sent.
    #[error("{0}")]
    Invalid(String),
    /// No whole response in time.
    #[error("no response in time")]
    Timeout,
    /// The request or the response exceeds a limit.
    #[error("too large")]
    TooLarge,
    /// No connection, or one that broke; or too many calls at once.
    #[error("{0}")]
    Unavailable(String),
}

impl CallError {
    /// The label in metrics.
    #[must_use]
    pub fn label(&self) -> &'static str {
        match self {
            Self::Invalid(_) => "invalid",
            Self::Timeout => "timeout",
            Self::TooLarge => "too_large",
            Self::Unavailable(_) => "unavailable",
        }
    }
}

/// The clients of all runtimes. One a process. A connection belongs to the runtime that polls it, so each worker has a
/// client of its own.
pub struct Clients {
    /// Not there as long as no filter may use `https://`.
    tls: Arc<OnceLock<Arc<ClientConfig>>>,
    by_runtime: Mutex<HashMap<runtime::Id, Weak<Client>>>,
}

impl Clients {
    /// Reads the machine's root certificates if a filter may use `https://`.
    ///
    /// # Errors
    /// There are none.
    pub fn new(config: &Config) -> Result<Self, UpstreamsError> {
        let clients = Self::trusting(None);
        clients.follow(config)?;
        Ok(clients)
    }

    /// The same for a configuration that takes the place of the one before.
    ///
    /// # Errors
    /// As [`Clients::new`].
    pub fn follow(&self, config: &Config) -> Result<(), UpstreamsError> {
        let uses_tls = config.filters.values().flat_map(|filter| &filter.allow.http).any(|origin| origin.tls);
        if uses_tls && self.tls.get().is_none() {
            let _ = self.tls.set(roots::native()?);
        }
        Ok(())
    }

    /// Trusts what this says.
    #[must_use]
    pub fn trusting(tls: Option<Arc<ClientConfig>>) -> Self {
        Self { tls: known(tls), by_runtime: Mutex::default() }
    }

    /// How a filter calls from the runtime that this is called in. The runtime's connections are kept for as long as
    /// there is such a caller.
    #[must_use]
    pub fn caller(&self, filter: &Arc<str>, metrics: FilterMetrics) -> Caller {
        let runtime = Handle::current().id();
        let mut by_runtime = self.by_runtime.lock().unwrap_or_else(PoisonError::into_inner);
        let client = by_runtime.get(&runtime).and_then(Weak::upgrade).unwrap_or_else(|| {
            let client = Arc::new(Client { tls: self.tls.clone(), idle: Mutex::default(), calls: Mutex::default() });
            by_runtime.retain(|_, client| client.strong_count() > 0);
            by_runtime.insert(runtime, Arc::downgrade(&client));
            client
        });
        let calls = client.calls(filter);
        Caller { client, calls, metrics }
    }
}

fn known(tls: Option<Arc<ClientConfig>>) -> Arc<OnceLock<Arc<ClientConfig>>> {
    Arc::new(tls.map_or_else(OnceLock::new, OnceLock::from))
}

/// The connections of one runtime.
struct Client {
    tls: Arc<OnceLock<Arc<ClientConfig>>>,
    idle: Mutex<Idle<Origin, Sender>>,
    /// Calls under way, by filter.
    calls: Mutex<HashMap<Arc<str>, Weak<AtomicUsize>>>,
}

impl Client {
    fn calls(&self, filter: &Arc<str>) -> Arc<AtomicUsize> {
        let mut all = self.calls.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(calls) = all.get(filter).and_then(Weak::upgrade) {
            return calls;
        }
        let calls = Arc::<AtomicUsize>::default();
        all.retain(|_, calls| calls.strong_count() > 0);
        all.insert(filter.clone(), Arc::downgrade(&calls));
        calls
    }
}

/// One filter's way out of one runtime.
#[derive(Clone)]
pub struct Caller {
    client: Arc<Client>,
    calls: Arc<AtomicUsize>,
    metrics: FilterMetrics,
}

impl Caller {
    /// Sends a request and waits for the whole response, which may have a body of `max_body_bytes`. Dropping the future
    /// ends the call and its connection.
    ///
    /// # Errors
    /// See [`CallError`].
    pub async fn send(
        &self,
        request: Request,
        timeout: Duration,
        max_body_bytes: usize,
    ) -> Result<Response, CallError> {
        let started = Instant::now();
        let result = self.bounded(request, started + timeout, max_body_bytes).await;
        let label = result.as_ref().map_or_else(CallError::label, Response::label);
        self.metrics.http_call(label, Some(started.elapsed()));
        result
    }

    /// Counts a call that was not made.
    pub fn count(&self, result: &'static str) {
        self.metrics.http_call(result, None);
    }

    async fn bounded(&self, request: Request, end: Instant, max_body_bytes: usize) -> Result<Response, CallError> {
        let Some(place) = Place::take(&self.calls) else {
            return Err(CallError::Unavailable(format!("{CALLS_OF_A_FILTER} calls of this filter are under way")));
        };
        let client = self.client.clone();
        // A task of its own: what TLS and parsing cost is not the guest's time.
        let task = tokio::spawn(async move {
            let _place = place;
            exchange::exchange(&client, &request, end, max_body_bytes.min(RESPONSE_BODY_BYTES)).await
        });
        match timeout_at(end, &mut Aborted(task).0).await {
            Ok(Ok(result)) => result,
            // It panicked, or the runtime is being shut down.
            Ok(Err(error)) => Err(CallError::Unavailable(error.to_string())),
            Err(_) => Err(CallError::Timeout),
        }
    }
}

impl Response {
    /// The label in metrics: the class of the status.
    fn label(&self) -> &'static str {
        match self.status {
            200..=299 => "2xx",
            300..=399 => "3xx",
            400..=499 => "4xx",
            500..=599 => "5xx",
            _ => "other",
        }
    }
}

impl From<ConnectError> for CallError {
    fn from(error: ConnectError) -> Self {
        match error {
            ConnectError::Timeout(_) => Self::Timeout,
            ConnectError::Resolve(_)
            | ConnectError::NoAddress
            | ConnectError::Tcp(_)
            | ConnectError::Unix(_)
            | ConnectError::Tls(_) => Self::Unavailable(with_causes(&error)),
        }
    }
}

/// One line.
fn with_causes(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(Some(error), |error| error.source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

/// One of a filter's calls.
struct Place(Arc<AtomicUsize>);

impl Place {
    fn take(calls: &Arc<AtomicUsize>) -> Option<Self> {
        let more = |under_way: usize| (under_way < CALLS_OF_A_FILTER).then_some(under_way + 1);
        calls.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more).ok()?;
        Some(Self(calls.clone()))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A task that nobody needs once this is dropped.
struct Aborted<T>(JoinHandle<T>);

impl<T> Drop for Aborted<T> {
    fn drop(&mut self) {
        self.0.abort();
    }
}

#[cfg(test)]
pub(crate) mod tests;
