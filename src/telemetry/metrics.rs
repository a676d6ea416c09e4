//! Every metric family, in one registry. Labels come from bounded sets only: routes, upstreams and filters are named by
//! the configuration, everything else is an enum's label.

mod limit;
mod route;
mod auth;
mod dialling;
mod door;
mod reloads;
mod http;
mod store;
mod upstream;

use std::time::Duration;

use prometheus::{
    Encoder, Gauge, GaugeVec, Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec,
    Opts, Registry, TextEncoder, core::Collector,
};

pub use auth::{AuthFamilies, KeyMetrics, RevocationMetrics};
pub use dialling::{SpareMetrics, UpstreamTlsMetrics};
pub use door::DoorMetrics;
pub use limit::LimitMetrics;
pub use route::{DirectionMetrics, RouteMetrics};
pub use store::StoreMetrics;
pub use upstream::{EndpointMetrics, UpstreamMetrics};

use self::{
    dialling::DiallingFamilies, door::DoorFamilies, http::HttpFamilies, store::StoreFamilies,
    upstream::UpstreamFamilies,
};
use crate::message::{Direction, Kind};
pub use reloads::ReloadMetrics;

/// Upper bounds in seconds for what usually takes microseconds.
const CALL_SECONDS: &[f64] =
    &[0.000_001, 0.000_002, 0.000_005, 0.000_01, 0.000_05, 0.000_1, 0.000_5, 0.001, 0.005, 0.01, 0.05, 0.1, 1.0];
const HANDSHAKE_SECONDS: &[f64] = &[0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];
const CONNECTION_SECONDS: &[f64] = &[1.0, 10.0, 60.0, 300.0, 900.0, 3600.0, 14_400.0, 86_400.0];
const SIZE_BYTES: &[f64] = &[64.0, 256.0, 1024.0, 4096.0, 16_384.0, 65_536.0, 262_144.0, 1_048_576.0, 4_194_304.0];

/// The families of `wsgate_*`. One a process; share it in an `Arc`.
pub struct Metrics {
    registry: Registry,
    connections: IntGaugeVec,
    connections_total: IntCounterVec,
    handshakes_total: IntCounterVec,
    handshake_duration_seconds: HistogramVec,
    messages_total: IntCounterVec,
    message_bytes_total: IntCounterVec,
    message_size_bytes: Histogram,
    closes_total: IntCounterVec,
    connection_duration_seconds: HistogramVec,
    queue_bytes: IntGaugeVec,
    ratelimited_total: IntCounterVec,
    upstreams: UpstreamFamilies,
    filter_calls_total: IntCounterVec,
    filter_duration_seconds: HistogramVec,
    filter_faults_total: IntCounterVec,
    filter_generation: GaugeVec,
    filter_instances: IntGaugeVec,
    filter_memory_bytes: IntGaugeVec,
    filter_missing: IntGaugeVec,
    filter_breaker_open: IntGaugeVec,
    filter_mode: IntGaugeVec,
    filter_shadow_total: IntCounterVec,
    filter_reloads_total: IntCounterVec,
    filter_compilations_total: IntCounterVec,
    filter_denied_total: IntCounterVec,
    topics: IntGauge,
    topic_subscriptions: IntGauge,
    deliveries_total: IntCounterVec,
    filter_http_calls_total: IntCounterVec,
    filter_http_duration_seconds: HistogramVec,
    stores: StoreFamilies,
    /// Of tokens.
    pub auth: AuthFamilies,
    doors: DoorFamilies,
    dialling: DiallingFamilies,
    /// Of configurations.
    pub reloads: ReloadMetrics,
    http: HttpFamilies,
    /// Log lines that were not written because nobody read them in time.
    pub log_lines_dropped_total: IntCounter,
}

