//! The echo upstream: sends every message back, and flushes once for all that one read has brought.

use std::net::SocketAddr;

use anyhow::{Context, Result};
use futures_util::{FutureExt, SinkExt, StreamExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime;
use tokio::task;
use tokio_tungstenite::tungstenite::{self, Message};

/// Serves on `address` until the process is killed.
pub fn serve(address: SocketAddr) -> Result<()> {
    let runtime = runtime::Builder::new_current_thread().enable_io().build()?;
    task::LocalSet::new().block_on(&runtime, async {
        let listener = TcpListener::bind(address).await.with_context(|| format!("cannot listen on {address}"))?;
        loop {
            let (stream, _) = listener.accept().await?;
            stream.set_nodelay(true)?;
            // A connection that breaks is the load generator's business: it sees the end.
            task::spawn_local(async move { echo(stream).await.ok() });
        }
    })
}

async fn echo(stream: TcpStream) -> tungstenite::Result<()> {
    let mut socket = tokio_tungstenite::accept_async(stream).await?;
    while let Some(first) = socket.next().await {
        answer(&mut socket, first?).await?;
        while let Some(Some(next)) = socket.next().now_or_never() {
            answer(&mut socket, next?).await?;
        }
        socket.flush().await?;
    }
    Ok(())
}

async fn answer<S>(socket: &mut S, message: Message) -> tungstenite::Result<()>
where
    S: SinkExt<Message, Error = tungstenite::Error> + Unpin,
{
    match message {
        Message::Text(_) | Message::Binary(_) => socket.feed(message).await,
        Message::Ping(_) | Message::Pong(_) | Message::Close(_) | Message::Frame(_) => Ok(()),
    }
}
