//! The gateway from outside: the release binary, real sockets, peers that this project did not write.

#![allow(clippy::expect_used, clippy::unwrap_used, reason = "a test that cannot go on should stop there")]

mod support;

mod admin;
mod autobahn;
mod closes;
mod command_line;
mod deadlines;
mod drain;
mod examples;
mod fairness;
mod faults;
mod faults_under_load;
mod filters;
mod folder;
mod isolation;
mod layout;
mod messages;
mod negotiation;
mod payload;
mod peers;
mod refusals;
mod reload_under_load;
mod routed;
mod routing;
mod startup;
mod violations;
