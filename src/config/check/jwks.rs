//! `jwks_url` of `[jwt.*]`.

use std::time::Duration;

use super::{
    super::{raw::RawJwt, types::KeySource},
    Checker,
    service::{Trust, trust},
};

const DEFAULT_MAX_STALE: Duration = Duration::from_secs(24 * 3600);

impl Checker<'_> {
    /// What only keys by URL have.
    pub(super) fn only_by_url(&mut self, raw: &RawJwt) {
        if let (Some(at), None) = (&raw.jwks_max_stale, &raw.jwks_url) {
            self.refuse(at, "without jwks_url nothing goes stale; set jwks_url, or remove this");
        }
    }

    /// Where an issuer publishes its keys.
    pub(super) fn jwks_url(&mut self, raw: &RawJwt) -> Option<KeySource> {
        let at = raw.jwks_url.as_ref()?;
        let max_stale = self.time(raw.jwks_max_stale.as_ref(), DEFAULT_MAX_STALE, Duration::ZERO);
        let Some(trust) = trust(&at.value) else {
            self.refuse(at, "not a URL that keys can be fetched from; write \"https://host/path\", without user name, password and fragment");
            return None;
        };
        if trust == Trust::Nobody {
            self.warn(at, "http:// to another machine: whoever is in between decides which tokens count; use https://");
        }
        Some(KeySource::JwksUrl { url: at.value.clone(), max_stale })
    }
}
