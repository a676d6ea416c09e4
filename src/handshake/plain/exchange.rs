//! A request to the upstream, up to the head of the answer, on a connection that was idle or on a new one.

use std::{
    cell::RefCell,
    pin::pin,
    rc::{Rc, Weak},
    sync::Arc,
    time::Duration,
};

use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Uri, header};
use hyper::{
    body::Incoming,
    client::conn::{TrySendError, http1},
};
use hyper_util::rt::TokioIo;
use tokio::time::{Instant, timeout, timeout_at};

use super::{
    record::Record,
    upload::{Sent, Upload},
};
use crate::{
    handshake::refusal::Refusal,
    http_client::{Idle, Reusable, SWEEP_IDLE},
    transport::{Progress, Transport, Watched},
    upstream::{Answer, ChoiceInput, Chosen, Client, DialError, Lease, Upstreams},
};

/// Headers of an answer.
const MAX_HEADERS: usize = 100;
/// Head of an answer, and what is read of a body at once.
const MAX_READ_BYTES: usize = 64 << 10;
/// A connection is ready for another request as soon as its upstream has read the last one.
const READY_WITHIN: Duration = Duration::from_secs(1);
/// Of idempotent requests that an upstream closed a kept connection on, perhaps without having read them.
const METHODS_SENT_AGAIN: [Method; 6] =
    [Method::GET, Method::HEAD, Method::OPTIONS, Method::PUT, Method::DELETE, Method::TRACE];

/// A connection on which another request can be sent. It ends when this is dropped.
pub(super) struct Kept {
    sender: http1::SendRequest<Upload>,
    progress: Arc<Progress>,
}

impl Reusable for Kept {
    fn is_closed(&self) -> bool {
        self.sender.is_closed()
    }
}

/// The connections of one worker that wait for another request, by upstream and endpoint.
#[derive(Default)]
pub(in crate::handshake) struct IdleUpstreams {
    idle: RefCell<Idle<(String, String), Kept>>,
}

impl IdleUpstreams {
    fn take(&self, upstream: &str, endpoint: &str) -> Option<Kept> {
        self.idle.borrow_mut().take(&(upstream.to_owned(), endpoint.to_owned()))
    }

    /// Keeps a connection whose answer was read to its end, unless its upstream closes it now or does not take the rest of
    /// the request.
    pub(super) fn put(self: &Rc<Self>, upstream: String, endpoint: String, mut kept: Kept) {
        let this = Rc::downgrade(self);
        tokio::task::spawn_local(async move {
            if let Ok(Ok(())) = timeout(READY_WITHIN, kept.sender.ready()).await
                && let Some(idle) = this.upgrade()
            {
                let first = idle.idle.borrow_mut().put((upstream, endpoint), kept);
                if first {
                    tokio::task::spawn_local(sweep(this));
                }
            }
        });
    }
}

/// Runs while there are idle connections.
async fn sweep(idle: Weak<IdleUpstreams>) {
    loop {
        tokio::time::sleep(SWEEP_IDLE).await;
        let Some(idle) = idle.upgrade() else { return };
        if !idle.idle.borrow_mut().sweep() {
            return;
        }
    }
}

/// Where a request goes, and how long that may take.
pub(super) struct Exchange<'a> {
    pub(super) upstreams: &'a Upstreams,
    pub(super) idle: &'a Rc<IdleUpstreams>,
    pub(super) upstream: &'a str,
    pub(super) path_and_query: String,
    pub(super) client_host: &'a HeaderValue,
    /// An edit of the route or of a filter has set `Host`.
    pub(super) sets_host: bool,
    /// For the choice of an endpoint.
    pub(super) client: &'a Client,
    pub(super) response_timeout: Duration,
    pub(super) send_timeout: Duration,
    /// Of a connection.
    pub(super) deadline: Instant,
}

/// The head of the answer, and the way by which it came.
pub(super) struct Ask {
    pub(super) response: Response<Incoming>,
    pub(super) place: Place,
    pub(super) kept: Kept,
    /// `Set-Cookie` for the client, where it is to come back to this endpoint and has no such cookie.
    pub(super) affinity_cookie: Option<HeaderValue>,
}

/// Where it came from.
pub(super) struct Place {
    pub(super) upstream: String,
    pub(super) endpoint: String,
    /// Counts the request, for as long as it is kept.
    pub(super) _lease: Lease,
}

/// Why there is no answer.
enum Unanswered {
    Late,
    /// Nothing was sent.
    NotSent(Box<Request<Upload>>),
    Broken(hyper::Error),
}

