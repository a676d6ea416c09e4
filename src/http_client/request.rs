//! From what a filter gives to a request that can be sent.

use std::fmt;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Uri, header};

use super::{CallError, REQUEST_BODY_BYTES, REQUEST_HEADER_BYTES, REQUEST_HEADERS, URL_BYTES};
use crate::http_head::{Authority, bracketed, default_port, is_of_the_connection};

const USER_AGENT: HeaderValue = HeaderValue::from_static(concat!("wsgate/", env!("CARGO_PKG_VERSION")));

/// A request as a filter gives it.
#[derive(Clone, Debug)]
pub struct Call {
    /// Any but CONNECT and TRACE.
    pub method: String,
    /// Absolute.
    pub url: String,
    /// Without those of the connection, `Host` and `Content-Length`.
    pub headers: Vec<(String, Vec<u8>)>,
    /// Empty for none.
    pub body: Vec<u8>,
}

/// Scheme, host and port.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct Origin {
    /// `https://`?
    pub tls: bool,
    /// Lower case, without a trailing dot; an IPv6 address without brackets.
    pub host: String,
    /// 80 or 443 where the URL had none.
    pub port: u16,
}

/// A request that was checked.
#[derive(Clone, Debug)]
pub struct Request {
    origin: Origin,
    method: Method,
    target: Uri,
    headers: HeaderMap,
    body: Bytes,
}

impl Request {
    /// # Errors
    /// [`CallError::Invalid`], [`CallError::TooLarge`] for the body.
    pub fn check(call: Call) -> Result<Self, CallError> {
        let method = method(&call.method)?;
        let (origin, target) = url(&call.url)?;
        let mut headers = headers(&call.headers)?;
        if call.body.len() > REQUEST_BODY_BYTES {
            return Err(CallError::TooLarge);
        }
        headers.insert(header::HOST, origin.host_header()?);
        headers.entry(header::USER_AGENT).or_insert(USER_AGENT);
        // RFC 9110 section 8.6: these say so also where there is none.
        if !call.body.is_empty() || matches!(method, Method::POST | Method::PUT | Method::PATCH) {
            headers.insert(header::CONTENT_LENGTH, call.body.len().into());
        }
        Ok(Self { origin, method, target, headers, body: call.body.into() })
    }

    /// The method.
    #[must_use]
    pub fn method(&self) -> &str {
        self.method.as_str()
    }

    /// Scheme, host, port, path and query; the port of the scheme is left out.
    #[must_use]
    pub fn url(&self) -> String {
        let port = format!(":{}", default_port(self.origin.tls));
        let origin = self.origin.to_string();
        format!("{}{}", origin.strip_suffix(&port).unwrap_or(&origin), self.target)
    }

    /// The headers as they are sent.
    #[must_use]
    pub fn headers(&self) -> &HeaderMap {
        &self.headers
    }

    /// The body; empty for none.
    #[must_use]
    pub fn body(&self) -> &Bytes {
        &self.body
    }

    /// To whom it goes.
    #[must_use]
    pub fn origin(&self) -> &Origin {
        &self.origin
    }

    /// May it be sent again where nobody knows whether it arrived (RFC 9110 section 9.2.2)?
    pub(super) fn is_idempotent(&self) -> bool {
        self.method.is_idempotent()
    }

    pub(super) fn to_http(&self) -> http::Request<http_body_util::Full<Bytes>> {
        let mut request = http::Request::new(http_body_util::Full::new(self.body.clone()));
        *request.method_mut() = self.method.clone();
        *request.uri_mut() = self.target.clone();
        *request.headers_mut() = self.headers.clone();
        request
    }
}

impl Origin {
    fn host_header(&self) -> Result<HeaderValue, CallError> {
        let host = bracketed(&self.host);
        let text =
            if self.port == default_port(self.tls) { host.into_owned() } else { format!("{host}:{}", self.port) };
        HeaderValue::try_from(text).map_err(|_| invalid("the URL's host cannot be sent"))
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.tls { "https" } else { "http" };
        write!(f, "{scheme}://{}:{}", bracketed(&self.host), self.port)
    }
}

fn invalid(text: impl Into<String>) -> CallError {
    CallError::Invalid(text.into())
}

fn method(text: &str) -> Result<Method, CallError> {
    let method = Method::from_bytes(text.as_bytes()).map_err(|_| invalid("the method is not a token"))?;
    if method == Method::CONNECT || method == Method::TRACE {
        return Err(invalid(format!("the method {method} is not accepted")));
    }
    Ok(method)
}

/// What is said of a URL does not repeat it: it may hold a secret.
fn url(text: &str) -> Result<(Origin, Uri), CallError> {
    if text.len() > URL_BYTES {
        return Err(invalid(format!("the URL has {} bytes, {URL_BYTES} allowed", text.len())));
    }
    if !text.is_ascii() {
        return Err(invalid("the URL has characters that need percent-encoding"));
    }
    let uri = Uri::try_from(text).map_err(|error| invalid(format!("the URL is none: {error}")))?;
    let tls = match uri.scheme_str() {
        Some("https") => true,
        Some("http") => false,
        Some(_) | None => return Err(invalid("the URL begins neither with https:// nor with http://")),
    };
    let authority = uri.authority().map_or("", |authority| authority.as_str());
    if authority.contains('@') {
        return Err(invalid("the URL has a user name or password; send credentials in a header"));
    }
    let authority = Authority::parse(authority).ok_or_else(|| invalid("the URL has no valid host and port"))?;
    let (host, port) = (authority.bare_host().to_owned(), authority.port.unwrap_or(default_port(tls)));
    let query = uri.query().map_or_else(String::new, |query| format!("?{query}"));
    let target = Uri::try_from(format!("{}{query}", uri.path()));
    let target = target.map_err(|error| invalid(format!("the URL's path is none: {error}")))?;
    Ok((Origin { tls, host, port }, target))
}

