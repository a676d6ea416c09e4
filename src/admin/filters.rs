//! Filters as operators see and steer them.

use std::pin::Pin;

use bytes::Bytes;
use http::{HeaderValue, Request, Response, StatusCode, header};
use http_body_util::Full;
use hyper::body::Body;
use serde::Deserialize;
use serde_json::json;

use super::{Api, PROBLEM_JSON, answer, body::body, json};
use crate::{
    filter::{Catalogue, FilterStatus, Mode, OrderError, RolledBack},
    http_head::problem_json,
};

/// A request's body; a longer one is answered 413.
const MAX_BODY_BYTES: usize = 4 << 10;

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
pub(super) struct Nothing {}

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
        match body(request, MAX_BODY_BYTES).await {
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
        if let Err(refused) = body::<Nothing, B>(request, MAX_BODY_BYTES).await {
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
