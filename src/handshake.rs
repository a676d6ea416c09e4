//! From an HTTP request to 101 or a refusal: route, filters' `open`, upstream, in this order, then the session.

pub mod request;
pub mod refusal;
pub mod headers;
mod forwarded;
mod identity;
mod origin;
mod auth_request;
mod standing;

use std::{
    cell::{Cell, RefCell},
    convert::Infallible,
    ops::Deref,
    rc::Rc,
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use data_encoding::BASE32_NOPAD;
use http::{HeaderMap, Request, Response, header, request::Parts};
use http_body_util::Full;
use hyper::{body::Incoming, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    sync::{oneshot, watch},
    time::Instant,
};
use tracing::field::display;

pub use self::standing::{Followed, Standings, follow, foresee};
use self::{
    auth_request::AuthRequests,
    forwarded::Source,
    headers::{end_to_end, for_filters, switching_protocols, to_upstream},
    identity::{authenticate, set_claims},
    refusal::{HandshakeResult, Refusal},
    request::Opening,
    standing::Standing,
};
use crate::{
    config::Target,
    configured::Configured,
    door::Visitor,
    filter::{Admission, Chain, Closer, Instances, NotAdmitted, OpeningRequest},
    identity::Identity,
    limit::{Limit, Places},
    message::CloseFrame,
    route::{Matched, Route},
    session::{self, Bearer, Dialling, Opened, Registry},
    telemetry::metrics::Metrics,
    topic::{Doorbell, Hub, Postbox},
    transport::Transport,
    upstream::{self, Established, UpstreamRequest},
};

/// A client whose request head takes longer is left without an answer.
const HEADER_TIMEOUT: Duration = Duration::from_secs(10);
/// A request with more headers is answered 431.
const MAX_HEADERS: usize = 100;
/// A longer request head is answered 431.
const MAX_HEAD_BYTES: usize = 16 << 10;
/// While the gateway drains, a connection without a request is kept so long: its request may be on the way, and is
/// answered then.
const LAST_REQUEST_TIMEOUT: Duration = Duration::from_secs(1);

/// What handshakes on one worker share.
pub struct Context {
    /// What the configuration asks for; another one after a reload.
    pub current: RefCell<Rc<Current>>,
    /// The connections that are open, as far as another configuration may concern them.
    pub standings: Standings,
    /// The worker's sessions, and its filter instances.
    pub sessions: Rc<Registry>,
    /// Topics, and the connections of all workers.
    pub hub: Arc<Hub>,
    /// Where this worker hears of mail for its sessions.
    pub bell: Arc<Doorbell>,
    /// Where refusals without a route are counted.
    pub metrics: Arc<Metrics>,
    /// While true, whoever still comes is answered 503.
    pub draining: watch::Receiver<bool>,
}

/// What one configuration is on one worker.
pub struct Current {
    configured: Arc<Configured>,
    /// Services that are asked about handshakes.
    auth_requests: AuthRequests,
}

impl Current {
    /// Nobody was asked yet.
    #[must_use]
    pub fn new(configured: Arc<Configured>) -> Rc<Self> {
        let auth_requests = AuthRequests::new(configured.service_tls.clone());
        Rc::new(Self { configured, auth_requests })
    }
}

impl Deref for Current {
    type Target = Configured;

    fn deref(&self) -> &Configured {
        &self.configured
    }
}

/// Answers the requests of one connection. `held` is dropped when the connection is over, with or without a session.
pub async fn serve<H: 'static>(context: Rc<Context>, transport: Transport, visitor: Visitor, held: Rc<H>) {
    let (peer, visitor) = (visitor.address, Rc::new(visitor));
    let last_call = last_call(context.draining.clone());
    let service = service_fn(move |request: Request<Incoming>| {
        let handshake = Handshake {
            current: Rc::clone(&context.current.borrow()),
            context: Rc::clone(&context),
            source: Source::of(request.headers(), &visitor),
            visitor: Rc::clone(&visitor),
            started: Instant::now(),
            held: Rc::clone(&held),
        };
        async move { Ok::<_, Infallible>(handshake.answer(request).await) }
    });
    let connection = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIMEOUT)
        .max_headers(MAX_HEADERS)
        .max_buf_size(MAX_HEAD_BYTES)
        .serve_connection(TokioIo::new(transport), service)
        .with_upgrades();
    let mut connection = std::pin::pin!(connection);
    let served = tokio::select! {
        served = connection.as_mut() => served,
        () = last_call => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = served {
        tracing::debug!(%peer, error = &error as &dyn std::error::Error, "no handshake");
    }
}

