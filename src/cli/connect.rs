//! `wsgate connect`: a WebSocket client in the terminal.

use std::{
    borrow::Cow,
    cell::Cell,
    collections::BTreeMap,
    io::{self, BufRead, IsTerminal, Read, Write},
    process::ExitCode,
    sync::Arc,
    time::Duration,
};

use data_encoding::HEXLOWER;
use futures_util::{SinkExt, StreamExt};
use http::HeaderMap;
use thiserror::Error;
use tokio::{sync::mpsc, time::Instant};
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{
        self, Message,
        protocol::{CloseFrame, Role, frame::coding::CloseCode},
    },
};

use super::{ConnectArguments, failed, say};
use crate::{
    config::Upstream,
    telemetry::metrics::Metrics,
    transport::Transport,
    upstream::{self, Answer, DialError, Established, UpstreamRequest, Upstreams, UpstreamsError},
};

/// From the name to the 101.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// After the end of the input, answers are waited for until the server has been silent for this long. A server that gets
/// the Close behind the last message may answer the Close alone.
const LINGER: Duration = Duration::from_millis(500);
/// From our Close to the server's.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(5);
/// From the server's Close to the end of the connection.
const END_TIMEOUT: Duration = Duration::from_secs(1);
/// A longer line of the input is refused.
const MAX_LINE_BYTES: u64 = 16 << 20;
/// Lines that are read ahead of the connection.
const MAX_LINES_AHEAD: usize = 16;
/// Bytes of a binary message that are shown.
const SHOWN_BYTES: usize = 16;
/// The only upstream of this process.
const SERVER: &str = "server";

