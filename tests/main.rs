//! The gateway from outside: the release binary, real sockets, peers that this project did not write.

#![allow(clippy::expect_used, clippy::unwrap_used, reason = "a test that cannot go on should stop there")]

mod support;

mod peers;
mod closes;
mod messages;
mod negotiation;
mod payload;
mod refusals;
mod routing;
mod violations;
