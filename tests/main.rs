//! The gateway from outside: the release binary, real sockets, peers that this project did not write.

#![allow(clippy::expect_used, clippy::unwrap_used, reason = "a test that cannot go on should stop there")]

mod support;

mod activation;
mod admin;
mod admin_tokens;
mod auth_request;
mod autobahn;
mod balancing;
mod candidates;
mod closes;
mod code_cache;
mod command_line;
mod compilation;
mod configuration;
mod deadlines;
mod descriptors;
mod drain;
mod drain_orders;
mod drain_under_load;
mod examples;
mod fairness;
mod faults;
mod faults_under_load;
mod filter_tools;
mod filters;
mod folder;
mod generations;
mod http_calls;
mod isolation;
mod javascript;
mod languages;
mod jwks;
mod layout;
mod limits;
mod library;
mod messages;
mod messaging;
mod negotiation;
mod origins;
mod payload;
mod peers;
mod proxies;
mod refusals;
mod reload_under_load;
mod revocations;
mod rooms_under_load;
mod routed;
mod routing;
mod startup;
mod tokens;
mod stores;
mod tls;
mod violations;
