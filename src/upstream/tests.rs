//! Upstreams that answer rightly, and wrongly in every way.

pub(crate) mod fake;
mod handshake;
mod endpoints;
mod tls;
mod balance;
mod choice;
mod outlier;
mod change;
mod dns;
