//! Upstreams that answer rightly, and wrongly in every way.

pub(crate) mod fake;
mod handshake;
mod endpoints;
mod tls;
