//! From an HTTP request to 101 or a refusal.

pub mod request;
pub mod refusal;
pub mod headers;
