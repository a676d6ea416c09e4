//! The sockets that listen, and what those who come have to pass.

use std::{io, net::SocketAddr, sync::Arc};

use tokio::{
    net::TcpListener,
    sync::watch,
    task::{JoinHandle, JoinSet},
};

use super::{GatewayError, bind};
use crate::{
    config::Listener,
    door::{self, Door},
    listener::{self, Listening},
    service::Sockets,
    telemetry::metrics::Metrics,
    worker::Worker,
};

/// See the module.
pub(super) struct Listeners {
    open: Vec<Open>,
}

struct Open {
    config: Listener,
    /// Where it really is: the port may have been left open.
    address: SocketAddr,
    doors: watch::Sender<Arc<Door>>,
    /// Until accepting begins.
    socket: Option<Listening>,
    accepting: Option<JoinHandle<()>>,
    stop: watch::Sender<bool>,
}

/// What other listeners come to, before anything is changed.
pub(super) struct Planned {
    added: Vec<Open>,
    /// The one at this place gets another door.
    changed: Vec<(usize, Listener, Arc<Door>)>,
    kept: Vec<usize>,
}

impl Open {
    fn bind(config: &Listener, metrics: &Metrics) -> Result<Self, GatewayError> {
        let socket = bind("listeners", config.address)?;
        Self::with(config, Listening { socket, is_shared: false }, metrics)
    }

    fn with(config: &Listener, listening: Listening, metrics: &Metrics) -> Result<Self, GatewayError> {
        let address = listening.socket.local_addr().map_err(GatewayError::System)?;
        let door = Door::new(&address.to_string(), config, metrics)?;
        Ok(Self {
            config: config.clone(),
            address,
            doors: watch::Sender::new(Arc::new(door)),
            socket: Some(listening),
            accepting: None,
            stop: watch::Sender::new(false),
        })
    }

    fn accept(&mut self, workers: &Arc<[Worker]>) {
        if let Some(socket) = self.socket.take() {
            let (doors, stopped) = (self.doors.subscribe(), self.stop.subscribe());
            self.accepting = Some(tokio::spawn(listener::accept(socket, doors, Arc::clone(workers), stopped)));
        }
    }

    /// Returns when nobody is accepted any more.
    async fn stop(self) {
        let _ = self.stop.send(true);
        if let Some(accepting) = self.accepting {
            // It does not panic, and if it did nobody would be accepted either.
            let _ = accepting.await;
        }
    }
}

impl Listeners {
    /// Takes those that were handed over, or binds all of them.
    pub(super) fn open(configured: &[Listener], handed: &mut Sockets, metrics: &Metrics) -> Result<Self, GatewayError> {
        let addresses: Vec<_> = configured.iter().map(|listener| listener.address).collect();
        let claimed = handed.claim_listeners(&addresses)?;
        let open = configured.iter().zip(claimed).map(|(listener, socket)| match socket {
            Some(socket) => {
                let socket = TcpListener::from_std(socket).map_err(GatewayError::System)?;
                Open::with(listener, Listening { socket, is_shared: true }, metrics)
            }
            None => Open::bind(listener, metrics),
        });
        Ok(Self { open: open.collect::<Result<_, _>>()? })
    }

    pub(super) fn urls(&self) -> impl Iterator<Item = String> {
        self.open.iter().map(|open| {
            let scheme = if open.doors.borrow().is_secure() { "wss" } else { "ws" };
            format!("{scheme}://{}", open.address)
        })
    }

    /// Begins to accept.
    pub(super) fn accept(&mut self, workers: &Arc<[Worker]>) -> io::Result<()> {
        let doors: Vec<_> = self.open.iter().map(|open| Arc::clone(&open.doors.borrow())).collect();
        door::watch(&doors)?;
        self.open.iter_mut().for_each(|open| open.accept(workers));
        Ok(())
    }

    /// Returns when nobody is accepted any more.
    pub(super) async fn stop(self) {
        let mut stopping: JoinSet<()> = self.open.into_iter().map(Open::stop).collect();
        while stopping.join_next().await.is_some() {}
    }

    /// Binds and reads what other listeners need. One whose address is as it was keeps its socket.
    pub(super) fn plan(&self, configured: &[Listener], metrics: &Metrics) -> Result<Planned, GatewayError> {
        let mut planned = Planned { added: Vec::new(), changed: Vec::new(), kept: Vec::new() };
        for listener in configured {
            let same_place =
                |(at, open): &(usize, &Open)| open.config.address == listener.address && !planned.kept.contains(at);
            let Some((at, open)) = self.open.iter().enumerate().find(same_place) else {
                planned.added.push(Open::bind(listener, metrics)?);
                continue;
            };
            planned.kept.push(at);
            if open.config != *listener {
                let door = Door::new(&open.address.to_string(), listener, metrics)?;
                planned.changed.push((at, listener.clone(), Arc::new(door)));
            }
        }
        Ok(planned)
    }

    /// Carries out what was planned: new sockets accept, those that are gone stop, and others have another door. Open
    /// connections stay, whichever they came by. Answers what changed.
    pub(super) async fn apply(&mut self, planned: Planned, workers: &Arc<[Worker]>) -> Vec<String> {
        let Planned { added, changed, kept } = planned;
        let mut said = Vec::new();
        let fresh: Vec<_> = changed.iter().map(|(_, _, door)| Arc::clone(door)).collect();
        let fresh = fresh.into_iter().chain(added.iter().map(|open| Arc::clone(&open.doors.borrow())));
        if let Err(error) = door::watch(&fresh.collect::<Vec<_>>()) {
            tracing::error!(%error, "new certificates are not followed");
        }
        for (at, config, door) in changed {
            let open = &mut self.open[at];
            said.push(format!("listener {} changed", open.address));
            open.config = config;
            open.doors.send_replace(door);
        }
        let mut staying = Vec::new();
        for (at, open) in self.open.drain(..).enumerate() {
            if kept.contains(&at) {
                staying.push(open);
            } else {
                said.push(format!("listener {} closed", open.address));
                open.stop().await;
            }
        }
        for mut open in added {
            said.push(format!("listener {} opened", open.address));
            open.accept(workers);
            staying.push(open);
        }
        self.open = staying;
        said
    }
}
