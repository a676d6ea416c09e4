//! Servers by hand over TCP, TLS and Unix sockets, and a proxy that makes the way to one of them long.

use std::{
    io::{Read, Write},
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    os::{fd::AsFd, unix::net::UnixListener},
    path::Path,
    sync::{Arc, Mutex, mpsc::sync_channel},
    thread,
    time::{Duration, Instant},
};

use rustix::event::{PollFd, PollFlags, poll};
use rustls::{
    RootCertStore, ServerConfig, ServerConnection, StreamOwned,
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    server::WebPkiClientVerifier,
};

use super::{
    tls::{Authority, Pair},
    wire::{CLOSE, Frame, accept_for, decode, encode},
};

/// A stream of any kind.
pub(crate) trait Stream: Read + Write + Send {
    /// Returns once there is something to read, and reads nothing.
    fn wait_readable(&self);
}

impl<S: Read + Write + Send + AsFd> Stream for S {
    fn wait_readable(&self) {
        poll(&mut [PollFd::new(self, PollFlags::IN)], None).unwrap();
    }
}

struct OverTls(StreamOwned<ServerConnection, TcpStream>);

impl Read for OverTls {
    fn read(&mut self, into: &mut [u8]) -> std::io::Result<usize> {
        self.0.read(into)
    }
}

impl Write for OverTls {
    fn write(&mut self, from: &[u8]) -> std::io::Result<usize> {
        self.0.write(from)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.0.flush()
    }
}

impl AsFd for OverTls {
    fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
        self.0.sock.as_fd()
    }
}

/// The server's end of one connection.
pub(crate) struct Served {
    pub(crate) stream: Box<dyn Stream>,
    /// The name that was asked for, over TLS.
    pub(crate) asked_for: Option<String>,
    buffer: Vec<u8>,
}

impl Served {
    fn new(stream: Box<dyn Stream>, asked_for: Option<String>) -> Self {
        Self { stream, asked_for, buffer: Vec::new() }
    }

    /// The head of the request; `None` where the connection ends before.
    pub(crate) fn head(&mut self) -> Option<String> {
        loop {
            if let Some(end) = self.buffer.windows(4).position(|window| window == b"\r\n\r\n") {
                return Some(String::from_utf8(self.buffer.drain(..end + 4).collect()).unwrap());
            }
            self.fill()?;
        }
    }

    /// Answers 101.
    pub(crate) fn switch(&mut self, head: &str) {
        let key = head.lines().find_map(|line| line.strip_prefix("sec-websocket-key: ")).unwrap();
        let accept = accept_for(key);
        let head = format!(
            "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: {accept}\r\n\r\n"
        );
        self.write(head.as_bytes());
    }

    pub(crate) fn write(&mut self, bytes: &[u8]) {
        let _ = self.stream.write_all(bytes).and_then(|()| self.stream.flush());
    }

    pub(crate) fn next(&mut self) -> Option<Frame> {
        loop {
            if let Some((frame, used)) = decode(&self.buffer) {
                self.buffer.drain(..used);
                return Some(frame);
            }
            self.fill()?;
        }
    }

    /// Opens the WebSocket, says which request it was, and sends back what comes until the end.
    pub(crate) fn echo(mut self) {
        let Some(head) = self.head() else { return };
        self.switch(&head);
        self.write(&encode(0x81, head.as_bytes(), false));
        while let Some(frame) = self.next() {
            self.write(&encode(frame.first_byte, &frame.payload, false));
            if frame.opcode() == CLOSE {
                return;
            }
        }
    }

    fn fill(&mut self) -> Option<()> {
        let mut part = [0; 16384];
        let read = self.stream.read(&mut part).ok().filter(|read| *read > 0)?;
        self.buffer.extend_from_slice(&part[..read]);
        Some(())
    }
}

type Treat = Arc<dyn Fn(Served) + Send + Sync>;

/// Serves each connection in a thread of its own.
pub(crate) fn tcp(treat: impl Fn(Served) + Send + Sync + 'static) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let (address, treat): (_, Treat) = (listener.local_addr().unwrap(), Arc::new(treat));
    thread::spawn(move || {
        for stream in listener.incoming() {
            let (stream, treat) = (stream.unwrap(), Arc::clone(&treat));
            stream.set_nodelay(true).unwrap();
            thread::spawn(move || treat(Served::new(Box::new(stream), None)));
        }
    });
    address
}

