//! Who may speak to the admin API from a browser's point of view. It listens on the loopback, where every page that the
//! operator has open can reach it: under a name that its author controls (DNS rebinding), or with a request from another
//! site.

use std::net::IpAddr;

use http::{HeaderMap, HeaderName, HeaderValue, Request, Uri, header};

use crate::http_head::{Authority, without_brackets};

const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// The names under which a listener answers.
pub(super) struct Guard {
    bound: Option<IpAddr>,
}

impl Guard {
    /// `bound` is the listener's own address.
    pub(super) fn new(bound: Option<IpAddr>) -> Self {
        Self { bound }
    }

    /// Is the request for this machine, and not made by another site's page?
    pub(super) fn admits<B>(&self, request: &Request<B>) -> bool {
        self.is_for_us(request) && self.is_from_us(request.headers())
    }

    fn is_for_us<B>(&self, request: &Request<B>) -> bool {
        let hosts = || request.headers().get_all(header::HOST).iter();
        let target = request.uri().authority().is_none_or(|authority| self.is_own(authority.as_str()));
        target && hosts().count() == 1 && hosts().all(|host| host.to_str().is_ok_and(|host| self.is_own(host)))
    }

    /// Requests of tools have neither header.
    fn is_from_us(&self, headers: &HeaderMap) -> bool {
        let own_origin = |origin: &HeaderValue| {
            let origin = origin.to_str().ok().and_then(|origin| origin.parse::<Uri>().ok());
            origin.is_some_and(|origin| origin.authority().is_some_and(|authority| self.is_own(authority.as_str())))
        };
        headers.get_all(SEC_FETCH_SITE).iter().all(|site| site == "same-origin" || site == "none")
            && headers.get_all(header::ORIGIN).iter().all(own_origin)
    }

    /// `localhost`, a loopback address, or the address that the listener is bound to; whatever the port, which a tunnel
    /// may change.
    fn is_own(&self, authority: &str) -> bool {
        let Some(Authority { host, .. }) = Authority::parse(authority) else { return false };
        let literal = without_brackets(&host);
        match literal.parse::<IpAddr>() {
            Ok(address) => address.is_loopback() || self.bound.is_some_and(|bound| bound == address),
            Err(_) => host == "localhost",
        }
    }
}
