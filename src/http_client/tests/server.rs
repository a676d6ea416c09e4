//! A small HTTP server that does what a test says.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpListener},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::Duration,
};

use rcgen::{CertifiedKey, KeyPair, generate_simple_self_signed};
use rustls::{RootCertStore, ServerConfig, ServerConnection, StreamOwned, pki_types::PrivateKeyDer};

/// What came in.
pub(crate) struct Asked {
    /// As it came, in lower case.
    pub(crate) head: String,
    pub(crate) body: Vec<u8>,
}

/// What the server does then.
pub(crate) enum Reply {
    /// Writes this, and waits for the next request.
    Bytes(Vec<u8>),
    /// Writes this and closes.
    Last(Vec<u8>),
    /// Writes this and nothing more, until the client closes.
    Silence(Vec<u8>),
    /// Answers so after a while.
    After(Duration, Vec<u8>),
}

/// Runs until the process ends.
pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    pub(crate) connections: Arc<AtomicUsize>,
    pub(crate) requests: Arc<AtomicUsize>,
    /// Open now.
    pub(crate) open: Arc<AtomicUsize>,
}

/// An answer with this body.
pub(crate) fn answer(status: u16, headers: &str, body: &str) -> Vec<u8> {
    format!("HTTP/1.1 {status} X\r\ncontent-length: {}\r\n{headers}\r\n{body}", body.len()).into_bytes()
}

impl Server {
    pub(crate) fn start(reply: impl Fn(Asked) -> Reply + Send + Sync + 'static) -> Self {
        Self::run(None, reply)
    }

    /// Over TLS, with this certificate.
    pub(crate) fn start_tls(
        certificate: &CertifiedKey<KeyPair>,
        reply: impl Fn(Asked) -> Reply + Send + Sync + 'static,
    ) -> Self {
        let key = PrivateKeyDer::try_from(certificate.signing_key.serialize_der()).unwrap();
        let config = ServerConfig::builder_with_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![certificate.cert.der().clone()], key)
            .unwrap();
        Self::run(Some(Arc::new(config)), reply)
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    fn run(tls: Option<Arc<ServerConfig>>, reply: impl Fn(Asked) -> Reply + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let server = Self {
            address: listener.local_addr().unwrap(),
            connections: Arc::default(),
            requests: Arc::default(),
            open: Arc::default(),
        };
        let (connections, requests, open) = (server.connections.clone(), server.requests.clone(), server.open.clone());
        let reply = Arc::new(reply);
        thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                connections.fetch_add(1, Ordering::SeqCst);
                open.fetch_add(1, Ordering::SeqCst);
                let (requests, open, reply, tls) = (requests.clone(), open.clone(), reply.clone(), tls.clone());
                thread::spawn(move || {
                    let _ = match tls {
                        None => serve(stream, &requests, &*reply),
                        Some(tls) => {
                            let connection = ServerConnection::new(tls).unwrap();
                            serve(StreamOwned::new(connection, stream), &requests, &*reply)
                        }
                    };
                    open.fetch_sub(1, Ordering::SeqCst);
                });
            }
        });
        server
    }
}

/// Ends when the client closes, or as the reply says.
fn serve(mut stream: impl Read + Write, requests: &AtomicUsize, reply: &dyn Fn(Asked) -> Reply) -> Option<()> {
    let mut bytes = Vec::new();
    loop {
        let head_end = loop {
            if let Some(at) = bytes.windows(4).position(|window| window == b"\r\n\r\n") {
                break at + 4;
            }
            read_more(&mut stream, &mut bytes)?;
        };
        let head = String::from_utf8(bytes[..head_end].to_vec()).unwrap().to_ascii_lowercase();
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")?.parse().ok()).unwrap_or(0);
        while bytes.len() < head_end + length {
            read_more(&mut stream, &mut bytes)?;
        }
        let rest = bytes.split_off(head_end + length);
        let body = bytes.split_off(head_end);
        bytes = rest;
        requests.fetch_add(1, Ordering::SeqCst);
        let (answer, last) = match reply(Asked { head, body }) {
            Reply::Bytes(answer) => (answer, false),
            Reply::Last(answer) => (answer, true),
            Reply::After(time, answer) => {
                thread::sleep(time);
                (answer, false)
            }
            Reply::Silence(answer) => {
                stream.write_all(&answer).ok()?;
                stream.flush().ok()?;
                while read_more(&mut stream, &mut bytes).is_some() {}
                return None;
            }
        };
        stream.write_all(&answer).ok()?;
        stream.flush().ok()?;
        if last {
            return None;
        }
    }
}

fn read_more(stream: &mut impl Read, bytes: &mut Vec<u8>) -> Option<()> {
    let mut part = [0; 4096];
    let read = stream.read(&mut part).ok().filter(|&read| read > 0)?;
    bytes.extend_from_slice(&part[..read]);
    Some(())
}

/// A port on which nobody listens.
pub(crate) fn nobody() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

pub(crate) fn certificate() -> CertifiedKey<KeyPair> {
    generate_simple_self_signed(["localhost".to_owned()]).unwrap()
}

pub(crate) fn trusting(certificate: &CertifiedKey<KeyPair>) -> RootCertStore {
    let mut roots = RootCertStore::empty();
    roots.add(certificate.cert.der().clone()).unwrap();
    roots
}
