//! The attempts of one request to reach an endpoint: each with another one, within a budget.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use http::{HeaderValue, StatusCode};
use rustix::io::Errno;
use tokio::time::Instant;

use super::{
    Established, Upstream, UpstreamRequest,
    balance::Choice,
    choice::{ChoiceInput, set_cookie},
    endpoint::Endpoint,
    error::{ConnectError, DialError},
    opening::Opened,
    state::Lease,
};
use crate::transport::Transport;

/// So many percent of the requests that are on their way to an endpoint may be beyond their first attempt: an upstream
/// that dies gets a fifth more connections, not three times as many.
const RETRY_BUDGET_PERCENT: usize = 20;
/// So many may be in any case. One that meets a slow endpoint keeps its place for long: with 3 places, and one endpoint of
/// four that hangs, a third of the retries that others needed found none.
const RETRIES_IN_ANY_CASE: usize = 10;
/// An attempt that was cut short by its client's deadline is the endpoint's fault only if it took this long.
const BLAMED_AFTER: Duration = Duration::from_secs(1);

/// How many requests are on their way to endpoints of an upstream.
#[derive(Default)]
pub(super) struct UnderWay {
    requests: AtomicUsize,
    retries: AtomicUsize,
}

/// Counts until it is dropped.
struct Counted<'a>(&'a AtomicUsize);

impl<'a> Counted<'a> {
    fn new(count: &'a AtomicUsize) -> Self {
        count.fetch_add(1, Ordering::Relaxed);
        Self(count)
    }
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl UnderWay {
    /// A place for one more retry, if the budget has one.
    fn retry(&self) -> Option<Counted<'_>> {
        let most = (self.requests.load(Ordering::Relaxed) * RETRY_BUDGET_PERCENT / 100).max(RETRIES_IN_ANY_CASE);
        let taken = Counted::new(&self.retries);
        (self.retries.load(Ordering::Relaxed) <= most).then_some(taken)
    }
}

/// The attempts of one request. Ask for an endpoint, try it, and tell what came of it:
///
/// ```ignore
/// let mut attempts = upstreams.attempts("chat", input, deadline)?;
/// loop {
///     let chosen = attempts.choose().await?;
///     match try_it(&chosen).await {
///         Ok(done) => return Ok((done, chosen.into_lease())),
///         Err(error) => attempts.failed(&chosen, error)?,
///     }
/// }
/// ```
pub struct Attempts<'a> {
    upstream: &'a Arc<Upstream>,
    input: ChoiceInput<'a>,
    deadline: Instant,
    tried: Vec<Arc<Endpoint>>,
    retries_left: usize,
    last: Option<DialError>,
    _request: Counted<'a>,
    retry: Option<Counted<'a>>,
}

/// An endpoint that was chosen for an attempt. Until [`Chosen::into_lease`] it counts as a dial.
pub struct Chosen {
    pub(super) endpoint: Arc<Endpoint>,
    upstream: Arc<Upstream>,
    lease: Lease,
    affinity_cookie: Option<HeaderValue>,
    started: Instant,
    end: Instant,
}

/// A connection to a chosen endpoint, nothing said on it.
pub struct Reached {
    /// To the endpoint.
    pub transport: Transport,
    /// Which one, and what it is to be shown.
    pub chosen: Chosen,
}

impl<'a> Attempts<'a> {
    pub(super) fn new(upstream: &'a Arc<Upstream>, input: ChoiceInput<'a>, deadline: Instant) -> Self {
        Self {
            upstream,
            input,
            deadline,
            tried: Vec::new(),
            retries_left: upstream.config.retries,
            last: None,
            _request: Counted::new(&upstream.under_way.requests),
            retry: None,
        }
    }

    /// The endpoint for the next attempt; waits only where its name was never resolved.
    ///
    /// # Errors
    /// None is left, or none is healthy.
    pub async fn choose(&mut self) -> Result<Chosen, DialError> {
        let set = self.upstream.endpoints(self.deadline).await?;
        let now = Instant::now();
        let upstream = self.upstream;
        let choice = set.choose(&upstream.config, &self.input, &self.tried, now, &mut rand::rng());
        let (endpoint, affine) = match choice {
            Choice::Endpoint { endpoint, affine } => (Arc::clone(endpoint), affine),
            Choice::AllTried | Choice::NoneUsable => {
                let none = || DialError::NoneHealthy { upstream: upstream.name.clone() };
                return Err(self.last.take().unwrap_or_else(none));
            }
        };
        if !self.tried.is_empty() {
            upstream.metrics.retries.inc();
        }
        self.tried.push(Arc::clone(&endpoint));
        let cookie = upstream.config.affinity_cookie.as_ref().filter(|_| !affine);
        let cookie = cookie.and_then(|cookie| set_cookie(cookie, &endpoint.affinity, self.input.client.secure));
        Ok(Chosen {
            lease: Lease::dial(&endpoint.state),
            upstream: Arc::clone(upstream),
            affinity_cookie: cookie,
            started: now,
            end: now.checked_add(upstream.config.per_try_timeout).map_or(self.deadline, |end| end.min(self.deadline)),
            endpoint,
        })
    }

