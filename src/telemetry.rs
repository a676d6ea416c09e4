//! Logs and metrics.

pub mod allowance;
pub mod logs;
pub mod metrics;
pub mod panics;
