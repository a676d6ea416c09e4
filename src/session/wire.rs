//! The socket below a leg: passes on what the frame scan lets through and remembers how the stream ended.

use std::{
    io::{self, Read, Write},
    pin::Pin,
    task::{Context, Poll},
};

use bytes::{Buf, Bytes};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::scan::{FrameScan, Halt, Violation};
use crate::{message::CloseFrame, transport::Transport};

/// Why nothing more will be read.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum Stop {
    /// The peer's Close frame.
    Close(CloseFrame),
    /// The peer broke a rule.
    Violation(Violation),
    /// The stream ended without a Close frame, or broke.
    Lost,
}

/// A socket, its frame scan, and what went over it.
#[derive(Debug)]
pub(super) struct Wire {
    transport: Transport,
    /// Bytes that came behind the handshake's head.
    read_ahead: Bytes,
    scan: FrameScan,
    lost: bool,
    bytes_read: u64,
    bytes_written: u64,
    /// The largest read since the last look.
    largest_read_bytes: usize,
}

impl Wire {
    pub(super) fn new(transport: Transport, read_ahead: Bytes, scan: FrameScan) -> Self {
        // An empty slice may still hold the buffer that it was cut from.
        let read_ahead = if read_ahead.is_empty() { Bytes::new() } else { read_ahead };
        Self { transport, read_ahead, scan, lost: false, bytes_read: 0, bytes_written: 0, largest_read_bytes: 0 }
    }

    pub(super) fn stop(&self) -> Option<Stop> {
        match self.scan.halt() {
            Some(Halt::Close(frame)) => Some(Stop::Close(frame.clone())),
            Some(Halt::Violation(violation)) => Some(Stop::Violation(*violation)),
            None if self.lost => Some(Stop::Lost),
            None => None,
        }
    }

    pub(super) fn scan(&mut self) -> &mut FrameScan {
        &mut self.scan
    }

    pub(super) fn at_boundary(&self) -> bool {
        self.scan.at_boundary()
    }

    /// Ready where reading may bring something to a reader who has taken this many messages and control frames. Asking
    /// the socket is cheap; tungstenite prepares its buffer for each read that it tries.
    pub(super) fn poll_readable(&self, taken: u64, context: &mut Context<'_>) -> Poll<()> {
        let dry = self.scan.announced() == taken && self.scan.at_boundary() && self.read_ahead.is_empty();
        if !dry || self.lost || self.scan.halt().is_some() {
            return Poll::Ready(());
        }
        match &self.transport {
            Transport::Tcp(stream) => stream.poll_read_ready(context).map(|_| ()),
            Transport::Unix(stream) => stream.poll_read_ready(context).map(|_| ()),
            Transport::Tls(_) => Poll::Ready(()),
        }
    }

    /// Grows with each byte that arrived: the peer lives.
    pub(super) fn bytes_read(&self) -> u64 {
        self.bytes_read
    }

    /// Grows with each byte that the socket took; the peer's progress.
    pub(super) fn bytes_written(&self) -> u64 {
        self.transport.tls_bytes_written().unwrap_or(self.bytes_written)
    }

    pub(super) fn take_largest_read_bytes(&mut self) -> usize {
        std::mem::take(&mut self.largest_read_bytes)
    }

    /// The socket as blocking-style I/O for tungstenite: `WouldBlock` where a poll is pending.
    pub(super) fn io<'a, 'c>(&'a mut self, context: &'a mut Context<'c>) -> WireIo<'a, 'c> {
        WireIo { wire: self, context }
    }

    pub(super) fn poll_shutdown(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.transport).poll_shutdown(context)
    }

    /// Reads and forgets until the peer ends the stream. Closing a socket with unread bytes resets the connection, and a
    /// reset overtakes the Close frame that was just sent.
    pub(super) fn poll_discard(&mut self, context: &mut Context<'_>) -> Poll<()> {
        const READS_A_TURN: usize = 16;
        let mut scratch = [0; 4096];
        for _ in 0..READS_A_TURN {
            let mut buffer = ReadBuf::new(&mut scratch);
            match Pin::new(&mut self.transport).poll_read(context, &mut buffer) {
                Poll::Ready(Ok(())) if !buffer.filled().is_empty() => {}
                Poll::Ready(_) => return Poll::Ready(()),
                Poll::Pending => return Poll::Pending,
            }
        }
        context.waker().wake_by_ref();
        Poll::Pending
    }

    fn read(&mut self, context: &mut Context<'_>, into: &mut [u8]) -> io::Result<usize> {
        while !self.lost && self.scan.halt().is_none() {
            let Poll::Ready(read) = self.poll_fill(context, into) else { break };
            self.lost = read == 0;
            self.bytes_read += read as u64;
            self.largest_read_bytes = self.largest_read_bytes.max(read);
            // Zero: the beginning of a Close frame, whose rest is still to come, or a halt.
            let passed = self.scan.feed(&into[..read]);
            if passed > 0 {
                return Ok(passed);
            }
        }
        Err(io::ErrorKind::WouldBlock.into())
    }

    /// Zero at the end of the stream; a broken stream has ended too.
    fn poll_fill(&mut self, context: &mut Context<'_>, into: &mut [u8]) -> Poll<usize> {
        if !self.read_ahead.is_empty() {
            let length = self.read_ahead.len().min(into.len());
            self.read_ahead.copy_to_slice(&mut into[..length]);
            if self.read_ahead.is_empty() {
                self.read_ahead = Bytes::new();
            }
            return Poll::Ready(length);
        }
        let mut buffer = ReadBuf::new(into);
        match Pin::new(&mut self.transport).poll_read(context, &mut buffer) {
            Poll::Ready(Ok(())) => Poll::Ready(buffer.filled().len()),
            Poll::Ready(Err(_)) => Poll::Ready(0),
            Poll::Pending => Poll::Pending,
        }
    }
}

/// See [`Wire::io`].
pub(super) struct WireIo<'a, 'c> {
    wire: &'a mut Wire,
    context: &'a mut Context<'c>,
}

impl Read for WireIo<'_, '_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        self.wire.read(self.context, into)
    }
}

impl Write for WireIo<'_, '_> {
    fn write(&mut self, from: &[u8]) -> io::Result<usize> {
        match Pin::new(&mut self.wire.transport).poll_write(self.context, from) {
            Poll::Ready(Ok(written)) => {
                self.wire.bytes_written += written as u64;
                Ok(written)
            }
            Poll::Ready(Err(error)) => Err(error),
            Poll::Pending => Err(io::ErrorKind::WouldBlock.into()),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match Pin::new(&mut self.wire.transport).poll_flush(self.context) {
            Poll::Ready(result) => result,
            Poll::Pending => Err(io::ErrorKind::WouldBlock.into()),
        }
    }
}
