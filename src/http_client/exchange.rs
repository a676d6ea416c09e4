//! One request, on a connection that was idle or on a new one, and its response.

use std::{sync::Arc, time::Duration};

use http::{HeaderName, StatusCode, header, response::Parts};
use http_body_util::BodyExt;
use hyper::{
    body::{Body, Incoming},
    client::conn::http1,
};
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use tokio::time::{Instant, timeout};

use super::{
    CallError, Client, RESPONSE_HEAD_BYTES, RESPONSE_HEADERS, Response,
    idle::Sender,
    request::{Origin, Request},
    with_causes,
};
use crate::{
    http_head::is_of_the_connection,
    upstream::{
        connect::{Address, Place, Tls, connect},
        trust::Trust,
    },
};

/// Name, TCP and TLS together; the call's own time may be shorter.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// A connection is ready for another request as soon as its server has read the last one.
const READY_WITHIN: Duration = Duration::from_secs(1);

/// Sends it and reads the whole response.
pub(super) async fn exchange(
    client: &Arc<Client>,
    request: &Request,
    end: Instant,
    max_body_bytes: usize,
) -> Result<Response, CallError> {
    let (sender, response) = respond(client, request, end).await?;
    let (parts, body) = response.into_parts();
    if parts.status == StatusCode::SWITCHING_PROTOCOLS {
        return Err(CallError::Unavailable("the server switched protocols, unasked".to_owned()));
    }
    // hyper bounds what it buffers, not exactly the head.
    if parts.headers.iter().map(|(name, value)| name.as_str().len() + value.len()).sum::<usize>() > RESPONSE_HEAD_BYTES
    {
        return Err(CallError::TooLarge);
    }
    let body = collect(body, max_body_bytes).await?;
    keep(client.clone(), request.origin().clone(), sender);
    Ok(Response { status: parts.status.as_u16(), headers: headers(&parts), body })
}

/// Keeps the connection for another request, unless the server closes it now or does not take the rest of this one.
fn keep(client: Arc<Client>, origin: Origin, mut sender: Sender) {
    tokio::spawn(async move {
        if let Ok(Ok(())) = timeout(READY_WITHIN, sender.ready()).await {
            client.put_idle(&origin, sender);
        }
    });
}

/// The head of the response, and the connection on which it came.
async fn respond(
    client: &Arc<Client>,
    request: &Request,
    end: Instant,
) -> Result<(Sender, http::Response<Incoming>), CallError> {
    while let Some(mut sender) = client.take_idle(request.origin()) {
        if sender.ready().await.is_err() {
            continue;
        }
        let mut error = match sender.try_send_request(request.to_http()).await {
            Ok(response) => return Ok((sender, response)),
            Err(error) => error,
        };
        // The server closed it meanwhile, and has perhaps read the request before.
        if error.take_message().is_some() {
            continue;
        }
        if error.error().is_parse() || !request.is_idempotent() {
            return Err(failed(error.error()));
        }
        break;
    }
    let mut sender = open(client, request.origin(), end).await?;
    let response = sender.send_request(request.to_http()).await.map_err(|error| failed(&error))?;
    Ok((sender, response))
}

/// A new connection. It is closed when its sender is dropped.
async fn open(client: &Client, origin: &Origin, end: Instant) -> Result<Sender, CallError> {
    let tls = match (origin.tls, client.tls.get()) {
        (false, _) => None,
        (true, None) => return Err(CallError::Unavailable("there are no root certificates".to_owned())),
        (true, Some(config)) => {
            let server_name = ServerName::try_from(origin.host.clone());
            let server_name =
                server_name.map_err(|_| CallError::Invalid("no certificate is for such a host".into()))?;
            Some(Tls { trust: Trust::Fixed(config.clone()), server_name })
        }
    };
    let address = Address { place: Place::Tcp { host: origin.host.clone(), port: origin.port }, tls };
    let transport = connect(&address, CONNECT_TIMEOUT, end).await?;
    let (sender, connection) = http1::Builder::new()
        .max_headers(RESPONSE_HEADERS)
        .max_buf_size(RESPONSE_HEAD_BYTES)
        .handshake(TokioIo::new(transport))
        .await
        .map_err(|error| failed(&error))?;
    // How it ended is known to whoever waits for a response.
    tokio::spawn(async move { drop(connection.await) });
    Ok(sender)
}

async fn collect(mut body: Incoming, max_bytes: usize) -> Result<Vec<u8>, CallError> {
    let too_large = |bytes: u64| bytes > max_bytes as u64;
    if too_large(body.size_hint().lower()) {
        return Err(CallError::TooLarge);
    }
    let mut bytes = Vec::with_capacity(usize::try_from(body.size_hint().lower()).unwrap_or(0));
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| failed(&error))?;
        // Trailers are left out.
        let Ok(data) = frame.into_data() else { continue };
        if too_large((bytes.len() + data.len()) as u64) {
            return Err(CallError::TooLarge);
        }
        bytes.extend_from_slice(&data);
    }
    Ok(bytes)
}

fn headers(parts: &Parts) -> Vec<(String, Vec<u8>)> {
    // The length is also that of what HEAD does not send.
    let kept = |name: &HeaderName| name == header::CONTENT_LENGTH || !is_of_the_connection(name);
    let headers = parts.headers.iter().filter(|(name, _)| kept(name));
    headers.map(|(name, value)| (name.as_str().to_owned(), value.as_bytes().to_vec())).collect()
}

fn failed(error: &hyper::Error) -> CallError {
    if error.is_parse_too_large() {
        return CallError::TooLarge;
    }
    CallError::Unavailable(with_causes(error))
}
