//! Metrics of guests: bounded sets of names and labels, exported beside the gateway's own.

use std::{
    collections::{BTreeMap, HashMap},
    fmt::Write as _,
    sync::{
        Arc, Mutex, PoisonError, Weak,
        atomic::{AtomicU64, Ordering},
    },
};

use prometheus::{
    Histogram, HistogramOpts, Registry,
    core::{Collector, Desc},
    proto,
};

/// Names of one filter.
const NAMES: usize = 64;
/// Names with their label sets, of one filter.
const SERIES: usize = 256;
/// Reasons of one filter; what exceeds them is counted as [`OTHER`].
const REASONS: usize = 64;
const OTHER: &str = "other";
/// Labels of one series.
const LABELS: usize = 8;
/// Longest name or label value; longer ones are cut.
const TEXT_BYTES: usize = 64;
/// Upper bounds of a guest's histogram: its unit is the guest's affair.
const BUCKETS: &[f64] = &[0.001, 0.01, 0.1, 1.0, 10.0, 100.0, 1_000.0, 10_000.0, 100_000.0, 1_000_000.0];

/// Every filter's series. One a process.
#[derive(Default)]
pub(in crate::filter) struct CustomMetrics {
    filters: Mutex<BTreeMap<Arc<str>, Arc<Mutex<Set>>>>,
}

/// What one instance adds to. Series that it has used are found without a lock.
pub(in crate::filter) struct CustomHandle {
    set: Arc<Mutex<Set>>,
    known: HashMap<Key, Option<Series>>,
    reasons: HashMap<String, Arc<AtomicU64>>,
}

#[derive(Default)]
struct Set {
    series: BTreeMap<Key, Series>,
    /// Apart from the others: who makes up reasons without end loses no metrics.
    reasons: BTreeMap<String, Arc<AtomicU64>>,
    /// Additions that found no room.
    refused: u64,
}

#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
struct Key {
    kind: Kind,
    name: String,
    /// Sorted by name.
    labels: Vec<(String, String)>,
}

#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
enum Kind {
    Counter,
    Histogram,
    Reason,
}

#[derive(Clone)]
enum Series {
    Counter(Arc<AtomicU64>),
    Histogram(Histogram),
}

impl CustomMetrics {
    pub(in crate::filter) fn register(registry: &Registry) -> prometheus::Result<Arc<Self>> {
        let metrics = Arc::new(Self::default());
        let description = Desc::new(
            "filter_custom".to_owned(),
            "Metrics that filters keep.".to_owned(),
            Vec::new(),
            std::collections::HashMap::new(),
        )?;
        registry.register(Box::new(Exported { metrics: Arc::downgrade(&metrics), description }))?;
        Ok(metrics)
    }

    /// The series of a filter, shared by its instances and generations.
    pub(in crate::filter) fn handle(&self, filter: &Arc<str>) -> CustomHandle {
        let mut filters = self.filters.lock().unwrap_or_else(PoisonError::into_inner);
        let set = filters.entry(filter.clone()).or_default().clone();
        CustomHandle { set, known: HashMap::new(), reasons: HashMap::new() }
    }

    fn collect(&self) -> Vec<proto::MetricFamily> {
        let mut families = BTreeMap::<String, proto::MetricFamily>::new();
        let filters = self.filters.lock().unwrap_or_else(PoisonError::into_inner).clone();
        for (filter, set) in filters {
            let set = set.lock().unwrap_or_else(PoisonError::into_inner);
            let mut push = |key: &Key, series: &Series| {
                let name = key.family();
                let family = families.entry(name.clone()).or_insert_with(|| key.empty_family(name));
                family.mut_metric().push(key.metric(&filter, series));
            };
            set.series.iter().for_each(|(key, series)| push(key, series));
            for (label, count) in &set.reasons {
                let labels = vec![("reason".to_owned(), label.clone())];
                push(&Key { kind: Kind::Reason, name: String::new(), labels }, &Series::Counter(count.clone()));
            }
            if set.refused > 0 {
                let key = Key { kind: Kind::Counter, name: "refused".to_owned(), labels: Vec::new() };
                push(&key, &Series::Counter(Arc::new(set.refused.into())));
            }
        }
        families.into_values().collect()
    }
}

impl CustomHandle {
    pub(super) fn add(&mut self, name: &str, labels: &[(String, String)], by: u64) {
        if let Some(Series::Counter(counter)) = self.series(Kind::Counter, name, labels) {
            counter.fetch_add(by, Ordering::Relaxed);
        }
    }

