//! `/metrics`, parsed as far as the tests ask.

use std::collections::BTreeSet;

/// The samples of one scrape.
#[derive(Clone, Debug)]
pub(crate) struct Metrics {
    text: String,
}

impl Metrics {
    pub(crate) fn parse(text: String) -> Self {
        Self { text }
    }

    /// The sum of every sample of this name that has all of these labels; 0 where there is none.
    pub(crate) fn sum(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        self.samples()
            .filter(|(sample, _)| sample.split('{').next() == Some(name))
            .filter(|(sample, _)| labels.iter().all(|(key, value)| sample.contains(&format!("{key}=\"{value}\""))))
            .map(|(_, value)| value)
            .sum()
    }

    /// The names of the families with their types, sorted.
    pub(crate) fn families(&self) -> BTreeSet<String> {
        self.text.lines().filter_map(|line| line.strip_prefix("# TYPE ")).map(str::to_owned).collect()
    }

    fn samples(&self) -> impl Iterator<Item = (&str, f64)> {
        self.text
            .lines()
            .filter(|line| !line.starts_with('#'))
            .filter_map(|line| line.rsplit_once(' '))
            .filter_map(|(sample, value)| Some((sample, value.parse().ok()?)))
    }
}
