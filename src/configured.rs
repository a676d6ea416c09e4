//! What one configuration came to: everything about who may come, and where to, that a reload replaces at once.

use std::sync::Arc;

use rustls::ClientConfig;
use thiserror::Error;

use crate::{
    auth::{Authenticators, KeyError, Revocations},
    config::Config,
    limit::{Limits, RouteLimiter},
    route::RouteTable,
    telemetry::metrics::Metrics,
    upstream::{Upstreams, UpstreamsError, roots},
};

/// See the module. Workers share one, and have another after a reload.
pub struct Configured {
    /// The configuration itself.
    pub config: Arc<Config>,
    /// Every route.
    pub routes: RouteTable,
    /// How much may come altogether.
    pub all: Arc<RouteLimiter>,
    /// Every upstream.
    pub upstreams: Arc<Upstreams>,
    /// Every `[jwt.*]` table.
    pub authenticators: Authenticators,
    /// Whom services of `auth_request` have to prove to be; none where none is asked over `https://`.
    pub service_tls: Option<Arc<ClientConfig>>,
}

/// Why a configuration cannot be used.
#[derive(Debug, Error)]
pub enum ConfiguredError {
    /// An upstream cannot be used.
    #[error("cannot use the upstreams")]
    Upstreams(#[from] UpstreamsError),
    /// A key for tokens cannot be used.
    #[error(transparent)]
    Keys(#[from] KeyError),
}

/// What every configuration of the process shares.
#[derive(Clone)]
pub struct Lasting {
    /// What counts against limits.
    pub limits: Arc<Limits>,
    /// What no longer counts.
    pub revocations: Arc<Revocations>,
    /// Every metric.
    pub metrics: Arc<Metrics>,
}

impl Configured {
    /// Makes what a configuration asks for. What is as it was before is taken over.
    ///
    /// # Errors
    /// Keys, certificates or endpoints that cannot be used.
    pub fn new(config: Arc<Config>, lasting: &Lasting, before: Option<&Self>) -> Result<Self, ConfiguredError> {
        let Lasting { limits, revocations, metrics } = lasting;
        let known = before.map(|before| &before.authenticators);
        let authenticators = Authenticators::load(&config, metrics, Arc::clone(revocations), known)?;
        Ok(Self {
            routes: RouteTable::new(&config, limits, metrics, before.map(|before| &before.routes)),
            all: limits.all(&config.server.limits),
            upstreams: match before {
                Some(before) if before.config.upstreams == config.upstreams => Arc::clone(&before.upstreams),
                Some(_) | None => Arc::new(Upstreams::new(&config, metrics, before.map(|before| &*before.upstreams))?),
            },
            authenticators,
            service_tls: service_tls(&config, before)?,
            config,
        })
    }

    /// Is nothing in it of which an open connection would have to hear?
    #[must_use]
    pub fn admits_like(&self, other: &Self) -> bool {
        let tables = self.config.jwt.keys().all(|name| {
            let tables = (self.authenticators.get(name), other.authenticators.get(name));
            matches!(tables, (Some(one), Some(other)) if Arc::ptr_eq(one, other))
        });
        tables && self.routes.same(&other.routes) && Arc::ptr_eq(&self.all, &other.all)
    }
}

/// The machine's root certificates, where a service is asked over `https://`.
fn service_tls(config: &Config, before: Option<&Configured>) -> Result<Option<Arc<ClientConfig>>, UpstreamsError> {
    let mut services = config.routes.iter().filter_map(|route| route.auth_request.as_ref());
    if !services.any(|service| service.url.to_ascii_lowercase().starts_with("https:")) {
        return Ok(None);
    }
    match before.and_then(|before| before.service_tls.as_ref()) {
        Some(known) => Ok(Some(Arc::clone(known))),
        None => roots::native().map(Some),
    }
}
