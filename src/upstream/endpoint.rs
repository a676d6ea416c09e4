//! One server of an upstream as the configuration and DNS have it: where it is, what it is shown, how much it gets.

use std::sync::{Arc, Mutex, PoisonError};

use http::{HeaderMap, HeaderValue, Method, Request, Uri, header};
use http_body_util::Empty;
use rustls::pki_types::ServerName;
use tokio::{task::AbortHandle, time::Instant};

use super::{
    UpstreamRequest, UpstreamsError,
    choice::affinity_value,
    connect::{Address, Place, Tls},
    error::DialError,
    opening::{self, NotOpened, Opened},
    spare::Dialler,
    state::{EndpointState, States},
    trust::Trust,
};
use crate::{
    config::{self, HostHeader},
    http_head::{bracketed, default_port},
    telemetry::metrics::Metrics,
    transport::Transport,
};

/// An endpoint. Whoever chose it holds it, so that it may go from the set meanwhile.
pub(super) struct Endpoint {
    pub(super) label: String,
    pub(super) weight: u32,
    /// Endpoints of a higher number are used where none of a lower one can be.
    pub(super) priority: u16,
    pub(super) dialler: Arc<Dialler>,
    pub(super) base_path: String,
    /// `None`: the client's.
    pub(super) host: Option<HeaderValue>,
    /// What the endpoint is called among its neighbours.
    pub(super) host_and_port: String,
    /// The value of the affinity cookie that leads here.
    pub(super) affinity: String,
    pub(super) state: Arc<EndpointState>,
    /// The task that checks it.
    check: Mutex<Option<AbortOnDrop>>,
}

/// A task that ends with whoever wanted it.
pub(super) struct AbortOnDrop(pub(super) AbortHandle);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Where a server was found.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(super) struct Found {
    pub(super) priority: u16,
    /// In units of the endpoint's configured weight.
    pub(super) weight: u32,
    /// As the server calls itself.
    pub(super) host: String,
    pub(super) port: u16,
    /// At least one; those after the first are tried where it takes no connection.
    pub(super) addresses: Vec<String>,
}

/// What endpoints of one upstream are made with.
pub(super) struct Maker {
    pub(super) upstream: String,
    pub(super) config: config::Upstream,
    /// How endpoints that speak TLS prove who they are.
    pub(super) trust: Trust,
    pub(super) metrics: Arc<Metrics>,
    pub(super) states: Arc<States>,
}

impl Maker {
    /// Refuses what could never be used, before any name is resolved.
    pub(super) fn check(&self, endpoint: &config::Endpoint) -> Result<(), UpstreamsError> {
        if endpoint.tls && self.server_name(endpoint).is_none() {
            let label = format!("{}:{}", bracketed(&endpoint.host), endpoint.port);
            return Err(UpstreamsError::ServerName { endpoint: label });
        }
        if let HostHeader::Literal(text) = &self.config.host_header
            && HeaderValue::try_from(text).is_err()
        {
            return Err(UpstreamsError::HostHeader { upstream: self.upstream.clone() });
        }
        Ok(())
    }

    /// Whom an endpoint has to prove to be: who was configured. What DNS says of where it is, anybody may have said.
    fn server_name(&self, endpoint: &config::Endpoint) -> Option<ServerName<'static>> {
        let host = if endpoint.srv { srv_domain(&endpoint.host) } else { &endpoint.host };
        ServerName::try_from(self.config.tls.server_name.as_deref().unwrap_or(host).to_owned()).ok()
    }

    /// Of a configured endpoint and a place where it was found. `joins`: see [`States::of`].
    pub(super) fn make(&self, endpoint: &config::Endpoint, found: &Found, joins: bool) -> Endpoint {
        let host = bracketed(&found.host);
        let host_and_port = format!("{host}:{}", found.port);
        let is_address = found.addresses.first().is_some_and(|address| *address == found.host);
        let at = found.addresses.first().filter(|_| !is_address).map(|address| format!("@{address}"));
        let label = match &endpoint.socket {
            Some(path) if endpoint.base_path.is_empty() => format!("unix:{}", path.display()),
            Some(path) => format!("unix:{}:{}", path.display(), endpoint.base_path),
            None => format!("{host_and_port}{}{}", endpoint.base_path, at.unwrap_or_default()),
        };
        let shown = match &self.config.host_header {
            HostHeader::Preserve => None,
            HostHeader::Endpoint if found.port == default_port(endpoint.tls) => Some(host.into_owned()),
            HostHeader::Endpoint => Some(host_and_port.clone()),
            HostHeader::Literal(text) => Some(text.clone()),
        };
        let address = |address: &String| Address {
            place: match &endpoint.socket {
                Some(path) => Place::Unix(path.clone()),
                None => Place::Tcp { host: address.clone(), port: found.port },
            },
            tls: self
                .server_name(endpoint)
                .filter(|_| endpoint.tls)
                .map(|server_name| Tls { trust: self.trust.clone(), server_name }),
        };
        let state = self.states.of(&self.upstream, &label, joins, &self.metrics);
        let dialler = Dialler::new(
            found.addresses.iter().map(address).collect(),
            &self.config,
            state.metrics().spares.clone(),
            self.metrics.upstream(&self.upstream).connect_duration_seconds,
        );
        Endpoint {
            weight: endpoint.weight.saturating_mul(found.weight),
            priority: found.priority,
            dialler: Arc::new(dialler),
            base_path: endpoint.base_path.clone(),
            // `check` has refused what no header can carry; a host of an SRV record is a plain name.
            host: shown.and_then(|shown| HeaderValue::try_from(shown).ok()),
            affinity: affinity_value(&self.upstream, &label),
            state,
            check: Mutex::default(),
            host_and_port,
            label,
        }
    }
}

