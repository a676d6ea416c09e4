//! From an HTTP request to its answer. An opening: route, filters' `open`, upstream, in this order, then 101 and the
//! session. Any other request: the same steps, then the upstream's answer or a file, where the route says so.

pub mod request;
pub mod refusal;
pub mod headers;
mod client;
mod answer;
mod steps;
mod ended;
mod forwarded;
mod identity;
mod origin;
mod parser;
mod auth_request;
mod plain;
mod standing;

use std::{
    cell::{Cell, RefCell},
    convert::Infallible,
    ops::Deref,
    rc::Rc,
    sync::Arc,
    time::Duration,
};

use http::{HeaderMap, Method, Request, Response, header, request::Parts};
use hyper::{body::Incoming, service::service_fn};
use hyper_util::rt::TokioIo;
use tokio::{sync::watch, time::Instant};
use tracing::field::display;

pub use self::standing::{Followed, Standings, follow, foresee};
use self::{
    answer::AnswerBody,
    auth_request::AuthRequests,
    client::{ClientIo, Wire},
    ended::no_head,
    forwarded::Source,
    headers::{content_length, end_to_end, for_filters, switching_protocols, to_upstream},
    origin::Origin,
    parser::parser,
    plain::IdleUpstreams,
    refusal::{HandshakeResult, Refusal},
    request::Opening,
    standing::Standing,
    steps::{Asking, HeldChain, connection_id},
};
use crate::{
    config::{SessionLimits, Target},
    configured::Configured,
    door::Visitor,
    filter::Admission,
    route::Matched,
    session::{self, Bearer, Dialling, Opened, Registry},
    telemetry::metrics::Metrics,
    topic::{Doorbell, Hub, Postbox},
    transport::Transport,
    upstream::{self, Established, UpstreamRequest},
};

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
    /// Connections to upstreams that wait for another request.
    idle: Rc<IdleUpstreams>,
}

impl Current {
    /// Nobody was asked yet.
    #[must_use]
    pub fn new(configured: Arc<Configured>) -> Rc<Self> {
        let auth_requests = AuthRequests::new(configured.service_tls.clone());
        Rc::new(Self { configured, auth_requests, idle: Rc::default() })
    }
}

impl Deref for Current {
    type Target = Configured;

    fn deref(&self) -> &Configured {
        &self.configured
    }
}

