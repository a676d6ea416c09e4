//! Upstreams as operators see them.

use std::{
    sync::Arc,
    time::{SystemTime, UNIX_EPOCH},
};

use serde::Serialize;
use tokio::time::Instant;

use super::{Upstream, Upstreams, endpoint::Endpoint};

/// One upstream.
#[derive(Clone, Debug, Serialize)]
pub struct UpstreamStatus {
    /// As the configuration has it.
    pub name: String,
    /// How connections are spread.
    pub balance: &'static str,
    /// Those that are known now; names that were not resolved yet have none.
    pub endpoints: Vec<EndpointStatus>,
}

/// One endpoint.
#[derive(Clone, Debug, Serialize)]
pub struct EndpointStatus {
    /// The label in metrics and logs.
    pub endpoint: String,
    /// Where it is.
    pub addresses: Vec<String>,
    /// As configured, times that of its SRV record.
    pub weight: u32,
    /// Of its SRV record; 0 where it has none.
    pub priority: u16,
    /// What checks say; true where none are made.
    pub healthy: bool,
    /// When its ejection ends, in milliseconds of Unix time.
    pub ejected_until_unix_ms: Option<u64>,
    /// Ejections of late, each of which makes the next one longer.
    pub ejections: u32,
    /// Failed attempts in a row.
    pub consecutive_failures: u32,
    /// The share of its weight that it has while it starts slowly, in percent.
    pub slow_start_percent: u8,
    /// Open connections, of all workers and configurations.
    pub live_sessions: usize,
    /// Why an attempt or a check failed last.
    pub last_error: Option<ErrorStatus>,
}

/// What went wrong.
#[derive(Clone, Debug, Serialize)]
pub struct ErrorStatus {
    /// In milliseconds of Unix time.
    pub at_unix_ms: u64,
    /// For people.
    pub message: String,
}

impl Upstreams {
    /// Every upstream, by name.
    #[must_use]
    pub fn status(&self) -> Vec<UpstreamStatus> {
        self.by_name.values().map(|upstream| upstream.status()).collect()
    }
}

impl Upstream {
    fn status(&self) -> UpstreamStatus {
        let endpoints = self.set.load().endpoints.iter().map(|endpoint| self.endpoint_status(endpoint)).collect();
        UpstreamStatus { name: self.name.clone(), balance: self.config.balance.label(), endpoints }
    }

    fn endpoint_status(&self, endpoint: &Arc<Endpoint>) -> EndpointStatus {
        let (now, state) = (Instant::now(), &endpoint.state);
        let standing = state.standing();
        let ejected_until = standing.ejected_until.filter(|until| now < *until);
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "from 10 to 100")]
        let slow_start_percent = (standing.warmth(self.config.slow_start, now) * 100.0).round() as u8;
        EndpointStatus {
            endpoint: endpoint.label.clone(),
            addresses: endpoint.dialler.places().map(ToString::to_string).collect(),
            weight: endpoint.weight,
            priority: endpoint.priority,
            healthy: standing.healthy,
            ejected_until_unix_ms: ejected_until.map(|until| unix_ms(SystemTime::now() + (until - now))),
            ejections: standing.ejections,
            consecutive_failures: standing.failures,
            slow_start_percent,
            live_sessions: state.sessions(),
            last_error: state
                .last_error()
                .map(|error| ErrorStatus { at_unix_ms: unix_ms(error.at), message: error.text }),
        }
    }
}

fn unix_ms(at: SystemTime) -> u64 {
    at.duration_since(UNIX_EPOCH).map_or(0, |since| u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}