/// What a TLS server shows and asks for; can be replaced.
#[derive(Clone)]
pub(crate) struct TlsConfig(Arc<Mutex<Arc<ServerConfig>>>);

impl TlsConfig {
    pub(crate) fn new(pair: &Pair, clients: Option<&Authority>) -> Self {
        Self(Arc::new(Mutex::new(server_config(pair, clients))))
    }

    pub(crate) fn replace(&self, pair: &Pair, clients: Option<&Authority>) {
        *self.0.lock().unwrap() = server_config(pair, clients);
    }
}

fn server_config(pair: &Pair, clients: Option<&Authority>) -> Arc<ServerConfig> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider)).with_safe_default_protocol_versions();
    let builder = match clients {
        None => builder.unwrap().with_no_client_auth(),
        Some(authority) => {
            let mut roots = RootCertStore::empty();
            roots.add(CertificateDer::from_pem_slice(authority.pem().as_bytes()).unwrap()).unwrap();
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build().unwrap();
            builder.unwrap().with_client_cert_verifier(verifier)
        }
    };
    let chain = vec![CertificateDer::from_pem_slice(pair.certificate.as_bytes()).unwrap()];
    let key = PrivateKeyDer::from_pem_slice(pair.key.as_bytes()).unwrap();
    Arc::new(builder.with_single_cert(chain, key).unwrap())
}

/// The same over TLS.
pub(crate) fn tls(config: &TlsConfig, treat: impl Fn(Served) + Send + Sync + 'static) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let (address, config): (_, TlsConfig) = (listener.local_addr().unwrap(), config.clone());
    let treat: Treat = Arc::new(treat);
    thread::spawn(move || {
        for stream in listener.incoming() {
            let (stream, treat) = (stream.unwrap(), Arc::clone(&treat));
            let connection = ServerConnection::new(Arc::clone(&*config.0.lock().unwrap())).unwrap();
            thread::spawn(move || {
                stream.set_nodelay(true).unwrap();
                let mut tls = StreamOwned::new(connection, stream);
                while tls.conn.is_handshaking() {
                    if tls.conn.complete_io(&mut tls.sock).is_err() {
                        return;
                    }
                }
                let asked_for = tls.conn.server_name().map(str::to_owned);
                treat(Served::new(Box::new(OverTls(tls)), asked_for));
            });
        }
    });
    address
}

/// The same at a path.
pub(crate) fn unix(path: &Path, treat: impl Fn(Served) + Send + Sync + 'static) {
    serve_unix(UnixListener::bind(path).unwrap(), treat);
}

pub(crate) fn serve_unix(listener: UnixListener, treat: impl Fn(Served) + Send + Sync + 'static) {
    let treat: Treat = Arc::new(treat);
    thread::spawn(move || {
        for stream in listener.incoming() {
            let (stream, treat) = (stream.unwrap(), Arc::clone(&treat));
            thread::spawn(move || treat(Served::new(Box::new(stream), None)));
        }
    });
}

/// A proxy that stands for a long way: what passes arrives this much later, and so do the two packets with which TCP
/// connects before a client may send anything.
pub(crate) fn long_way(to: SocketAddr, each_way: Duration) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for near in listener.incoming() {
            let near = near.unwrap();
            thread::spawn(move || {
                // The kernel has answered the client's SYN at once.
                thread::sleep(2 * each_way);
                let Ok(far) = TcpStream::connect(to) else { return };
                let (from_near, from_far) = (near.try_clone().unwrap(), far.try_clone().unwrap());
                late(from_near, far, each_way);
                late(from_far, near, each_way);
            });
        }
    });
    address
}

fn late(mut from: TcpStream, mut to: TcpStream, by: Duration) {
    from.set_nodelay(true).unwrap();
    let (sender, receiver) = sync_channel::<(Instant, Vec<u8>)>(1024);
    thread::spawn(move || {
        let mut part = [0; 16384];
        while let Ok(read @ 1..) = from.read(&mut part) {
            let _ = sender.send((Instant::now() + by, part[..read].to_vec()));
        }
    });
    thread::spawn(move || {
        for (due, bytes) in receiver {
            thread::sleep(due.saturating_duration_since(Instant::now()));
            if to.write_all(&bytes).is_err() {
                break;
            }
        }
        let _ = to.shutdown(Shutdown::Write);
    });
}