    /// An attempt failed: counts it against the endpoint where that is to blame, and says whether there is to be another.
    ///
    /// # Errors
    /// The failure, where there is not.
    pub fn failed(&mut self, chosen: &Chosen, error: DialError) -> Result<(), DialError> {
        chosen.failed(&error);
        let endpoint = &chosen.endpoint.label;
        tracing::debug!(endpoint, error = &error as &dyn std::error::Error, "an attempt failed");
        let others = || self.upstream.set.load().endpoints.len() > self.tried.len();
        if !is_worth_a_retry(&error) || self.retries_left == 0 || Instant::now() >= self.deadline || !others() {
            return Err(error);
        }
        if self.retry.is_none() {
            self.retry = self.upstream.under_way.retry();
        }
        if self.retry.is_none() {
            self.upstream.metrics.retries_over_budget.inc();
            return Err(error);
        }
        self.retries_left -= 1;
        self.last = Some(error);
        Ok(())
    }

    /// A connection to the first endpoint that takes one.
    pub(super) async fn reach(mut self) -> Result<Reached, DialError> {
        loop {
            let chosen = self.choose().await?;
            match chosen.connect().await {
                Ok(transport) => return Ok(Reached { transport, chosen }),
                Err(error) => self.failed(&chosen, error)?,
            }
        }
    }

    /// A WebSocket to the first endpoint that opens one.
    pub(super) async fn open(mut self, request: &UpstreamRequest) -> Result<Established, DialError> {
        loop {
            let chosen = self.choose().await?;
            match chosen.open(request).await {
                Ok(opened) => return Ok(chosen.established(opened)),
                Err(error) => self.failed(&chosen, error)?,
            }
        }
    }
}

impl Chosen {
    /// The endpoint's label in metrics, logs and the admin API.
    #[must_use]
    pub fn label(&self) -> &str {
        &self.endpoint.label
    }

    /// Put before the path of a request; usually empty, else it begins with `/`.
    #[must_use]
    pub fn base_path(&self) -> &str {
        &self.endpoint.base_path
    }

    /// The `Host` that the endpoint is shown to a client that asked for this one.
    #[must_use]
    pub fn host_for(&self, client_host: &HeaderValue) -> HeaderValue {
        self.endpoint.host_for(client_host)
    }

    /// When this attempt has taken too long.
    #[must_use]
    pub fn end(&self) -> Instant {
        self.end
    }

    /// `Set-Cookie` for the client, where it has no cookie that leads here.
    #[must_use]
    pub fn affinity_cookie(&self) -> Option<&HeaderValue> {
        self.affinity_cookie.as_ref()
    }

    /// A new connection to the endpoint. Never one that was dialled ahead: what is sent on such a one may have to be sent
    /// again.
    ///
    /// # Errors
    /// It takes none.
    pub async fn connect(&self) -> Result<Transport, DialError> {
        let endpoint = self.endpoint.label.clone();
        self.endpoint.dialler.connect_measured(self.end).await.map_err(|error| match error {
            ConnectError::Timeout(_) => DialError::Timeout { endpoint },
            source @ (ConnectError::Resolve(_)
            | ConnectError::NoAddress
            | ConnectError::Tcp(_)
            | ConnectError::Unix(_)
            | ConnectError::Tls(_)) => DialError::Connect { endpoint, source },
        })
    }

    async fn open(&self, request: &UpstreamRequest) -> Result<Opened, DialError> {
        if let Some(transport) = self.endpoint.dialler.take() {
            match self.endpoint.open(transport, request.clone(), self.end).await {
                Err(error) if is_of_a_silent_connection(&error) => self.endpoint.dialler.lost(),
                opened => return opened,
            }
        }
        let transport = self.connect().await?;
        self.endpoint.open(transport, request.clone(), self.end).await
    }

    fn established(self, opened: Opened) -> Established {
        self.succeeded();
        let Opened { transport, read_ahead, headers, subprotocol } = opened;
        Established {
            transport,
            read_ahead,
            response_headers: headers,
            subprotocol,
            affinity_cookie: self.affinity_cookie.clone(),
            lease: self.into_lease(),
        }
    }

