//! URLs of services that decide who may connect.

use std::net::IpAddr;

use http::Uri;

use crate::http_head::Authority;

/// Can what such a server says be believed?
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Trust {
    /// A certificate, or nobody is in between.
    Server,
    Nobody,
}

/// `None` where it is no such URL.
pub(super) fn trust(url: &str) -> Option<Trust> {
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
    fn decisions_come_from_a_server_that_proves_who_it_is_or_from_this_machine() {
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
