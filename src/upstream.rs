//! The servers behind the gateway: which endpoint, a connection to it, and its side of the opening handshake.

mod error;
pub(crate) mod connect;
mod opening;
pub(crate) mod roots;

use std::{
    collections::BTreeMap,
    convert::Infallible,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Request, Uri, header};
use http_body_util::Empty;
use prometheus::IntGauge;
use rustls::{ClientConfig, RootCertStore, pki_types::ServerName};
use tokio::time::Instant;

pub use self::error::{Answer, BadUpgrade, ConnectError, DialError, UpstreamsError};
use self::{
    connect::{Address, Tls},
    opening::{NotOpened, Opened},
};
use crate::{
    config::{self, Config, HostHeader},
    http_head::{bracketed, default_port},
    telemetry::metrics::{EndpointMetrics, Metrics},
    transport::Transport,
};

/// Every upstream by name. All workers share one.
pub struct Upstreams {
    by_name: BTreeMap<String, Upstream>,
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
    /// Keep it as long as the connection.
    pub lease: Lease,
}

/// The endpoint that a request other than an opening goes to.
#[derive(Debug)]
pub struct Place {
    /// `host:port`, unique in its upstream.
    pub endpoint: String,
    /// Put before the path.
    pub base_path: String,
    /// The `Host` that it is shown; `None`: the client's.
    pub host: Option<HeaderValue>,
    /// Keep it as long as the request.
    pub lease: Lease,
}

/// How a [`Place`] is reached.
#[derive(Debug)]
pub enum Way<T> {
    /// By a connection that was there.
    Kept(T),
    /// By a new one.
    New(Transport),
}

/// Counts a connection to an endpoint until it is dropped.
#[derive(Debug)]
pub struct Lease {
    connections: IntGauge,
}

impl Lease {
    fn new(connections: IntGauge) -> Self {
        connections.inc();
        Self { connections }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.connections.dec();
    }
}

impl Upstreams {
    /// The upstreams of a configuration. The machine's root certificates are read where an endpoint needs them.
    ///
    /// # Errors
    /// No root certificates, or an endpoint that cannot be used.
    pub fn new(config: &Config, metrics: &Metrics) -> Result<Self, UpstreamsError> {
        Self::of(&config.upstreams, metrics)
    }

    /// These upstreams.
    ///
    /// # Errors
    /// As [`Upstreams::new`].
    pub fn of(upstreams: &BTreeMap<String, config::Upstream>, metrics: &Metrics) -> Result<Self, UpstreamsError> {
        let needs_tls = upstreams.values().flat_map(|upstream| &upstream.endpoints).any(|endpoint| endpoint.tls);
        let tls = if needs_tls { roots::native()? } else { roots::trusting(RootCertStore::empty())? };
        Self::with_tls(upstreams, metrics, &tls)
    }

    fn with_tls(
        upstreams: &BTreeMap<String, config::Upstream>,
        metrics: &Metrics,
        tls: &Arc<ClientConfig>,
    ) -> Result<Self, UpstreamsError> {
        let upstream = |(name, upstream): (&String, &config::Upstream)| {
            Ok((name.clone(), Upstream::new(name, upstream, metrics, tls)?))
        };
        Ok(Self { by_name: upstreams.iter().map(upstream).collect::<Result<_, _>>()? })
    }

    /// Is there an upstream of this name?
    #[must_use]
    pub fn contains(&self, name: &str) -> bool {
        self.by_name.contains_key(name)
    }

    /// Opens a WebSocket connection to the next endpoint of an upstream. An endpoint that cannot be reached is passed
    /// over, each is tried at most once; after a request was sent no other is tried. Dropping the future closes
    /// whatever was under way.
    ///
    /// # Errors
    /// No endpoint was reached, or the one that was did not answer as it should by `deadline`.
    pub async fn dial(
        &self,
        upstream: &str,
        request: UpstreamRequest,
        deadline: Instant,
    ) -> Result<Established, DialError> {
        let named = self.by_name.get(upstream).ok_or_else(|| DialError::Unknown { name: upstream.to_owned() })?;
        named.dial(request, deadline).await
    }

    /// Chooses an endpoint as [`Upstreams::dial`] does, for a request that opens no WebSocket. `kept` looks for a
    /// connection to it, by its name.
    ///
    /// # Errors
    /// No endpoint was reached by `deadline`.
    pub async fn way<T>(
        &self,
        upstream: &str,
        kept: impl Fn(&str) -> Option<T>,
        deadline: Instant,
    ) -> Result<(Place, Way<T>), DialError> {
        let named = self.by_name.get(upstream).ok_or_else(|| DialError::Unknown { name: upstream.to_owned() })?;
        let (endpoint, way) = named.reach(kept, deadline).await?;
        let place = Place {
            endpoint: endpoint.label.clone(),
            base_path: endpoint.base_path.clone(),
            host: endpoint.host.clone(),
            lease: Lease::new(endpoint.metrics.connections.clone()),
        };
        Ok((place, way))
    }
}

struct Upstream {
    name: String,
    endpoints: Vec<Endpoint>,
    next: AtomicUsize,
    connect_timeout: Duration,
}

struct Endpoint {
    label: String,
    address: Address,
    base_path: String,
    /// `None`: the client's.
    host: Option<HeaderValue>,
    metrics: EndpointMetrics,
}

