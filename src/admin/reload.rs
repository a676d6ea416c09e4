//! Loading another configuration, and looking what it would change.

use std::{collections::BTreeMap, path::PathBuf, pin::Pin};

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Body;
use serde::{Deserialize, Serialize};

use super::{Api, body::body, json, problem};
use crate::session::Retired;

/// A configuration, as JSON text.
const MAX_BODY_BYTES: usize = 8 << 20;

/// What a reload came to, or why there was none.
pub type Reloaded = Result<ReloadReport, String>;

/// What reloads.
pub trait Reload: Send + Sync {
    /// Loads the configuration file.
    fn reload(&self) -> Pin<Box<dyn Future<Output = Reloaded> + Send + '_>>;

    /// What loading this text would change. Paths in it start at `base_dir`.
    fn check(&self, text: String, base_dir: PathBuf) -> Pin<Box<dyn Future<Output = Reloaded> + Send + '_>>;
}

/// What changed, or would.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct ReloadReport {
    /// Grows by one with each configuration that is loaded; the first is 1.
    pub generation: u64,
    /// One line a thing.
    pub changed: Vec<String>,
    /// About the configuration.
    pub warnings: Vec<String>,
    /// What became of the open connections, by the route that they opened on.
    pub connections: BTreeMap<String, RouteConnections>,
}

/// The open connections of a route.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct RouteConnections {
    /// They stay.
    pub kept: usize,
    /// Closed with 1001: the route is gone, or has filters for the first time.
    pub route_changed: usize,
    /// Closed with 4403: they would be refused now.
    pub no_longer_allowed: usize,
}

impl RouteConnections {
    /// How many are closed.
    #[must_use]
    pub fn closed(&self) -> usize {
        self.route_changed + self.no_longer_allowed
    }

    /// So many are closed for this reason.
    pub fn close(&mut self, why: Retired, count: usize) {
        match why {
            Retired::RouteChanged => self.route_changed = count,
            Retired::NoLongerAllowed => self.no_longer_allowed = count,
        }
    }
}

/// The body of a request to check.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Candidate {
    config: String,
    base_dir: PathBuf,
}

impl Api {
    pub(super) async fn reload(&self) -> Response<Full<Bytes>> {
        answer(self.state.reloads.reload().await)
    }

    pub(super) async fn check<B: Body<Error: std::error::Error + Send + Sync + 'static>>(
        &self,
        request: Request<B>,
    ) -> Response<Full<Bytes>> {
        match body(request, MAX_BODY_BYTES).await {
            Ok(Candidate { config, base_dir }) => answer(self.state.reloads.check(config, base_dir).await),
            Err(refused) => refused,
        }
    }
}

fn answer(reloaded: Reloaded) -> Response<Full<Bytes>> {
    match reloaded {
        Ok(report) => json(&report),
        Err(why) => problem(StatusCode::UNPROCESSABLE_ENTITY, Some(&why)),
    }
}