impl Exchange<'_> {
    /// Sends the request, which has no target yet.
    pub(super) async fn ask(&self, mut request: Request<Upload>, record: &Record) -> Result<Ask, Refusal> {
        let sent = Rc::clone(request.body().sent());
        let failed = |error: DialError| self.failed(record, error);
        let headers = request.headers().clone();
        let query = self.path_and_query.split_once('?').map(|(_, query)| query);
        let input = ChoiceInput { client: self.client, headers: &headers, query };
        let mut attempts = self.upstreams.attempts(self.upstream, input, self.deadline).map_err(failed)?;
        let mut chosen = attempts.choose().await.map_err(failed)?;
        let mut use_kept = true;
        loop {
            let idle = if use_kept { self.idle.take(self.upstream, chosen.label()) } else { None };
            let was_kept = idle.is_some();
            let connected = match idle {
                Some(kept) => Ok(kept),
                None => self.connect(&chosen).await,
            };
            let mut kept = match connected {
                Ok(kept) => kept,
                // Nothing was sent: another endpoint may take it.
                Err(error) => {
                    attempts.failed(&chosen, error).map_err(failed)?;
                    chosen = attempts.choose().await.map_err(failed)?;
                    use_kept = true;
                    continue;
                }
            };
            kept.progress.set_timeout(self.send_timeout);
            if timeout_at(self.deadline, kept.sender.ready()).await.is_ok_and(|ready| ready.is_err()) {
                if was_kept {
                    continue;
                }
                return Err(Refusal::bad_answer());
            }
            self.direct(&mut request, &chosen).map_err(|error| failed(DialError::Request(error)))?;
            let again = again(&request).filter(|_| was_kept);
            sent.last.set(Instant::now());
            let unanswered = match respond(&mut kept, request, &sent, self.response_timeout).await {
                Ok(response) => {
                    tell(&chosen, response.status());
                    let affinity_cookie = chosen.affinity_cookie().cloned();
                    let (upstream, endpoint) = (self.upstream.to_owned(), chosen.label().to_owned());
                    let place = Place { upstream, endpoint, _lease: chosen.into_lease() };
                    return Ok(Ask { response, place, kept, affinity_cookie });
                }
                Err(unanswered) => unanswered,
            };
            if let Some(refusal) = sent.refusal() {
                return Err(refusal);
            }
            let endpoint = chosen.label().to_owned();
            let blamed = |error: DialError| {
                chosen.failed(&error);
                failed(error)
            };
            (request, use_kept) = match (unanswered, again) {
                // The upstream closed it meanwhile.
                (Unanswered::NotSent(request), _) if was_kept => (*request, true),
                (Unanswered::Broken(error), Some(again)) if !error.is_parse() => (again, false),
                (Unanswered::Late, _) => return Err(blamed(DialError::Timeout { endpoint })),
                (Unanswered::Broken(source), _) => {
                    let answered = source.is_parse();
                    return Err(blamed(DialError::Http { endpoint, answered, source }));
                }
                (Unanswered::NotSent(_), _) => return Err(Refusal::bad_answer()),
            };
        }
    }

    async fn connect(&self, chosen: &Chosen) -> Result<Kept, DialError> {
        let opened = open(chosen.connect().await?, self.send_timeout).await;
        opened.map_err(|source| DialError::Http { endpoint: chosen.label().to_owned(), answered: false, source })
    }

    /// Writes the target and `Host` for an endpoint into the request.
    fn direct(&self, request: &mut Request<Upload>, chosen: &Chosen) -> Result<(), http::Error> {
        *request.uri_mut() = Uri::try_from(format!("{}{}", chosen.base_path(), self.path_and_query))?;
        // `Host` is not among the headers of the client that come here; one that is was put there by an edit, or for an
        // endpoint that did not take the request.
        if !self.sets_host {
            request.headers_mut().insert(header::HOST, chosen.host_for(self.client_host));
        }
        Ok(())
    }

    fn failed(&self, record: &Record, error: DialError) -> Refusal {
        let why = &error as &dyn std::error::Error;
        tracing::warn!(request = record.id(), upstream = self.upstream, error = why, "not forwarded");
        Refusal::from(error)
    }
}

/// Tells outlier detection what the endpoint answered: as for openings, some statuses say that it cannot serve now.
fn tell(chosen: &Chosen, status: StatusCode) {
    let answer = Answer { status, headers: HeaderMap::new(), body: None };
    chosen.failed(&DialError::Answered(Box::new(answer)));
}

/// The request once more, where it may reach an upstream twice and has no body.
fn again(request: &Request<Upload>) -> Option<Request<Upload>> {
    let body = request.body().if_empty().filter(|_| METHODS_SENT_AGAIN.contains(request.method()))?;
    let mut again = Request::new(body);
    request.method().clone_into(again.method_mut());
    request.headers().clone_into(again.headers_mut());
    Some(again)
}

/// A new connection, with a task of its own.
async fn open(transport: Transport, send_timeout: Duration) -> Result<Kept, hyper::Error> {
    let progress = Progress::new(send_timeout);
    let socket = TokioIo::new(Watched::new(transport, Arc::clone(&progress)));
    let (sender, connection) =
        http1::Builder::new().max_headers(MAX_HEADERS).max_buf_size(MAX_READ_BYTES).handshake(socket).await?;
    let watched = Arc::clone(&progress);
    // How it ended is known to whoever waits for an answer.
    tokio::task::spawn_local(async move { drop(watched.guard(connection).await) });
    Ok(Kept { sender, progress })
}

/// The head of the answer. The time for it begins anew with whatever is sent of the request.
async fn respond(
    kept: &mut Kept,
    request: Request<Upload>,
    sent: &Sent,
    within: Duration,
) -> Result<Response<Incoming>, Unanswered> {
    let mut answer = pin!(kept.sender.try_send_request(request));
    loop {
        // One that cannot be reached is a year away.
        let end = sent.last.get() + within;
        match timeout_at(end, &mut answer).await {
            Ok(Ok(response)) => return Ok(response),
            Ok(Err(error)) => return Err(unanswered(error)),
            Err(_) if sent.last.get() + within > end => {}
            Err(_) => return Err(Unanswered::Late),
        }
    }
}

fn unanswered(mut error: TrySendError<Request<Upload>>) -> Unanswered {
    match error.take_message() {
        Some(request) => Unanswered::NotSent(Box::new(request)),
        None => Unanswered::Broken(error.into_error()),
    }
}
