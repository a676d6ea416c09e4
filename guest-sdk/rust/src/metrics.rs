//! Figures of a filter's own, beside the gateway's.
//!
//! Names and labels come from small fixed sets: the gateway bounds how many series a filter may make. The values of
//! labels must not come from clients.

#[cfg(target_family = "wasm")]
use crate::bindings::wsgate::filter::metrics as host;
#[cfg(not(target_family = "wasm"))]
use crate::native::metrics as host;

/// Adds to a counter.
///
/// ```
/// use wsgate_sdk::metrics;
///
/// metrics::add("rejected", &[("rule", "length")], 1);
/// ```
pub fn add(counter: &str, labels: &[(&str, &str)], by: u64) {
    host::add(counter, &owned(labels), by);
}

/// Records a value in a histogram.
pub fn observe(histogram: &str, labels: &[(&str, &str)], value: f64) {
    host::observe(histogram, &owned(labels), value);
}

fn owned(labels: &[(&str, &str)]) -> Vec<(String, String)> {
    labels.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}
