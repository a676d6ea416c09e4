//! Accepts connections and hands each, with the door that it has to pass, to the worker with the fewest.

mod last;

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use tokio::{
    net::{TcpListener, TcpSocket, TcpStream},
    sync::watch,
    time::timeout,
};

use crate::{descriptors::is_reserved, door::Door, worker::Worker};

/// Accepting pauses for this long, doubled each time, when it fails for want of descriptors or memory.
const SHORTEST_PAUSE: Duration = Duration::from_millis(10);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// Clients that are connected and wait to be accepted; the kernel may hold fewer (`net.core.somaxconn`). Who finds the
/// queue full waits for a second and more, and after a restart all come at once.
const BACKLOG: u32 = 4096;

/// A socket that listens.
#[derive(Debug)]
pub struct Listening {
    /// The socket.
    pub socket: TcpListener,
    /// Does somebody else hold it too? Then it goes on to listen when this process has ended.
    pub is_shared: bool,
}

/// Listens on an address.
///
/// # Errors
/// Such as: address in use.
pub fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    // Connections of a gateway that has ended are no reason not to start.
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

/// Accepts until `stopped` says so, and then those who are already on their way; of a shared socket, whoever listens
/// next takes them.
pub async fn accept(
    listening: Listening,
    doors: watch::Receiver<Arc<Door>>,
    workers: Arc<[Worker]>,
    mut stopped: watch::Receiver<bool>,
) {
    let listener = listening.socket;
    let told = async {
        let _ = stopped.wait_for(|stopped| *stopped).await;
    };
    tokio::select! {
        () = accept_all(&listener, &doors, &workers) => {}
        () = told => {}
    }
    if !listening.is_shared && last::refuse_new(&listener) {
        let _ = timeout(last::UNDER_WAY, accept_all(&listener, &doors, &workers)).await;
    }
}

/// Accepts for as long as it is polled. Each connection has to pass the door that is there when it comes.
async fn accept_all(listener: &TcpListener, doors: &watch::Receiver<Arc<Door>>, workers: &[Worker]) {
    let mut pause = SHORTEST_PAUSE;
    loop {
        let accepted = listener.accept().await;
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
                if let Err(error) = hand_over(stream, peer, &door, workers).await {
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
