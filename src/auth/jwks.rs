//! Key sets that issuers publish: fetched at the start, again when their time is over, and when a token names a key that
//! is not among them.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use jsonwebtoken::Algorithm;

use super::{
    key_ring::KeyRing,
    keys::{Keys, SOURCE_BYTES},
};
use crate::{
    config::KeySource,
    http_client::{Call, CallError, Direct, Request, Response},
};

/// From the connection to the last byte of a set.
const FETCH_TIMEOUT: Duration = Duration::from_secs(10);
/// A set is fetched again after its `max-age`, but neither sooner nor later than this.
const REFRESH_AT_LEAST: Duration = Duration::from_secs(10);
const REFRESH_AT_MOST: Duration = Duration::from_secs(3600);
/// After this where the issuer does not say.
const REFRESH_BY_DEFAULT: Duration = Duration::from_secs(300);
/// Pause after the first failed fetch; it doubles with each further one, up to the last.
const FIRST_RETRY: Duration = Duration::from_secs(1);
const LAST_RETRY: Duration = Duration::from_secs(30);

/// One issuer's set.
pub(super) struct Source {
    pub(super) jwt: String,
    pub(super) request: Request,
    pub(super) keys: KeySource,
    pub(super) max_stale: Duration,
    pub(super) algorithms: Vec<Algorithm>,
}

/// Why there is no new set.
#[derive(Debug, thiserror::Error)]
enum FetchError {
    #[error(transparent)]
    Call(#[from] CallError),
    /// Redirects are not followed: keys come from where the configuration says.
    #[error("the issuer answered {0}, not 200")]
    Status(u16),
    #[error("{0}")]
    Unfit(String),
}

impl FetchError {
    fn label(&self) -> &'static str {
        match self {
            Self::Call(error) => error.label(),
            Self::Status(_) => "status",
            Self::Unfit(_) => "unfit",
        }
    }
}

impl Source {
    /// What asks for the set.
    pub(super) fn request(url: &str) -> Result<Request, CallError> {
        let accept = ("accept".to_owned(), b"application/jwk-set+json, application/json".to_vec());
        Request::check(Call { method: "GET".to_owned(), url: url.to_owned(), headers: vec![accept], body: Vec::new() })
    }

    /// Keeps the ring up to date for as long as it is polled.
    pub(super) async fn follow(self, ring: Arc<KeyRing>, client: Direct) {
        let mut failures = 0;
        loop {
            ring.begin();
            let pause = match self.fetch(&client).await {
                Ok((keys, lasts)) => {
                    if failures > 0 || !ring.is_filled() {
                        tracing::info!(jwt = self.jwt, "the issuer's keys are there");
                    }
                    failures = 0;
                    ring.metrics().loaded("ok");
                    ring.put(keys, Instant::now().checked_add(lasts + self.max_stale));
                    jittered(lasts)
                }
                Err(error) => {
                    ring.metrics().loaded(error.label());
                    let usable = ring.with(|_| ()).is_some();
                    tracing::warn!(jwt = self.jwt, usable, %error, "the issuer's keys cannot be fetched");
                    failures += 1;
                    jittered(retry_after(failures))
                }
            };
            ring.end();
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = ring.asked() => {}
            }
        }
    }

    async fn fetch(&self, client: &Direct) -> Result<(Keys, Duration), FetchError> {
        let response = client.send(&self.request, FETCH_TIMEOUT, SOURCE_BYTES).await?;
        if response.status != 200 {
            return Err(FetchError::Status(response.status));
        }
        let keys = Keys::read(&self.keys, &response.body, &self.algorithms).map_err(FetchError::Unfit)?;
        Ok((keys, lasts(&response)))
    }
}

/// How long a response may be used, within our bounds (RFC 9111 section 4.2).
fn lasts(response: &Response) -> Duration {
    let values = |name: &'static str| {
        let named = response.headers.iter().filter(move |(found, _)| found == name);
        named.filter_map(|(_, value)| std::str::from_utf8(value).ok())
    };
    let age = values("age").find_map(|value| value.trim().parse::<u64>().ok()).unwrap_or(0);
    let mut lasts = REFRESH_BY_DEFAULT;
    for directive in values("cache-control").flat_map(|value| value.split(',')).map(str::trim) {
        let (name, value) = directive.split_once('=').unwrap_or((directive, ""));
        match (name.to_ascii_lowercase().as_str(), value.trim_matches('"').parse::<u64>()) {
            ("no-store" | "no-cache", _) => return REFRESH_AT_LEAST,
            ("max-age", Ok(seconds)) => lasts = Duration::from_secs(seconds.saturating_sub(age)),
            _ => {}
        }
    }
    lasts.clamp(REFRESH_AT_LEAST, REFRESH_AT_MOST)
}

fn retry_after(failures: u32) -> Duration {
    FIRST_RETRY.saturating_mul(1u32.checked_shl(failures - 1).unwrap_or(u32::MAX)).min(LAST_RETRY)
}

/// Up to a tenth sooner: gateways that started together do not ask together for ever.
fn jittered(time: Duration) -> Duration {
    time.mul_f64(rand::random_range(0.9..=1.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answered(headers: &[(&str, &str)]) -> Duration {
        let headers = headers.iter().map(|(name, value)| ((*name).to_owned(), value.as_bytes().to_vec())).collect();
        lasts(&Response { status: 200, headers, body: Vec::new() })
    }

    #[test]
    fn a_set_lasts_as_long_as_the_issuer_says_within_bounds() {
        let control = |value| answered(&[("cache-control", value)]);
        assert_eq!(answered(&[]), REFRESH_BY_DEFAULT);
        assert_eq!(control("public, MAX-AGE=600, immutable"), Duration::from_secs(600));
        assert_eq!(control("max-age=\"600\""), Duration::from_secs(600));
        assert_eq!(answered(&[("cache-control", "max-age=600"), ("age", "100")]), Duration::from_secs(500));
        for value in ["max-age=0", "max-age=9", "no-store", "no-cache, max-age=600"] {
            assert_eq!(control(value), REFRESH_AT_LEAST, "{value}");
        }
        for value in ["max-age=99999", "max-age=18446744073709551615"] {
            assert_eq!(control(value), REFRESH_AT_MOST, "{value}");
        }
        for value in ["max-age=-1", "max-age=", "max-age=18446744073709551616", "private"] {
            assert_eq!(control(value), REFRESH_BY_DEFAULT, "{value}");
        }
    }

    #[test]
    fn retries_become_rarer() {
        let pauses: Vec<u64> = [1, 2, 3, 5, 6, 33, 1000].map(|failures| retry_after(failures).as_secs()).to_vec();
        assert_eq!(pauses, [1, 2, 4, 16, 30, 30, 30]);
    }
}
