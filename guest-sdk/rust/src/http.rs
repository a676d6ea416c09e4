//! HTTP calls, to the hosts that the filter's configuration allows: `allow = { http = ["https://authz.internal"] }`.
//!
//! A filter that calls [`send`] has the WIT world `filter-http`; one that does not, `filter`. Calls wait, and an instance
//! does one call at a time: such a filter has 8 `instances` on each worker unless its configuration says otherwise.
//! Redirects are not followed.

use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;

#[cfg(target_family = "wasm")]
use crate::bindings::wsgate::filter::http_client as host;
#[doc(inline)]
pub use crate::bindings::wsgate::filter::http_client::{Error, Request, Response};
use crate::bindings::wsgate::filter::types::Header;
#[cfg(not(target_family = "wasm"))]
use crate::native::http_client as host;

/// Sends a request and waits for the whole response. Any status is a response, not an error.
///
/// ```
/// use std::time::Duration;
/// use wsgate_sdk::http::{self, Request};
///
/// let request = Request::get("https://authz.internal/users/7")
///     .with_header("accept", "application/json")
///     .with_timeout(Duration::from_millis(500));
/// # assert_eq!(http::send(&request), Err(http::Error::Denied));
/// ```
///
/// # Errors
///
/// [`Error::Denied`] where the origin is not allowed, [`Error::Invalid`] for what is no request, [`Error::Timeout`],
/// [`Error::TooLarge`] above 4 MiB of body either way, [`Error::Unavailable`].
pub fn send(request: &Request) -> Result<Response, Error> {
    host::send(request)
}

impl Request {
    /// A request without a body, with a timeout of 1 s.
    pub fn new(method: impl Into<String>, url: impl Into<String>) -> Self {
        Self { method: method.into(), url: url.into(), headers: Vec::new(), body: Vec::new(), timeout_ms: 1_000 }
    }

    /// A GET request.
    pub fn get(url: impl Into<String>) -> Self {
        Self::new("GET", url)
    }

    /// A POST request with this body.
    pub fn post(url: impl Into<String>, body: impl Into<Vec<u8>>) -> Self {
        Self { body: body.into(), ..Self::new("POST", url) }
    }

    /// A POST request with this body as JSON.
    ///
    /// # Errors
    ///
    /// Where the body cannot be written as JSON: a map whose keys are no text.
    pub fn post_json(url: impl Into<String>, body: &impl Serialize) -> Result<Self, crate::Error> {
        Ok(Self::post(url, serde_json::to_vec(body)?).with_header("content-type", "application/json"))
    }

    /// Adds a header.
    #[must_use]
    pub fn with_header(mut self, name: impl Into<String>, value: impl Into<Vec<u8>>) -> Self {
        self.headers.push(Header { name: name.into(), value: value.into() });
        self
    }

    /// Sets how long the whole call may take, in whole milliseconds. The filter's `wait_timeout` bounds it too.
    #[must_use]
    pub fn with_timeout(mut self, timeout: Duration) -> Self {
        self.timeout_ms = u32::try_from(timeout.as_millis()).unwrap_or(u32::MAX);
        self
    }
}

impl Response {
    /// A response without headers and body: for tests.
    pub fn new(status: u16) -> Self {
        Self { status, headers: Vec::new(), body: Vec::new() }
    }

    /// Adds a header: for tests.
    #[must_use]
    pub fn with_header(mut self, name: impl Into<String>, value: impl Into<Vec<u8>>) -> Self {
        self.headers.push(Header { name: name.into(), value: value.into() });
        self
    }

    /// Sets the body: for tests.
    #[must_use]
    pub fn with_body(mut self, body: impl Into<Vec<u8>>) -> Self {
        self.body = body.into();
        self
    }

    /// Whether the status is 200-299.
    pub fn is_success(&self) -> bool {
        (200..300).contains(&self.status)
    }

    /// The value of the first header of this name, in any case; none where it is not UTF-8.
    pub fn header(&self, name: &str) -> Option<&str> {
        let header = self.headers.iter().find(|header| header.name.eq_ignore_ascii_case(name))?;
        std::str::from_utf8(&header.value).ok()
    }

    /// The body as JSON.
    ///
    /// # Errors
    ///
    /// Where it is none, or does not fit the type. The error does not repeat what was found.
    pub fn json<T: DeserializeOwned>(&self) -> Result<T, crate::Error> {
        crate::json::read(&self.body).map_err(|error| error.context("the response"))
    }
}