impl Metrics {
    /// Makes and registers every family.
    ///
    /// # Errors
    /// Two families of one name, which a test rules out.
    pub fn new() -> prometheus::Result<Self> {
        let registry = Registry::new_custom(Some("wsgate".to_owned()), None)?;
        let r = &registry;
        let metrics = Self {
            connections: gauges(r, "connections", "Open WebSocket connections.", &["route"])?,
            connections_total: counters(r, "connections_total", "WebSocket connections opened.", &["route"])?,
            handshakes_total: counters(r, "handshakes_total", "Opening requests answered.", &["route", "result"])?,
            handshake_duration_seconds: histograms(
                r,
                "handshake_duration_seconds",
                "From the head of the request to its answer.",
                &["route"],
                HANDSHAKE_SECONDS,
            )?,
            messages_total: counters(r, "messages_total", "Messages received.", &["route", "direction", "kind"])?,
            message_bytes_total: counters(r, "message_bytes_total", "Payload received.", &["route", "direction"])?,
            message_size_bytes: registered(
                r,
                Histogram::with_opts(
                    HistogramOpts::new("message_size_bytes", "Payload of a received message.")
                        .buckets(SIZE_BYTES.to_vec()),
                )?,
            )?,
            closes_total: counters(r, "closes_total", "Connections ended.", &["route", "code", "by"])?,
            connection_duration_seconds: histograms(
                r,
                "connection_duration_seconds",
                "From 101 to the end.",
                &["route"],
                CONNECTION_SECONDS,
            )?,
            queue_bytes: gauges(r, "queue_bytes", "Held in outgoing queues.", &["route"])?,
            ratelimited_total: counters(
                r,
                "ratelimited_total",
                "Connections, handshakes and messages that met a limit; the route `-` stands for those of all routes.",
                &["route", "limit", "action"],
            )?,
            upstreams: UpstreamFamilies::register(r)?,
            filter_calls_total: counters(
                r,
                "filter_calls_total",
                "Calls into filters.",
                &["filter", "hook", "verdict"],
            )?,
            filter_duration_seconds: histograms(
                r,
                "filter_duration_seconds",
                "Time of a call.",
                &["filter", "hook"],
                CALL_SECONDS,
            )?,
            filter_faults_total: counters(r, "filter_faults_total", "Calls that failed.", &["filter", "kind"])?,
            filter_generation: registered(
                r,
                GaugeVec::new(
                    Opts::new("filter_generation", "Generations published since the start; grows by one a reload."),
                    &["filter"],
                )?,
            )?,
            filter_instances: gauges(r, "filter_instances", "Live instances, all generations.", &["filter"])?,
            filter_memory_bytes: gauges(r, "filter_memory_bytes", "Linear memory of live instances.", &["filter"])?,
            filter_breaker_open: gauges(
                r,
                "filter_breaker_open",
                "Generations that are not called because they keep failing.",
                &["filter"],
            )?,
            filter_missing: gauges(r, "filter_missing", "1 while the file of a filter is away.", &["filter"])?,
            filter_mode: gauges(r, "filter_mode", "1 for the mode that the filter is in.", &["filter", "mode"])?,
            filter_shadow_total: counters(
                r,
                "filter_shadow_total",
                "Answers of a filter's shadow, compared with the filter's own.",
                &["filter", "result"],
            )?,
            filter_reloads_total: counters(
                r,
                "filter_reloads_total",
                "Attempts to load a file.",
                &["filter", "result"],
            )?,
            filter_compilations_total: counters(
                r,
                "filter_compilations_total",
                "Components for which machine code was wanted: compiled, cached (found in state_dir), or error.",
                &["result"],
            )?,
            filter_denied_total: counters(
                r,
                "filter_denied_total",
                "Calls that a filter's allow does not grant.",
                &["filter", "import"],
            )?,
            topics: registered(r, IntGauge::new("topics", "Topics with a subscriber.")?)?,
            topic_subscriptions: registered(
                r,
                IntGauge::new("topic_subscriptions", "Subscriptions of open connections to topics.")?,
            )?,
            deliveries_total: counters(
                r,
                "deliveries_total",
                "Messages of topics and from filters of other connections, for each connection that was to get them.",
                &["result"],
            )?,
            filter_http_calls_total: counters(
                r,
                "filter_http_calls_total",
                "HTTP requests of filters.",
                &["filter", "result"],
            )?,
            filter_http_duration_seconds: histograms(
                r,
                "filter_http_duration_seconds",
                "From an HTTP request of a filter to its whole response, or to its failure.",
                &["filter"],
                HANDSHAKE_SECONDS,
            )?,
            stores: StoreFamilies::register(r)?,
            auth: AuthFamilies::register(r)?,
            doors: DoorFamilies::register(r)?,
            dialling: DiallingFamilies::register(r)?,
            reloads: ReloadMetrics::new(r)?,
            http: HttpFamilies::register(r)?,
            log_lines_dropped_total: registered(
                r,
                IntCounter::new("log_lines_dropped_total", "Log lines not written because nobody read them in time.")?,
            )?,
            registry: registry.clone(),
        };
        let build_info =
            Gauge::with_opts(Opts::new("build_info", "Always 1.").const_label("version", env!("CARGO_PKG_VERSION")))?;
        build_info.set(1.0);
        registered(r, build_info)?;
        Ok(metrics)
    }

