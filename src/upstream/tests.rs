//! Upstreams that answer rightly, and wrongly in every way.

mod fake;
mod handshake;
mod endpoints;
mod tls;
