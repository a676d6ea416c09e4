//! A byte stream to an endpoint: name, TCP, TLS.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use rustix::io::Errno;
use rustls::pki_types::ServerName;
use tokio::{
    net::{TcpStream, lookup_host},
    time::{Instant, timeout_at},
};
use tokio_rustls::TlsConnector;

use super::error::ConnectError;
use crate::{
    descriptors::is_reserved,
    transport::{Counted, Transport},
};

/// Addresses of one name that are tried.
const MAX_ADDRESSES: usize = 8;

/// Where an endpoint is, checked.
#[derive(Clone)]
pub(crate) struct Address {
    pub(crate) host: String,
    pub(crate) port: u16,
    pub(crate) tls: Option<Tls>,
}

/// How the endpoint proves who it is.
#[derive(Clone)]
pub(crate) struct Tls {
    pub(crate) config: Arc<rustls::ClientConfig>,
    pub(crate) server_name: ServerName<'static>,
}

/// Connects within `timeout` and before `deadline`, whichever is sooner.
pub(crate) async fn connect(
    address: &Address,
    timeout: Duration,
    deadline: Instant,
) -> Result<Transport, ConnectError> {
    let start = Instant::now();
    let end = start.checked_add(timeout).map_or(deadline, |end| end.min(deadline));
    let late = |_| ConnectError::Timeout(end.saturating_duration_since(start));
    let found = timeout_at(end, resolve(address)).await.map_err(late)??;
    let tcp = tcp(&found, end).await?;
    match &address.tls {
        None => Ok(Transport::Tcp(tcp)),
        Some(tls) => {
            let handshake =
                TlsConnector::from(Arc::clone(&tls.config)).connect(tls.server_name.clone(), Counted::new(tcp));
            let stream = timeout_at(end, handshake).await.map_err(late)?.map_err(ConnectError::Tls)?;
            Ok(Transport::Tls(Box::new(stream.into())))
        }
    }
}

async fn resolve(address: &Address) -> Result<Vec<SocketAddr>, ConnectError> {
    let found = lookup_host((address.host.as_str(), address.port)).await.map_err(ConnectError::Resolve)?;
    Ok(found.take(MAX_ADDRESSES).collect())
}

/// Tries each address. None may use up the time of those after it: one that swallows packets gets its share only.
async fn tcp(addresses: &[SocketAddr], end: Instant) -> Result<TcpStream, ConnectError> {
    let mut failed = ConnectError::NoAddress;
    for (index, address) in addresses.iter().enumerate() {
        let now = Instant::now();
        let left = u32::try_from(addresses.len() - index).unwrap_or(u32::MAX);
        let share = end.saturating_duration_since(now) / left;
        failed = match timeout_at(now + share, TcpStream::connect(address)).await {
            Ok(Ok(stream)) if is_reserved(&stream) => ConnectError::Tcp(Errno::MFILE.into()),
            Ok(Ok(stream)) => match stream.set_nodelay(true) {
                Ok(()) => return Ok(stream),
                Err(error) => ConnectError::Tcp(error),
            },
            Ok(Err(error)) => ConnectError::Tcp(error),
            Err(_) => ConnectError::Timeout(share),
        };
    }
    Err(failed)
}
