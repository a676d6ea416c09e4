//! Why an upstream connection did not come about.

use std::{io, time::Duration};

use bytes::Bytes;
use http::{HeaderMap, StatusCode};
use thiserror::Error;

use crate::tls_files::CertificateError;

/// Upstreams that cannot be used as they are configured.
#[derive(Debug, Error)]
pub enum UpstreamsError {
    /// `wss://` needs certificates to check the endpoint's against.
    #[error("no usable root certificates are installed on this machine (SSL_CERT_FILE names another file)")]
    NoRoots,
    /// TLS cannot be set up.
    #[error("TLS towards upstreams cannot be set up")]
    Tls(#[source] rustls::Error),
    /// The files of an upstream's TLS cannot be used.
    #[error("upstream {upstream}")]
    Certificate {
        /// The upstream's name.
        upstream: String,
        /// Which file, and why.
        #[source]
        source: CertificateError,
    },
    /// A host to which no certificate can belong.
    #[error("{endpoint}: the host can have no certificate")]
    ServerName {
        /// `host:port`
        endpoint: String,
    },
    /// A configured text that no header can carry.
    #[error("upstream {upstream}: host_header cannot be sent")]
    HostHeader {
        /// The upstream's name.
        upstream: String,
    },
}

/// Why [`Upstreams::dial`](super::Upstreams::dial) failed. What it says of endpoints is for logs.
#[derive(Debug, Error)]
pub enum DialError {
    /// No upstream has this name.
    #[error("there is no upstream {name:?}")]
    Unknown {
        /// As asked for.
        name: String,
    },
    /// Every endpoint is unhealthy or ejected.
    #[error("no endpoint of {upstream} is healthy")]
    NoneHealthy {
        /// The upstream's name.
        upstream: String,
    },
    /// The request cannot be sent, whichever the endpoint.
    #[error("the request for the upstream is not valid")]
    Request(#[source] http::Error),
    /// No endpoint could be reached; this is what the last one said.
    #[error("{endpoint} cannot be reached")]
    Connect {
        /// `host:port`
        endpoint: String,
        /// Name, TCP or TLS.
        #[source]
        source: ConnectError,
    },
    /// Not reached, or no answer, in time.
    #[error("{endpoint} did not answer in time")]
    Timeout {
        /// `host:port`
        endpoint: String,
    },
    /// It broke off, or what it answered is not HTTP.
    #[error("{endpoint} broke off the handshake")]
    Http {
        /// `host:port`
        endpoint: String,
        /// Did anything come before?
        answered: bool,
        /// What hyper made of it.
        #[source]
        source: hyper::Error,
    },
    /// A 101 that RFC 6455 section 4.1 does not allow.
    #[error("{endpoint} switched protocols wrongly")]
    BadUpgrade {
        /// `host:port`
        endpoint: String,
        /// What is wrong.
        #[source]
        source: BadUpgrade,
    },
    /// Something else than 101, which is for the client.
    #[error("the upstream answered {}", .0.status)]
    Answered(Box<Answer>),
}

/// An upstream's answer when it is not 101.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Answer {
    /// Never 1xx.
    pub status: StatusCode,
    /// Those that are safe to pass on.
    pub headers: HeaderMap,
    /// `None` where it was longer than 64 KiB, late, or broke off.
    pub body: Option<Bytes>,
}

/// Why no byte stream to an endpoint came about.
#[derive(Debug, Error)]
pub enum ConnectError {
    /// The name was not found.
    #[error("its name cannot be resolved")]
    Resolve(#[source] io::Error),
    /// The name has no address.
    #[error("its name has no address")]
    NoAddress,
    /// No address took the connection; this is what the last one said.
    #[error("no connection")]
    Tcp(#[source] io::Error),
    /// The Unix socket did not take the connection.
    #[error("no connection to its socket")]
    Unix(#[source] io::Error),
    /// The TLS handshake failed.
    #[error("no TLS connection")]
    Tls(#[source] io::Error),
    /// Longer than `connect_timeout`, or than the deadline of the handshake.
    #[error("no connection within {0:?}")]
    Timeout(Duration),
}

/// What is wrong with an upstream's 101.
#[derive(Clone, Copy, Debug, Eq, Error, PartialEq)]
pub enum BadUpgrade {
    /// Only HTTP/1.1 can switch.
    #[error("it is not HTTP/1.1")]
    Version,
    /// `Upgrade` does not name `websocket`.
    #[error("Upgrade is not websocket")]
    Upgrade,
    /// `Connection` does not name `upgrade`.
    #[error("Connection does not contain upgrade")]
    Connection,
    /// Not the hash of the key, or not exactly one.
    #[error("Sec-WebSocket-Accept does not belong to the key")]
    Accept,
    /// Not one of those that were offered, or several.
    #[error("the subprotocol was not offered")]
    Subprotocol,
    /// The gateway offers none.
    #[error("an extension was not offered")]
    Extension,
}
