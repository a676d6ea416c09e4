//! Which route an opening request takes.

use std::sync::Arc;

use http::HeaderName;

use crate::{
    config::{
        self, Config, HeaderEdits, HttpForward, SessionLimits, Target,
        pattern::{HostPattern, OriginRule, PathPattern, PathTemplate},
    },
    limit::{Limits, RouteLimiter},
    telemetry::metrics::{Metrics, RouteMetrics},
};

/// A route as sessions use it. Its filters are found by its name.
pub struct Route {
    /// Unique; the label in metrics.
    pub name: String,
    /// Where messages go.
    pub target: Target,
    /// Subprotocols that may be negotiated; `None`: any that the upstream takes.
    pub subprotocols: Option<Vec<String>>,
    /// Edits to the request that the upstream receives.
    pub request_headers: HeaderEdits,
    /// The `[jwt.*]` table whose tokens a client needs, if any.
    pub auth: Option<String>,
    /// Headers of the request that the upstream receives, each from a claim.
    pub claims_to_headers: Vec<(HeaderName, String)>,
    /// Which pages of the web may connect.
    pub allowed_origins: Vec<OriginRule>,
    /// Sizes and times.
    pub limits: SessionLimits,
    /// How many may connect, and how much they may send.
    pub limiter: Arc<RouteLimiter>,
    /// Who is asked about each handshake.
    pub auth_request: Option<config::AuthRequest>,
    /// How requests are forwarded that open no WebSocket; `None`: not at all.
    pub http: Option<HttpForward>,
    /// Has it filters, or a folder for them?
    pub filtered: bool,
    /// May a filter of it send messages to other upstreams?
    pub may_route: bool,
    /// What the route counts.
    pub metrics: RouteMetrics,
    host: Option<HostPattern>,
    path: PathPattern,
    path_rewrite: Option<PathTemplate>,
    config: config::Route,
}

impl Route {
    /// Those of the client's subprotocols that the route allows, in the client's order.
    #[must_use]
    pub fn allowed_subprotocols(&self, offered: &[String]) -> Vec<String> {
        match &self.subprotocols {
            Some(allowed) => offered.iter().filter(|name| allowed.contains(name)).cloned().collect(),
            None => offered.to_vec(),
        }
    }

    /// Does it answer requests that open no WebSocket?
    #[must_use]
    pub fn answers_plain_http(&self) -> bool {
        self.http.is_some() || matches!(self.target, Target::Static(_))
    }

    fn matches(&self, host: &str, path: &str) -> Option<Vec<(String, String)>> {
        if self.host.as_ref().is_some_and(|pattern| !pattern.matches(host)) {
            return None;
        }
        self.path.matches(path)
    }
}

/// A route and what the request gave its parameters.
#[derive(Clone)]
pub struct Matched {
    /// The first route that matched.
    pub route: Arc<Route>,
    /// In the order of the pattern; what a trailing `*` took is the last, under the name `*`.
    pub parameters: Vec<(String, String)>,
}

impl Matched {
    /// Path and query that the upstream sees: rewritten where the route says so, the query as it came.
    #[must_use]
    pub fn upstream_path_and_query(&self, path: &str, query: Option<&str>) -> String {
        let rewritten = self.route.path_rewrite.as_ref().map(|template| template.render(&self.parameters));
        let path = rewritten.as_deref().unwrap_or(path);
        match query {
            Some(query) => format!("{path}?{query}"),
            None => path.to_owned(),
        }
    }
}

/// Every route, in file order. It never changes: a reload makes another.
pub struct RouteTable {
    routes: Vec<Arc<Route>>,
}

impl RouteTable {
    /// The routes of a configuration. Those that are as they were before stay the same objects.
    #[must_use]
    pub fn new(config: &Config, limits: &Limits, metrics: &Metrics, before: Option<&Self>) -> Self {
        let may_route = config.filters.values().any(|filter| !filter.allow.upstreams.is_empty());
        Self::of(&config.routes, may_route, limits, metrics, before)
    }

    fn of(
        routes: &[config::Route],
        may_route: bool,
        limits: &Limits,
        metrics: &Metrics,
        before: Option<&Self>,
    ) -> Self {
        let route = |route: &config::Route| {
            let filtered = route.filters.is_used();
            let known = before.and_then(|before| before.named(&route.name));
            let same = |known: &&Arc<Route>| known.config == *route && known.may_route == (filtered && may_route);
            if let Some(known) = known.filter(same) {
                return Arc::clone(known);
            }
            Arc::new(Route {
                name: route.name.clone(),
                target: route.target.clone(),
                subprotocols: route.subprotocols.clone(),
                request_headers: route.request_headers.clone(),
                auth: route.auth.clone(),
                claims_to_headers: route.claims_to_headers.clone(),
                allowed_origins: route.allowed_origins.clone(),
                limits: route.limits,
                auth_request: route.auth_request.clone(),
                http: route.http,
                limiter: limits.route(&route.name, &route.traffic),
                filtered,
                may_route: filtered && may_route,
                metrics: metrics.route(&route.name),
                host: route.host.clone(),
                path: route.path.clone(),
                path_rewrite: route.path_rewrite.clone(),
                config: route.clone(),
            })
        };
        Self { routes: routes.iter().map(route).collect() }
    }

    /// The first route that takes this host (lower case, without port) and path.
    #[must_use]
    pub fn find(&self, host: &str, path: &str) -> Option<Matched> {
        self.routes.iter().find_map(|route| {
            let parameters = route.matches(host, path)?;
            Some(Matched { route: Arc::clone(route), parameters })
        })
    }

    /// The route of this name.
    #[must_use]
    pub fn named(&self, name: &str) -> Option<&Arc<Route>> {
        self.routes.iter().find(|route| route.name == name)
    }

    /// Are they the same routes in the same order?
    #[must_use]
    pub fn same(&self, other: &Self) -> bool {
        self.routes.len() == other.routes.len()
            && self.routes.iter().zip(&other.routes).all(|(one, other)| Arc::ptr_eq(one, other))
    }

    /// Every route, in file order.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Route>> {
        self.routes.iter()
    }
}

#[cfg(test)]
mod tests;
