//! A request to the upstream, up to the head of the answer, on a connection that was idle or on a new one.

use std::{
    cell::RefCell,
    pin::pin,
    rc::{Rc, Weak},
    sync::Arc,
    time::Duration,
};

use http::{HeaderValue, Method, Request, Response, Uri, header};
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
    upstream::{DialError, Place, Upstreams, Way},
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
    pub(super) response_timeout: Duration,
    pub(super) send_timeout: Duration,
    /// Of a connection.
    pub(super) deadline: Instant,
}

/// The head of the answer, and the way by which it came.
pub(super) struct Ask {
    pub(super) response: Response<Incoming>,
    pub(super) place: (String, Place),
    pub(super) kept: Kept,
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
        let mut use_kept = true;
        loop {
            let take = |endpoint: &str| if use_kept { self.idle.take(self.upstream, endpoint) } else { None };
            let reached = self.upstreams.way(self.upstream, take, self.deadline).await;
            let (place, way) = reached.map_err(|error| self.failed(record, error))?;
            let was_kept = matches!(way, Way::Kept(_));
            let mut kept = match way {
                Way::Kept(kept) => kept,
                Way::New(transport) => open(transport, self.send_timeout).await.map_err(|source| {
                    self.failed(record, DialError::Http { endpoint: place.endpoint.clone(), source })
                })?,
            };
            kept.progress.set_timeout(self.send_timeout);
            if timeout_at(self.deadline, kept.sender.ready()).await.is_ok_and(|ready| ready.is_err()) {
                use_kept &= was_kept;
                if was_kept {
                    continue;
                }
                return Err(Refusal::bad_answer());
            }
            self.direct(&mut request, &place).map_err(|error| self.failed(record, DialError::Request(error)))?;
            let again = again(&request).filter(|_| was_kept);
            sent.last.set(Instant::now());
            let unanswered = match respond(&mut kept, request, &sent, self.response_timeout).await {
                Ok(response) => return Ok(Ask { response, place: (self.upstream.to_owned(), place), kept }),
                Err(unanswered) => unanswered,
            };
            if let Some(refusal) = sent.refusal() {
                return Err(refusal);
            }
            let endpoint = place.endpoint.clone();
            (request, use_kept) = match (unanswered, again) {
                // The upstream closed it meanwhile.
                (Unanswered::NotSent(request), _) if was_kept => (*request, true),
                (Unanswered::Broken(error), Some(again)) if !error.is_parse() => (again, false),
                (Unanswered::Late, _) => return Err(self.failed(record, DialError::Timeout { endpoint })),
                (Unanswered::Broken(source), _) => {
                    return Err(self.failed(record, DialError::Http { endpoint, source }));
                }
                (Unanswered::NotSent(_), _) => return Err(Refusal::bad_answer()),
            };
        }
    }

    /// Writes the target and `Host` for an endpoint into the request.
    fn direct(&self, request: &mut Request<Upload>, place: &Place) -> Result<(), http::Error> {
        *request.uri_mut() = Uri::try_from(format!("{}{}", place.base_path, self.path_and_query))?;
        // `Host` is not among the headers of the client that come here; one that is was put there by an edit.
        if !request.headers().contains_key(header::HOST) {
            let host = place.host.as_ref().unwrap_or(self.client_host);
            request.headers_mut().insert(header::HOST, host.clone());
        }
        Ok(())
    }

    fn failed(&self, record: &Record, error: DialError) -> Refusal {
        let why = &error as &dyn std::error::Error;
        tracing::warn!(request = record.id(), upstream = self.upstream, error = why, "not forwarded");
        Refusal::from(error)
    }
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
