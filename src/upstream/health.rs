//! Active checks: each endpoint is asked again and again whether it is well.

mod probe;

use std::sync::Weak;

use tokio::time::{Instant, sleep, timeout};

use self::probe::{NotWell, probe};
use super::{endpoint::Endpoint, state::Standing};
use crate::config::HealthCheck;

/// Checks of many gateways and endpoints are spread: they come this much earlier or later.
const JITTER: f64 = 0.1;

/// Checks an endpoint for as long as somebody has it.
pub(super) async fn keep_checking(endpoint: Weak<Endpoint>, upstream: String, check: HealthCheck) {
    loop {
        let Some(endpoint) = endpoint.upgrade() else { return };
        let end = Instant::now() + check.timeout;
        let asked = timeout(check.timeout, probe(&endpoint, &check.probe, end)).await;
        match asked.unwrap_or(Err(NotWell::Late(check.timeout))) {
            Ok(()) => tell(&endpoint, &upstream, &check, None),
            // That the gateway has no descriptors left says nothing of the endpoint.
            Err(why) if why.is_our_own() => {}
            Err(why) => tell(&endpoint, &upstream, &check, Some(&why)),
        }
        drop(endpoint);
        sleep(check.interval.mul_f64(rand::random_range(1.0 - JITTER..=1.0 + JITTER))).await;
    }
}

fn tell(endpoint: &Endpoint, upstream: &str, check: &HealthCheck, why: Option<&NotWell>) {
    if let Some(why) = why {
        endpoint.state.note(why);
    }
    let now = Instant::now();
    let label = &endpoint.label;
    match (endpoint.state.change(now, |standing| standing.checked(why.is_none(), check, now)), why) {
        (false, _) => {}
        (true, None) => tracing::info!(upstream, endpoint = label, "an endpoint is healthy again"),
        (true, Some(why)) => {
            let error = why as &dyn std::error::Error;
            tracing::warn!(upstream, endpoint = label, error, "an endpoint is unhealthy");
        }
    }
}

impl Standing {
    /// Takes the result of a check; true where that changes whether the endpoint is healthy. The first check decides
    /// alone: nothing else is known.
    fn checked(&mut self, well: bool, check: &HealthCheck, now: Instant) -> bool {
        let first = !std::mem::replace(&mut self.checked, true);
        if well == self.healthy {
            self.contradictions = 0;
            return false;
        }
        self.contradictions += 1;
        let enough = if well { check.healthy_threshold } else { check.unhealthy_threshold };
        if !first && self.contradictions < enough {
            return false;
        }
        (self.healthy, self.contradictions) = (well, 0);
        if well {
            self.warm_from = Some(now);
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::config::Probe;

    fn check() -> HealthCheck {
        HealthCheck {
            probe: Probe::Connect,
            interval: Duration::from_secs(5),
            timeout: Duration::from_secs(1),
            healthy_threshold: 2,
            unhealthy_threshold: 3,
        }
    }

    /// What each of these checks in a row makes of an endpoint.
    fn after(checks: &[bool]) -> Vec<bool> {
        let mut standing = Standing::new(None);
        let mut health = Vec::new();
        for well in checks {
            standing.checked(*well, &check(), Instant::now());
            health.push(standing.healthy);
        }
        health
    }

    #[test]
    fn the_first_check_decides_and_then_so_many_in_a_row() {
        assert_eq!(after(&[false, true, true, true]), [false, false, true, true]);
        assert_eq!(after(&[true, false, false, false]), [true, true, true, false]);
        assert_eq!(after(&[true, false, false, true, false, false]), [true; 6]);
        assert_eq!(after(&[false, true, false, true, true]), [false, false, false, false, true]);
    }
}
