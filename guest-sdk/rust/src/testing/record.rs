//! What a filter told those who operate the gateway: lines, reasons, figures.

use std::collections::BTreeMap;

use crate::log::Level;

/// A line that a filter logged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogLine {
    /// How much it matters.
    pub level: Level,
    /// The text.
    pub message: String,
    /// Names and values.
    pub fields: Vec<(String, String)>,
}

/// A metric's name and its labels, which have no order.
type Series = (String, BTreeMap<String, String>);

pub(crate) struct Record {
    /// Lines below it are not asked for.
    pub(crate) level: Level,
    pub(super) lines: Vec<LogLine>,
    pub(super) reasons: Vec<String>,
    counters: BTreeMap<Series, u64>,
    histograms: BTreeMap<Series, Vec<f64>>,
}

impl Default for Record {
    fn default() -> Self {
        Self {
            level: Level::Trace,
            lines: Vec::new(),
            reasons: Vec::new(),
            counters: BTreeMap::new(),
            histograms: BTreeMap::new(),
        }
    }
}

impl Record {
    pub(crate) fn log(&mut self, level: Level, message: &str, fields: &[(String, String)]) {
        if level >= self.level {
            self.lines.push(LogLine { level, message: message.to_owned(), fields: fields.to_vec() });
        }
    }

    /// An empty label is none.
    pub(crate) fn reason(&mut self, label: &str) {
        if !label.is_empty() {
            self.reasons.push(label.to_owned());
        }
    }

    pub(crate) fn add(&mut self, counter: &str, labels: &[(String, String)], by: u64) {
        let value = self.counters.entry((counter.to_owned(), labels.iter().cloned().collect())).or_default();
        *value = value.saturating_add(by);
    }

    /// A value that is not finite is left out.
    pub(crate) fn observe(&mut self, histogram: &str, labels: &[(String, String)], value: f64) {
        if value.is_finite() {
            let series = (histogram.to_owned(), labels.iter().cloned().collect());
            self.histograms.entry(series).or_default().push(value);
        }
    }

    pub(super) fn counter(&self, name: &str, labels: &[(&str, &str)]) -> u64 {
        self.counters.get(&series(name, labels)).copied().unwrap_or(0)
    }

    pub(super) fn observed(&self, name: &str, labels: &[(&str, &str)]) -> Vec<f64> {
        self.histograms.get(&series(name, labels)).cloned().unwrap_or_default()
    }
}

fn series(name: &str, labels: &[(&str, &str)]) -> Series {
    let labels = labels.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    (name.to_owned(), labels.collect())
}
