//! What is written down of one request: its line in the log and its figures.

use std::{cell::Cell, net::SocketAddr, rc::Rc, sync::Arc};

use http::{Method, StatusCode};
use tokio::time::Instant;

use crate::{
    filter::{Closer, Reason},
    handshake::{
        forwarded::Source,
        refusal::{HandshakeResult, Refusal},
    },
    route::Route,
    session::Retired,
};

/// How an exchange ended.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum HttpEnd {
    /// The client left, or takes nothing any more. Until another end is known it is this one.
    ClientGone,
    /// The whole answer was handed over.
    Done,
    /// The gateway answered.
    Refused(HandshakeResult),
    /// The upstream broke off in the middle of its answer.
    UpstreamBroke,
    /// Nothing came for `idle_timeout`.
    Idle,
    /// `max_connection_duration` is over.
    TooOld,
    /// The client's token ran out.
    TokenOver,
    /// The client's token was revoked.
    TokenRevoked,
    /// Another configuration ends it.
    Retired(Retired),
}

impl HttpEnd {
    fn label(self) -> &'static str {
        match self {
            Self::ClientGone => "client_gone",
            Self::Done => "done",
            Self::Refused(result) => result.label(),
            Self::UpstreamBroke => "upstream_broke",
            Self::Idle => "idle",
            Self::TooOld => "max_duration",
            Self::TokenOver => "token_expired",
            Self::TokenRevoked => "token_revoked",
            Self::Retired(Retired::RouteChanged) => "route_changed",
            Self::Retired(Retired::NoLongerAllowed) => "no_longer_allowed",
        }
    }

    /// What filters hear.
    pub(super) fn for_filters(self) -> (Closer, u16) {
        match self {
            Self::ClientGone => (Closer::Client, 1006),
            Self::Done => (Closer::Upstream, 1000),
            Self::Refused(_) | Self::Idle | Self::TooOld | Self::Retired(_) => (Closer::Gateway, 1000),
            Self::UpstreamBroke => (Closer::Upstream, 1006),
            Self::TokenOver | Self::TokenRevoked => (Closer::Gateway, 1008),
        }
    }
}

/// One request. Dropping the last of it writes it down.
pub(super) struct Record {
    id: String,
    route: Arc<Route>,
    client: SocketAddr,
    method: Method,
    path: String,
    started: Instant,
    status: Cell<Option<StatusCode>>,
    filter_reason: Cell<Option<Reason>>,
    pub(super) end: Cell<HttpEnd>,
    pub(super) bytes_to_upstream: Cell<u64>,
    pub(super) bytes_to_client: Cell<u64>,
}

impl Record {
    pub(super) fn new(
        id: String,
        route: &Arc<Route>,
        source: &Source,
        method: Method,
        path: &str,
        started: Instant,
    ) -> Rc<Self> {
        Rc::new(Self {
            id,
            route: Arc::clone(route),
            client: source.client,
            method,
            path: path.to_owned(),
            started,
            status: Cell::new(None),
            filter_reason: Cell::new(None),
            end: Cell::new(HttpEnd::ClientGone),
            bytes_to_upstream: Cell::new(0),
            bytes_to_client: Cell::new(0),
        })
    }

    pub(super) fn id(&self) -> &str {
        &self.id
    }

    pub(super) fn refused(&self, refusal: &Refusal) {
        self.end.set(HttpEnd::Refused(refusal.result));
        self.filter_reason.set(refusal.filter_reason.clone());
    }

    /// The head of an answer is on its way.
    pub(super) fn answered(&self, status: StatusCode) {
        self.status.set(Some(status));
    }
}

impl Drop for Record {
    fn drop(&mut self) {
        let taken = self.started.elapsed();
        let (status, end) = (self.status.get(), self.end.get());
        self.route.metrics.http_request(status, taken);
        let filter_reason = self.filter_reason.take();
        tracing::info!(
            request = self.id, route = self.route.name, client = %self.client, method = self.method.as_str(),
            path = self.path, status = status.map(|status| status.as_u16()), end = end.label(),
            filter_reason = filter_reason.as_ref().map(display), duration_ms = taken.as_millis(),
            bytes_to_upstream = self.bytes_to_upstream.get(), bytes_to_client = self.bytes_to_client.get(), "http"
        );
    }
}
