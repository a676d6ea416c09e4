//! A socket below HTTP that knows since when its peer takes nothing: hyper has no time-out for that.

use std::{
    future::poll_fn,
    io::{self, IoSlice},
    pin::{Pin, pin},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::{Instant, sleep_until},
};

use super::Transport;

/// The socket. See the module.
#[derive(Debug)]
pub struct Watched {
    transport: Transport,
    progress: Arc<Progress>,
}

/// What the peer takes, for whoever waits for it.
#[derive(Debug)]
pub struct Progress {
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    timeout: Duration,
    blocked: Option<Blocked>,
}

#[derive(Clone, Copy, Debug)]
struct Blocked {
    since: Instant,
    /// What had gone out below TLS by then.
    tls_bytes: Option<u64>,
}

impl Progress {
    /// A peer that takes no byte for `timeout` is given up.
    #[must_use]
    pub fn new(timeout: Duration) -> Arc<Self> {
        Arc::new(Self { state: Mutex::new(State { timeout, blocked: None }) })
    }

    /// For what is sent from now on.
    pub fn set_timeout(&self, timeout: Duration) {
        self.lock().timeout = timeout;
    }

    /// Runs what writes to the socket. `None` where the peer took nothing for too long; the future is dropped then.
    pub async fn guard<F: Future>(&self, future: F) -> Option<F::Output> {
        let mut future = pin!(future);
        let mut timer = None;
        poll_fn(|cx| {
            if let Poll::Ready(output) = future.as_mut().poll(cx) {
                return Poll::Ready(Some(output));
            }
            let Some(end) = self.end() else { return Poll::Pending };
            let timer = timer.get_or_insert_with(|| Box::pin(sleep_until(end)));
            if timer.deadline() != end {
                timer.as_mut().reset(end);
            }
            timer.as_mut().poll(cx).map(|()| None)
        })
        .await
    }

    fn end(&self) -> Option<Instant> {
        let state = self.lock();
        // One that cannot be reached never comes.
        state.blocked.and_then(|blocked| blocked.since.checked_add(state.timeout))
    }

    fn saw<T>(&self, written: &Poll<io::Result<T>>, transport: &Transport) {
        let mut state = self.lock();
        state.blocked = match (written, state.blocked) {
            (Poll::Ready(_), None) => return,
            (Poll::Ready(_), Some(_)) => None,
            (Poll::Pending, before) => {
                let tls_bytes = transport.tls_bytes_written();
                let still = before.filter(|before| before.tls_bytes == tls_bytes);
                still.or_else(|| Some(Blocked { since: Instant::now(), tls_bytes }))
            }
        };
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Watched {
    /// Tells `progress` what the peer of `transport` takes.
    #[must_use]
    pub fn new(transport: Transport, progress: Arc<Progress>) -> Self {
        Self { transport, progress }
    }

    /// The socket, no longer watched.
    #[must_use]
    pub fn into_inner(self) -> Transport {
        self.transport
    }

    fn write<T>(
        self: Pin<&mut Self>,
        write: impl FnOnce(Pin<&mut Transport>) -> Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        let this = self.get_mut();
        let written = write(Pin::new(&mut this.transport));
        this.progress.saw(&written, &this.transport);
        written
    }
}

impl AsyncRead for Watched {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().transport).poll_read(cx, buf)
    }
}

impl AsyncWrite for Watched {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.write(|transport| transport.poll_write(cx, buf))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.write(|transport| transport.poll_write_vectored(cx, bufs))
    }

    fn is_write_vectored(&self) -> bool {
        self.transport.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.write(|transport| transport.poll_flush(cx))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.write(|transport| transport.poll_shutdown(cx))
    }
}
