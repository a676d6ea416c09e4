//! The standard output and error of guests: each line becomes a log line.

use std::{
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll},
};

use bytes::Bytes;
use tokio::io::AsyncWrite;
use wasmtime_wasi::{
    cli::{IsTerminal, StdoutStream},
    p2::{OutputStream, Pollable, StreamResult},
};

use super::logging::{GuestLog, LINE_BYTES};

/// What one write may bring; guests write more in several pieces.
const WRITE_BYTES: usize = 64 << 10;

/// One of the two streams. Clones share the unfinished line.
#[derive(Clone)]
pub(super) struct GuestOutput {
    log: Arc<GuestLog>,
    level: tracing::Level,
    unfinished: Arc<Mutex<Vec<u8>>>,
}

impl GuestOutput {
    pub(super) fn new(log: Arc<GuestLog>, level: tracing::Level) -> Self {
        Self { log, level, unfinished: Arc::default() }
    }

    fn take(&self, bytes: &[u8]) {
        let mut unfinished = self.unfinished.lock().unwrap_or_else(PoisonError::into_inner);
        let mut rest = bytes;
        while let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
            append(&mut unfinished, &rest[..end]);
            self.emit(&mut unfinished);
            rest = &rest[end + 1..];
        }
        append(&mut unfinished, rest);
    }

    fn emit(&self, line: &mut Vec<u8>) {
        if !line.is_empty() {
            self.log.line(self.level, "-", &String::from_utf8_lossy(line), &[]);
            line.clear();
        }
    }
}

/// Keeps one byte more than a line shows, so that it is seen to be cut.
fn append(line: &mut Vec<u8>, bytes: &[u8]) {
    let room = (LINE_BYTES + 4).saturating_sub(line.len());
    line.extend_from_slice(&bytes[..bytes.len().min(room)]);
}

impl IsTerminal for GuestOutput {
    fn is_terminal(&self) -> bool {
        false
    }
}

impl StdoutStream for GuestOutput {
    fn async_stream(&self) -> Box<dyn AsyncWrite + Send + Sync> {
        Box::new(self.clone())
    }

    fn p2_stream(&self) -> Box<dyn OutputStream> {
        Box::new(self.clone())
    }
}

#[wasmtime_wasi::async_trait]
impl Pollable for GuestOutput {
    async fn ready(&mut self) {}
}

impl OutputStream for GuestOutput {
    fn write(&mut self, bytes: Bytes) -> StreamResult<()> {
        self.take(&bytes);
        Ok(())
    }

    fn flush(&mut self) -> StreamResult<()> {
        Ok(())
    }

    fn check_write(&mut self) -> StreamResult<usize> {
        Ok(WRITE_BYTES)
    }
}

impl AsyncWrite for GuestOutput {
    fn poll_write(self: Pin<&mut Self>, _cx: &mut Context<'_>, bytes: &[u8]) -> Poll<std::io::Result<usize>> {
        self.take(bytes);
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_without_an_end_does_not_grow() {
        let output = GuestOutput::new(Arc::new(GuestLog::new("test".into(), None)), tracing::Level::INFO);
        for _ in 0..1_000 {
            output.take(&[b'x'; 1_000]);
        }
        assert!(output.unfinished.lock().unwrap().len() <= LINE_BYTES + 4);
        output.take(b"\nrest");
        assert_eq!(output.unfinished.lock().unwrap().as_slice(), b"rest");
    }
}
