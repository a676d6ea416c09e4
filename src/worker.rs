//! One worker per core: a thread with a runtime of its own. A connection stays on its worker for its whole life.

mod drain;

use std::{
    cell::RefCell,
    io,
    net::{SocketAddr, TcpStream},
    rc::Rc,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::Duration,
};

use tokio::{
    runtime::{Builder, LocalOptions},
    sync::{mpsc, oneshot, watch},
    task::JoinHandle,
    time::Instant,
};

use crate::{
    configured::Configured,
    door::Door,
    filter::{Catalogue, Instances, Live},
    handshake::{self, Context, Current, Followed, Standings},
    session::Registry,
    telemetry::metrics::Metrics,
    topic::{Doorbell, Hub},
};

/// Accepted connections that wait for the worker's next turn.
const CONNECTIONS_WAITING: usize = 1024;
/// The runtime looks for I/O after this many tasks. The default of 61 would let a full turn of 61 flooding connections
/// pass before a message of another is seen.
const TASKS_BETWEEN_IO: u32 = 16;
/// Silent sessions are moved to newer filters in steps, so that a reload is no burst.
const SWEEP_SESSIONS: usize = 32;
const SWEEP_PAUSE: Duration = Duration::from_millis(1);
/// Orders to revoke that come together are looked at together.
const REVOCATIONS_PAUSE: Duration = Duration::from_millis(200);

/// What all workers share.
#[derive(Clone)]
pub struct Shared {
    /// What the configuration asks for at the start.
    pub configured: Arc<Configured>,
    /// Every filter.
    pub catalogue: Arc<Catalogue>,
    /// Topics, and the connections of all workers.
    pub hub: Arc<Hub>,
    /// Every metric.
    pub metrics: Arc<Metrics>,
}

enum Command {
    Connection(TcpStream, SocketAddr, Arc<Door>, Place),
    /// Answered when nobody is left or the time is over; dropped where the drain is called off.
    Drain(Instant, oneshot::Sender<()>),
    Resume,
    /// Answered at once.
    Turn(oneshot::Sender<()>),
    Configure(Arc<Configured>, oneshot::Sender<Followed>),
    Foresee(Arc<Configured>, oneshot::Sender<Followed>),
}

/// The connections of a worker, from accept to the end.
#[derive(Clone, Default)]
struct Load(Arc<AtomicUsize>);

impl Load {
    fn enter(&self) -> Place {
        self.0.fetch_add(1, Ordering::Relaxed);
        Place(self.clone())
    }

    fn is_none(&self) -> bool {
        self.0.load(Ordering::Relaxed) == 0
    }
}

/// One connection in a worker's load.
struct Place(Load);

