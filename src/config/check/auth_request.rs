//! `auth_request` of a route.

use std::{collections::BTreeSet, time::Duration};

use super::{
    super::{
        leaf::{At, Table},
        raw::RawAuthRequest,
        types::{AuthRequest, AuthRequestCache},
    },
    Checker,
    service::{Trust, trust},
};

const DEFAULT_TIMEOUT: Duration = Duration::from_secs(2);
/// What was allowed a minute ago may long be forbidden.
const MAX_CACHE: Duration = Duration::from_secs(60);
const MAX_HEADERS: usize = 32;

impl Checker<'_> {
    pub(super) fn auth_request(&mut self, raw: Option<&At<Table<RawAuthRequest>>>) -> Option<AuthRequest> {
        let at = raw?;
        let raw = &at.value;
        let Some(url) = &raw.url else {
            self.refuse_key(
                Some(at),
                "url",
                "missing; write the URL of a service, such as \"https://authz.internal/check\"",
            );
            return None;
        };
        match trust(&url.value) {
            Some(Trust::Server) => {}
            Some(Trust::Nobody) => {
                self.warn(
                    url,
                    "http:// to another machine: whoever is in between decides who may connect; use https://",
                );
            }
            None => {
                self.refuse(url, "not a URL that can be asked; write \"https://host/path\", without user name, password and fragment");
            }
        }
        Some(AuthRequest {
            url: url.value.clone(),
            timeout: self.time(raw.timeout.as_ref(), DEFAULT_TIMEOUT, Duration::from_millis(1)),
            copy_headers: self.headers_named(&raw.copy_headers),
            cache: self.auth_request_cache(at),
        })
    }

    fn auth_request_cache(&mut self, at: &At<Table<RawAuthRequest>>) -> Option<AuthRequestCache> {
        let raw = &at.value;
        let Some(time) = raw.cache.as_ref().filter(|time| time.value.0.is_some()) else {
            if let Some(by) = raw.cache_by.first() {
                self.refuse(by, "nothing is cached; set cache, such as \"10s\", or remove this");
            }
            return None;
        };
        let lasts = self.time_or_off(Some(time), None)?;
        if lasts > MAX_CACHE {
            self.refuse_as(time, "accepted; write at most \"1m\"");
        }
        if raw.cache_by.is_empty() {
            let message = "missing; write the headers on which the answer depends, such as [\"authorization\"]";
            self.refuse_key(Some(at), "cache_by", message);
        }
        let by = raw.cache_by.iter().filter_map(|name| self.any_header(name)).collect();
        Some(AuthRequestCache { lasts, by })
    }

    fn headers_named(&mut self, names: &[At<String>]) -> Vec<http::HeaderName> {
        let mut seen = BTreeSet::new();
        for at in names.iter().skip(MAX_HEADERS) {
            self.refuse(at, format!("at most {MAX_HEADERS} headers are accepted"));
        }
        names.iter().filter_map(|at| self.header_name(at, &mut seen)).collect()
    }

    /// Any header that a client may send.
    fn any_header(&mut self, at: &At<String>) -> Option<http::HeaderName> {
        let name = at.value.parse().ok();
        if name.is_none() {
            self.refuse_as(at, "a header name (RFC 9110 section 5.1)");
        }
        name
    }
}
