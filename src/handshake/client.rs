//! The client's socket while it speaks HTTP. What hyper reads of it passes here, because hyper removes what tells a
//! smuggled request: a `Content-Length` beside a `Transfer-Encoding`, or a second one.

use std::{
    io::{self, IoSlice},
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll},
    time::Duration,
};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::refusal::Refusal;
use crate::transport::{Progress, Transport, Watched};

/// hyper reads no further than `MAX_HEAD_BYTES` and one read ahead of the request that is answered. A connection on which
/// more came is closed after that answer.
const MAX_BYTES_AHEAD: usize = 64 << 10;

/// The client's socket.
#[derive(Debug)]
pub(super) struct ClientIo {
    socket: Watched,
    wire: Arc<Wire>,
}

/// What the requests of one connection share with its socket.
#[derive(Debug)]
pub(super) struct Wire {
    /// Of what is written to the client.
    pub(super) progress: Arc<Progress>,
    read: Mutex<Read>,
}

#[derive(Debug, Default)]
struct Read {
    /// From the first byte of the request that is to be answered next.
    ahead: Vec<u8>,
    /// Bytes of a body that are still to come, before the next head.
    body_bytes: u64,
    /// Where the next head begins is not known.
    lost: bool,
}

/// How the lines of a request's head say where its body ends.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(super) struct Framing {
    pub(super) content_lengths: usize,
    pub(super) transfer_encodings: usize,
    /// Must this be the last request of its connection?
    pub(super) last: bool,
}

impl Framing {
    /// Two servers could disagree about where the body of such a request ends (RFC 9112 section 6.3).
    pub(super) fn check(self) -> Result<(), Refusal> {
        match self.content_lengths + self.transfer_encodings {
            0 | 1 => Ok(()),
            _ => Err(Refusal::bad_request("there must be one Content-Length or one Transfer-Encoding, not both")),
        }
    }
}

impl ClientIo {
    pub(super) fn new(transport: Transport, wire: Arc<Wire>) -> Self {
        Self { socket: Watched::new(transport, Arc::clone(&wire.progress)), wire }
    }

    pub(super) fn into_inner(self) -> Transport {
        self.socket.into_inner()
    }
}

impl Wire {
    pub(super) fn new(send_timeout: Duration) -> Arc<Self> {
        Arc::new(Self { progress: Progress::new(send_timeout), read: Mutex::default() })
    }

    /// The framing of the request that hyper has just parsed. `content_length` is what hyper made of it.
    pub(super) fn next_request(&self, content_length: u64) -> Framing {
        let mut read = self.read.lock().unwrap_or_else(PoisonError::into_inner);
        let Some((mut framing, head_bytes)) = framing(&read.ahead).filter(|_| !read.lost) else {
            read.lose();
            return Framing { last: true, ..Framing::default() };
        };
        if framing.transfer_encodings > 0 {
            framing.last = true;
            read.lose();
            return framing;
        }
        read.ahead.drain(..head_bytes);
        let read_of_body =
            usize::try_from(content_length).map_or(read.ahead.len(), |length| length.min(read.ahead.len()));
        read.ahead.drain(..read_of_body);
        read.body_bytes = content_length - read_of_body as u64;
        framing
    }

    fn saw(&self, bytes: &[u8]) {
        let mut read = self.read.lock().unwrap_or_else(PoisonError::into_inner);
        let of_body = usize::try_from(read.body_bytes).map_or(bytes.len(), |left| left.min(bytes.len()));
        read.body_bytes -= of_body as u64;
        if read.lost {
            return;
        }
        if read.ahead.len() + bytes.len() - of_body > MAX_BYTES_AHEAD {
            return read.lose();
        }
        read.ahead.extend_from_slice(&bytes[of_body..]);
    }
}

impl Read {
    fn lose(&mut self) {
        *self = Self { lost: true, ..Self::default() };
    }
}

/// Of the head at the beginning, and its length; `None` where it is not complete.
fn framing(bytes: &[u8]) -> Option<(Framing, usize)> {
    let mut framing = Framing::default();
    // RFC 9112 section 2.2: empty lines before the request line are no head.
    let mut at = bytes.iter().position(|byte| !b"\r\n".contains(byte))?;
    loop {
        let end = at + bytes[at..].iter().position(|byte| *byte == b'\n')? + 1;
        let line = bytes[at..end].trim_ascii_end();
        at = end;
        if line.is_empty() {
            return Some((framing, at));
        }
        let name = line.split(|byte| *byte == b':').next().unwrap_or_default();
        framing.content_lengths += usize::from(name.eq_ignore_ascii_case(b"content-length"));
        framing.transfer_encodings += usize::from(name.eq_ignore_ascii_case(b"transfer-encoding"));
    }
}

impl AsyncRead for ClientIo {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buf.filled().len();
        let read = Pin::new(&mut this.socket).poll_read(cx, buf);
        this.wire.saw(&buf.filled()[before..]);
        read
    }
}

impl AsyncWrite for ClientIo {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().socket).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().socket).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.socket.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().socket).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().socket).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wire(bytes: &[u8]) -> Arc<Wire> {
        let wire = Wire::new(Duration::from_secs(1));
        wire.saw(bytes);
        wire
    }

    #[test]
    fn what_hyper_hides_is_counted() {
        for (head, content_lengths, transfer_encodings) in [
            ("GET / HTTP/1.1\r\nHost: a\r\n\r\n", 0, 0),
            ("POST / HTTP/1.1\r\nContent-Length: 0\r\n\r\n", 1, 0),
            ("POST / HTTP/1.1\r\nCONTENT-length: 0\r\nContent-Length:0\r\n\r\n", 2, 0),
            ("\r\n\r\nPOST / HTTP/1.1\nTransfer-Encoding: chunked\nContent-Length: 3\n\n", 1, 1),
            ("GET /Content-Length: HTTP/1.1\r\nX: Content-Length: 1\r\n\r\n", 0, 0),
        ] {
            let (found, length) = framing(head.as_bytes()).unwrap();
            assert_eq!(
                (found.content_lengths, found.transfer_encodings),
                (content_lengths, transfer_encodings),
                "{head}"
            );
            assert_eq!(length, head.len());
        }
        assert_eq!(framing(b"GET / HTTP/1.1\r\nHost: a\r\n"), None);
    }

    #[test]
    fn requests_behind_bodies_are_found() {
        const SECOND: &[u8] = b"POST / HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\n";
        let wire = wire(b"POST / HTTP/1.1\r\nContent-Length: 9\r\n\r\n1234");
        assert_eq!(wire.next_request(9).content_lengths, 1);
        wire.saw(b"56");
        wire.saw(&[b"789", SECOND].concat());
        let second = wire.next_request(1);
        assert_eq!(second, Framing { content_lengths: 2, transfer_encodings: 0, last: false });
        wire.saw(b"1GET / HTTP/1.1\r\n\r\n");
        assert_eq!(wire.next_request(0), Framing::default());
    }

    #[test]
    fn where_the_next_request_is_not_known_this_is_the_last() {
        let chunked = wire(b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n");
        assert!(chunked.next_request(0).last);
        let flooded = wire(&[b"GET / HTTP/1.1\r\n\r\n".as_slice(), &[b'x'; MAX_BYTES_AHEAD]].concat());
        assert!(flooded.next_request(0).last);
    }
}
