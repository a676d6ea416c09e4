//! The body of an answer on its way to the client. It owns all that the request holds, so that whichever side leaves first
//! takes the other along.

use std::{
    pin::Pin,
    rc::Rc,
    task::{Context, Poll},
};

use bytes::Bytes;
use hyper::body::{Body, Frame, Incoming, SizeHint};

use super::{
    BrokenOff, Held,
    exchange::{IdleUpstreams, Kept, Place},
    lifetime::Lifetime,
    record::{HttpEnd, Record},
};

/// See the module.
pub(in crate::handshake) struct Download {
    body: Incoming,
    record: Rc<Record>,
    lifetime: Lifetime,
    /// Where the connection goes when all was read of it.
    back: Option<Back>,
    held: Held,
}

type Back = (Rc<IdleUpstreams>, Place, Kept);

impl Download {
    pub(super) fn new(body: Incoming, record: Rc<Record>, lifetime: Lifetime, back: Back, held: Held) -> Self {
        Self { body, record, lifetime, back: Some(back), held }
    }

    fn end(&mut self, end: HttpEnd) {
        let Some((idle, place, kept)) = self.back.take() else { return };
        self.record.end.set(end);
        self.held.chain.ended = Some(end.for_filters());
        if end == HttpEnd::Done {
            idle.put(place.upstream, place.endpoint, kept);
        }
    }

    /// Closes the connection to the upstream, and without a clean end that to the client.
    fn break_off(&mut self, end: HttpEnd) -> Poll<Option<Result<Frame<Bytes>, BrokenOff>>> {
        self.end(end);
        Poll::Ready(Some(Err(BrokenOff)))
    }
}

impl Body for Download {
    type Data = Bytes;
    type Error = BrokenOff;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BrokenOff>>> {
        let this = self.get_mut();
        match Pin::new(&mut this.body).poll_frame(cx) {
            Poll::Ready(Some(Ok(frame))) => {
                if let Some(end) = this.lifetime.sent() {
                    return this.break_off(end);
                }
                let bytes = frame.data_ref().map_or(0, |data| data.len() as u64);
                this.record.bytes_to_client.set(this.record.bytes_to_client.get() + bytes);
                // Nothing comes after trailers, and hyper does not ask.
                if frame.is_trailers() {
                    this.end(HttpEnd::Done);
                }
                Poll::Ready(Some(Ok(frame)))
            }
            Poll::Ready(Some(Err(error))) => {
                tracing::debug!(request = this.record.id(), error = &error as &dyn std::error::Error, "broken off");
                this.break_off(HttpEnd::UpstreamBroke)
            }
            Poll::Ready(None) => {
                this.end(HttpEnd::Done);
                Poll::Ready(None)
            }
            Poll::Pending => match (this.held.entry.retired(cx), this.lifetime.poll(cx)) {
                (Some(why), _) => this.break_off(HttpEnd::Retired(why)),
                (None, Poll::Ready(end)) => this.break_off(end),
                (None, Poll::Pending) => Poll::Pending,
            },
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Drop for Download {
    fn drop(&mut self) {
        // hyper does not ask for more where it knows from the length that there is none.
        let end = if self.body.is_end_stream() { HttpEnd::Done } else { HttpEnd::ClientGone };
        self.end(end);
    }
}
