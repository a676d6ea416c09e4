//! `jwks_url` of `[jwt.*]`.

use std::{net::IpAddr, time::Duration};

use http::Uri;

use super::{
    super::{raw::RawJwt, types::KeySource},
    Checker,
};
use crate::http_head::Authority;

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

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Trust {
    /// A certificate, or nobody is in between.
    Server,
    Nobody,
}

/// `None` where it is no such URL.
fn trust(url: &str) -> Option<Trust> {
    let uri: Uri = url.parse().ok().filter(|_| url.is_ascii() && !url.contains('#'))?;
    let authority = uri.authority().filter(|authority| !authority.as_str().contains('@'))?;
    let authority = Authority::parse(authority.as_str())?;
    let host = authority.bare_host();
    let is_loopback = host == "localhost" || host.parse::<IpAddr>().is_ok_and(|ip| ip.to_canonical().is_loopback());
    match uri.scheme_str() {
        Some("https") => Some(Trust::Server),
        Some("http") if is_loopback => Some(Trust::Server),
        Some("http") => Some(Trust::Nobody),
        Some(_) | None => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_come_from_a_server_that_proves_who_it_is_or_from_this_machine() {
        for url in ["https://id.example.com/jwks?x=1", "http://127.0.0.1:8/", "http://[::1]/a", "http://LOCALHOST"] {
            assert_eq!(trust(url), Some(Trust::Server), "{url}");
        }
        assert_eq!(trust("http://id.example.com/jwks"), Some(Trust::Nobody));
        for url in ["", "id.example.com", "ftp://a/b", "https://", "https://a@b/", "https://a/#x", "https://a b/", "/a"]
        {
            assert_eq!(trust(url), None, "{url}");
        }
    }
}
