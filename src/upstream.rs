//! The servers behind the gateway: which endpoint, a connection to it, and its side of the opening handshake.

mod choice;
mod balance;
mod attempts;
mod outlier;
mod health;
mod names;
mod dns;
mod endpoint;
mod state;
mod status;
mod opening;
mod spare;
pub(crate) mod connect;
pub(crate) mod trust;
pub(crate) mod roots;
mod error;

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, OnceLock, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use arc_swap::ArcSwap;
use bytes::Bytes;
use http::{HeaderMap, HeaderValue};
use rustls::RootCertStore;
use tokio::{runtime::Handle, time::Instant};

use self::{
    attempts::UnderWay,
    balance::EndpointSet,
    endpoint::{AbortOnDrop, Endpoint, Found, Maker},
    names::Named,
    state::States,
    trust::Trust,
};
pub use self::{
    attempts::{Attempts, Chosen, Reached},
    choice::{ChoiceInput, Client},
    error::{Answer, BadUpgrade, ConnectError, DialError, UpstreamsError},
    state::Lease,
    status::{EndpointStatus, ErrorStatus, UpstreamStatus},
};
use crate::{
    config::{self, Config},
    telemetry::metrics::{Metrics, UpstreamMetrics},
    transport::Transport,
};

/// Every upstream by name. All workers share one. It does not change: a reload makes another, which takes over what is
/// known of endpoints that stay.
pub struct Upstreams {
    by_name: BTreeMap<String, Arc<Upstream>>,
    states: Arc<States>,
}

/// What an upstream is asked for, whichever endpoint it goes to.
#[derive(Clone, Debug)]
pub struct UpstreamRequest {
    /// Begins with `/`; the endpoint's base path is put before it.
    pub path_and_query: String,
    /// Without those of the handshake. A `Host` among them wins over `host_header`.
    pub headers: HeaderMap,
    /// The client's `Host`, for `host_header = "preserve"`.
    pub client_host: HeaderValue,
    /// Offered, in order; tokens.
    pub subprotocols: Vec<String>,
    /// Whose request it is.
    pub client: Client,
}

/// An upstream connection after its 101.
#[derive(Debug)]
pub struct Established {
    /// The stream, at the first byte after `read_ahead`.
    pub transport: Transport,
    /// What had been read beyond the head of the 101.
    pub read_ahead: Bytes,
    /// Of the 101, all of them.
    pub response_headers: HeaderMap,
    /// One of those offered, or none.
    pub subprotocol: Option<String>,
    /// `Set-Cookie` for the client, so that it comes back to this endpoint.
    pub affinity_cookie: Option<HeaderValue>,
    /// Keep it as long as the connection.
    pub lease: Lease,
}

impl UpstreamRequest {
    /// What an endpoint is chosen by.
    #[must_use]
    pub fn choice_input(&self) -> ChoiceInput<'_> {
        let query = self.path_and_query.split_once('?').map(|(_, query)| query);
        ChoiceInput { client: &self.client, headers: &self.headers, query }
    }
}

impl Upstreams {
    /// The upstreams of a configuration. The machine's root certificates are read where an endpoint needs them. Upstreams
    /// that are configured as they were `before` are the same; of others, endpoints that stay keep their sessions, their
    /// health and their ejections. Nothing begins or ends before [`Upstreams::start`].
    ///
    /// # Errors
    /// No root certificates, or an endpoint that cannot be used.
    pub fn new(config: &Config, metrics: &Arc<Metrics>, before: Option<&Self>) -> Result<Self, UpstreamsError> {
        Self::of(&config.upstreams, metrics, before)
    }

    /// These upstreams.
    ///
    /// # Errors
    /// As [`Upstreams::new`].
    pub fn of(
        upstreams: &BTreeMap<String, config::Upstream>,
        metrics: &Arc<Metrics>,
        before: Option<&Self>,
    ) -> Result<Self, UpstreamsError> {
        Self::trusting(upstreams, metrics, &roots_of(upstreams)?, before)
    }

    /// Looks at the files that TLS of a configuration's upstreams needs, and dials nothing.
    ///
    /// # Errors
    /// As [`Upstreams::new`].
    pub fn check(config: &Config, metrics: &Metrics) -> Result<(), UpstreamsError> {
        let roots = roots_of(&config.upstreams)?;
        let trust = |(name, upstream): (&String, &config::Upstream)| Trust::new(name, &upstream.tls, &roots, metrics);
        config.upstreams.iter().try_for_each(|upstream| trust(upstream).map(|_| ()))
    }

