//! The body of a request on its way to the upstream.

use std::{
    cell::Cell,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use tokio::time::{Instant, Sleep, sleep};

use super::{BrokenOff, record::Record};
use crate::{config::HttpForward, handshake::refusal::Refusal};

/// What became of a body, for whoever waits for the answer.
pub(super) struct Sent {
    /// When something was last handed over.
    pub(super) last: Cell<Instant>,
    failed: Cell<Option<Failed>>,
}

#[derive(Clone, Copy)]
enum Failed {
    TooLarge,
    Stalled,
    ClientGone,
}

impl Sent {
    /// Why the request cannot be completed, if that is the client's fault.
    pub(super) fn refusal(&self) -> Option<Refusal> {
        self.failed.get().map(|failed| match failed {
            Failed::TooLarge => Refusal::too_large(),
            Failed::Stalled => Refusal::timeout(),
            Failed::ClientGone => Refusal::client_gone(),
        })
    }
}

/// See the module. hyper asks it for more only when the upstream took what there was.
pub(super) struct Upload {
    /// `None`: empty.
    body: Option<Incoming>,
    record: std::rc::Weak<Record>,
    sent: Rc<Sent>,
    bytes: u64,
    max_bytes: u64,
    timeout: Duration,
    timer: Option<Pin<Box<Sleep>>>,
}

impl Upload {
    pub(super) fn new(body: Incoming, http: &HttpForward, record: &Rc<Record>) -> Self {
        Self {
            body: Some(body).filter(|body| !body.is_end_stream()),
            record: Rc::downgrade(record),
            sent: Rc::new(Sent { last: Cell::new(Instant::now()), failed: Cell::new(None) }),
            bytes: 0,
            max_bytes: http.max_body_bytes.map_or(u64::MAX, |most| most as u64),
            timeout: http.body_timeout,
            timer: None,
        }
    }

    pub(super) fn sent(&self) -> &Rc<Sent> {
        &self.sent
    }

    /// Another one, where this one has nothing to send.
    pub(super) fn if_empty(&self) -> Option<Self> {
        self.body.is_none().then(|| Self {
            body: None,
            record: self.record.clone(),
            sent: Rc::clone(&self.sent),
            bytes: 0,
            max_bytes: self.max_bytes,
            timeout: self.timeout,
            timer: None,
        })
    }

    fn fail(&self, failed: Failed) -> Poll<Option<Result<Frame<Bytes>, BrokenOff>>> {
        self.sent.failed.set(Some(failed));
        Poll::Ready(Some(Err(BrokenOff)))
    }
}

impl Body for Upload {
    type Data = Bytes;
    type Error = BrokenOff;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BrokenOff>>> {
        let this = self.get_mut();
        let Some(body) = &mut this.body else { return Poll::Ready(None) };
        match Pin::new(body).poll_frame(cx) {
            Poll::Ready(Some(Ok(frame))) => {
                this.timer = None;
                this.sent.last.set(Instant::now());
                this.bytes += frame.data_ref().map_or(0, |data| data.len() as u64);
                if this.bytes > this.max_bytes {
                    return this.fail(Failed::TooLarge);
                }
                if let Some(record) = this.record.upgrade() {
                    record.bytes_to_upstream.set(this.bytes);
                }
                Poll::Ready(Some(Ok(frame)))
            }
            Poll::Ready(Some(Err(_))) => this.fail(Failed::ClientGone),
            Poll::Ready(None) => Poll::Ready(None),
            Poll::Pending => {
                let timer = this.timer.get_or_insert_with(|| Box::pin(sleep(this.timeout)));
                match timer.as_mut().poll(cx) {
                    Poll::Ready(()) => this.fail(Failed::Stalled),
                    Poll::Pending => Poll::Pending,
                }
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.as_ref().is_none_or(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.body.as_ref().map_or_else(|| SizeHint::with_exact(0), Body::size_hint)
    }
}
