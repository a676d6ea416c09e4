//! Certificates, and a WebSocket client over TLS whose records the test makes itself.

use std::{
    io::{self, Read, Write},
    net::{Shutdown, SocketAddr, TcpStream},
    sync::Arc,
    time::Duration,
};

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    KeyUsagePurpose,
};
use rustls::{
    ClientConfig, ClientConnection, RootCertStore, StreamOwned, SupportedProtocolVersion,
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject},
    version::{TLS12, TLS13},
};

use super::{
    http::Response,
    wire::{CLOSE, Frame, decode, encode, request},
};

/// Somebody who vouches for others.
pub(crate) struct Authority(CertifiedIssuer<'static, KeyPair>);

/// A certificate and its key, PEM.
#[derive(Clone)]
pub(crate) struct Pair {
    pub(crate) certificate: String,
    pub(crate) key: String,
}

impl Authority {
    pub(crate) fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        params.distinguished_name.push(DnType::CommonName, "test authority");
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    pub(crate) fn pem(&self) -> String {
        self.0.pem()
    }

    /// For `localhost` and 127.0.0.1, or for a client of this name.
    pub(crate) fn issue(&self, name: &str) -> Pair {
        let hosts = ["localhost".to_owned(), "127.0.0.1".to_owned()];
        let mut params = CertificateParams::new(hosts).unwrap();
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(DnType::OrganizationName, "Example");
        params.distinguished_name.push(DnType::CommonName, name);
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.0).unwrap();
        Pair { certificate: certificate.pem(), key: key.serialize_pem() }
    }

    /// A client that trusts this authority alone.
    pub(crate) fn trusting(&self, version: &'static SupportedProtocolVersion, own: Option<&Pair>) -> Arc<ClientConfig> {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(self.pem().as_bytes()).unwrap()).unwrap();
        let builder = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_protocol_versions(&[version])
            .unwrap()
            .with_root_certificates(roots);
        let mut config = match own {
            None => builder.with_no_client_auth(),
            Some(pair) => {
                let certificate = CertificateDer::from_pem_slice(pair.certificate.as_bytes()).unwrap();
                let key = PrivateKeyDer::from_pem_slice(pair.key.as_bytes()).unwrap();
                builder.with_client_auth_cert(vec![certificate], key).unwrap()
            }
        };
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Arc::new(config)
    }
}

pub(crate) const VERSIONS: [&SupportedProtocolVersion; 2] = [&TLS12, &TLS13];

/// A connection over TLS.
pub(crate) struct TlsClient {
    pub(crate) tls: StreamOwned<ClientConnection, TcpStream>,
    buffer: Vec<u8>,
}

impl TlsClient {
    /// A finished TLS handshake, as far as a client can tell.
    pub(crate) fn connect(stream: TcpStream, config: Arc<ClientConfig>, name: &str) -> io::Result<Self> {
        stream.set_read_timeout(Some(Duration::from_secs(30)))?;
        stream.set_nodelay(true)?;
        let name = ServerName::try_from(name.to_owned()).unwrap();
        let mut tls = StreamOwned::new(ClientConnection::new(config, name).unwrap(), stream);
        while tls.conn.is_handshaking() {
            tls.conn.complete_io(&mut tls.sock)?;
        }
        Ok(Self { tls, buffer: Vec::new() })
    }

    /// An open WebSocket.
    pub(crate) fn open(address: SocketAddr, config: Arc<ClientConfig>, path: &str) -> io::Result<Self> {
        let mut client = Self::connect(TcpStream::connect(address)?, config, "localhost")?;
        let answer = client.ask(&request("localhost", path))?;
        assert_eq!(answer.status, 101, "{answer:?}");
        Ok(client)
    }

    pub(crate) fn ask(&mut self, lines: &[String]) -> io::Result<Response> {
        self.tls.write_all(format!("{}\r\n\r\n", lines.join("\r\n")).as_bytes())?;
        self.answer()
    }

    /// The head of the next answer.
    pub(crate) fn answer(&mut self) -> io::Result<Response> {
        loop {
            if let Some(end) = self.buffer.windows(4).position(|window| window == b"\r\n\r\n") {
                let head: Vec<u8> = self.buffer.drain(..end + 4).take(end).collect();
                return Ok(Response::parse_head(&String::from_utf8(head).unwrap()));
            }
            if self.fill()? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
    }

    /// These frames, in as few records as they fit into.
    pub(crate) fn frames(&mut self, frames: &[(u8, &[u8])]) {
        let bytes: Vec<u8> = frames.iter().flat_map(|(first, payload)| encode(*first, payload, true)).collect();
        self.tls.write_all(&bytes).unwrap();
    }

    pub(crate) fn text(&mut self, text: &str) {
        self.frames(&[(0x81, text.as_bytes())]);
    }

    pub(crate) fn next(&mut self) -> io::Result<Option<Frame>> {
        loop {
            if let Some((frame, used)) = decode(&self.buffer) {
                self.buffer.drain(..used);
                return Ok(Some(frame));
            }
            if self.fill()? == 0 {
                return Ok(None);
            }
        }
    }

    pub(crate) fn next_text(&mut self) -> String {
        self.next().unwrap().expect("a message").text()
    }

    pub(crate) fn echoes(&mut self, text: &str) {
        self.text(text);
        assert_eq!(self.next_text(), text);
    }

    /// Closes the WebSocket; the other side must answer, and end TLS as it should.
    pub(crate) fn close(mut self) {
        self.frames(&[(0x80 | CLOSE, &1000_u16.to_be_bytes())]);
        let answer = self.next().unwrap().expect("a Close frame");
        assert_eq!(answer.close().0, 1000);
        // Without close_notify this would be an error.
        assert_eq!(self.next().unwrap(), None, "the end, said by close_notify");
    }

    /// Ends TCP without a word of TLS.
    pub(crate) fn cut(self) {
        self.tls.sock.shutdown(Shutdown::Both).unwrap();
    }

    fn fill(&mut self) -> io::Result<usize> {
        let mut part = [0; 16384];
        let read = self.tls.read(&mut part)?;
        self.buffer.extend_from_slice(&part[..read]);
        Ok(read)
    }
}
