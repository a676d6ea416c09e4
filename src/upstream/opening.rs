//! The client's side of the opening handshake (RFC 6455 section 4.1), over hyper.

use std::{
    future::poll_fn,
    pin::pin,
    task::{Context, Poll},
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use data_encoding::BASE64;
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response, StatusCode, Version, header, response};
use http_body_util::{BodyExt, Empty};
use hyper::{
    body::Incoming,
    client::conn::http1::{Builder, Connection},
};
use hyper_util::rt::TokioIo;
use tokio::time::{Instant, timeout_at};

use super::error::{Answer, BadUpgrade};
use crate::{
    http_head::{accept, list, lists},
    transport::Transport,
};

/// Headers of an upstream's answer.
const MAX_HEADERS: usize = 100;
/// Head of an upstream's answer.
const MAX_HEAD_BYTES: usize = 16 << 10;
/// Body of an answer that is not 101.
const MAX_ANSWER_BODY_BYTES: usize = 64 << 10;
/// For the body of an answer that is not 101.
const ANSWER_BODY_TIMEOUT: Duration = Duration::from_secs(1);

/// What a client may see of an answer that is not 101.
const PASSED_ON: &[HeaderName] = &[
    header::CACHE_CONTROL,
    header::CONTENT_ENCODING,
    header::CONTENT_LANGUAGE,
    header::CONTENT_TYPE,
    header::LOCATION,
    header::RETRY_AFTER,
    header::WWW_AUTHENTICATE,
];

/// An upstream that switched protocols.
pub(super) struct Opened {
    pub(super) transport: Transport,
    pub(super) read_ahead: Bytes,
    pub(super) headers: HeaderMap,
    pub(super) subprotocol: Option<String>,
}

/// Why it did not.
pub(super) enum NotOpened {
    Late,
    /// The connection ended before the first byte of an answer.
    Unanswered(hyper::Error),
    Http(hyper::Error),
    Bad(BadUpgrade),
    Answered(Box<Answer>),
}

/// Adds the handshake's headers; gives the `Sec-WebSocket-Accept` that answers them. `offered` are tokens.
pub(super) fn prepare(headers: &mut HeaderMap, offered: &[String]) -> Result<HeaderValue, http::Error> {
    let key = HeaderValue::try_from(BASE64.encode(&rand::random::<[u8; 16]>()))?;
    headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
    headers.insert(header::SEC_WEBSOCKET_VERSION, HeaderValue::from_static("13"));
    headers.remove(header::SEC_WEBSOCKET_EXTENSIONS);
    if offered.is_empty() {
        headers.remove(header::SEC_WEBSOCKET_PROTOCOL);
    } else {
        headers.insert(header::SEC_WEBSOCKET_PROTOCOL, HeaderValue::try_from(offered.join(", "))?);
    }
    let expected = accept(&key);
    headers.insert(header::SEC_WEBSOCKET_KEY, key);
    Ok(expected)
}

/// Sends a prepared request and reads the answer.
pub(super) async fn open(
    transport: Transport,
    request: Request<Empty<Bytes>>,
    expected_accept: &HeaderValue,
    offered: &[String],
    deadline: Instant,
) -> Result<Opened, NotOpened> {
    let mut builder = Builder::new();
    builder.max_headers(MAX_HEADERS).max_buf_size(MAX_HEAD_BYTES);
    let (mut sender, connection) = builder.handshake(TokioIo::new(transport)).await.map_err(NotOpened::Http)?;
    let mut exchange = Exchange { connection, done: false };
    let answer = exchange.drive(sender.send_request(request));
    let response = match timeout_at(deadline, answer).await.map_err(|_| NotOpened::Late)? {
        Ok(response) => response,
        Err(error) => return Err(exchange.failed(error)),
    };
    if response.status() != StatusCode::SWITCHING_PROTOCOLS {
        let late = deadline.min(Instant::now() + ANSWER_BODY_TIMEOUT);
        return Err(NotOpened::Answered(Box::new(exchange.answer(response, late).await)));
    }
    let (head, _) = response.into_parts();
    let subprotocol = check(&head, expected_accept, offered).map_err(NotOpened::Bad)?;
    let (transport, read_ahead) =
        timeout_at(deadline, exchange.into_transport()).await.map_err(|_| NotOpened::Late)?.map_err(NotOpened::Http)?;
    Ok(Opened { transport, read_ahead, headers: head.headers, subprotocol })
}

