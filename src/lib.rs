//! wsgate: a WebSocket gateway that its users program with WebAssembly.
//!
//! The modules in reading order; dependencies point down this list.

pub mod cli;
pub mod gateway;
pub mod admin;
pub mod drain;
pub mod listener;
pub mod worker;
pub mod handshake;
pub mod configured;
pub mod door;
pub mod session;
pub mod route;
pub mod limit;
pub mod auth;
pub mod filter;
pub mod topic;
pub mod store;
pub mod http_client;
pub mod upstream;
pub mod transport;
pub mod tls_files;
pub mod state_dir;
pub mod secret_file;
pub mod file_watch;
pub mod service;
pub mod descriptors;
pub mod telemetry;
pub mod message;
pub mod identity;
pub mod config;
pub mod http_head;
