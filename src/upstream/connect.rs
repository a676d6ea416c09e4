//! A byte stream to an endpoint: name, TCP, TLS; or a Unix socket.

use std::{
    fmt,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use rustix::io::Errno;
use rustls::{ClientConfig, pki_types::ServerName};
use tokio::{
    net::{TcpStream, UnixStream, lookup_host},
    time::{Instant, sleep, timeout_at},
};
use tokio_rustls::TlsConnector;

use super::{error::ConnectError, trust::Trust};
use crate::{
    descriptors::is_reserved,
    transport::{Counted, Transport},
};

/// Addresses of one name that are tried.
const MAX_ADDRESSES: usize = 8;
/// A Unix socket whose backlog is full refuses instead of letting wait, as TCP does: asked again after this time, and
/// after twice as long each further time, up to the other.
const FIRST_BACKLOG_PAUSE: Duration = Duration::from_millis(1);
const LONGEST_BACKLOG_PAUSE: Duration = Duration::from_millis(32);

/// Where an endpoint is, checked.
#[derive(Clone)]
pub(crate) struct Address {
    pub(crate) place: Place,
    pub(crate) tls: Option<Tls>,
}

/// What its socket is bound to.
#[derive(Clone)]
pub(crate) enum Place {
    Tcp {
        host: String,
        port: u16,
    },
    /// `@` at the beginning stands for the NUL of abstract names (unix(7)).
    Unix(PathBuf),
}

/// How the endpoint proves who it is.
#[derive(Clone)]
pub(crate) struct Tls {
    pub(crate) trust: Trust,
    pub(crate) server_name: ServerName<'static>,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp { host, .. } => f.write_str(host),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

impl Address {
    /// What a TLS handshake with it begins with now.
    pub(super) fn tls_now(&self) -> Option<Arc<ClientConfig>> {
        self.tls.as_ref().map(|tls| tls.trust.current())
    }
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
    let tcp = match &address.place {
        Place::Unix(path) => return timeout_at(end, unix(path)).await.map_err(late)?.map(Transport::Unix),
        Place::Tcp { host, port } => {
            let found = timeout_at(end, resolve(host, *port)).await.map_err(late)??;
            tcp(&found, end).await?
        }
    };
    match &address.tls {
        None => Ok(Transport::Tcp(tcp)),
        Some(tls) => {
            let handshake = TlsConnector::from(tls.trust.current()).connect(tls.server_name.clone(), Counted::new(tcp));
            let stream = timeout_at(end, handshake).await.map_err(late)?.map_err(ConnectError::Tls)?;
            Ok(Transport::Tls(Box::new(stream.into())))
        }
    }
}

async fn resolve(host: &str, port: u16) -> Result<Vec<SocketAddr>, ConnectError> {
    let found = lookup_host((host, port)).await.map_err(ConnectError::Resolve)?;
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

/// Waits where the backlog of the socket is full.
async fn unix(path: &Path) -> Result<UnixStream, ConnectError> {
    let abstract_name = path.to_str().and_then(|path| path.strip_prefix('@')).map(|name| format!("\0{name}"));
    let path = abstract_name.as_ref().map_or(path, Path::new);
    let mut pause = FIRST_BACKLOG_PAUSE;
    loop {
        match UnixStream::connect(path).await {
            Ok(stream) if is_reserved(&stream) => return Err(ConnectError::Unix(Errno::MFILE.into())),
            Ok(stream) => return Ok(stream),
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {
                sleep(pause).await;
                pause = (pause * 2).min(LONGEST_BACKLOG_PAUSE);
            }
            Err(error) => return Err(ConnectError::Unix(error)),
        }
    }
}