fn headers(list: &[(String, Vec<u8>)]) -> Result<HeaderMap, CallError> {
    let bytes: usize = list.iter().map(|(name, value)| name.len() + value.len()).sum();
    if list.len() > REQUEST_HEADERS || bytes > REQUEST_HEADER_BYTES {
        let most = format!("{REQUEST_HEADERS} of {REQUEST_HEADER_BYTES} bytes together allowed");
        return Err(invalid(format!("{} headers of {bytes} bytes, {most}", list.len())));
    }
    let mut headers = HeaderMap::new();
    for (name, value) in list {
        let shown = name.escape_default();
        let Ok(name) = HeaderName::from_bytes(name.as_bytes()) else {
            return Err(invalid(format!("the header name \"{shown}\" is not a token")));
        };
        if is_of_the_connection(&name) || name == header::HOST {
            return Err(invalid(format!("the header {name} is not the filter's to set")));
        }
        let Ok(value) = HeaderValue::from_bytes(value) else {
            return Err(invalid(format!("the value of the header {name} has control characters")));
        };
        headers.append(name, value);
    }
    Ok(headers)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call(method: &str, url: &str, headers: &[(&str, &str)]) -> Call {
        let headers = headers.iter().map(|(name, value)| ((*name).to_owned(), value.as_bytes().to_vec())).collect();
        Call { method: method.to_owned(), url: url.to_owned(), headers, body: Vec::new() }
    }

    fn get(url: &str) -> Result<Request, CallError> {
        Request::check(call("GET", url, &[]))
    }

    #[test]
    fn a_url_is_taken_apart() {
        for (url, origin, host, target) in [
            ("https://Authz.Internal./a/b?c=d#e", "https://authz.internal:443", "authz.internal", "/a/b?c=d"),
            ("http://authz:8080", "http://authz:8080", "authz:8080", "/"),
            ("http://[::1]:80?q", "http://[::1]:80", "[::1]", "/?q"),
            ("https://127.0.0.1:80/", "https://127.0.0.1:80", "127.0.0.1:80", "/"),
        ] {
            let request = get(url).unwrap();
            assert_eq!(request.origin().to_string(), origin);
            assert_eq!(request.headers[header::HOST], host);
            assert_eq!(request.target, target);
        }
    }

    #[test]
    fn what_is_no_url_to_call_is_refused() {
        for url in [
            "",
            "/path",
            "authz.internal",
            "ftp://authz",
            "ws://authz",
            "file:///etc/passwd",
            "http://",
            "http://user@authz",
            "http://user:secret@authz/",
            "http://authz:0/",
            "http://authz:99999/",
            "http://a b/",
            "http://authz/ü",
            "http://authz/\r\nx: y",
            "http://authz%2einternal/",
        ] {
            let result = get(url);
            assert!(matches!(result, Err(CallError::Invalid(_))), "{url:?}: {result:?}");
        }
        let error = get("http://user:secret@authz/").unwrap_err();
        assert!(!error.to_string().contains("secret"), "{error}");
        assert!(get(&format!("http://a/{}", "x".repeat(URL_BYTES))).is_err());
    }

    #[test]
    fn methods_that_are_for_proxies_are_refused() {
        for method in ["CONNECT", "TRACE", "", "GET /", "G\r\n"] {
            assert!(Request::check(call(method, "http://a/", &[])).is_err(), "{method:?}");
        }
        for method in ["GET", "POST", "PURGE"] {
            assert!(Request::check(call(method, "http://a/", &[])).is_ok(), "{method:?}");
        }
    }

    #[test]
    fn headers_of_the_connection_are_refused() {
        for name in [
            "Host",
            "content-length",
            "Transfer-Encoding",
            "connection",
            "keep-alive",
            "te",
            "trailer",
            "upgrade",
            "proxy-authorization",
            "sec-websocket-key",
            "bad name",
            "",
        ] {
            let result = Request::check(call("GET", "http://a/", &[(name, "x")]));
            assert!(matches!(result, Err(CallError::Invalid(_))), "{name:?}");
        }
        let result = Request::check(call("GET", "http://a/", &[("x-a", "b\r\nhost: evil")]));
        assert!(matches!(result, Err(CallError::Invalid(_))));
        let many: Vec<_> = (0..=REQUEST_HEADERS).map(|_| ("x", "y")).collect();
        assert!(Request::check(call("GET", "http://a/", &many)).is_err());
        assert!(Request::check(call("GET", "http://a/", &many[1..])).is_ok());
    }

    #[test]
    fn the_length_is_set_where_a_body_may_be_expected() {
        let length = |method: &str, body: &[u8]| {
            let request = Request::check(Call { body: body.to_vec(), ..call(method, "http://a/", &[]) }).unwrap();
            request.headers.get(header::CONTENT_LENGTH).map(|value| value.to_str().unwrap().to_owned())
        };
        assert_eq!(length("GET", b""), None);
        assert_eq!(length("GET", b"x").as_deref(), Some("1"));
        assert_eq!(length("POST", b"").as_deref(), Some("0"));
        let large = Call { body: vec![0; REQUEST_BODY_BYTES + 1], ..call("POST", "http://a/", &[]) };
        assert_eq!(Request::check(large).unwrap_err(), CallError::TooLarge);
    }
}
