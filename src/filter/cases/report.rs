//! What came of the cases.

use std::ops::Range;

/// Of one file.
#[derive(Debug)]
pub struct Report {
    /// Its name.
    pub file: String,
    /// In its order.
    pub cases: Vec<CaseReport>,
}

/// Of one case. It passed where there are no mismatches.
#[derive(Debug)]
pub struct CaseReport {
    /// As the file calls it.
    pub name: String,
    /// Where it begins.
    pub line: usize,
    /// What is not as expected, of the first step where anything is not.
    pub mismatches: Vec<Mismatch>,
    /// What the filter did then that may explain it: log lines, calls without a right, faults.
    pub notes: Vec<String>,
}

/// One thing that is not as expected.
#[derive(Debug, Eq, PartialEq)]
pub struct Mismatch {
    /// Of what was expected.
    pub line: usize,
    /// What was looked at, such as `step 2 (message): reply`.
    pub what: String,
    /// What should be.
    pub expected: String,
    /// What is.
    pub got: String,
    /// Where the two begin to differ, if that helps.
    pub hint: Option<String>,
}

impl Report {
    /// How many cases failed.
    #[must_use]
    pub fn failed(&self) -> usize {
        self.cases.iter().filter(|case| !case.mismatches.is_empty()).count()
    }
}

/// Tells lines from places in the text.
#[derive(Clone, Copy)]
pub(super) struct Lines<'t>(&'t str);

impl<'t> Lines<'t> {
    pub(super) fn of(text: &'t str) -> Self {
        Self(text.strip_prefix('\u{feff}').unwrap_or(text))
    }

    /// From 1.
    pub(super) fn line(self, place: &Range<usize>) -> usize {
        self.0.get(..place.start).unwrap_or(self.0).matches('\n').count() + 1
    }
}
