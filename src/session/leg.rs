//! One side of a session: a socket that speaks WebSocket, and the queue in front of it.
//!
//! tungstenite's protocol state is driven directly, not through `WebSocketStream`: a leg needs to know when a flush has
//! completed, to change buffer sizes, and to spare the second waker that the stream registers with each message.

use std::{
    io,
    task::{Context, Poll},
};

use bytes::Bytes;
use tokio_tungstenite::tungstenite::{
    Error as WsError, Message as WsMessage,
    protocol::{CloseFrame as WsCloseFrame, Role, WebSocketConfig, WebSocketContext, frame::coding::CloseCode},
};

use super::{
    queue::{MessageQueue, Outgoing, Queued},
    scan::{FrameScan, Violation},
    wire::{Stop, Wire},
};
use crate::{
    message::{CloseFrame, Message},
    transport::Transport,
};

/// tungstenite is fed this much (and at least one message) between two flushes.
const FEED_BYTES: usize = 64 << 10;
/// Read buffers: small while little is said, large once a read filled the small one.
const CALM_READ_BUFFER_BYTES: usize = 4 << 10;
const BUSY_READ_BUFFER_BYTES: usize = 32 << 10;

/// What a read brought.
#[derive(Debug)]
pub(super) enum Received {
    Message(Message),
    /// A ping (already answered) or a pong.
    Control,
    /// Nothing more will come. Said once.
    Stopped(Stop),
}

#[derive(Debug)]
enum Closing {
    No,
    /// Goes out behind what is queued.
    Queued(CloseFrame),
    /// Handed to tungstenite, perhaps not flushed.
    Fed,
    Flushed,
    ShutDown,
    /// Nothing can be written any more.
    Dead,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Leg {
    role: Role,
    wire: Wire,
    protocol: WebSocketContext,
    read_buffer_bytes: usize,
    queue: MessageQueue,
    /// What was fed to tungstenite and is not flushed yet counts.
    fed_bytes: usize,
    flush_due: bool,
    ping_due: bool,
    stopped: bool,
    closing: Closing,
    /// Messages and control frames that tungstenite handed out.
    taken: u64,
}

impl Leg {
    /// A leg to a client: receives masked frames.
    pub(super) fn to_client(transport: Transport, read_ahead: Bytes, max_payload_bytes: usize) -> Self {
        Self::new(Role::Server, transport, read_ahead, max_payload_bytes)
    }

    /// A leg to an upstream: sends masked frames.
    pub(super) fn to_upstream(transport: Transport, read_ahead: Bytes, max_payload_bytes: usize) -> Self {
        Self::new(Role::Client, transport, read_ahead, max_payload_bytes)
    }

    fn new(role: Role, transport: Transport, read_ahead: Bytes, max_payload_bytes: usize) -> Self {
        let scan = FrameScan::new(matches!(role, Role::Server), max_payload_bytes);
        Self {
            role,
            wire: Wire::new(transport, read_ahead, scan),
            protocol: protocol(role, CALM_READ_BUFFER_BYTES),
            read_buffer_bytes: CALM_READ_BUFFER_BYTES,
            queue: MessageQueue::default(),
            fed_bytes: 0,
            flush_due: false,
            ping_due: false,
            stopped: false,
            closing: Closing::No,
            taken: 0,
        }
    }

    /// Bytes that arrived so far.
    pub(super) fn bytes_read(&self) -> u64 {
        self.wire.bytes_read()
    }

    /// Bytes that the socket took so far.
    pub(super) fn bytes_written(&self) -> u64 {
        self.wire.bytes_written()
    }

    /// Puts a message behind those that wait. After [`Leg::start_close`] it is forgotten.
    pub(super) fn send(&mut self, message: Message) {
        self.queue(Queued { message, pushed: false });
    }

    /// The same for a message that nobody relays.
    pub(super) fn push(&mut self, message: Message) {
        self.queue(Queued { message, pushed: true });
    }

    fn queue(&mut self, queued: Queued) {
        if matches!(self.closing, Closing::No) {
            self.queue.push(queued);
        }
    }

    /// Forgets the oldest of those that nobody relayed.
    pub(super) fn drop_oldest_push(&mut self) -> bool {
        self.queue.pop_pushed().is_some()
    }