impl Upstream {
    fn new(
        name: &str,
        upstream: &config::Upstream,
        metrics: &Metrics,
        tls: &Arc<ClientConfig>,
    ) -> Result<Self, UpstreamsError> {
        let endpoint = |endpoint| Endpoint::new(name, endpoint, &upstream.host_header, metrics, tls);
        let endpoints = upstream.endpoints.iter().map(endpoint).collect::<Result<_, _>>()?;
        Ok(Self {
            name: name.to_owned(),
            endpoints,
            next: AtomicUsize::new(0),
            connect_timeout: upstream.connect_timeout,
        })
    }

    async fn dial(&self, request: UpstreamRequest, deadline: Instant) -> Result<Established, DialError> {
        match self.reach(|_| None::<Infallible>, deadline).await? {
            (endpoint, Way::New(transport)) => endpoint.open(transport, request, deadline).await,
            (_, Way::Kept(never)) => match never {},
        }
    }

    /// A connection to the first endpoint, counting from the one whose turn it is, that takes one.
    async fn reach<T>(
        &self,
        kept: impl Fn(&str) -> Option<T>,
        deadline: Instant,
    ) -> Result<(&Endpoint, Way<T>), DialError> {
        let turn = self.next.fetch_add(1, Ordering::Relaxed) % self.endpoints.len().max(1);
        let (before, from) = self.endpoints.split_at(turn);
        let mut failed = None;
        for endpoint in from.iter().chain(before) {
            if let Some(kept) = kept(&endpoint.label) {
                return Ok((endpoint, Way::Kept(kept)));
            }
            let start = Instant::now();
            match connect::connect(&endpoint.address, self.connect_timeout, deadline).await {
                Ok(transport) => {
                    endpoint.metrics.connect_duration_seconds.observe(start.elapsed().as_secs_f64());
                    return Ok((endpoint, Way::New(transport)));
                }
                Err(source) => {
                    tracing::debug!(
                        endpoint = endpoint.label,
                        error = &source as &dyn std::error::Error,
                        "not reached"
                    );
                    failed = Some(endpoint.not_reached(source));
                }
            }
            if Instant::now() >= deadline {
                break;
            }
        }
        Err(failed.unwrap_or_else(|| DialError::Unknown { name: self.name.clone() }))
    }
}

impl Endpoint {
    fn new(
        upstream: &str,
        endpoint: &config::Endpoint,
        host_header: &HostHeader,
        metrics: &Metrics,
        tls: &Arc<ClientConfig>,
    ) -> Result<Self, UpstreamsError> {
        let host = bracketed(&endpoint.host);
        let label = format!("{host}:{}", endpoint.port);
        let shown = match host_header {
            HostHeader::Preserve => None,
            HostHeader::Endpoint if endpoint.port == default_port(endpoint.tls) => Some(host.into_owned()),
            HostHeader::Endpoint => Some(label.clone()),
            HostHeader::Literal(text) => Some(text.clone()),
        };
        let shown = shown.map(HeaderValue::try_from).transpose();
        let tls = match ServerName::try_from(endpoint.host.clone()) {
            Ok(server_name) => endpoint.tls.then(|| Tls { config: Arc::clone(tls), server_name }),
            Err(_) if endpoint.tls => return Err(UpstreamsError::ServerName { endpoint: label }),
            Err(_) => None,
        };
        Ok(Self {
            address: Address { host: endpoint.host.clone(), port: endpoint.port, tls },
            base_path: endpoint.base_path.clone(),
            host: shown.map_err(|_| UpstreamsError::HostHeader { upstream: upstream.to_owned() })?,
            metrics: metrics.endpoint(upstream, &label),
            label,
        })
    }

    async fn open(
        &self,
        transport: Transport,
        request: UpstreamRequest,
        deadline: Instant,
    ) -> Result<Established, DialError> {
        let UpstreamRequest { path_and_query, mut headers, client_host, subprotocols } = request;
        let uri = Uri::try_from(format!("{}{path_and_query}", self.base_path));
        let uri = uri.map_err(|error| DialError::Request(error.into()))?;
        if !headers.contains_key(header::HOST) {
            headers.insert(header::HOST, self.host.clone().unwrap_or(client_host));
        }
        let expected_accept = opening::prepare(&mut headers, &subprotocols).map_err(DialError::Request)?;
        let mut request = Request::new(Empty::new());
        *request.method_mut() = Method::GET;
        *request.uri_mut() = uri;
        *request.headers_mut() = headers;
        match opening::open(transport, request, &expected_accept, &subprotocols, deadline).await {
            Ok(Opened { transport, read_ahead, headers, subprotocol }) => Ok(Established {
                transport,
                read_ahead,
                response_headers: headers,
                subprotocol,
                lease: Lease::new(self.metrics.connections.clone()),
            }),
            Err(not_opened) => Err(self.not_opened(not_opened)),
        }
    }

    fn not_reached(&self, source: ConnectError) -> DialError {
        let endpoint = self.label.clone();
        match source {
            ConnectError::Timeout(_) => DialError::Timeout { endpoint },
            ConnectError::Resolve(_) | ConnectError::NoAddress | ConnectError::Tcp(_) | ConnectError::Tls(_) => {
                DialError::Connect { endpoint, source }
            }
        }
    }

    fn not_opened(&self, reason: NotOpened) -> DialError {
        let endpoint = self.label.clone();
        match reason {
            NotOpened::Late => DialError::Timeout { endpoint },
            NotOpened::Http(source) => DialError::Http { endpoint, source },
            NotOpened::Bad(source) => DialError::BadUpgrade { endpoint, source },
            NotOpened::Answered(answer) => DialError::Answered(answer),
        }
    }
}

#[cfg(test)]
pub(crate) mod tests;