    fn trusting(
        upstreams: &BTreeMap<String, config::Upstream>,
        metrics: &Arc<Metrics>,
        roots: &Arc<RootCertStore>,
        before: Option<&Self>,
    ) -> Result<Self, UpstreamsError> {
        let states = before.map_or_else(Arc::default, |before| Arc::clone(&before.states));
        let make = |(name, config): (&String, &config::Upstream)| {
            let before = before.and_then(|before| before.by_name.get(name));
            if let Some(same) = before.filter(|before| before.config == *config) {
                return Ok((name.clone(), Arc::clone(same)));
            }
            let maker = Maker {
                upstream: name.clone(),
                config: config.clone(),
                trust: Trust::new(name, &config.tls, roots, metrics)?,
                metrics: Arc::clone(metrics),
                states: Arc::clone(&states),
            };
            Ok((name.clone(), Arc::new(Upstream::new(config.clone(), maker, before.map(|before| &**before))?)))
        };
        let by_name = upstreams.iter().map(make).collect::<Result<_, _>>()?;
        Ok(Self { by_name, states })
    }

    /// Begins to check endpoints and to resolve names, on this runtime, and ends what `before` does for upstreams that are
    /// no longer there or have changed. Without it endpoints are used all the same, and names resolved when first used.
    pub fn start(&self, before: Option<&Self>, runtime: &Handle) {
        for (name, old) in before.into_iter().flat_map(|before| &before.by_name) {
            if self.by_name.get(name).is_none_or(|new| !Arc::ptr_eq(new, old)) {
                old.stop();
            }
        }
        let started: Vec<_> = self.by_name.values().filter(|upstream| upstream.start(runtime)).collect();
        if let Err(error) = trust::watch(started.iter().map(|upstream| &upstream.maker.trust)) {
            tracing::error!(%error, "certificates for upstreams are not watched: changes to them do not count");
        }
    }

    /// Is there an upstream of this name?
    #[must_use]
    pub fn contains(&self, name: &str) -> bool {
        self.by_name.contains_key(name)
    }

    /// Opens a WebSocket connection to an endpoint of an upstream. Where an endpoint cannot be reached, breaks off or
    /// answers 502, 503 or 504, others are tried: `retries` of them, each once, within the retry budget. Dropping the
    /// future closes whatever was under way.
    ///
    /// # Errors
    /// What the last attempt came to, or that no endpoint is healthy.
    pub async fn dial(
        &self,
        upstream: &str,
        request: UpstreamRequest,
        deadline: Instant,
    ) -> Result<Established, DialError> {
        self.attempts(upstream, request.choice_input(), deadline)?.open(&request).await
    }

    /// A connection to an endpoint of an upstream, nothing said on it, chosen and retried as by [`Upstreams::dial`]. What
    /// then becomes of it is told by [`Chosen::succeeded`] or [`Chosen::failed`].
    ///
    /// # Errors
    /// As [`Upstreams::dial`].
    pub async fn reach(&self, upstream: &str, input: ChoiceInput<'_>, deadline: Instant) -> Result<Reached, DialError> {
        self.attempts(upstream, input, deadline)?.reach().await
    }

    /// The attempts of one request, for whoever makes them himself.
    ///
    /// # Errors
    /// There is no such upstream.
    pub fn attempts<'a>(
        &'a self,
        upstream: &str,
        input: ChoiceInput<'a>,
        deadline: Instant,
    ) -> Result<Attempts<'a>, DialError> {
        let named = self.by_name.get(upstream).ok_or_else(|| DialError::Unknown { name: upstream.to_owned() })?;
        Ok(Attempts::new(named, input, deadline))
    }
}

/// Those of this machine, where an endpoint needs them.
fn roots_of(upstreams: &BTreeMap<String, config::Upstream>) -> Result<Arc<RootCertStore>, UpstreamsError> {
    let needs_them = |upstream: &config::Upstream| {
        upstream.tls.ca.is_none() && upstream.endpoints.iter().any(|endpoint| endpoint.tls)
    };
    let needed = upstreams.values().any(needs_them);
    Ok(Arc::new(if needed { roots::native_roots()? } else { RootCertStore::empty() }))
}

struct Upstream {
    name: String,
    config: config::Upstream,
    maker: Maker,
    /// Endpoints whose hosts are addresses.
    fixed: Vec<Arc<Endpoint>>,
    /// Endpoints whose hosts are names.
    names: Vec<Named>,
    set: ArcSwap<EndpointSet>,
    under_way: UnderWay,
    metrics: UpstreamMetrics,
    /// Held while it is decided whether an endpoint may be ejected.
    ejecting: Mutex<()>,
    /// Held while the set is put together.
    rebuilding: Mutex<()>,
    /// Where tasks run, once they do.
    runtime: OnceLock<Handle>,
    stopped: AtomicBool,
    lookups: Mutex<Vec<AbortOnDrop>>,
}