    /// A ping goes out with the next flush.
    pub(super) fn ping(&mut self) {
        self.ping_due = true;
    }

    /// Ends the leg behind what is queued. The first call counts.
    pub(super) fn start_close(&mut self, frame: CloseFrame) {
        if matches!(self.closing, Closing::No) {
            self.closing = Closing::Queued(frame);
        }
    }

    /// Gives up on the peer: nothing is written or read any more.
    pub(super) fn kill(&mut self) {
        self.stop_writing();
        self.stopped = true;
    }

    /// The next message. Reading also answers pings.
    pub(super) fn poll_receive(&mut self, context: &mut Context<'_>) -> Poll<Received> {
        if self.stopped {
            return Poll::Pending;
        }
        if self.wire.poll_readable(self.taken, context).is_pending() {
            self.grow_read_buffer();
            return Poll::Pending;
        }
        let received = match self.protocol.read(&mut self.wire.io(context)) {
            Ok(WsMessage::Text(text)) => Received::Message(Message::Text(text)),
            Ok(WsMessage::Binary(bytes)) => Received::Message(Message::Binary(bytes)),
            Ok(WsMessage::Ping(_)) => {
                self.flush_due = true;
                Received::Control
            }
            Ok(WsMessage::Pong(_)) => Received::Control,
            // The wire keeps Close frames, and whole frames are never asked for.
            Ok(WsMessage::Close(_) | WsMessage::Frame(_)) => Received::Stopped(Stop::Lost),
            Err(WsError::Io(error)) if error.kind() == io::ErrorKind::WouldBlock => match self.wire.stop() {
                Some(stop) => Received::Stopped(stop),
                None => {
                    self.grow_read_buffer();
                    return Poll::Pending;
                }
            },
            Err(WsError::Protocol(_)) => Received::Stopped(Stop::Violation(Violation::Protocol)),
            Err(WsError::Utf8(_)) => Received::Stopped(Stop::Violation(Violation::Utf8)),
            Err(WsError::Capacity(_)) => Received::Stopped(Stop::Violation(Violation::TooBig)),
            Err(_) => Received::Stopped(Stop::Lost),
        };
        self.taken += 1;
        self.stopped = matches!(received, Received::Stopped(_));
        Poll::Ready(received)
    }

    /// Writes what waits. Ready when nothing waits any more. After a write error what waits is forgotten, but what the
    /// peer sent before it left can still be read.
    pub(super) fn poll_flush(&mut self, context: &mut Context<'_>) -> Poll<()> {
        loop {
            if matches!(self.closing, Closing::Dead | Closing::ShutDown) {
                return Poll::Ready(());
            }
            if self.flush_due {
                match self.protocol.flush(&mut self.wire.io(context)) {
                    Ok(()) => {}
                    Err(WsError::Io(error)) if error.kind() == io::ErrorKind::WouldBlock => return Poll::Pending,
                    Err(_) => {
                        self.stop_writing();
                        return Poll::Ready(());
                    }
                }
                self.flush_due = false;
                self.fed_bytes = 0;
                if matches!(self.closing, Closing::Fed) {
                    self.closing = Closing::Flushed;
                }
            }
            if self.feed(context).is_err() {
                self.stop_writing();
                return Poll::Ready(());
            }
            if !self.flush_due {
                return Poll::Ready(());
            }
        }
    }

    /// Hands tungstenite one batch. Only ever called when the last one is flushed, so its buffer holds one batch at most.
    fn feed(&mut self, context: &mut Context<'_>) -> Result<(), WsError> {
        if std::mem::take(&mut self.ping_due) && matches!(self.closing, Closing::No | Closing::Queued(_)) {
            self.write(WsMessage::Ping(Bytes::new()), context)?;
        }
        while self.fed_bytes < FEED_BYTES {
            let Some(message) = self.queue.pop() else { break };
            self.fed_bytes += message.queued_bytes();
            let message = match message {
                Message::Text(text) => WsMessage::Text(text),
                Message::Binary(bytes) => WsMessage::Binary(bytes),
            };
            self.write(message, context)?;
        }
        if self.queue.is_empty()
            && let Closing::Queued(frame) = &self.closing
        {
            let frame = frame
                .code
                .map(|code| WsCloseFrame { code: CloseCode::from(code), reason: frame.reason.as_str().into() });
            self.closing = Closing::Fed;
            self.write(WsMessage::Close(frame), context)?;
        }
        self.queue.give_back();
        Ok(())
    }