/// Why there was no connection, or an end that was not normal.
#[derive(Debug, Error)]
pub(super) enum ConnectError {
    #[error("cannot start")]
    Start(#[source] io::Error),
    #[error("cannot count")]
    Metrics(#[source] prometheus::Error),
    #[error("cannot connect")]
    Upstreams(#[source] UpstreamsError),
    #[error("cannot connect")]
    Dial(#[source] DialError),
    #[error("cannot read the input")]
    Input(#[source] io::Error),
    #[error("cannot write the output")]
    Output(#[source] io::Error),
    #[error("the connection broke off")]
    Broken(#[source] Box<tungstenite::Error>),
    #[error("the server did not answer the Close within {CLOSE_TIMEOUT:?}")]
    Unanswered,
}

/// How a connection was closed.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Closed {
    /// `None`: a Close without a code (1005).
    code: Option<u16>,
    reason: String,
}

impl Closed {
    fn is_normal(&self) -> bool {
        matches!(self.code, None | Some(1000 | 1001))
    }
}

/// Connects, relays stdin and stdout, and gives the exit code.
pub(super) fn main(arguments: ConnectArguments) -> ExitCode {
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return failed(&ConnectError::Start(error)),
    };
    let terminal = io::stdout().is_terminal();
    let input = || io::BufReader::new(io::stdin());
    match runtime.block_on(connect(arguments, input, &mut io::stdout(), &mut io::stderr(), terminal)) {
        Ok(closed) if closed.is_normal() => ExitCode::SUCCESS,
        Ok(_) => ExitCode::FAILURE,
        Err(ConnectError::Dial(DialError::Answered(answer))) => {
            show_answer(&answer);
            ExitCode::FAILURE
        }
        Err(error) => failed(&error),
    }
}

fn show_answer(answer: &Answer) {
    say(&format_args!("wsgate: the server answered {}", answer.status));
    if let Some(body) = answer.body.as_ref().filter(|body| !body.is_empty()) {
        say(&plain(&String::from_utf8_lossy(body)));
    }
}

/// One connection from its handshake to its end. `terminal`: control characters of the server are made visible.
pub(super) async fn connect<R: BufRead + 'static>(
    arguments: ConnectArguments,
    input: impl FnOnce() -> R + Send + 'static,
    output: &mut impl Write,
    status: &mut impl Write,
    terminal: bool,
) -> Result<Closed, ConnectError> {
    let url = arguments.url.text.clone();
    let established = dial(arguments).await?;
    let subprotocol = established.subprotocol.map(|name| format!(" ({name})")).unwrap_or_default();
    // What nobody reads is no reason to stop.
    let _ = writeln!(status, "connected to {url}{subprotocol}");
    let lease = established.lease;
    let stream =
        WebSocketStream::from_partially_read(established.transport, established.read_ahead.into(), Role::Client, None)
            .await;
    let closed = relay(stream, lines(input), output, terminal).await?;
    drop(lease);
    let (code, reason) = (closed.code.unwrap_or(1005), plain(&closed.reason));
    let _ = writeln!(status, "{}", format!("closed {code} {reason}").trim_end());
    Ok(closed)
}

async fn dial(arguments: ConnectArguments) -> Result<Established, ConnectError> {
    let ConnectArguments { url, headers, subprotocols } = arguments;
    let metrics = Arc::new(Metrics::new().map_err(ConnectError::Metrics)?);
    let upstream = Upstream::with_endpoints(vec![url.endpoint]);
    let upstreams = BTreeMap::from([(SERVER.to_owned(), upstream)]);
    let upstreams = Upstreams::of(&upstreams, &metrics, None).map_err(ConnectError::Upstreams)?;
    let mut sent = HeaderMap::new();
    for (name, value) in headers {
        sent.append(name, value);
    }
    let request = UpstreamRequest {
        path_and_query: url.path_and_query,
        headers: sent,
        client_host: url.host,
        subprotocols,
        client: upstream::Client::default(),
    };
    let deadline = Instant::now() + HANDSHAKE_TIMEOUT;
    upstreams.dial(SERVER, request, deadline).await.map_err(ConnectError::Dial)
}

/// Lines of the input, read by a thread: a terminal cannot be polled. The thread ends with the process.
fn lines<R: BufRead>(input: impl FnOnce() -> R + Send + 'static) -> mpsc::Receiver<io::Result<String>> {
    let (sender, receiver) = mpsc::channel(MAX_LINES_AHEAD);
    std::thread::spawn(move || {
        let mut input = input();
        while let Some(line) = read_line(&mut input).transpose() {
            if sender.blocking_send(line).is_err() {
                return;
            }
        }
    });
    receiver
}

/// Without its line break; `None` at the end of the input.
fn read_line(input: &mut impl BufRead) -> io::Result<Option<String>> {
    let mut line = String::new();
    if input.take(MAX_LINE_BYTES + 1).read_line(&mut line)? == 0 {
        return Ok(None);
    }
    if line.len() as u64 > MAX_LINE_BYTES {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "a line is longer than 16 MiB"));
    }
    let end = line.strip_suffix('\n').map_or(line.len(), |line| line.strip_suffix('\r').unwrap_or(line).len());
    line.truncate(end);
    Ok(Some(line))
}

/// Sends lines and prints messages, each without waiting for the other: a server that echoes a long input would
/// otherwise wait for us to read while we wait for it to read.
async fn relay(
    stream: WebSocketStream<Transport>,
    mut lines: mpsc::Receiver<io::Result<String>>,
    output: &mut impl Write,
    terminal: bool,
) -> Result<Closed, ConnectError> {
    let (mut sink, mut stream) = stream.split();
    let heard = Cell::new(Instant::now());
    let sending = async {
        while let Some(line) = lines.recv().await {
            let sent = match line {
                Ok(line) => sink.send(Message::text(line)).await,
                Err(error) => return ConnectError::Input(error),
            };
            if sent.is_err() {
                // The receiving side says why.
                break;
            }
        }
        let ended = Instant::now();
        while heard.get().max(ended).elapsed() < LINGER {
            tokio::time::sleep_until(heard.get().max(ended) + LINGER).await;
        }
        let normal = CloseFrame { code: CloseCode::Normal, reason: "".into() };
        let closing = async {
            let _ = sink.send(Message::Close(Some(normal))).await;
            std::future::pending::<()>().await;
        };
        let _ = tokio::time::timeout(CLOSE_TIMEOUT, closing).await;
        ConnectError::Unanswered
    };
    let receiving = async {
        loop {
            let message = stream.next().await;
            heard.set(Instant::now());
            match message {
                Some(Ok(Message::Close(frame))) => {
                    // Sends our answer, and lets the server close first.
                    let _ = tokio::time::timeout(END_TIMEOUT, stream.next()).await;
                    return Ok(Closed {
                        code: frame.as_ref().map(|frame| frame.code.into()),
                        reason: frame.map(|frame| frame.reason.to_string()).unwrap_or_default(),
                    });
                }
                Some(Ok(message)) => show(&message, output, terminal).map_err(ConnectError::Output)?,
                Some(Err(error)) => return Err(ConnectError::Broken(Box::new(error))),
                None => return Err(ConnectError::Broken(Box::new(tungstenite::Error::ConnectionClosed))),
            }
        }
    };
    tokio::select! {
        closed = receiving => closed,
        error = sending => Err(error),
    }
}

fn show(message: &Message, output: &mut impl Write, terminal: bool) -> io::Result<()> {
    match message {
        Message::Text(text) if terminal => writeln!(output, "{}", plain(text))?,
        Message::Text(text) => writeln!(output, "{text}")?,
        Message::Binary(bytes) => {
            let shown = HEXLOWER.encode(&bytes[..bytes.len().min(SHOWN_BYTES)]);
            let more = if bytes.len() > SHOWN_BYTES { "…" } else { "" };
            writeln!(output, "<binary {} bytes: {shown}{more}>", bytes.len())?;
        }
        Message::Ping(_) | Message::Pong(_) | Message::Close(_) | Message::Frame(_) => return Ok(()),
    }
    output.flush()
}

/// Text that cannot move the cursor or rename the window.
fn plain(text: &str) -> Cow<'_, str> {
    let moves = |character: char| character.is_control() && character != '\n' && character != '\t';
    if !text.contains(moves) {
        return Cow::Borrowed(text);
    }
    let mut shown = String::with_capacity(text.len());
    for character in text.chars() {
        if moves(character) {
            shown.extend(character.escape_default());
        } else {
            shown.push(character);
        }
    }
    Cow::Owned(shown)
}

#[cfg(test)]
mod tests;