impl Drop for Place {
    fn drop(&mut self) {
        self.0.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A running worker, as the rest of the process sees it. Dropping it lets the worker end once it has no command left.
pub struct Worker {
    commands: mpsc::Sender<Command>,
    load: Load,
}

impl Worker {
    /// Starts the thread.
    ///
    /// # Errors
    /// The thread or its runtime cannot be made.
    pub fn start(index: usize, shared: Shared) -> io::Result<Self> {
        let (commands, receiver) = mpsc::channel(CONNECTIONS_WAITING);
        let load = Load::default();
        let connections = load.clone();
        let runtime_made = std::sync::mpsc::sync_channel(1);
        let made = runtime_made.0;
        thread::Builder::new().name(format!("worker-{index}")).spawn(move || {
            let runtime = Builder::new_current_thread()
                .enable_all()
                .event_interval(TASKS_BETWEEN_IO)
                .build_local(LocalOptions::default());
            match runtime {
                Err(error) => drop(made.send(Err(error))),
                Ok(runtime) => {
                    let _ = made.send(Ok(()));
                    runtime.block_on(work(shared, receiver, connections));
                }
            }
        })?;
        runtime_made.1.recv().unwrap_or_else(|error| Err(io::Error::other(error)))?;
        Ok(Self { commands, load })
    }

    /// Connections that the worker has or is about to have.
    #[must_use]
    pub fn load(&self) -> usize {
        self.load.0.load(Ordering::Relaxed)
    }

    /// Hands over an accepted connection; waits while too many others do.
    pub async fn take(&self, stream: TcpStream, peer: SocketAddr, door: Arc<Door>) {
        let place = self.load.enter();
        // A worker only ends with the process: then the connection may fall.
        let _ = self.commands.send(Command::Connection(stream, peer, door, place)).await;
    }

    /// Closes every session with 1001, evenly until then, and answers new requests 503. Returns when nobody is left, also
    /// nobody in a handshake, or at the deadline, when the rest is cut off, or when [`Worker::resume`] is called.
    pub async fn drain(&self, until: Instant) {
        let (done, waiting) = oneshot::channel();
        if self.commands.send(Command::Drain(until, done)).await.is_ok() {
            let _ = waiting.await;
        }
    }

    /// Takes a drain back: sessions that were not told to close stay, and new ones are taken.
    pub async fn resume(&self) {
        // A worker only ends with the process.
        let _ = self.commands.send(Command::Resume).await;
    }

    /// Returns when the worker has taken a turn. Dropped by a worker that is gone, which never returns.
    pub async fn turn(&self) {
        let (done, waiting) = oneshot::channel();
        if self.commands.send(Command::Turn(done)).await.is_err() || waiting.await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

impl Worker {
    /// Goes on with another configuration. Answers what became of the open connections.
    pub async fn configure(&self, configured: Arc<Configured>) -> Followed {
        let (done, answered) = oneshot::channel();
        // A worker only ends with the process.
        let _ = self.commands.send(Command::Configure(configured, done)).await;
        answered.await.unwrap_or_default()
    }

    /// What would become of them.
    pub async fn foresee(&self, configured: Arc<Configured>) -> Followed {
        let (done, answered) = oneshot::channel();
        let _ = self.commands.send(Command::Foresee(configured, done)).await;
        answered.await.unwrap_or_default()
    }
}

async fn work(shared: Shared, mut commands: mpsc::Receiver<Command>, load: Load) {
    let mut live = shared.catalogue.subscribe();
    let instances = Instances::new(live.borrow_and_update().clone());
    let revocations = shared.configured.authenticators.revocations().subscribe();
    let (draining, is_draining) = watch::channel(false);
    let context = Rc::new(Context {
        current: RefCell::new(Current::new(shared.configured)),
        standings: Standings::default(),
        sessions: Rc::new(Registry::new(live.clone(), instances)),
        hub: shared.hub,
        bell: Doorbell::new(),
        metrics: shared.metrics,
        draining: is_draining,
    });
    tokio::task::spawn_local(follow_filters(live, Rc::clone(&context.sessions)));
    tokio::task::spawn_local(follow_revocations(revocations, Rc::clone(&context.sessions)));
    tokio::task::spawn_local(answer_bell(Arc::clone(&context.bell), Rc::clone(&context.sessions)));
    let mut drain: Option<JoinHandle<()>> = None;
    while let Some(command) = commands.recv().await {
        match command {
            Command::Connection(stream, peer, door, place) => match tokio::net::TcpStream::from_std(stream) {
                Ok(stream) => {
                    tokio::task::spawn_local(serve(Rc::clone(&context), stream, peer, door, place));
                }
                Err(error) => tracing::error!(%error, "a connection cannot be registered"),
            },
            Command::Configure(configured, done) => {
                let context = Rc::clone(&context);
                let close_over = configured.config.server.drain_timeout;
                tokio::task::spawn_local(async move {
                    let _ = done.send(handshake::follow(&context, &configured, close_over).await);
                });
            }
            Command::Foresee(configured, done) => {
                let _ = done.send(handshake::foresee(&context, &configured));
            }
            Command::Drain(until, done) => {
                draining.send_replace(true);
                end(drain.take());
                let (context, load) = (Rc::clone(&context), load.clone());
                drain = Some(tokio::task::spawn_local(async move {
                    drain::drain(&context.sessions, &load, until).await;
                    // Whoever asked may have gone.
                    let _ = done.send(());
                    drain::keep_empty(&context.sessions, &load).await;
                }));
            }
            Command::Resume => {
                draining.send_replace(false);
                end(drain.take());
            }
            Command::Turn(done) => {
                let _ = done.send(());
            }
        }
    }
}

fn end(task: Option<JoinHandle<()>>) {
    if let Some(task) = task {
        task.abort();
    }
}

async fn serve(context: Rc<Context>, stream: tokio::net::TcpStream, peer: SocketAddr, door: Arc<Door>, place: Place) {
    let Some((transport, visitor)) = door.enter(stream, peer).await else { return };
    if let Some(reason) = handshake::serve(context, transport, visitor, Rc::new(place)).await {
        door.unheard(reason);
    }
}

/// Moves silent sessions to newer filters, or to fresh instances of theirs, in steps; busy ones look before each message.
async fn follow_filters(mut live: watch::Receiver<Arc<Live>>, sessions: Rc<Registry>) {
    loop {
        tokio::select! {
            changed = live.changed() => if changed.is_err() { return },
            () = sessions.instances().worn() => {}
        }
        live.mark_unchanged();
        let _ = sessions.revision();
        wake_all(&sessions).await;
    }
}

/// Lets silent sessions look whether they are concerned; busy ones look in each turn.
async fn follow_revocations(mut orders: watch::Receiver<u64>, sessions: Rc<Registry>) {
    while orders.changed().await.is_ok() {
        wake_all(&sessions).await;
        tokio::time::sleep(REVOCATIONS_PAUSE).await;
    }
}

/// In steps: the others of the worker go on meanwhile.
async fn wake_all(sessions: &Registry) {
    for keys in sessions.keys().chunks(SWEEP_SESSIONS) {
        keys.iter().for_each(|key| sessions.wake(*key));
        tokio::time::sleep(SWEEP_PAUSE).await;
    }
}

/// Wakes the sessions that have mail.
async fn answer_bell(bell: Arc<Doorbell>, sessions: Rc<Registry>) {
    let mut keys = Vec::new();
    loop {
        bell.answer(&mut keys).await;
        keys.iter().for_each(|key| sessions.wake(*key));
    }
}

#[cfg(test)]
mod tests;