    /// Tells outlier detection that the endpoint answers.
    pub fn succeeded(&self) {
        self.endpoint.state.succeeded();
    }

    /// Tells outlier detection of a failure, unless the endpoint is not to blame.
    pub fn failed(&self, error: &DialError) {
        match self.verdict(error) {
            Verdict::Fault => self.upstream.failed(&self.endpoint, error, Instant::now()),
            Verdict::Answer => self.succeeded(),
            Verdict::Nothing => {}
        }
    }

    /// Counts the endpoint's session until the lease is dropped.
    #[must_use]
    pub fn into_lease(self) -> Lease {
        self.lease.open()
    }

    fn verdict(&self, error: &DialError) -> Verdict {
        match error {
            DialError::Connect { source: ConnectError::Tcp(error) | ConnectError::Unix(error), .. }
                if is_our_own(error) =>
            {
                Verdict::Nothing
            }
            DialError::Connect { .. } | DialError::Http { .. } | DialError::BadUpgrade { .. } => Verdict::Fault,
            DialError::Answered(answer) if is_of_a_gateway(answer.status) => Verdict::Fault,
            DialError::Answered(_) => Verdict::Answer,
            // Its client may have had no time left.
            DialError::Timeout { .. } => {
                let own = self.upstream.config.per_try_timeout.min(self.upstream.config.connect_timeout);
                if self.started.elapsed() >= own.min(BLAMED_AFTER) { Verdict::Fault } else { Verdict::Nothing }
            }
            DialError::Unknown { .. } | DialError::Request(_) | DialError::NoneHealthy { .. } => Verdict::Nothing,
        }
    }
}

/// What a failed attempt says of the endpoint.
enum Verdict {
    Fault,
    Answer,
    Nothing,
}

/// An endpoint that says 502, 503 or 504 says that it cannot serve now. What else it says is for the client: a request
/// that makes any endpoint answer 500 would eject them all.
fn is_of_a_gateway(status: StatusCode) -> bool {
    matches!(status, StatusCode::BAD_GATEWAY | StatusCode::SERVICE_UNAVAILABLE | StatusCode::GATEWAY_TIMEOUT)
}

/// May it be that the endpoint had given up the connection because nothing had been said on it? Then the request was not
/// for it to answer (RFC 9110 sections 9.2.2 and 15.5.9).
fn is_of_a_silent_connection(error: &DialError) -> bool {
    match error {
        DialError::Http { answered, .. } => !answered,
        DialError::Answered(answer) => answer.status == StatusCode::REQUEST_TIMEOUT,
        DialError::Unknown { .. }
        | DialError::Request(_)
        | DialError::Connect { .. }
        | DialError::Timeout { .. }
        | DialError::BadUpgrade { .. }
        | DialError::NoneHealthy { .. } => false,
    }
}

fn is_worth_a_retry(error: &DialError) -> bool {
    match error {
        DialError::Connect { source: ConnectError::Tcp(error) | ConnectError::Unix(error), .. } => !is_our_own(error),
        DialError::Connect { .. } | DialError::Timeout { .. } | DialError::Http { .. } => true,
        DialError::Answered(answer) => is_of_a_gateway(answer.status),
        DialError::BadUpgrade { .. }
        | DialError::Unknown { .. }
        | DialError::Request(_)
        | DialError::NoneHealthy { .. } => false,
    }
}

/// No descriptors or ports are left here.
pub(super) fn is_our_own(error: &io::Error) -> bool {
    let own = [Errno::MFILE, Errno::NFILE, Errno::NOBUFS, Errno::NOMEM, Errno::ADDRNOTAVAIL];
    own.iter().any(|errno| error.raw_os_error() == Some(errno.raw_os_error()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retries_are_a_fifth_of_what_is_under_way_and_ten_in_any_case() {
        let under_way = UnderWay::default();
        let most = |requests: usize| {
            let _requests: Vec<_> = (0..requests).map(|_| Counted::new(&under_way.requests)).collect();
            let mut retries = Vec::new();
            while let Some(retry) = under_way.retry() {
                retries.push(retry);
            }
            retries.len()
        };
        assert_eq!([0, 10, 50, 100, 1000].map(most), [10, 10, 10, 20, 200]);
        assert_eq!(under_way.retries.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn what_is_lacking_here_is_no_fault_of_the_endpoint() {
        assert!(is_our_own(&Errno::MFILE.into()) && is_our_own(&Errno::ADDRNOTAVAIL.into()));
        assert!(!is_our_own(&Errno::CONNREFUSED.into()) && !is_our_own(&io::Error::other("x")));
    }
}