    pub(super) fn observe(&mut self, name: &str, labels: &[(String, String)], value: f64) {
        if value.is_finite()
            && let Some(Series::Histogram(histogram)) = self.series(Kind::Histogram, name, labels)
        {
            histogram.observe(value);
        }
    }

    /// Counts a decision that was made for this reason, a short text.
    pub(super) fn reason(&mut self, label: &str) {
        if let Some(count) = self.reasons.get(label) {
            count.fetch_add(1, Ordering::Relaxed);
            return;
        }
        let count = self.set.lock().unwrap_or_else(PoisonError::into_inner).reason(label);
        count.fetch_add(1, Ordering::Relaxed);
        if self.reasons.len() < REASONS {
            self.reasons.insert(label.to_owned(), count);
        }
    }

    fn series(&mut self, kind: Kind, name: &str, labels: &[(String, String)]) -> Option<&Series> {
        let key = Key::new(kind, name, labels);
        // A guest that makes up names for ever must not grow this map either.
        if self.known.len() >= 2 * SERIES && !self.known.contains_key(&key) {
            self.set.lock().unwrap_or_else(PoisonError::into_inner).refused += 1;
            return None;
        }
        let set = &self.set;
        self.known
            .entry(key)
            .or_insert_with_key(|key| set.lock().unwrap_or_else(PoisonError::into_inner).series(key))
            .as_ref()
    }
}

impl Set {
    fn reason(&mut self, label: &str) -> Arc<AtomicU64> {
        let label = if self.reasons.len() < REASONS || self.reasons.contains_key(label) { label } else { OTHER };
        self.reasons.entry(label.to_owned()).or_default().clone()
    }

    fn series(&mut self, key: &Key) -> Option<Series> {
        if let Some(series) = self.series.get(key) {
            return Some(series.clone());
        }
        let new_name = !self.series.keys().any(|known| known.kind == key.kind && known.name == key.name);
        let names = self.series.keys().map(|key| (key.kind, &key.name)).collect::<std::collections::BTreeSet<_>>();
        if self.series.len() >= SERIES || (new_name && names.len() >= NAMES) {
            self.refused += 1;
            return None;
        }
        let series = match key.kind {
            Kind::Counter | Kind::Reason => Series::Counter(Arc::default()),
            Kind::Histogram => Series::Histogram(
                Histogram::with_opts(HistogramOpts::new("guest", "guest").buckets(BUCKETS.to_vec())).ok()?,
            ),
        };
        self.series.insert(key.clone(), series.clone());
        Some(series)
    }
}

impl Key {
    fn new(kind: Kind, name: &str, labels: &[(String, String)]) -> Self {
        let mut labels: Vec<_> = labels
            .iter()
            .take(LABELS)
            .map(|(name, value)| (identifier(name), value[..value.floor_char_boundary(TEXT_BYTES)].to_owned()))
            .collect();
        labels.sort();
        labels.dedup_by(|a, b| a.0 == b.0);
        // The gateway's own label is not the guest's to set.
        labels.retain(|(name, _)| name != "filter" && name != "le");
        Self { kind, name: identifier(name), labels }
    }

    fn family(&self) -> String {
        let mut name = String::from("filter_");
        // Writing to a String cannot fail.
        let _ = match self.kind {
            Kind::Counter => write!(name, "custom_{}_total", self.name.strip_suffix("_total").unwrap_or(&self.name)),
            Kind::Histogram => write!(name, "custom_{}", self.name),
            Kind::Reason => write!(name, "reasons_total"),
        };
        name
    }

    fn empty_family(&self, name: String) -> proto::MetricFamily {
        let mut family = proto::MetricFamily::default();
        family.set_name(name);
        family.set_help("Kept by filters.".to_owned());
        family.set_field_type(match self.kind {
            Kind::Counter | Kind::Reason => proto::MetricType::COUNTER,
            Kind::Histogram => proto::MetricType::HISTOGRAM,
        });
        family
    }

    fn metric(&self, filter: &str, series: &Series) -> proto::Metric {
        let mut metric = proto::Metric::default();
        let labels =
            std::iter::once(("filter", filter)).chain(self.labels.iter().map(|(n, v)| (n.as_str(), v.as_str())));
        metric.set_label(
            labels
                .map(|(name, value)| {
                    let mut pair = proto::LabelPair::default();
                    pair.set_name(name.to_owned());
                    pair.set_value(value.to_owned());
                    pair
                })
                .collect(),
        );
        match series {
            Series::Counter(counter) => {
                let mut value = proto::Counter::default();
                value.set_value(counter.load(Ordering::Relaxed) as f64);
                metric.set_counter(value);
            }
            Series::Histogram(histogram) => {
                let collected = histogram.collect();
                if let Some(from) = collected.first().and_then(|family| family.get_metric().first()) {
                    metric.set_histogram(from.get_histogram().clone());
                }
            }
        }
        metric
    }
}