/// Returns when a drain goes on for so long that who has said nothing will not be waited for.
async fn last_call(mut draining: watch::Receiver<bool>) {
    // Without its worker no connection is left.
    while draining.wait_for(|draining| *draining).await.is_ok() {
        let called_off = draining.wait_for(|draining| !*draining);
        if tokio::time::timeout(LAST_REQUEST_TIMEOUT, called_off).await.is_err() {
            return;
        }
    }
}

/// One request on its way to an answer.
struct Handshake<H> {
    context: Rc<Context>,
    /// The configuration that the request meets, from its beginning to its end.
    current: Rc<Current>,
    visitor: Rc<Visitor>,
    source: Source,
    started: Instant,
    held: Rc<H>,
}

/// Counts the answer, also where the client left before it.
struct Count<'a> {
    metrics: &'a Metrics,
    route: &'a str,
    result: Cell<HandshakeResult>,
}

impl Drop for Count<'_> {
    fn drop(&mut self) {
        self.metrics.handshake(self.route, self.result.get().label());
    }
}

impl<H: 'static> Handshake<H> {
    async fn answer(self, request: Request<Incoming>) -> Response<Full<Bytes>> {
        let (parts, body) = request.into_parts();
        let found = self.find(&parts);
        let request = Request::from_parts(parts, body);
        let context = Rc::clone(&self.context);
        let route = found.as_ref().map_or("-", |(_, matched)| matched.route.name.as_str()).to_owned();
        let count = Count { metrics: &context.metrics, route: &route, result: Cell::new(HandshakeResult::ClientGone) };
        let client = self.source.client;
        let answer = match found {
            Ok((opening, matched)) => self.open(opening, matched, request).await,
            Err(refusal) => Err(refusal),
        };
        match answer {
            Ok(response) => {
                count.result.set(HandshakeResult::Switched);
                response
            }
            Err(refusal) => {
                count.result.set(refusal.result);
                let filter_reason = refusal.filter_reason.as_ref().map(display);
                let (status, result) = (refusal.status.as_u16(), refusal.result.label());
                tracing::info!(%client, route, status, result, filter_reason, "refused");
                refusal.into_response()
            }
        }
    }

    fn find(&self, parts: &Parts) -> Result<(Opening, Matched), Refusal> {
        if *self.context.draining.borrow() {
            return Err(Refusal::unavailable());
        }
        let opening = Opening::check(parts)?;
        let matched = self.current.routes.find(&opening.host, &opening.path).ok_or_else(Refusal::not_found)?;
        Ok((opening, matched))
    }

    /// The origin, the token, filters, then the upstream, then 101 and the session.
    async fn open(
        self,
        mut opening: Opening,
        matched: Matched,
        request: Request<Incoming>,
    ) -> Result<Response<Full<Bytes>>, Refusal> {
        let route = Arc::clone(&matched.route);
        let id = connection_id();
        let deadline = self.started + route.limits.handshake_timeout;
        let mut places = self.admit_client(&route)?;
        origin::check(&route.allowed_origins, request.headers(), self.source.asked(&opening))?;
        let mut kept = end_to_end(request.headers());
        self.source.strip(&mut kept);
        let bearer = self.identify(&route, &mut opening, &mut kept).await?;
        let identity = bearer.as_ref().map(|bearer| Rc::clone(&bearer.identity));
        if let Some(identity) = &identity {
            route.limiter.enter_user(identity, self.source.client.ip(), &mut places)?;
        }
        let asked = self.current.auth_requests.ask(&route, &self.source, &opening, &mut kept);
        tokio::time::timeout_at(deadline, asked).await.unwrap_or_else(|_| Err(Refusal::timeout()))?;
        // Before the filters are asked: they may subscribe the connection.
        let postbox = route.filtered.then(|| self.context.hub.enter(&id, &route.limits, &self.context.bell));
        let (chain, admission) = self.admit(&id, &opening, &matched, &kept, identity, deadline).await?;
        let offered = subprotocols(&route.allowed_subprotocols(&opening.subprotocols), &admission);
        let own = match &route.target {
            Target::Echo | Target::Filters => None,
            Target::Upstream(name) => Some(admission.upstream.as_ref().unwrap_or(name).clone()),
        };
        let client = self.client(request.headers(), bearer.as_ref());
        let asked = self.upstream_request(kept, &opening, &matched, &admission, &offered, client);
        let again = route.may_route.then(|| asked.clone());
        let upstream = match &own {
            None => None,
            Some(name) => Some(self.current.upstreams.dial(name, asked, deadline).await.inspect_err(|error| {
                let error = error as &dyn std::error::Error;
                tracing::warn!(connection = id, upstream = name, error, "not dialled");
            })?),
        };
        let chosen = match &upstream {
            Some(upstream) => upstream.subprotocol.clone(),
            None => offered.into_iter().next(),
        };
        // Browsers give up on a server that answers none of what they offered.
        let answered_subprotocol = chosen.as_deref().or(opening.offers_bearer.then_some("bearer"));
        let empty = HeaderMap::new();
        let answered = upstream.as_ref().map_or(&empty, |upstream| &upstream.response_headers);
        let mut response = switching_protocols(&opening, answered_subprotocol, answered, &admission.client_headers);
        if let Some(cookie) = upstream.as_ref().and_then(|upstream| upstream.affinity_cookie.clone()) {
            response.headers_mut().append(header::SET_COOKIE, cookie);
        }
        route.metrics.handshake_duration_seconds.observe(self.started.elapsed().as_secs_f64());
        let dialling = again.map(|again| {
            let request = UpstreamRequest { subprotocols: chosen.into_iter().collect(), ..again };
            let upstreams = Arc::clone(&self.current.upstreams);
            Box::new(Dialling { upstreams, own, request, timeout: route.limits.handshake_timeout })
        });
        let standing = Standing::new(&matched, &opening, request.headers(), &self, places);
        let begun = Begun { id, matched, chain, postbox, upstream, dialling, bearer, standing, tags: admission.tags };
        tokio::task::spawn_local(self.run_session(begun, request));
        Ok(response)
    }

    /// Counts the request, whatever becomes of it, and takes places for its connection. First of all, so that who asks
    /// too often costs little.
    fn admit_client(&self, route: &Route) -> Result<Places, Limit> {
        let (all, client) = (&self.current.all, self.source.client.ip());
        route.limiter.handshake(client)?;
        all.handshake(client)?;
        let mut places = Places::default();
        route.limiter.enter(client, &mut places)?;
        all.enter(client, &mut places)?;
        Ok(places)
    }

    /// Who the client is to those who choose an endpoint for it.
    fn client(&self, headers: &HeaderMap, bearer: Option<&Bearer>) -> upstream::Client {
        upstream::Client {
            address: Some(self.source.client.ip()),
            cookies: upstream::Client::cookies_of(headers),
            identity: bearer.map(|bearer| Rc::clone(&bearer.identity)),
            secure: self.source.secure,
        }
    }

    fn upstream_request(
        &self,
        mut headers: HeaderMap,
        opening: &Opening,
        matched: &Matched,
        admission: &Admission,
        offered: &[String],
        client: upstream::Client,
    ) -> UpstreamRequest {
        self.source.set(&mut headers, opening);
        UpstreamRequest {
            path_and_query: matched.upstream_path_and_query(&opening.path, opening.query.as_deref()),
            headers: to_upstream(&headers, &matched.route.request_headers, &admission.upstream_headers),
            client_host: opening.authority.clone(),
            subprotocols: offered.to_vec(),
            client,
        }
    }

    /// Whose token the client has, where the route wants one.
    async fn identify(
        &self,
        route: &Route,
        opening: &mut Opening,
        headers: &mut HeaderMap,
    ) -> Result<Option<Bearer>, Refusal> {
        let Some(name) = &route.auth else { return Ok(None) };
        let authenticator = self.current.authenticators.get(name).ok_or_else(Refusal::internal)?;
        let identity = authenticate(authenticator, opening, headers).await?;
        set_claims(headers, route, &identity);
        Ok(Some(Bearer { authenticator: Arc::clone(authenticator), identity: Rc::new(identity) }))
    }

    /// Asks the filters of the route. The calls are made by a task of their own: a client that leaves must not end a
    /// call half way, which would cost the instance.
    async fn admit(
        &self,
        id: &str,
        opening: &Opening,
        matched: &Matched,
        headers: &HeaderMap,
        identity: Option<Rc<Identity>>,
        deadline: Instant,
    ) -> Result<(HeldChain, Admission), Refusal> {
        if !matched.route.filtered {
            return Ok((HeldChain(None), Admission::default()));
        }
        let instances = Rc::clone(self.context.sessions.instances());
        // A reload may be taking the route away.
        let spec = instances.live().chain_of(&matched.route.name).ok_or_else(Refusal::unavailable)?;
        let request = Rc::new(OpeningRequest {
            connection: id.to_owned(),
            route: matched.route.name.clone(),
            host: opening.host.clone(),
            path: opening.path.clone(),
            parameters: matched.parameters.clone(),
            query: opening.query.clone(),
            headers: for_filters(headers, identity.is_some()),
            subprotocols: opening.subprotocols.clone(),
            client: self.source.client,
            secure: self.source.secure,
            client_certificate: self.visitor.certificate.clone(),
            identity: RefCell::new(identity),
            last_reason: Arc::default(),
        });
        let last_reason = Arc::clone(&request.last_reason);
        let (sender, receiver) = oneshot::channel();
        tokio::task::spawn_local(async move {
            let answer = Chain::open(Rc::clone(&instances), spec, request).await;
            let answer = answer.map(|(chain, admission)| (HeldChain(Some((chain, instances))), admission));
            // A chain that nobody waits for any more is closed by its drop.
            drop(sender.send(answer));
        });
        match tokio::time::timeout_at(deadline, receiver).await {
            Ok(Ok(answer)) => answer
                .map_err(|refused: NotAdmitted| Refusal { filter_reason: last_reason.get(), ..Refusal::from(refused) }),
            Ok(Err(_)) => Err(Refusal::internal()),
            Err(_) => Err(Refusal::timeout()),
        }
    }

    /// Takes the socket over once hyper has written the 101, and stays until the session is over.
    async fn run_session(self, begun: Begun, request: Request<Incoming>) {
        let Begun { id, matched, mut chain, postbox, upstream, dialling, bearer, standing, tags } = begun;
        let Ok(upgraded) = hyper::upgrade::on(request).await else { return };
        let Ok(parts) = upgraded.downcast::<TokioIo<Transport>>() else { return };
        let route = matched.route;
        let name = route.name.clone();
        tracing::debug!(connection = id, route = name, client = %self.source.client, ?tags, "opened");
        let entry = self.context.sessions.enter();
        let bearer_now = bearer.as_ref();
        let standing = standing::enter(&self.context, &self.current, standing, entry.remote(), bearer_now);
        let summary = session::run(Opened {
            route: Arc::clone(&route),
            client: parts.io.into_inner(),
            client_read_ahead: parts.read_buf,
            upstream,
            dialling,
            rates: route
                .limiter
                .message_rates(self.source.client.ip(), bearer.as_ref().map(|bearer| &*bearer.identity)),
            bearer,
            chain: chain.0.take(),
            postbox,
            entry,
            registry: Rc::clone(&self.context.sessions),
        })
        .await;
        drop((self.held, standing));
        let (end, frame) = (summary.end.label(), summary.end.frame());
        let (code, reason, by) = (frame.code_or_1005(), frame.reason, summary.end.by());
        let (up, down) = (summary.messages_to_upstream, summary.messages_to_client);
        let filter_reason = summary.filter_reason.as_ref().map(display);
        let duration_ms = summary.duration.as_millis();
        macro_rules! access {
            ($level:expr) => {
                tracing::event!(
                    $level, connection = id, route = name, client = %self.source.client, ?tags, end, code, reason, by,
                    filter_reason,                    duration_ms, messages_to_upstream = up, messages_to_client = down, "closed"
                )
            };
        }
        if summary.end.is_worrying() { access!(tracing::Level::WARN) } else { access!(tracing::Level::INFO) }
    }
}

/// What a handshake came to.
struct Begun {
    id: String,
    matched: Matched,
    chain: HeldChain,
    postbox: Option<Postbox>,
    upstream: Option<Established>,
    dialling: Option<Box<Dialling>>,
    bearer: Option<Bearer>,
    standing: Standing,
    tags: Vec<(String, String)>,
}

/// A chain before its session. Where no session comes about its filters hear of the end.
struct HeldChain(Option<(Chain, Rc<Instances>)>);

impl Drop for HeldChain {
    fn drop(&mut self) {
        if let Some((chain, _)) = self.0.take() {
            crate::filter::finish(chain.close(Closer::Gateway, CloseFrame::new(1006, "")));
        }
    }
}

/// What is offered on: a filter's choice alone, where it made one.
fn subprotocols(allowed: &[String], admission: &Admission) -> Vec<String> {
    match &admission.subprotocol {
        Some(chosen) => allowed.iter().filter(|name| *name == chosen).cloned().collect(),
        None => allowed.to_vec(),
    }
}

/// 128 random bits.
fn connection_id() -> String {
    BASE32_NOPAD.encode(&rand::random::<[u8; 16]>()).to_ascii_lowercase()
}
