//! WebSocket clients and servers by the hundred, for what is counted and timed.

use std::{future::Future, net::SocketAddr, thread, time::Duration};

use futures_util::{FutureExt, SinkExt, StreamExt};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    runtime::Builder,
    task::LocalSet,
};
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{Message, protocol::Role},
};

use super::wire;

pub(crate) type Socket = WebSocketStream<TcpStream>;

/// Runs to the end on this thread; `spawn_local` works inside.
pub(crate) fn run<T>(work: impl Future<Output = T>) -> T {
    let runtime = Builder::new_current_thread().enable_all().build().unwrap();
    LocalSet::new().block_on(&runtime, work)
}

/// Opens a WebSocket.
pub(crate) async fn open(address: SocketAddr, path: &str) -> Socket {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.set_nodelay(true).unwrap();
    let request = wire::request(address, path).join("\r\n");
    stream.write_all(format!("{request}\r\n\r\n").as_bytes()).await.unwrap();
    let (head, rest) = head(&mut stream).await.expect("an answer");
    assert!(head.starts_with("HTTP/1.1 101"), "{head}");
    WebSocketStream::from_partially_read(stream, rest, Role::Client, None).await
}

async fn head(stream: &mut TcpStream) -> Option<(String, Vec<u8>)> {
    let mut bytes = Vec::new();
    loop {
        if let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") {
            let rest = bytes.split_off(end + 4);
            return Some((String::from_utf8(bytes).unwrap(), rest));
        }
        if stream.read_buf(&mut bytes).await.ok()? == 0 {
            return None;
        }
    }
}

/// The server's part of the handshake; returns the path.
async fn accept(mut stream: TcpStream) -> Option<(String, Socket)> {
    stream.set_nodelay(true).ok()?;
    let (head, rest) = head(&mut stream).await?;
    let path = head.split(' ').nth(1)?.to_owned();
    let key = head.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("sec-websocket-key").then(|| value.trim().to_owned())
    })?;
    let accept = wire::accept_for(&key);
    let answer = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n";
    stream.write_all(format!("{answer}Sec-WebSocket-Accept: {accept}\r\n\r\n").as_bytes()).await.ok()?;
    Some((path, WebSocketStream::from_partially_read(stream, rest, Role::Server, None).await))
}

/// Starts a server on a thread of its own; `serve` treats each connection, given its path.
pub(crate) fn upstream<F: Future<Output = ()> + 'static>(
    serve: impl Fn(String, Socket) -> F + Send + 'static,
) -> String {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    listener.set_nonblocking(true).unwrap();
    thread::spawn(move || {
        run(async move {
            let listener = TcpListener::from_std(listener).unwrap();
            let serve = std::rc::Rc::new(serve);
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let serve = serve.clone();
                tokio::task::spawn_local(async move {
                    if let Some((path, socket)) = accept(stream).await {
                        serve(path, socket).await;
                    }
                });
            }
        });
    });
    format!("ws://{address}")
}

/// Takes every message that is there, answers each with itself, flushes once.
pub(crate) async fn echo(_path: String, mut socket: Socket) {
    while let Some(Ok(message)) = socket.next().await {
        let mut next = Some(message);
        while let Some(message) = next {
            if (message.is_text() || message.is_binary()) && socket.feed(message).await.is_err() {
                return;
            }
            next = socket.next().now_or_never().flatten().and_then(Result::ok);
        }
        if socket.flush().await.is_err() {
            return;
        }
    }
}

/// Keeps `window` messages of this size under way for as long as it is polled; `answered` counts.
pub(crate) async fn flood(mut socket: Socket, window: usize, size: usize, answered: &std::cell::Cell<u64>) {
    let message = Message::text("x".repeat(size));
    for _ in 0..window {
        socket.feed(message.clone()).await.unwrap();
    }
    socket.flush().await.unwrap();
    loop {
        let mut next = Some(socket.next().await.expect("the flood goes on"));
        while let Some(answer) = next {
            assert!(answer.unwrap().is_text());
            answered.set(answered.get() + 1);
            socket.feed(message.clone()).await.unwrap();
            next = socket.next().now_or_never().flatten();
        }
        socket.flush().await.unwrap();
    }
}

/// Round-trip times, sorted.
pub(crate) struct Times(Vec<Duration>);

impl Times {
    pub(crate) fn new(mut times: Vec<Duration>) -> Self {
        times.sort();
        Self(times)
    }

    /// The time that this share of all does not exceed.
    pub(crate) fn quantile(&self, share: f64) -> Duration {
        let last = self.0.len() - 1;
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "an index within the list")]
        let index = ((last as f64) * share).ceil() as usize;
        self.0[index.min(last)]
    }
}

impl std::fmt::Display for Times {
    fn fmt(&self, to: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let milliseconds = |share| self.quantile(share).as_secs_f64() * 1e3;
        let (p50, p99, worst) = (milliseconds(0.5), milliseconds(0.99), milliseconds(1.0));
        write!(to, "p50 {p50:.2} ms, p99 {p99:.2} ms, worst {worst:.2} ms of {}", self.0.len())
    }
}

/// A calm client: one message every `pace`, `count` times, each round trip timed. The connection is opened here; the
/// caller should give it a thread of its own.
pub(crate) fn probe(address: SocketAddr, path: &str, count: usize, pace: Duration) -> Times {
    run(async {
        let mut socket = open(address, path).await;
        let mut tick = tokio::time::interval(pace);
        let mut times = Vec::with_capacity(count);
        for number in 0..count {
            tick.tick().await;
            let sent = std::time::Instant::now();
            socket.send(Message::text(format!("probe {number}"))).await.unwrap();
            let answer = socket.next().await.unwrap().unwrap();
            times.push(sent.elapsed());
            assert!(answer.to_text().unwrap().starts_with(&format!("probe {number}")), "{answer}");
        }
        Times::new(times)
    })
}