/// `_chat._tcp.example.com` is a service of `example.com` (RFC 6125 section 1.8).
fn srv_domain(name: &str) -> &str {
    let mut domain = name;
    while let Some((_, rest)) = domain.split_once('.').filter(|(label, _)| label.starts_with('_')) {
        domain = rest;
    }
    domain
}

impl Endpoint {
    /// The `Host` that the endpoint is shown.
    pub(super) fn host_for(&self, client_host: &HeaderValue) -> HeaderValue {
        self.host.clone().unwrap_or_else(|| client_host.clone())
    }

    /// The same endpoint with another share.
    pub(super) fn with_weight(&self, weight: u32) -> Self {
        Self {
            label: self.label.clone(),
            weight,
            priority: self.priority,
            dialler: Arc::clone(&self.dialler),
            base_path: self.base_path.clone(),
            host: self.host.clone(),
            host_and_port: self.host_and_port.clone(),
            affinity: self.affinity.clone(),
            state: Arc::clone(&self.state),
            check: Mutex::default(),
        }
    }

    pub(super) fn is_checked(&self) -> bool {
        self.check.lock().unwrap_or_else(PoisonError::into_inner).is_some()
    }

    /// From now on this task checks it, or none.
    pub(super) fn check(&self, task: Option<AbortOnDrop>) {
        *self.check.lock().unwrap_or_else(PoisonError::into_inner) = task;
    }

    /// Asks for a WebSocket on a fresh connection.
    pub(super) async fn open(
        &self,
        transport: Transport,
        request: UpstreamRequest,
        deadline: Instant,
    ) -> Result<Opened, DialError> {
        let UpstreamRequest { path_and_query, mut headers, client_host, subprotocols, client: _ } = request;
        if !headers.contains_key(header::HOST) {
            headers.insert(header::HOST, self.host_for(&client_host));
        }
        let path = format!("{}{path_and_query}", self.base_path);
        self.open_with(transport, &path, headers, &subprotocols, deadline).await
    }

    /// The same for a check, at this very path.
    pub(super) async fn open_at(
        &self,
        transport: Transport,
        path: &str,
        headers: HeaderMap,
        deadline: Instant,
    ) -> Result<Opened, DialError> {
        self.open_with(transport, path, headers, &[], deadline).await
    }

    async fn open_with(
        &self,
        transport: Transport,
        path: &str,
        mut headers: HeaderMap,
        subprotocols: &[String],
        deadline: Instant,
    ) -> Result<Opened, DialError> {
        let uri = Uri::try_from(path);
        let uri = uri.map_err(|error| DialError::Request(error.into()))?;
        let expected_accept = opening::prepare(&mut headers, subprotocols).map_err(DialError::Request)?;
        let mut request = Request::new(Empty::new());
        *request.method_mut() = Method::GET;
        *request.uri_mut() = uri;
        *request.headers_mut() = headers;
        let opened = opening::open(transport, request, &expected_accept, subprotocols, deadline).await;
        opened.map_err(|reason| self.not_opened(reason))
    }

    fn not_opened(&self, reason: NotOpened) -> DialError {
        let endpoint = self.label.clone();
        match reason {
            NotOpened::Late => DialError::Timeout { endpoint },
            NotOpened::Unanswered(source) => DialError::Http { endpoint, answered: false, source },
            NotOpened::Http(source) => DialError::Http { endpoint, answered: true, source },
            NotOpened::Bad(source) => DialError::BadUpgrade { endpoint, source },
            NotOpened::Answered(answer) => DialError::Answered(answer),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::srv_domain;

    #[test]
    fn a_service_belongs_to_its_domain() {
        for (name, domain) in [
            ("_chat._tcp.example.com", "example.com"),
            ("chat.service.consul", "chat.service.consul"),
            ("_chat._tcp", "_tcp"),
        ] {
            assert_eq!(srv_domain(name), domain);
        }
    }
}