/// A Prometheus name: everything else becomes `_`.
fn identifier(text: &str) -> String {
    let cut = &text[..text.floor_char_boundary(TEXT_BYTES)];
    let mut out: String = cut.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }).collect();
    if out.is_empty() || out.starts_with(|c: char| c.is_ascii_digit()) {
        out.insert(0, '_');
    }
    out
}

/// Registered for good; empty once the engine is gone.
struct Exported {
    metrics: Weak<CustomMetrics>,
    description: Desc,
}

impl Collector for Exported {
    fn desc(&self) -> Vec<&Desc> {
        vec![&self.description]
    }

    fn collect(&self) -> Vec<proto::MetricFamily> {
        self.metrics.upgrade().map(|metrics| metrics.collect()).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn label(name: &str, value: &str) -> Vec<(String, String)> {
        vec![(name.to_owned(), value.to_owned())]
    }

    fn exported(registry: &Registry) -> String {
        prometheus::TextEncoder::new().encode_to_string(&registry.gather()).unwrap()
    }

    #[test]
    fn counters_and_histograms_are_exported() {
        let registry = Registry::new_custom(Some("wsgate".to_owned()), None).unwrap();
        let metrics = CustomMetrics::register(&registry).unwrap();
        let mut handle = metrics.handle(&"redact".into());
        handle.add("hits", &label("kind", "card"), 2);
        metrics.handle(&"redact".into()).add("hits", &label("kind", "card"), 3);
        handle.observe("size", &[], 5.0);
        handle.reason("too long");
        let text = exported(&registry);
        assert!(text.contains(r#"wsgate_filter_custom_hits_total{filter="redact",kind="card"} 5"#), "{text}");
        assert!(text.contains(r#"wsgate_filter_custom_size_count{filter="redact"} 1"#), "{text}");
        assert!(text.contains(r#"wsgate_filter_reasons_total{filter="redact",reason="too long"} 1"#), "{text}");
    }

    #[test]
    fn names_and_series_are_bounded() {
        let registry = Registry::new_custom(Some("wsgate".to_owned()), None).unwrap();
        let metrics = CustomMetrics::register(&registry).unwrap();
        let mut handle = metrics.handle(&"flood".into());
        for i in 0..10_000 {
            handle.add(&format!("name{i}"), &[], 1);
            handle.add("name0", &label("user", &i.to_string()), 1);
        }
        let text = exported(&registry);
        let series = text.lines().filter(|line| !line.starts_with('#')).count();
        assert!(series <= SERIES + 1, "{series}");
        assert!(text.contains("wsgate_filter_custom_refused_total"), "{text}");
        assert!(handle.known.len() <= 2 * SERIES);
    }

    #[test]
    fn reasons_are_bounded_apart_from_metrics() {
        let registry = Registry::new_custom(Some("wsgate".to_owned()), None).unwrap();
        let metrics = CustomMetrics::register(&registry).unwrap();
        let mut handle = metrics.handle(&"flood".into());
        (0..10_000).for_each(|i| handle.reason(&format!("r{i}")));
        handle.reason("r3");
        handle.add("hits", &[], 1);
        let text = exported(&registry);
        assert_eq!(text.lines().filter(|line| line.starts_with("wsgate_filter_reasons_total{")).count(), REASONS + 1);
        assert!(text.contains(r#"wsgate_filter_reasons_total{filter="flood",reason="r3"} 2"#), "{text}");
        let other = format!(r#"wsgate_filter_reasons_total{{filter="flood",reason="other"}} {}"#, 10_000 - REASONS);
        assert!(text.contains(&other), "{text}");
        assert!(text.contains("wsgate_filter_custom_hits_total") && !text.contains("refused"), "{text}");
        assert!(handle.reasons.len() <= REASONS);
    }

    #[test]
    fn names_are_made_valid() {
        let key = Key::new(Kind::Counter, "1 é\n", &label("filter", "forged"));
        assert_eq!(key.family(), "filter_custom__1____total");
        assert!(key.labels.is_empty());
    }
}
