//! The header of the PROXY protocol, version 1 (a line) or 2 (binary), in front of everything else that a connection
//! carries: <https://www.haproxy.org/download/2.9/doc/proxy-protocol.txt>.
//!
//! Not a byte behind it is taken from the socket.

use std::{io, net::SocketAddr};

use ppp::{v1, v2};
use thiserror::Error;
use tokio::{io::AsyncReadExt, net::TcpStream};

/// The longest line of version 1, its line break included.
const MAX_V1_BYTES: usize = 107;
/// The longest header of version 2 that is read. The addresses take 216 bytes at most; the rest is what balancers add,
/// such as names of certificates and endpoints, which is ignored here.
const MAX_V2_BYTES: usize = 4096;
/// The two versions are told apart by so many bytes; no header is shorter.
const SIGNATURE_BYTES: usize = 12;

/// What version 2 has before its addresses: the signature, version, kind and length.
const V2_HEAD_BYTES: usize = 16;

/// For whom the connection was made.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Sender {
    /// This client.
    Named(SocketAddr),
    /// The proxy for itself (such as a health check), or somebody without an IP address.
    Itself,
}

/// Why there is no header.
#[derive(Debug, Error)]
pub(super) enum ProxyHeaderError {
    #[error("only trusted_proxies may connect")]
    Untrusted,
    #[error("it does not begin with a PROXY header")]
    Missing,
    #[error("its PROXY header is malformed: {0}")]
    Malformed(String),
    #[error("it ended before its PROXY header did")]
    Lost(#[source] io::Error),
}

impl ProxyHeaderError {
    pub(super) fn label(&self) -> &'static str {
        match self {
            Self::Untrusted => "proxy_untrusted",
            Self::Missing => "proxy_header_missing",
            Self::Malformed(_) => "proxy_header_malformed",
            Self::Lost(_) => "closed",
        }
    }
}

/// Reads the header and nothing else.
pub(super) async fn read(stream: &mut TcpStream) -> Result<Sender, ProxyHeaderError> {
    let mut header = vec![0; SIGNATURE_BYTES];
    stream.read_exact(&mut header).await.map_err(ProxyHeaderError::Lost)?;
    if header == v2::PROTOCOL_PREFIX {
        read_v2(stream, header).await
    } else if header.starts_with(b"PROXY ") {
        read_v1(stream, header).await
    } else {
        Err(ProxyHeaderError::Missing)
    }
}

async fn read_v1(stream: &mut TcpStream, mut header: Vec<u8>) -> Result<Sender, ProxyHeaderError> {
    let mut ahead = [0; MAX_V1_BYTES];
    while header.last() != Some(&b'\n') {
        let room = MAX_V1_BYTES - header.len();
        if room == 0 {
            return Err(ProxyHeaderError::Malformed(format!("no line break within {MAX_V1_BYTES} bytes")));
        }
        let seen = stream.peek(&mut ahead[..room]).await.map_err(ProxyHeaderError::Lost)?;
        if seen == 0 {
            return Err(ProxyHeaderError::Lost(io::ErrorKind::UnexpectedEof.into()));
        }
        let end = ahead[..seen].iter().position(|byte| *byte == b'\n').map_or(seen, |at| at + 1);
        // What was seen is there, so this does not wait.
        stream.read_exact(&mut ahead[..end]).await.map_err(ProxyHeaderError::Lost)?;
        header.extend_from_slice(&ahead[..end]);
    }
    parse_v1(&header)
}

async fn read_v2(stream: &mut TcpStream, mut header: Vec<u8>) -> Result<Sender, ProxyHeaderError> {
    header.resize(V2_HEAD_BYTES, 0);
    stream.read_exact(&mut header[SIGNATURE_BYTES..]).await.map_err(ProxyHeaderError::Lost)?;
    let declared = usize::from(u16::from_be_bytes([header[14], header[15]]));
    if V2_HEAD_BYTES + declared > MAX_V2_BYTES {
        return Err(ProxyHeaderError::Malformed(format!("it declares {declared} bytes; {MAX_V2_BYTES} are read")));
    }
    header.resize(V2_HEAD_BYTES + declared, 0);
    stream.read_exact(&mut header[V2_HEAD_BYTES..]).await.map_err(ProxyHeaderError::Lost)?;
    parse_v2(&header)
}

fn parse_v1(header: &[u8]) -> Result<Sender, ProxyHeaderError> {
    // The library takes a carriage return for a space, a space for one, and a sign before a port.
    let plain = |byte: &u8| byte.is_ascii_alphanumeric() || b" .:".contains(byte);
    let well_formed = |line: &[u8]| line.starts_with(b"PROXY UNKNOWN") || line.iter().all(plain);
    if !header.strip_suffix(b"\r\n").is_some_and(well_formed) {
        return Err(ProxyHeaderError::Malformed("its line has what no address and no port has".to_owned()));
    }
    let header = v1::Header::try_from(header).map_err(|error| ProxyHeaderError::Malformed(error.to_string()))?;
    Ok(match header.addresses {
        v1::Addresses::Unknown => Sender::Itself,
        v1::Addresses::Tcp4(of) => Sender::Named((of.source_address, of.source_port).into()),
        v1::Addresses::Tcp6(of) => Sender::Named((of.source_address, of.source_port).into()),
    })
}

fn parse_v2(header: &[u8]) -> Result<Sender, ProxyHeaderError> {
    let header = v2::Header::try_from(header).map_err(|error| ProxyHeaderError::Malformed(error.to_string()))?;
    match (header.command, header.protocol) {
        (v2::Command::Local, _) => return Ok(Sender::Itself),
        (v2::Command::Proxy, v2::Protocol::Datagram) => {
            return Err(ProxyHeaderError::Malformed("it speaks of datagrams".to_owned()));
        }
        (v2::Command::Proxy, protocol @ (v2::Protocol::Stream | v2::Protocol::Unspecified)) => {
            // The specification: what it does not list must be rejected.
            let no_family = header.address_family() == v2::AddressFamily::Unspecified;
            if no_family != (protocol == v2::Protocol::Unspecified) {
                return Err(ProxyHeaderError::Malformed("its family and its protocol do not go together".to_owned()));
            }
        }
    }
    Ok(match header.addresses {
        v2::Addresses::Unspecified | v2::Addresses::Unix(_) => Sender::Itself,
        v2::Addresses::IPv4(of) => Sender::Named((of.source_address, of.source_port).into()),
        v2::Addresses::IPv6(of) => Sender::Named((of.source_address, of.source_port).into()),
    })
}

#[cfg(test)]
mod tests;
