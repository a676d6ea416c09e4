//! Filters as operators see and steer them.

use std::{pin::Pin, time::Duration};

use bytes::Bytes;
use http::{HeaderValue, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Body;
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::json;
use tokio::time::timeout;

use super::{Api, PROBLEM_JSON, answer, json, problem};
use crate::{
    filter::{Catalogue, FilterStatus, Mode, OrderError, RolledBack},
    http_head::problem_json,
};

/// A request's body; a longer one is answered 413.
const MAX_BODY_BYTES: usize = 4 << 10;
/// From the head of a request to the end of its body.
const BODY_TIMEOUT: Duration = Duration::from_secs(10);

/// An answer that takes its time.
pub type Answered<'a, T> = Pin<Box<dyn Future<Output = Result<T, OrderError>> + Send + 'a>>;

/// What the API asks of the filters.
pub trait Filters: Send + Sync {
    /// Every known filter. Called for each request: it must not block.
    fn status(&self) -> Vec<FilterStatus>;

    /// Sets a filter's mode and answers what it was.
    ///
    /// # Errors
    /// No such filter.
    fn set_mode(&self, filter: &str, mode: Mode) -> Result<Mode, OrderError>;

    /// Goes back to the generation before.
    fn roll_back<'a>(&'a self, filter: &'a str) -> Answered<'a, Vec<RolledBack>>;

    /// Lets a content be loaded again; answers whether a restart will know.
    fn lift_quarantine<'a>(&'a self, filter: &'a str, sha256: &'a str) -> Answered<'a, bool>;
}

impl Filters for Catalogue {
    fn status(&self) -> Vec<FilterStatus> {
        self.status()
    }

    fn set_mode(&self, filter: &str, mode: Mode) -> Result<Mode, OrderError> {
        self.set_mode(filter, mode)
    }

    fn roll_back<'a>(&'a self, filter: &'a str) -> Answered<'a, Vec<RolledBack>> {
        Box::pin(self.roll_back(filter))
    }

    fn lift_quarantine<'a>(&'a self, filter: &'a str, sha256: &'a str) -> Answered<'a, bool> {
        Box::pin(self.lift_quarantine(filter, sha256))
    }
}

/// The body of a request to set a mode.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SetMode {
    mode: Mode,
}

/// The body of a request that says everything with its path.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Nothing {}

impl Api {
    /// The filter of this name: the one that serves, where several files have the name.
    pub(super) fn filter(&self, name: &str) -> Response<Full<Bytes>> {
        let mut all: Vec<_> = self.state.filters.status().into_iter().filter(|status| status.name == name).collect();
        all.sort_by_key(|status| status.routes.is_empty());
        match all.first() {
            Some(status) => json(&status),
            None => refused(&OrderError::UnknownFilter),
        }
    }

    pub(super) async fn set_mode<B: Body<Error: std::error::Error + Send + Sync + 'static>>(
        &self,
        filter: &str,
        request: Request<B>,
    ) -> Response<Full<Bytes>> {
        match body(request).await {
            Ok(SetMode { mode }) => match self.state.filters.set_mode(filter, mode) {
                Ok(before) => json(&json!({ "filter": filter, "mode": mode, "before": before })),
                Err(error) => refused(&error),
            },
            Err(refused) => refused,
        }
    }

    pub(super) async fn roll_back<B: Body<Error: std::error::Error + Send + Sync + 'static>>(
        &self,
        filter: &str,
        request: Request<B>,
    ) -> Response<Full<Bytes>> {
        if let Err(refused) = body::<Nothing, B>(request).await {
            return refused;
        }
        match self.state.filters.roll_back(filter).await {
            Ok(done) => json(&json!({ "filter": filter, "rolled_back": done })),
            Err(error) => refused(&error),
        }
    }

    pub(super) async fn lift_quarantine(&self, filter: &str, sha256: &str) -> Response<Full<Bytes>> {
        match self.state.filters.lift_quarantine(filter, sha256).await {
            Ok(persisted) => json(&json!({ "filter": filter, "lifted": sha256, "persisted": persisted })),
            Err(error) => refused(&error),
        }
    }
}

/// Reads a JSON body. The media type is asked for because the form of another site's page cannot have it: a page that
/// wants to send it has to ask first, and is not answered.
async fn body<T: DeserializeOwned, B: Body<Error: std::error::Error + Send + Sync + 'static>>(
    request: Request<B>,
) -> Result<T, Response<Full<Bytes>>> {
    let media_type = request.headers().get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let media_type = media_type.and_then(|value| value.split(';').next()).map(str::trim);
    if !media_type.is_some_and(|media_type| media_type.eq_ignore_ascii_case("application/json")) {
        let detail = "send a JSON body with Content-Type: application/json";
        return Err(problem(StatusCode::UNSUPPORTED_MEDIA_TYPE, Some(detail)));
    }
    let body = Limited::new(request.into_body(), MAX_BODY_BYTES);
    let bytes = match timeout(BODY_TIMEOUT, std::pin::pin!(body).collect()).await {
        Ok(Ok(body)) => body.to_bytes(),
        Ok(Err(error)) if error.is::<http_body_util::LengthLimitError>() => {
            let detail = format!("a body of at most {MAX_BODY_BYTES} bytes is read");
            return Err(problem(StatusCode::PAYLOAD_TOO_LARGE, Some(&detail)));
        }
        Ok(Err(_)) => return Err(problem(StatusCode::BAD_REQUEST, Some("the body broke off"))),
        Err(_) => return Err(problem(StatusCode::REQUEST_TIMEOUT, None)),
    };
    // Nothing at all is as good as an empty object.
    let text: &[u8] = if bytes.trim_ascii().is_empty() { b"{}" } else { &bytes };
    serde_json::from_slice(text).map_err(|error| {
        let detail = format!("the body is not as expected: {error}");
        problem(StatusCode::BAD_REQUEST, Some(&detail))
    })
}

fn refused(error: &OrderError) -> Response<Full<Bytes>> {
    let status = match error {
        OrderError::UnknownFilter | OrderError::NotQuarantined => StatusCode::NOT_FOUND,
        OrderError::NothingBefore | OrderError::Unfit { .. } => StatusCode::CONFLICT,
        OrderError::Busy => StatusCode::SERVICE_UNAVAILABLE,
    };
    let mut detail = error.to_string();
    if let Some(cause) = std::error::Error::source(error) {
        detail.push_str(&format!(": {cause}"));
    }
    let mut response = answer(status, PROBLEM_JSON, problem_json(status, Some(&detail)));
    if status == StatusCode::SERVICE_UNAVAILABLE {
        response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("5"));
    }
    response
}
