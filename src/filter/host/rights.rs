//! What a filter may use of the gateway beyond its own messages: what its configuration allows, and nothing else.

use std::{collections::BTreeMap, fmt::Display, sync::Arc};

use super::logging::printable;
use crate::{
    config::{
        Allow,
        pattern::{OriginPattern, TopicPattern, is_topic},
    },
    http_client::Origin,
    store::{Store, Stores},
    telemetry::{allowance::Allowance, metrics::FilterMetrics},
};

/// Longest name of something denied in a log line.
const ASKED_BYTES: usize = 256;

/// The rights of one generation.
pub(in crate::filter) struct Rights {
    filter: Arc<str>,
    stores: BTreeMap<String, Arc<Store>>,
    http: Vec<OriginPattern>,
    topics: Vec<TopicPattern>,
    upstreams: Vec<String>,
    send: bool,
    metrics: FilterMetrics,
    lines: Allowance,
}

impl Rights {
    pub(in crate::filter) fn new(filter: &Arc<str>, allow: &Allow, stores: &Stores, metrics: &FilterMetrics) -> Self {
        let granted = |name: &String| Some((name.clone(), stores.get(name)?));
        Self {
            filter: filter.clone(),
            stores: allow.key_value.iter().filter_map(granted).collect(),
            http: allow.http.clone(),
            topics: allow.topics.clone(),
            upstreams: allow.upstreams.clone(),
            send: allow.send,
            metrics: metrics.clone(),
            lines: Allowance::new(),
        }
    }

    pub(super) fn store(&self, name: &str) -> Option<&Arc<Store>> {
        self.stores.get(name)
    }

    pub(super) fn may_call(&self, origin: &Origin) -> bool {
        self.http.iter().any(|allowed| allowed.matches(origin.tls, &origin.host, origin.port))
    }

    pub(super) fn may_call_any(&self) -> bool {
        !self.http.is_empty()
    }

    /// May it send to, and close, single connections?
    pub(super) fn may_send(&self) -> bool {
        self.send
    }

    pub(super) fn may_use(&self, topic: &str) -> bool {
        is_topic(topic) && self.topics.iter().any(|pattern| pattern.matches(topic))
    }

    /// May it connect clients to this upstream, or route messages there? An error is the cause of a fault.
    pub(in crate::filter) fn check_upstream(&self, upstream: &str) -> Result<(), String> {
        match self.upstreams.iter().any(|allowed| allowed == upstream) {
            true => Ok(()),
            false => Err(format!("upstream {upstream:?} is not in the filter's allow.upstreams")),
        }
    }

    /// Counts what was denied, and writes one line unless there were too many of late.
    pub(super) fn denied(&self, import: &'static str, asked: impl Display, connection: &str) {
        self.metrics.denied(import);
        let Some(suppressed) = self.lines.take() else { return };
        let filter = &*self.filter;
        if suppressed > 0 {
            tracing::warn!(filter, suppressed, "more denied calls than log lines");
        }
        let asked = asked.to_string();
        let asked = printable(&asked, ASKED_BYTES);
        tracing::warn!(filter, connection, import, asked = &*asked, "denied: the filter's `allow` does not grant it");
    }
}
