//! What operators and their tools ask the gateway: is it alive, is it ready, what does it count, which filters run; and
//! what they tell it about filters.

mod readiness;
mod guard;
mod tokens;
mod body;
mod filters;
mod revocations;
mod reload;
mod drain;

use std::{convert::Infallible, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::Full;
use hyper::{
    body::{Body, Incoming},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::Semaphore,
    task::JoinSet,
    time::{sleep, timeout},
};

use self::guard::Guard;
use self::tokens::Denied;
pub use self::{
    filters::{Answered, Filters},
    readiness::{Readiness, Reason},
    reload::{Reload, ReloadReport, Reloaded, RouteConnections},
    tokens::{MIN_TOKEN_BYTES, TokenError, TokenKeeper, Tokens},
};
use crate::{
    auth::Revocations, config::Role, drain::Drain, http_head::problem_json, telemetry::metrics::Metrics,
    upstream::UpstreamStatus,
};

/// Connections at once; more wait to be accepted.
const MAX_CONNECTIONS: usize = 64;
/// Headers of a request; more are answered 431.
const MAX_HEADERS: usize = 100;
/// Head of a request; a longer one is answered 431.
const MAX_HEAD_BYTES: usize = 16 << 10;
/// For the head of a request, and between two requests.
const HEADER_TIMEOUT: Duration = Duration::from_secs(10);
/// After this a connection ends with the answer that is under way.
const MAX_CONNECTION_AGE: Duration = Duration::from_secs(60);
/// For that answer: a client that does not read must not keep its place.
const LAST_ANSWER_TIMEOUT: Duration = Duration::from_secs(10);
/// Pause after a failed accept, which is usually for want of file descriptors.
const ACCEPT_BACKOFF: Duration = Duration::from_millis(100);

const TEXT: HeaderValue = HeaderValue::from_static("text/plain; charset=utf-8");
const JSON: HeaderValue = HeaderValue::from_static("application/json");
const PROBLEM_JSON: HeaderValue = HeaderValue::from_static("application/problem+json");
const PROMETHEUS: HeaderValue = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");

/// Where the API looks and whom it asks.
pub struct AdminState {
    /// What is counted.
    pub metrics: Arc<Metrics>,
    /// Is it ready?
    pub readiness: Arc<Readiness>,
    /// What there is of filters, and who steers them.
    pub filters: Arc<dyn Filters>,
    /// What there is of upstreams.
    pub upstreams: Box<dyn Fn() -> Vec<UpstreamStatus> + Send + Sync>,
    /// What no longer counts.
    pub revocations: Arc<Revocations>,
    /// Who may ask.
    pub tokens: Arc<Tokens>,
    /// What loads another configuration.
    pub reloads: Arc<dyn Reload>,
    /// Who takes the gateway out of service.
    pub drain: Arc<Drain>,
}

/// Serves `[admin]`: everything, to whoever may. Ends only when it is dropped, and its connections with it.
pub async fn serve(listener: TcpListener, state: Arc<AdminState>) {
    accept(listener, state, |stream| {
        // The very address that the client reached, where the listener is bound to all of them.
        Surface::Admin(Guard::new(stream.local_addr().map(|address| address.ip().to_canonical()).ok()))
    })
    .await;
}

/// Serves `[health]`: `/livez`, `/readyz` and `/metrics` only, to whoever asks under whatever name.
pub async fn serve_health(listener: TcpListener, state: Arc<AdminState>) {
    accept(listener, state, |_| Surface::Health).await;
}

async fn accept(listener: TcpListener, state: Arc<AdminState>, surface: impl Fn(&TcpStream) -> Surface) {
    let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let mut connections = JoinSet::new();
    loop {
        while connections.try_join_next().is_some() {}
        let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
        match listener.accept().await {
            Ok((stream, _)) => {
                let api = Arc::new(Api { surface: surface(&stream), state: Arc::clone(&state) });
                connections.spawn(async move {
                    serve_connection(stream, api).await;
                    drop(place);
                });
            }
            Err(error) => {
                tracing::warn!(error = &error as &dyn std::error::Error, "the admin API cannot accept");
                sleep(ACCEPT_BACKOFF).await;
            }
        }
    }
}

async fn serve_connection(stream: TcpStream, api: Arc<Api>) {
    let service = service_fn(move |request: Request<Incoming>| {
        let api = Arc::clone(&api);
        async move { Ok::<_, Infallible>(api.answer(request).await) }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIMEOUT)
        .max_headers(MAX_HEADERS)
        .max_buf_size(MAX_HEAD_BYTES)
        .serve_connection(TokioIo::new(stream), service);
    let mut connection = std::pin::pin!(connection);
    let ended = match timeout(MAX_CONNECTION_AGE, connection.as_mut()).await {
        Ok(ended) => ended,
        Err(_) => {
            connection.as_mut().graceful_shutdown();
            timeout(LAST_ANSWER_TIMEOUT, connection).await.unwrap_or(Ok(()))
        }
    };
    if let Err(error) = ended {
        tracing::debug!(error = &error as &dyn std::error::Error, "an admin connection broke off");
    }
}

/// What one connection is served.
struct Api {
    state: Arc<AdminState>,
    surface: Surface,
}

enum Surface {
    Admin(Guard),
    Health,
}

#[derive(Clone, Copy)]
enum Page<'a> {
    Live,
    Ready,
    Metrics,
    Filters,
    Filter(&'a str),
    Mode(&'a str),
    Rollback(&'a str),
    Quarantine { filter: &'a str, sha256: &'a str },
    Revocations,
    Reload,
    Check,
    Upstreams,
    Drain,
}

impl<'a> Page<'a> {
    fn of(path: &'a str) -> Option<Self> {
        Some(match path {
            "/livez" | "/healthz" => Self::Live,
            "/readyz" => Self::Ready,
            "/metrics" => Self::Metrics,
            "/v1/filters" => Self::Filters,
            "/v1/revocations" => Self::Revocations,
            "/v1/reload" => Self::Reload,
            "/v1/check" => Self::Check,
            "/v1/upstreams" => Self::Upstreams,
            "/v1/drain" => Self::Drain,
            _ => {
                // Names of filters have no character that a URL would have to escape.
                let below: Vec<_> = path.strip_prefix("/v1/filters/")?.split('/').collect();
                match below[..] {
                    [filter] if !filter.is_empty() => Self::Filter(filter),
                    [filter, "mode"] => Self::Mode(filter),
                    [filter, "rollback"] => Self::Rollback(filter),
                    [filter, "quarantine", sha256] => Self::Quarantine { filter, sha256 },
                    _ => return None,
                }
            }
        })
    }

    /// Is it for probes from elsewhere too?
    fn is_for_health(self) -> bool {
        match self {
            Self::Live | Self::Ready | Self::Metrics => true,
            Self::Filters
            | Self::Filter(_)
            | Self::Mode(_)
            | Self::Rollback(_)
            | Self::Quarantine { .. }
            | Self::Revocations
            | Self::Reload
            | Self::Check
            | Self::Upstreams
            | Self::Drain => false,
        }
    }

    fn methods(self) -> (&'static [Method], HeaderValue) {
        match self {
            Self::Live | Self::Ready | Self::Metrics | Self::Filters | Self::Filter(_) | Self::Upstreams => {
                (&[Method::GET, Method::HEAD], HeaderValue::from_static("GET, HEAD"))
            }
            Self::Mode(_) | Self::Rollback(_) | Self::Reload | Self::Check => {
                (&[Method::POST], HeaderValue::from_static("POST"))
            }
            Self::Quarantine { .. } => (&[Method::DELETE], HeaderValue::from_static("DELETE")),
            Self::Revocations => {
                (&[Method::GET, Method::HEAD, Method::POST], HeaderValue::from_static("GET, HEAD, POST"))
            }
            Self::Drain => (
                &[Method::GET, Method::HEAD, Method::POST, Method::DELETE],
                HeaderValue::from_static("GET, HEAD, POST, DELETE"),
            ),
        }
    }

    /// What a token must be for; `None`: whoever reaches the listener may ask.
    fn role(self, method: &Method) -> Option<Role> {
        match self {
            // Probes have no tokens, and learn nothing here.
            Self::Live | Self::Ready => None,
            Self::Metrics | Self::Filters | Self::Filter(_) | Self::Upstreams => Some(Role::Read),
            // A check reads files that the configuration names.
            Self::Mode(_) | Self::Rollback(_) | Self::Quarantine { .. } | Self::Reload | Self::Check => {
                Some(Role::Operate)
            }
            Self::Revocations if method == Method::POST => Some(Role::Operate),
            Self::Drain if method == Method::POST || method == Method::DELETE => Some(Role::Operate),
            Self::Revocations | Self::Drain => Some(Role::Read),
        }
    }
}

impl Api {
    async fn answer<B: Body<Error: std::error::Error + Send + Sync + 'static>>(
        &self,
        request: Request<B>,
    ) -> Response<Full<Bytes>> {
        let path = request.uri().path().to_owned();
        let Some(page) = self.page(&path) else {
            return self.refused(&request).unwrap_or_else(|| problem(StatusCode::NOT_FOUND, None));
        };
        if let Some(refused) = self.refused(&request) {
            return refused;
        }
        if let Some(denied) = self.denied(page, &request) {
            return denied;
        }
        let (methods, allow) = page.methods();
        if !methods.contains(request.method()) {
            let mut response = problem(StatusCode::METHOD_NOT_ALLOWED, None);
            response.headers_mut().insert(header::ALLOW, allow);
            return response;
        }
        match page {
            Page::Live => answer(StatusCode::OK, TEXT, "ok\n"),
            Page::Ready => self.ready(),
            Page::Metrics => match self.state.metrics.encode() {
                Ok(text) => answer(StatusCode::OK, PROMETHEUS, text),
                Err(error) => failed(&error),
            },
            Page::Filters => json(&self.state.filters.status()),
            Page::Filter(name) => self.filter(name),
            Page::Mode(filter) => self.set_mode(filter, request).await,
            Page::Rollback(filter) => self.roll_back(filter, request).await,
            Page::Quarantine { filter, sha256 } => self.lift_quarantine(filter, sha256).await,
            Page::Upstreams => json(&(self.state.upstreams)()),
            Page::Revocations if request.method() == Method::POST => self.revoke(request).await,
            Page::Reload => self.reload().await,
            Page::Check => self.check(request).await,
            Page::Revocations => self.revocations(request.uri().query()),
            Page::Drain => self.drain(request).await,
        }
    }

    fn page<'a>(&self, path: &'a str) -> Option<Page<'a>> {
        Page::of(path).filter(|page| match self.surface {
            Surface::Admin(_) => true,
            Surface::Health => page.is_for_health(),
        })
    }

    /// A browser that was led here by another site is turned away.
    fn refused<B>(&self, request: &Request<B>) -> Option<Response<Full<Bytes>>> {
        match &self.surface {
            Surface::Health => None,
            Surface::Admin(guard) if guard.admits(request) => None,
            Surface::Admin(_) => {
                let detail = "this name or site has no access; ask for the address that the gateway is bound to";
                Some(problem(StatusCode::FORBIDDEN, Some(detail)))
            }
        }
    }

    /// Whoever has no token for this is told so. `[health]` has none.
    fn denied<B>(&self, page: Page<'_>, request: &Request<B>) -> Option<Response<Full<Bytes>>> {
        let Surface::Admin(_) = &self.surface else { return None };
        let denied = self.state.tokens.check(request.headers(), page.role(request.method())?).err()?;
        let (method, path) = (request.method(), request.uri().path());
        tracing::info!(%method, path, reason = ?denied, "an admin request is refused");
        let (status, challenge, detail) = match denied {
            Denied::Unknown => {
                (StatusCode::UNAUTHORIZED, "Bearer", "send a token that counts: Authorization: Bearer …")
            }
            Denied::Role => {
                (StatusCode::FORBIDDEN, "Bearer error=\"insufficient_scope\"", "the token's role does not go so far")
            }
        };
        let mut response = problem(status, Some(detail));
        response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static(challenge));
        Some(response)
    }

    fn ready(&self) -> Response<Full<Bytes>> {
        let reasons = self.state.readiness.reasons();
        if reasons.is_empty() {
            return answer(StatusCode::OK, TEXT, "ready\n");
        }
        let missing: String = reasons.iter().map(|reason| format!("not ready: {reason}\n")).collect();
        answer(StatusCode::SERVICE_UNAVAILABLE, TEXT, missing)
    }
}

fn answer(status: StatusCode, kind: HeaderValue, body: impl Into<Bytes>) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body.into()));
    *response.status_mut() = status;
    let headers: [(HeaderName, HeaderValue); 3] = [
        (header::CONTENT_TYPE, kind),
        (header::CACHE_CONTROL, HeaderValue::from_static("no-store")),
        (header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
    ];
    response.headers_mut().extend(headers);
    response
}

fn json(value: &impl serde::Serialize) -> Response<Full<Bytes>> {
    match serde_json::to_vec(value) {
        Ok(json) => answer(StatusCode::OK, JSON, json),
        Err(error) => failed(&error),
    }
}

fn problem(status: StatusCode, detail: Option<&str>) -> Response<Full<Bytes>> {
    answer(status, PROBLEM_JSON, problem_json(status, detail))
}

fn failed(error: &(dyn std::error::Error + 'static)) -> Response<Full<Bytes>> {
    tracing::error!(error, "the admin API cannot answer");
    problem(StatusCode::INTERNAL_SERVER_ERROR, None)
}

#[cfg(test)]
mod tests;