    fn write(&mut self, message: WsMessage, context: &mut Context<'_>) -> Result<(), WsError> {
        self.flush_due = true;
        match self.protocol.write(&mut self.wire.io(context), message) {
            // Taken into the buffer; the flush goes on with it.
            Err(WsError::Io(error)) if error.kind() == io::ErrorKind::WouldBlock => Ok(()),
            result => result,
        }
    }

    fn stop_writing(&mut self) {
        self.closing = Closing::Dead;
        self.queue = MessageQueue::default();
        self.fed_bytes = 0;
    }

    /// Carries the end through: flushes the Close frame, waits for the peer's (messages that still come are forgotten),
    /// shuts down writing and waits until the peer has left. The caller bounds the time.
    pub(super) fn poll_finish(&mut self, context: &mut Context<'_>) -> Poll<()> {
        if self.poll_flush(context).is_pending() {
            return Poll::Pending;
        }
        while !self.stopped {
            match self.poll_receive(context) {
                Poll::Ready(Received::Stopped(Stop::Lost)) => self.kill(),
                Poll::Ready(_) => {}
                Poll::Pending => return Poll::Pending,
            }
        }
        if matches!(self.closing, Closing::Flushed) {
            match self.wire.poll_shutdown(context) {
                Poll::Ready(Ok(())) => self.closing = Closing::ShutDown,
                Poll::Ready(Err(_)) => self.kill(),
                Poll::Pending => return Poll::Pending,
            }
        }
        match self.closing {
            Closing::ShutDown => self.wire.poll_discard(context).map(|()| self.kill()),
            Closing::Dead => Poll::Ready(()),
            Closing::No | Closing::Queued(_) | Closing::Fed | Closing::Flushed => Poll::Pending,
        }
    }

    /// Once a second at most: what the flood limit counts.
    pub(super) fn forgive_control_frames(&mut self) {
        self.wire.scan().take_control_frames();
    }

    /// A read that filled the small buffer asks for the large one.
    fn grow_read_buffer(&mut self) {
        let largest = self.wire.take_largest_read_bytes();
        if largest >= CALM_READ_BUFFER_BYTES && self.read_buffer_bytes < BUSY_READ_BUFFER_BYTES {
            self.rebuild(BUSY_READ_BUFFER_BYTES);
        }
    }

    /// Gives buffers back that a quiet connection does not need.
    pub(super) fn shed_buffers(&mut self) {
        self.rebuild(CALM_READ_BUFFER_BYTES);
        self.queue.shrink_to_fit();
    }

    /// Between two messages, with nothing to write, the protocol state is that of a new connection: a fresh one with
    /// other buffer sizes takes its place.
    fn rebuild(&mut self, read_buffer_bytes: usize) {
        let idle = matches!(self.closing, Closing::No) && !self.stopped && !self.flush_due && self.fed_bytes == 0;
        if idle && self.wire.at_boundary() {
            self.protocol = protocol(self.role, read_buffer_bytes);
            self.read_buffer_bytes = read_buffer_bytes;
        }
    }
}

impl Outgoing for Leg {
    fn queued_bytes(&self) -> usize {
        self.queue.bytes() + self.fed_bytes
    }

    /// What was handed to the socket cannot be had back.
    fn drop_oldest(&mut self) -> bool {
        self.queue.pop().is_some()
    }
}

fn protocol(role: Role, read_buffer_bytes: usize) -> WebSocketContext {
    // The wire enforces the limits on declared lengths, before tungstenite sees a frame. Nothing is written before a
    // flush but messages above this buffer.
    let config = WebSocketConfig::default()
        .read_buffer_size(read_buffer_bytes)
        .write_buffer_size(2 * FEED_BYTES)
        .max_message_size(None)
        .max_frame_size(None);
    WebSocketContext::new(role, Some(config))
}