    /// The Prometheus text format.
    ///
    /// # Errors
    /// A family that cannot be encoded, which a test rules out.
    pub fn encode(&self) -> prometheus::Result<Vec<u8>> {
        let mut out = Vec::new();
        TextEncoder::new().encode(&self.registry.gather(), &mut out)?;
        Ok(out)
    }

    /// The registry, for families that come and go (metrics of guests).
    pub fn registry(&self) -> &Registry {
        &self.registry
    }

    /// What a route counts, looked up once.
    #[must_use]
    pub fn route(&self, route: &str) -> RouteMetrics {
        let messages = |direction: Direction| DirectionMetrics {
            text: self.messages_total.with_label_values(&[route, direction.label(), Kind::Text.label()]),
            binary: self.messages_total.with_label_values(&[route, direction.label(), Kind::Binary.label()]),
            bytes: self.message_bytes_total.with_label_values(&[route, direction.label()]),
        };
        RouteMetrics {
            route: route.to_owned(),
            connections: self.connections.with_label_values(&[route]),
            connections_total: self.connections_total.with_label_values(&[route]),
            handshake_duration_seconds: self.handshake_duration_seconds.with_label_values(&[route]),
            to_upstream: messages(Direction::ToUpstream),
            to_client: messages(Direction::ToClient),
            message_size_bytes: self.message_size_bytes.clone(),
            connection_duration_seconds: self.connection_duration_seconds.with_label_values(&[route]),
            queue_bytes: self.queue_bytes.with_label_values(&[route]),
            closes_total: self.closes_total.clone(),
            handshakes_total: self.handshakes_total.clone(),
            auth_requests_total: self.auth.requests(),
            http: self.http.clone(),
        }
    }

    /// What the limits of a route count; `-` for those of all routes.
    #[must_use]
    pub fn limits(&self, route: &str) -> LimitMetrics {
        LimitMetrics::new(route, &self.ratelimited_total)
    }

    /// Counts an answered opening request; `route` is `-` where none matched.
    pub fn handshake(&self, route: &str, result: &'static str) {
        self.handshakes_total.with_label_values(&[route, result]).inc();
    }

    /// What an upstream counts.
    #[must_use]
    pub fn upstream(&self, upstream: &str) -> UpstreamMetrics {
        self.upstreams.of(upstream)
    }

    /// What an upstream's endpoint counts.
    #[must_use]
    pub fn endpoint(&self, upstream: &str, endpoint: &str) -> EndpointMetrics {
        self.upstreams.endpoint(upstream, endpoint, self.dialling.spares(upstream, endpoint))
    }

    /// What the files of an upstream's TLS count.
    #[must_use]
    pub fn upstream_tls(&self, upstream: &str) -> UpstreamTlsMetrics {
        self.dialling.tls(upstream)
    }

    /// Counts machine code that was wanted for a component: `compiled`, `cached` or `error`.
    pub fn compilation(&self, result: &'static str) {
        self.filter_compilations_total.with_label_values(&[result]).inc();
    }

    /// 1 while a filter is in a mode, else 0.
    #[must_use]
    pub fn filter_mode(&self, filter: &str, mode: &'static str) -> IntGauge {
        self.filter_mode.with_label_values(&[filter, mode])
    }

    /// Counts what comparing a filter with its shadow came to.
    #[must_use]
    pub fn filter_shadow(&self, filter: &str, result: &'static str) -> IntCounter {
        self.filter_shadow_total.with_label_values(&[filter, result])
    }

    /// What topics and mailboxes count.
    #[must_use]
    pub fn topics(&self) -> TopicMetrics {
        let deliveries = |result: &str| self.deliveries_total.with_label_values(&[result]);
        TopicMetrics {
            topics: self.topics.clone(),
            subscriptions: self.topic_subscriptions.clone(),
            delivered: deliveries("delivered"),
            dropped: deliveries("dropped"),
            discarded: deliveries("discarded"),
            too_large: deliveries("too_large"),
            gone: deliveries("gone"),
        }
    }

    /// What a filter counts.
    #[must_use]
    pub fn filter(&self, filter: &str) -> FilterMetrics {
        FilterMetrics {
            filter: filter.to_owned(),
            generation: self.filter_generation.with_label_values(&[filter]),
            instances: self.filter_instances.with_label_values(&[filter]),
            memory_bytes: self.filter_memory_bytes.with_label_values(&[filter]),
            missing: self.filter_missing.with_label_values(&[filter]),
            breaker_open: self.filter_breaker_open.with_label_values(&[filter]),
            calls_total: self.filter_calls_total.clone(),
            duration_seconds: self.filter_duration_seconds.clone(),
            faults_total: self.filter_faults_total.clone(),
            reloads_total: self.filter_reloads_total.clone(),
            denied_total: self.filter_denied_total.clone(),
            http_calls_total: self.filter_http_calls_total.clone(),
            http_duration_seconds: self.filter_http_duration_seconds.clone(),
        }
    }

