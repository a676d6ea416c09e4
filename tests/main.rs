//! The gateway from outside: the release binary, real sockets, peers that this project did not write.

#![allow(clippy::expect_used, clippy::unwrap_used, reason = "a test that cannot go on should stop there")]

mod support;

mod admin;
mod closes;
mod deadlines;
mod drain;
mod fairness;
mod faults;
mod faults_under_load;
mod filters;
mod folder;
mod messages;
mod negotiation;
mod payload;
mod peers;
mod refusals;
mod routing;
mod startup;
mod violations;
