//! HTTP: requests that are answered by the test.

use std::cell::RefCell;
use std::rc::Rc;

use crate::http::{Error, Request, Response};

const URL_BYTES: usize = 8_192;
const BODY_BYTES: usize = 4 << 20;

/// Headers that are the gateway's to set, beside those that begin with `sec-websocket-` and `proxy-`.
const RESERVED: [&str; 8] =
    ["host", "content-length", "connection", "keep-alive", "te", "trailer", "transfer-encoding", "upgrade"];

pub(super) type Answer = Rc<RefCell<dyn FnMut(&Request) -> Result<Response, Error>>>;

#[derive(Default)]
pub(crate) struct Web {
    /// Origins of `allow.http`, with what answers for each. A later one counts before an earlier one.
    pub(super) origins: Vec<(Origin, Answer)>,
    /// Answers to one method and URL each, which count before those of origins.
    pub(super) canned: Vec<(String, String, Result<Response, Error>)>,
    /// Those that were granted, in their order.
    pub(super) requests: Vec<Request>,
}

impl Web {
    /// What answers a request, where it is granted and the gateway would send it.
    pub(crate) fn route(&mut self, request: &Request) -> Result<Answer, Error> {
        let checked = check(request);
        let answer = match &checked {
            Ok(origin) => self.origins.iter().rev().find(|(granted, _)| granted.covers(origin)),
            Err(_) => self.origins.last(),
        };
        let Some((_, answer)) = answer else { return Err(Error::Denied) };
        checked?;
        self.requests.push(request.clone());
        let is_canned = |(method, url, _): &&(String, String, _)| *method == request.method && *url == request.url;
        match self.canned.iter().rev().find(is_canned) {
            Some((_, _, answer)) => {
                let answer = answer.clone();
                Ok(Rc::new(RefCell::new(move |_: &Request| answer.clone())))
            }
            None => Ok(Rc::clone(answer)),
        }
    }

    /// Grants an origin; nothing answers there yet.
    pub(super) fn grant(&mut self, origin: Origin) {
        if !self.origins.iter().any(|(granted, _)| *granted == origin) {
            let nobody = |request: &Request| {
                Err(Error::Unavailable(format!("the test has no answer to {} {}", request.method, request.url)))
            };
            self.origins.push((origin, Rc::new(RefCell::new(nobody))));
        }
    }
}

/// Scheme, host and port. The host of one that is granted may begin with `*.`.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Origin {
    scheme: String,
    host: String,
    port: String,
}

impl Origin {
    /// That of a URL.
    pub(super) fn of(url: &str) -> Option<Self> {
        let (scheme, rest) = url.split_once("://")?;
        let scheme = scheme.to_ascii_lowercase();
        let default_port = match scheme.as_str() {
            "https" => "443",
            "http" => "80",
            _ => return None,
        };
        let authority = rest.split(['/', '?', '#']).next()?.to_ascii_lowercase();
        // A colon inside brackets belongs to the address.
        let (host, port) = match authority.rsplit_once(':') {
            Some((host, port)) if !port.contains(']') => (host, port),
            Some(_) | None => (authority.as_str(), default_port),
        };
        let is_none = host.is_empty() || authority.contains('@') || !port.bytes().all(|byte| byte.is_ascii_digit());
        (!is_none).then(|| Self { scheme, host: host.to_owned(), port: port.to_owned() })
    }

    fn covers(&self, other: &Self) -> bool {
        let host = match self.host.strip_prefix('*') {
            Some(below) => other.host.len() > below.len() && other.host.ends_with(below),
            None => self.host == other.host,
        };
        host && self.scheme == other.scheme && self.port == other.port
    }
}

/// The commonest mistakes that the gateway refuses.
fn check(request: &Request) -> Result<Origin, Error> {
    let invalid = |why: String| Err(Error::Invalid(why));
    if request.method.is_empty() || ["CONNECT", "TRACE"].contains(&request.method.as_str()) {
        return invalid(format!("the method {:?} is not accepted", request.method));
    }
    if request.url.len() > URL_BYTES || !request.url.is_ascii() || request.url.contains(char::is_whitespace) {
        return invalid("the URL is too long or needs percent-encoding".to_owned());
    }
    let Some(origin) = Origin::of(&request.url) else {
        return invalid("the URL begins neither with https:// nor with http://, or has no valid host".to_owned());
    };
    for header in &request.headers {
        let name = header.name.to_ascii_lowercase();
        if RESERVED.contains(&name.as_str()) || name.starts_with("sec-websocket-") || name.starts_with("proxy-") {
            return invalid(format!("the header {name} is not the filter's to set"));
        }
    }
    if request.timeout_ms == 0 {
        return invalid("timeout-ms is 0".to_owned());
    }
    if request.body.len() > BODY_BYTES {
        return Err(Error::TooLarge);
    }
    Ok(origin)
}