/// Answers the requests of one connection. `held` is dropped when the connection is over, with or without a session.
/// Returns, for the counter, why something was no request.
pub async fn serve<H: 'static>(
    context: Rc<Context>,
    transport: Transport,
    visitor: Visitor,
    held: Rc<H>,
) -> Option<&'static str> {
    let (peer, visitor) = (visitor.address, Rc::new(visitor));
    let last_call = last_call(context.draining.clone());
    let wire = Wire::new(SessionLimits::default().send_timeout);
    let socket = ClientIo::new(transport, Arc::clone(&wire));
    let progress = Arc::clone(&wire.progress);
    let asked = Rc::new(Cell::new(false));
    let asks = Rc::clone(&asked);
    let service = service_fn(move |request: Request<Incoming>| {
        asks.set(true);
        let handshake = Handshake {
            current: Rc::clone(&context.current.borrow()),
            context: Rc::clone(&context),
            source: Source::of(request.headers(), &visitor),
            visitor: Rc::clone(&visitor),
            wire: Arc::clone(&wire),
            started: Instant::now(),
            held: Rc::clone(&held),
        };
        async move { Ok::<_, Infallible>(handshake.answer(request).await) }
    });
    let connection = parser().serve_connection(TokioIo::new(socket), service).with_upgrades();
    let connection = async {
        let mut connection = std::pin::pin!(connection);
        tokio::select! {
            served = connection.as_mut() => served,
            () = last_call => {
                connection.as_mut().graceful_shutdown();
                connection.await
            }
        }
    };
    no_head(peer, progress.guard(connection).await, asked.get())
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
    wire: Arc<Wire>,
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
    async fn answer(self, request: Request<Incoming>) -> Response<AnswerBody> {
        let (parts, body) = request.into_parts();
        let framing = self.wire.next_request(content_length(&parts.headers));
        if let Some((requested, matched)) = self.find_plain(&parts) {
            return self.answer_plain(requested, matched, (parts, body), framing).await;
        }
        let found = framing.check().and_then(|()| self.find(&parts));
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
                refusal.into_response().map(AnswerBody::from)
            }
        }
    }

    fn find(&self, parts: &Parts) -> Result<(Opening, Matched), Refusal> {
        if *self.context.draining.borrow() {
            return Err(Refusal::unavailable());
        }
        let opening = Opening::check(parts)?;
        let matched = self
            .current
            .routes
            .find(&opening.requested.host, &opening.requested.path)
            .ok_or_else(Refusal::not_found)?;
        Ok((opening, matched))
    }

    /// The origin, the token, filters, then the upstream, then 101 and the session.
    async fn open(
        self,
        mut opening: Opening,
        matched: Matched,
        request: Request<Incoming>,
    ) -> Result<Response<AnswerBody>, Refusal> {
        let route = Arc::clone(&matched.route);
        let id = connection_id();
        let deadline = self.started + route.limits.handshake_timeout;
        let mut places = self.admit_client(&route)?;
        origin::check(&route.allowed_origins, request.headers(), self.source.asked(&opening.requested))?;
        let mut kept = end_to_end(request.headers());
        self.source.strip(&mut kept);
        let Opening { requested, subprotocols: offered, offers_bearer, .. } = &mut opening;
        let (bearer, with_token) = self.identify(&route, requested, offered, &mut kept).await?;
        *offers_bearer = with_token;
        let identity = bearer.as_ref().map(|bearer| Rc::clone(&bearer.identity));
        if let Some(identity) = &identity {
            route.limiter.enter_user(identity, self.source.client.ip(), &mut places)?;
        }
        let asked = self.current.auth_requests.ask(&route, &self.source, (&Method::GET, &opening.requested), &mut kept);
        tokio::time::timeout_at(deadline, asked).await.unwrap_or_else(|_| Err(Refusal::timeout()))?;
        // Before the filters are asked: they may subscribe the connection.
        let postbox = route.filtered.then(|| self.context.hub.enter(&id, &route.limits, &self.context.bell));
        let headers = for_filters(&kept, identity.is_some());
        let asking = Asking { id: &id, requested: &opening.requested, headers, subprotocols: &opening.subprotocols };
        let (chain, admission) = self.admit(asking, &matched, identity, deadline).await?;
        let offered = subprotocols(&route.allowed_subprotocols(&opening.subprotocols), &admission);
        let own = match &route.target {
            Target::Echo | Target::Filters => None,
            Target::Static(_) => return Err(Refusal::bad_request("there is no WebSocket here")),
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
        let origin = Some(Origin::of(request.headers()));
        let standing = Standing::new(&matched, &opening.requested, origin, &self, places);
        let begun = Begun { id, matched, chain, postbox, upstream, dialling, bearer, standing, tags: admission.tags };
        tokio::task::spawn_local(self.run_session(begun, request));
        Ok(response)
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
        self.source.set(&mut headers, &opening.requested);
        UpstreamRequest {
            path_and_query: matched
                .upstream_path_and_query(&opening.requested.path, opening.requested.query.as_deref()),
            headers: to_upstream(&headers, &matched.route.request_headers, &admission.upstream_headers),
            client_host: opening.requested.authority.clone(),
            subprotocols: offered.to_vec(),
            client,
        }
    }

    /// Takes the socket over once hyper has written the 101, and stays until the session is over.
    async fn run_session(self, begun: Begun, request: Request<Incoming>) {
        let Begun { id, matched, mut chain, postbox, upstream, dialling, bearer, standing, tags } = begun;
        let Ok(upgraded) = hyper::upgrade::on(request).await else { return };
        let Ok(parts) = upgraded.downcast::<TokioIo<ClientIo>>() else { return };
        let route = matched.route;
        let name = route.name.clone();
        tracing::debug!(connection = id, route = name, client = %self.source.client, ?tags, "opened");
        let entry = self.context.sessions.enter();
        let bearer_now = bearer.as_ref();
        let standing = standing::enter(&self.context, &self.current, standing, entry.remote(), bearer_now);
        let summary = session::run(Opened {
            route: Arc::clone(&route),
            client: parts.io.into_inner().into_inner(),
            client_read_ahead: parts.read_buf,
            upstream,
            dialling,
            rates: route
                .limiter
                .message_rates(self.source.client.ip(), bearer.as_ref().map(|bearer| &*bearer.identity)),
            bearer,
            chain: chain.take(),
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

/// What is offered on: a filter's choice alone, where it made one.
fn subprotocols(allowed: &[String], admission: &Admission) -> Vec<String> {
    match &admission.subprotocol {
        Some(chosen) => allowed.iter().filter(|name| *name == chosen).cloned().collect(),
        None => allowed.to_vec(),
    }
}
