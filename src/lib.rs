//! wsgate: a WebSocket gateway that its users program with WebAssembly.
//!
//! The modules in reading order; dependencies point down this list.

pub mod handshake;
pub mod route;
pub mod upstream;
pub mod transport;
pub mod http_head;
pub mod filter;
pub mod message;
pub mod telemetry;
pub mod config;
