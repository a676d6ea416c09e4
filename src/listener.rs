//! Accepts connections and hands each, with the door that it has to pass, to the worker with the fewest.

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use tokio::{
    net::{TcpListener, TcpStream},
    sync::watch,
};

use crate::{descriptors::is_reserved, door::Door, worker::Worker};

/// Accepting pauses for this long, doubled each time, when it fails for want of descriptors or memory.
const SHORTEST_PAUSE: Duration = Duration::from_millis(10);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// Accepts until `stopped` says so. Each connection has to pass the door that is there when it comes.
pub async fn accept(
    listener: TcpListener,
    doors: watch::Receiver<Arc<Door>>,
    workers: Arc<[Worker]>,
    mut stopped: watch::Receiver<bool>,
) {
    let mut pause = SHORTEST_PAUSE;
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            _ = stopped.wait_for(|stopped| *stopped) => return,
        };
        let door = Arc::clone(&doors.borrow());
        match accepted {
            // The others wait in the backlog, and this one learns at once that it should come back later.
            Ok((stream, peer)) if is_reserved(&stream) => {
                drop(stream);
                door.turned_away(peer);
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(LONGEST_PAUSE);
            }
            Ok((stream, peer)) => {
                pause = SHORTEST_PAUSE;
                if let Err(error) = hand_over(stream, peer, &door, &workers).await {
                    tracing::debug!(%peer, %error, "a connection was lost before its first byte");
                }
            }
            Err(error) if is_of_the_peer(&error) => {}
            Err(error) => {
                tracing::error!(%error, pause_ms = pause.as_millis(), "cannot accept");
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(LONGEST_PAUSE);
            }
        }
    }
}

async fn hand_over(stream: TcpStream, peer: SocketAddr, door: &Arc<Door>, workers: &[Worker]) -> io::Result<()> {
    stream.set_nodelay(true)?;
    // Out of this thread's event queue; the worker registers it with its own.
    let stream = stream.into_std()?;
    if let Some(worker) = workers.iter().min_by_key(|worker| worker.load()) {
        worker.take(stream, peer, Arc::clone(door)).await;
    }
    Ok(())
}

/// Errors of a connection that was gone before it was accepted.
fn is_of_the_peer(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset | io::ErrorKind::Interrupted
    )
}
