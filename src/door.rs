//! What happens to an accepted connection before its first HTTP byte: the header of the PROXY protocol, then TLS, each
//! where the listener has it. Who stands there afterwards is a [`Visitor`].

mod certificate;
mod proxy_header;
mod subject;
mod tls;

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use rustls::ServerConfig;
use thiserror::Error;
use tokio::{
    net::TcpStream,
    time::{Instant, timeout_at},
};
use tokio_rustls::TlsAcceptor;

use self::{
    certificate::{Certificate, Shown},
    proxy_header::{ProxyHeaderError, Sender},
    tls::TlsFailure,
};
pub use crate::tls_files::CertificateError;
use crate::{
    config::{self, Config, TrustedProxies},
    telemetry::{
        allowance::Allowance,
        metrics::{DoorMetrics, Metrics},
    },
    tls_files::{self, Look},
    transport::{Counted, Transport},
};

/// A connection that has not come so far by then is closed: PROXY header and TLS handshake together.
const ENTRY_TIMEOUT: Duration = Duration::from_secs(10);

/// Who stands behind a connection, as far as the connection itself tells.
#[derive(Clone, Debug)]
pub struct Visitor {
    /// The other end of the TCP connection, or whom a PROXY header named.
    pub address: SocketAddr,
    /// Did it come over TLS?
    pub secure: bool,
    /// Subject of the client certificate that it showed, as RFC 4514 writes it.
    pub certificate: Option<Arc<str>>,
    /// Who may speak for others on this listener.
    pub trusted_proxies: Arc<TrustedProxies>,
}

/// What connections of one listener have to pass.
pub struct Door {
    proxy_protocol: bool,
    trusted_proxies: Arc<TrustedProxies>,
    certificate: Option<Arc<Certificate>>,
    metrics: DoorMetrics,
    /// Anybody can fail as often as they like.
    lines: Allowance,
}

/// Watches the certificates of these doors for as long as there is one. Nothing is started where none has any.
///
/// # Errors
/// The thread cannot be made.
pub fn watch(doors: &[Arc<Door>]) -> io::Result<()> {
    let certificates = doors.iter().filter_map(|door| door.certificate.clone());
    tls_files::watch(certificates.map(|certificate| Arc::downgrade(&(certificate as Arc<dyn Look>))).collect())
}

/// Why a connection was closed at the door.
#[derive(Debug, Error)]
enum NotEntered {
    #[error("it took too long")]
    Late,
    #[error(transparent)]
    ProxyHeader(#[from] ProxyHeaderError),
    #[error(transparent)]
    Tls(#[from] TlsFailure),
}

impl NotEntered {
    fn label(&self) -> &'static str {
        match self {
            Self::Late => "timeout",
            Self::ProxyHeader(error) => error.label(),
            Self::Tls(failure) => failure.label(),
        }
    }
}

impl Door {
    /// The door of a listener. `name` is its label in metrics and logs.
    ///
    /// # Errors
    /// Certificate, key or client CAs cannot be used.
    pub fn new(name: &str, listener: &config::Listener, metrics: &Metrics) -> Result<Self, CertificateError> {
        let metrics = metrics.door(name);
        let certificate = listener.tls.as_ref().map(|files| Shown::load(files, name, &metrics)).transpose()?;
        Ok(Self {
            proxy_protocol: listener.proxy_protocol,
            trusted_proxies: Arc::new(listener.trusted_proxies.clone()),
            certificate: certificate.map(Arc::new),
            metrics,
            lines: Allowance::new(),
        })
    }

    /// Looks at the certificates of a configuration, and uses nothing.
    ///
    /// # Errors
    /// As [`Door::new`].
    pub fn check(config: &Config) -> Result<(), CertificateError> {
        config.listeners.iter().filter_map(|listener| listener.tls.as_ref()).try_for_each(certificate::check)
    }

    /// Does it speak TLS?
    #[must_use]
    pub fn is_secure(&self) -> bool {
        self.certificate.is_some()
    }

    /// Takes a connection in. `None`: it was closed, counted and logged.
    pub async fn enter(&self, stream: TcpStream, peer: SocketAddr) -> Option<(Transport, Visitor)> {
        let deadline = Instant::now() + ENTRY_TIMEOUT;
        match timeout_at(deadline, self.pass(stream, peer)).await.unwrap_or(Err(NotEntered::Late)) {
            Ok(entered) => Some(entered),
            Err(error) => {
                self.metrics.failed(error.label());
                if let Some(suppressed) = self.lines.take() {
                    let (reason, error) = (error.label(), &error as &dyn std::error::Error);
                    tracing::debug!(%peer, reason, error, suppressed, "closed before any request");
                }
                None
            }
        }
    }

    /// A connection was closed because too few file descriptors are left.
    pub fn turned_away(&self, peer: SocketAddr) {
        self.metrics.failed("descriptors");
        if let Some(suppressed) = self.lines.take() {
            tracing::error!(%peer, suppressed, "a connection is closed: too few file descriptors are left");
        }
    }

    /// A connection was closed because nothing that it said was a request.
    pub fn unheard(&self, reason: &'static str) {
        self.metrics.failed(reason);
    }

    async fn pass(&self, mut stream: TcpStream, peer: SocketAddr) -> Result<(Transport, Visitor), NotEntered> {
        let mut visitor = Visitor {
            address: peer,
            secure: false,
            certificate: None,
            trusted_proxies: Arc::clone(&self.trusted_proxies),
        };
        if self.proxy_protocol {
            if !self.trusted_proxies.is_empty() && !self.trusted_proxies.contains(peer.ip()) {
                return Err(ProxyHeaderError::Untrusted.into());
            }
            match proxy_header::read(&mut stream).await? {
                Sender::Named(address) => visitor.address = address,
                Sender::Itself => {}
            }
        }
        match &self.certificate {
            None => Ok((Transport::Tcp(stream), visitor)),
            Some(certificate) => self.shake_hands(Arc::clone(&certificate.serving().config), stream, visitor).await,
        }
    }

    async fn shake_hands(
        &self,
        config: Arc<ServerConfig>,
        stream: TcpStream,
        mut visitor: Visitor,
    ) -> Result<(Transport, Visitor), NotEntered> {
        let begun = Instant::now();
        let stream = TlsAcceptor::from(config).accept(Counted::new(stream)).await.map_err(TlsFailure::from)?;
        self.metrics.handshake_duration().observe(begun.elapsed().as_secs_f64());
        visitor.secure = true;
        let shown = stream.get_ref().1.peer_certificates().and_then(|chain| chain.first());
        visitor.certificate = shown.and_then(|certificate| subject::of(certificate)).map(Arc::from);
        Ok((Transport::Tls(Box::new(stream.into())), visitor))
    }
}
