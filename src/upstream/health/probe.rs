//! One check of an endpoint.

use std::{io, time::Duration};

use http::{HeaderMap, HeaderValue, Request, StatusCode, Uri, header};
use http_body_util::Empty;
use thiserror::Error;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    time::Instant,
};

use super::super::{
    attempts::is_our_own,
    endpoint::Endpoint,
    error::{ConnectError, DialError},
    opening::{self, Opened},
};
use crate::config::Probe;

/// What an endpoint may say before it answers the ping.
const MAX_SAID_BYTES: usize = 64 << 10;
const PING: u8 = 0x9;
const PONG: u8 = 0xA;
const FIN: u8 = 0x80;
const MASKED: u8 = 0x80;

/// Why a check failed.
#[derive(Debug, Error)]
pub(super) enum NotWell {
    #[error("the check took longer than {0:?}")]
    Late(Duration),
    #[error("it cannot be reached")]
    Connect(#[source] ConnectError),
    #[error("it does not answer HTTP")]
    Http(#[source] hyper::Error),
    #[error("it answers {0}")]
    Status(StatusCode),
    #[error("it opens no WebSocket")]
    NotOpened(#[source] DialError),
    #[error("it does not answer a ping")]
    NoPong(#[source] io::Error),
    #[error("the check cannot be made")]
    Request(#[source] http::Error),
}

impl NotWell {
    /// Is the gateway itself to blame?
    pub(super) fn is_our_own(&self) -> bool {
        matches!(self, Self::Connect(ConnectError::Tcp(error) | ConnectError::Unix(error)) if is_our_own(error))
    }
}

/// Asks once.
pub(super) async fn probe(endpoint: &Endpoint, probe: &Probe, end: Instant) -> Result<(), NotWell> {
    let transport = endpoint.dialler.connect(end).await.map_err(NotWell::Connect)?;
    let own = HeaderValue::try_from(&endpoint.host_and_port).map_err(|error| NotWell::Request(error.into()))?;
    let host = endpoint.host_for(&own);
    match probe {
        Probe::Connect => Ok(()),
        Probe::Http(path) => {
            let uri = Uri::try_from(path).map_err(|error| NotWell::Request(error.into()))?;
            let request = Request::get(uri).header(header::HOST, host).header(header::CONNECTION, "close");
            let request = request.header(header::USER_AGENT, "wsgate-health-check").body(Empty::new());
            let status = opening::ask(transport, request.map_err(NotWell::Request)?).await.map_err(NotWell::Http)?;
            if (200..400).contains(&status.as_u16()) { Ok(()) } else { Err(NotWell::Status(status)) }
        }
        Probe::WebSocket(path) => {
            let headers = HeaderMap::from_iter([(header::HOST, host)]);
            let opened = endpoint.open_at(transport, path, headers, end).await.map_err(NotWell::NotOpened)?;
            ping(opened).await.map_err(NotWell::NoPong)
        }
    }
}

/// Sends a ping and reads until its pong comes; then the connection is dropped. Frames of servers have no mask (RFC 6455
/// section 5.1), and whatever else they say is passed over.
async fn ping(opened: Opened) -> io::Result<()> {
    let Opened { mut transport, read_ahead, .. } = opened;
    let payload: [u8; 8] = rand::random();
    let mask: [u8; 4] = rand::random();
    let mut frame = vec![FIN | PING, MASKED | 8];
    frame.extend(mask);
    frame.extend(payload.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask));
    transport.write_all(&frame).await?;
    transport.flush().await?;
    let mut said = read_ahead.chain(transport);
    let mut left = MAX_SAID_BYTES;
    loop {
        let (first, second) = (said.read_u8().await?, said.read_u8().await?);
        let length = match second & !MASKED {
            126 => said.read_u16().await?.into(),
            127 => said.read_u64().await?,
            length => length.into(),
        };
        let length = usize::try_from(length).ok().filter(|length| *length <= left);
        let length = length.ok_or_else(|| io::Error::other("it says too much before it answers"))?;
        left = left.saturating_sub(length + 2);
        let mut body = vec![0; length];
        said.read_exact(&mut body).await?;
        if first == FIN | PONG && body == payload {
            return Ok(());
        }
    }
}