    /// What a store counts.
    #[must_use]
    pub fn store(&self, store: &str) -> StoreMetrics {
        self.stores.of(store)
    }

    /// What the door of a listener counts.
    #[must_use]
    pub fn door(&self, listener: &str) -> DoorMetrics {
        self.doors.of(listener)
    }
}

/// What is counted of topics and mail.
#[derive(Clone)]
pub struct TopicMetrics {
    /// Topics that have a subscriber.
    pub topics: IntGauge,
    /// Connections times the topics of each.
    pub subscriptions: IntGauge,
    /// Messages that a session took out of its mailbox.
    pub delivered: IntCounter,
    /// Messages that found no room in the mailbox.
    pub dropped: IntCounter,
    /// Of those that were taken out: messages that `push_overflow` dropped from the client's queue.
    pub discarded: IntCounter,
    /// Messages beyond the payload limit of the subscriber's route.
    pub too_large: IntCounter,
    /// Messages whose connection ended first.
    pub gone: IntCounter,
}

/// The counters of one filter.
#[derive(Clone)]
pub struct FilterMetrics {
    filter: String,
    /// Generations published since the start.
    pub generation: Gauge,
    /// Live instances.
    pub instances: IntGauge,
    /// Linear memory of live instances.
    pub memory_bytes: IntGauge,
    /// 1 while the file is away.
    pub missing: IntGauge,
    /// Generations whose breaker is open.
    pub breaker_open: IntGauge,
    calls_total: IntCounterVec,
    duration_seconds: HistogramVec,
    faults_total: IntCounterVec,
    reloads_total: IntCounterVec,
    denied_total: IntCounterVec,
    http_calls_total: IntCounterVec,
    http_duration_seconds: HistogramVec,
}

impl FilterMetrics {
    /// The counter of one hook and verdict; keep it, the look-up hashes.
    #[must_use]
    pub fn calls(&self, hook: &'static str, verdict: &'static str) -> IntCounter {
        self.calls_total.with_label_values(&[self.filter.as_str(), hook, verdict])
    }

    /// The histogram of one hook; keep it, the look-up hashes.
    #[must_use]
    pub fn duration(&self, hook: &'static str) -> Histogram {
        self.duration_seconds.with_label_values(&[self.filter.as_str(), hook])
    }

    /// Counts a failed call.
    pub fn fault(&self, kind: &'static str) {
        self.faults_total.with_label_values(&[self.filter.as_str(), kind]).inc();
    }

    /// Counts a call of an import that the filter's `allow` does not grant.
    pub fn denied(&self, import: &'static str) {
        self.denied_total.with_label_values(&[self.filter.as_str(), import]).inc();
    }

    /// Counts an HTTP request, and how long it took if it was sent.
    pub fn http_call(&self, result: &'static str, took: Option<Duration>) {
        self.http_calls_total.with_label_values(&[self.filter.as_str(), result]).inc();
        if let Some(took) = took {
            self.http_duration_seconds.with_label_values(&[self.filter.as_str()]).observe(took.as_secs_f64());
        }
    }

    /// Counts an attempt to load the file.
    pub fn reload(&self, result: &'static str) {
        self.reloads_total.with_label_values(&[self.filter.as_str(), result]).inc();
    }
}

fn registered<C: Collector + Clone + 'static>(registry: &Registry, collector: C) -> prometheus::Result<C> {
    registry.register(Box::new(collector.clone()))?;
    Ok(collector)
}

fn counters(registry: &Registry, name: &str, help: &str, labels: &[&str]) -> prometheus::Result<IntCounterVec> {
    registered(registry, IntCounterVec::new(Opts::new(name, help), labels)?)
}

fn gauges(registry: &Registry, name: &str, help: &str, labels: &[&str]) -> prometheus::Result<IntGaugeVec> {
    registered(registry, IntGaugeVec::new(Opts::new(name, help), labels)?)
}

fn histograms(
    registry: &Registry,
    name: &str,
    help: &str,
    labels: &[&str],
    buckets: &[f64],
) -> prometheus::Result<HistogramVec> {
    registered(registry, HistogramVec::new(HistogramOpts::new(name, help).buckets(buckets.to_vec()), labels)?)
}
