use std::{
    io::{Read, Write},
    net::TcpListener,
    path::Path,
    time::Instant as Clock,
};

use super::*;
use crate::{
    auth::Revocations,
    config::{self, Config},
    configured::Lasting,
    filter::Compiler,
    limit::Limits,
    state_dir::StateDir,
};

/// A worker with the routes `/panics` and `/echo`; the former's session panics after its first message.
fn worker(metrics: &Arc<Metrics>) -> Worker {
    let route = |name: &str| format!("[[routes]]\nname = \"{name}\"\npath = \"/{name}\"\ntarget = \"echo\"\n");
    let text = format!("[[listeners]]\naddress = \"127.0.0.1:0\"\n{}{}", route("panics"), route("echo"));
    let folder = tempfile::tempdir().unwrap();
    let (config, _) = Config::parse(&text, "test", Path::new(folder.path())).unwrap();
    let config = Arc::new(config);
    let hub = Hub::new(1 << 20, metrics.topics());
    let compiler = Compiler::in_process(Arc::new(StateDir::new(None)));
    let catalogue = Arc::new(Catalogue::start(&config, metrics, compiler, &hub).unwrap());
    let lasting = Lasting {
        limits: Arc::new(Limits::new(metrics)),
        revocations: Arc::new(Revocations::in_memory(metrics.auth.revocations())),
        metrics: Arc::clone(metrics),
    };
    let configured = Arc::new(Configured::new(config, &lasting, None).unwrap());
    Worker::start(0, Shared { configured, catalogue, hub, metrics: Arc::clone(metrics) }).unwrap()
}

struct Client(TcpStream);

impl Client {
    /// An open WebSocket to the worker.
    async fn open(worker: &Worker, listener: &TcpListener, door: &Arc<Door>, path: &str) -> Self {
        let mut client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        client.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        let (stream, peer) = listener.accept().unwrap();
        stream.set_nonblocking(true).unwrap();
        worker.take(stream, peer, Arc::clone(door)).await;
        let headers = "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==";
        let request = format!("GET {path} HTTP/1.1\r\nHost: a\r\n{headers}\r\nSec-WebSocket-Version: 13\r\n\r\n");
        client.write_all(request.as_bytes()).unwrap();
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            client.read_exact(&mut byte).unwrap();
            head.push(byte[0]);
        }
        assert!(head.starts_with(b"HTTP/1.1 101"), "{}", String::from_utf8_lossy(&head));
        Self(client)
    }

    /// What is answered to a text message of three bytes; nothing where the connection ends.
    fn say(&mut self) -> Vec<u8> {
        self.0.write_all(&[0x81, 0x83, 0, 0, 0, 0, b'h', b'e', b'y']).unwrap();
        let mut answer = vec![0; 5];
        match self.0.read_exact(&mut answer) {
            Ok(()) => answer,
            Err(error) => {
                assert_ne!(error.kind(), io::ErrorKind::WouldBlock, "the connection is still there");
                Vec::new()
            }
        }
    }
}

#[test]
fn a_panic_ends_its_connection_and_no_other_and_is_counted_out() {
    let metrics = Arc::new(Metrics::new().unwrap());
    let worker = worker(&metrics);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let door = Arc::new(Door::new("test", &config::Listener::at(address), &metrics).unwrap());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let mut neighbour = Client::open(&worker, &listener, &door, "/echo").await;
        assert_eq!(neighbour.say(), b"\x81\x03hey");
        for _ in 0..3 {
            let mut unlucky = Client::open(&worker, &listener, &door, "/panics").await;
            unlucky.say();
            assert_eq!(unlucky.say(), b"", "the second message meets a panic");
            assert_eq!(unlucky.0.read(&mut [0]).unwrap_or(0), 0, "it has ended");
        }
        assert_eq!(neighbour.say(), b"\x81\x03hey");
        let deadline = Clock::now() + Duration::from_secs(10);
        while worker.load() > 1 {
            assert!(Clock::now() < deadline, "{} connections are still counted", worker.load());
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let text = String::from_utf8(metrics.encode().unwrap()).unwrap();
        let open = |route: &str, count: u32| format!("wsgate_connections{{route=\"{route}\"}} {count}\n");
        assert!(text.contains(&open("panics", 0)) && text.contains(&open("echo", 1)), "{text}");
    });
}
