//! How the requests of a connection came to their end.

use std::net::SocketAddr;

use hyper::Error;

/// How a connection ended: why it had no head to answer, where the client is to blame for that. `None` where it merely
/// left, or was silent after an answer.
pub(super) fn no_head(peer: SocketAddr, served: Option<Result<(), Error>>, has_asked: bool) -> Option<&'static str> {
    let error = match served {
        Some(Ok(())) => return None,
        Some(Err(error)) => error,
        None => {
            tracing::debug!(%peer, "the client does not read its answer");
            return None;
        }
    };
    tracing::debug!(%peer, error = &error as &dyn std::error::Error, "no handshake");
    if error.is_parse_too_large() {
        Some("head_too_large")
    } else if error.is_parse() {
        Some("head_malformed")
    } else if error.is_timeout() && !has_asked {
        Some("head_timeout")
    } else {
        None
    }
}
