//! How the bytes of a request become a head.

use std::time::Duration;

use hyper::server::conn::http1::Builder;
use hyper_util::rt::TokioTimer;

/// A client whose request head takes longer is left without an answer.
const HEADER_TIMEOUT: Duration = Duration::from_secs(10);
/// A request with more headers is answered 431.
const MAX_HEADERS: usize = 100;
/// A longer request head is answered 431.
const MAX_HEAD_BYTES: usize = 16 << 10;

pub(super) fn parser() -> Builder {
    let mut builder = Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(HEADER_TIMEOUT);
    builder.max_headers(MAX_HEADERS).max_buf_size(MAX_HEAD_BYTES);
    builder
}