/// Sends a plain request and reads the status of its answer.
pub(super) async fn ask(transport: Transport, request: Request<Empty<Bytes>>) -> Result<StatusCode, hyper::Error> {
    let mut builder = Builder::new();
    builder.max_headers(MAX_HEADERS).max_buf_size(MAX_HEAD_BYTES);
    let (mut sender, connection) = builder.handshake(TokioIo::new(transport)).await?;
    let mut exchange = Exchange { connection, done: false };
    Ok(exchange.drive(sender.send_request(request)).await?.status())
}

/// The connection while it speaks HTTP. It has no task of its own: dropping the handshake closes it.
struct Exchange {
    connection: Connection<TokioIo<Transport>, Empty<Bytes>>,
    done: bool,
}

impl Exchange {
    /// Runs the connection until a future that depends on it is ready.
    async fn drive<F: Future>(&mut self, future: F) -> F::Output {
        let mut future = pin!(future);
        poll_fn(|cx| {
            // How the connection ended is told to the future, too.
            let _: Poll<Result<(), hyper::Error>> = self.poll(cx);
            future.as_mut().poll(cx)
        })
        .await
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), hyper::Error>> {
        if self.done {
            return Poll::Ready(Ok(()));
        }
        let ended = self.connection.poll_without_shutdown(cx);
        self.done = ended.is_ready();
        ended
    }

    /// Why there is no response.
    fn failed(self, error: hyper::Error) -> NotOpened {
        let nothing_read = self.connection.into_parts().read_buf.is_empty();
        if nothing_read && !error.is_parse() { NotOpened::Unanswered(error) } else { NotOpened::Http(error) }
    }

    async fn answer(&mut self, response: Response<Incoming>, late: Instant) -> Answer {
        let (head, body) = response.into_parts();
        let read = timeout_at(late, self.drive(read_body(body))).await;
        let mut headers = HeaderMap::new();
        for name in PASSED_ON {
            for value in head.headers.get_all(name) {
                headers.append(name, value.clone());
            }
        }
        Answer { status: head.status, headers, body: read.ok().flatten() }
    }

    /// After a 101: the stream, and what had been read beyond the head.
    async fn into_transport(mut self) -> Result<(Transport, Bytes), hyper::Error> {
        poll_fn(|cx| self.poll(cx)).await?;
        let parts = self.connection.into_parts();
        Ok((parts.io.into_inner(), parts.read_buf))
    }
}

/// The whole body, or nothing.
async fn read_body(mut body: Incoming) -> Option<Bytes> {
    let mut read = BytesMut::new();
    while let Some(frame) = body.frame().await {
        if let Ok(chunk) = frame.ok()?.into_data() {
            if read.len() + chunk.len() > MAX_ANSWER_BODY_BYTES {
                return None;
            }
            read.extend_from_slice(&chunk);
        }
    }
    Some(read.freeze())
}

/// RFC 6455 section 4.1, "the client MUST validate the server's response". Gives the subprotocol.
fn check(
    head: &response::Parts,
    expected_accept: &HeaderValue,
    offered: &[String],
) -> Result<Option<String>, BadUpgrade> {
    let headers = &head.headers;
    if head.version != Version::HTTP_11 {
        return Err(BadUpgrade::Version);
    }
    if !lists(headers, &header::UPGRADE, "websocket") {
        return Err(BadUpgrade::Upgrade);
    }
    if !lists(headers, &header::CONNECTION, "upgrade") {
        return Err(BadUpgrade::Connection);
    }
    if !headers.get_all(header::SEC_WEBSOCKET_ACCEPT).iter().eq([expected_accept]) {
        return Err(BadUpgrade::Accept);
    }
    // Some servers send the header without a value.
    let extensions = list(headers, &header::SEC_WEBSOCKET_EXTENSIONS).ok_or(BadUpgrade::Extension)?;
    if extensions.iter().any(|extension| !extension.is_empty()) {
        return Err(BadUpgrade::Extension);
    }
    let mut chosen = headers.get_all(header::SEC_WEBSOCKET_PROTOCOL).iter();
    match (chosen.next(), chosen.next()) {
        (None, _) => Ok(None),
        (Some(name), None) => {
            let name = offered.iter().find(|offered| name == offered.as_str());
            name.cloned().map(Some).ok_or(BadUpgrade::Subprotocol)
        }
        (Some(_), Some(_)) => Err(BadUpgrade::Subprotocol),
    }
}