impl Upstream {
    fn new(config: config::Upstream, maker: Maker, before: Option<&Self>) -> Result<Self, UpstreamsError> {
        let joins = before.is_some_and(|before| !before.set.load().endpoints.is_empty());
        let (mut fixed, mut names) = (Vec::new(), Vec::new());
        for endpoint in &config.endpoints {
            maker.check(endpoint)?;
            let is_name = endpoint.socket.is_none() && endpoint.host.parse::<std::net::IpAddr>().is_err();
            if endpoint.srv || is_name {
                names.push(Named::new(endpoint.clone()));
                continue;
            }
            let (host, port) = (endpoint.host.clone(), endpoint.port);
            let found = Found { priority: 0, weight: 1, addresses: vec![host.clone()], host, port };
            fixed.push(Arc::new(maker.make(endpoint, &found, joins)));
        }
        let upstream = Self {
            name: maker.upstream.clone(),
            metrics: maker.metrics.upstream(&maker.upstream),
            set: ArcSwap::from_pointee(EndpointSet::new(Vec::new(), &config)),
            config,
            maker,
            fixed,
            names,
            under_way: UnderWay::default(),
            ejecting: Mutex::default(),
            rebuilding: Mutex::default(),
            runtime: OnceLock::new(),
            stopped: AtomicBool::new(false),
            lookups: Mutex::default(),
        };
        upstream.rebuild();
        // What a name led to a moment ago is better than nothing.
        for named in &upstream.names {
            let same =
                |old: &&Named| old.endpoint.host == named.endpoint.host && old.endpoint.srv == named.endpoint.srv;
            if let Some(old) = before.and_then(|before| before.names.iter().find(same)) {
                let found = old.found().into_iter();
                let port = (!named.endpoint.srv).then_some(named.endpoint.port);
                upstream.found(named, found.map(|found| Found { port: port.unwrap_or(found.port), ..found }).collect());
            }
        }
        Ok(upstream)
    }

    /// Puts the set together anew. An endpoint that is there several times gets that many shares.
    fn rebuild(&self) {
        let _one_at_a_time = self.rebuilding.lock().unwrap_or_else(PoisonError::into_inner);
        let mut all: BTreeMap<String, Arc<Endpoint>> = BTreeMap::new();
        let mut order = Vec::new();
        for endpoint in self.fixed.iter().cloned().chain(self.names.iter().flat_map(Named::endpoints)) {
            match all.get_mut(&endpoint.label) {
                Some(same) => *same = Arc::new(same.with_weight(same.weight.saturating_add(endpoint.weight))),
                None => {
                    order.push(endpoint.label.clone());
                    all.insert(endpoint.label.clone(), endpoint);
                }
            }
        }
        let endpoints: Vec<_> = order.iter().filter_map(|label| all.remove(label)).collect();
        if let Some(runtime) = self.runtime.get() {
            endpoints.iter().for_each(|endpoint| self.watch(endpoint, runtime));
        }
        self.set.store(Arc::new(EndpointSet::new(endpoints, &self.config)));
    }

    /// False where it runs already.
    fn start(self: &Arc<Self>, runtime: &Handle) -> bool {
        if self.runtime.set(runtime.clone()).is_err() {
            // It is the same as before.
            return false;
        }
        self.set.load().endpoints.iter().for_each(|endpoint| self.watch(endpoint, runtime));
        let mut lookups = self.lookups.lock().unwrap_or_else(PoisonError::into_inner);
        for index in 0..self.names.len() {
            let task = runtime.spawn(names::keep_resolved(Arc::downgrade(self), index));
            lookups.push(AbortOnDrop(task.abort_handle()));
        }
        true
    }

    fn stop(&self) {
        self.stopped.store(true, Ordering::Relaxed);
        self.lookups.lock().unwrap_or_else(PoisonError::into_inner).clear();
        self.set.load().endpoints.iter().for_each(|endpoint| {
            endpoint.check(None);
            endpoint.dialler.stop();
        });
    }

    /// Has an endpoint checked, and connections to it dialled ahead, if that is configured and not so already.
    fn watch(&self, endpoint: &Arc<Endpoint>, runtime: &Handle) {
        if !self.stopped.load(Ordering::Relaxed) {
            endpoint.dialler.start(runtime);
        }
        if self.stopped.load(Ordering::Relaxed) || endpoint.is_checked() {
            return;
        }
        match &self.config.health_check {
            Some(check) => {
                let checks = health::keep_checking(Arc::downgrade(endpoint), self.name.clone(), check.clone());
                endpoint.check(Some(AbortOnDrop(runtime.spawn(checks).abort_handle())));
            }
            // What checks of an earlier configuration said is over.
            None => endpoint.state.unchecked(),
        }
    }
}

#[cfg(test)]
pub(crate) mod tests;
