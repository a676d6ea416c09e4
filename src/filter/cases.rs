//! `wsgate filter test`: connections and messages from a file, what a filter should make of them, and what it does.

mod payload;
mod effects;
mod expect;
mod step;
mod format;
mod report;
mod difference;
mod fit;
mod compare;
mod traces;
mod play;

use std::path::Path;

pub(super) use format::Allow;
pub use report::{CaseReport, Mismatch, Report};

use super::workbench::{Workbench, WorkbenchError, filter_of};
use crate::config::{ConfigErrors, read_toml};
use format::{Cases, Handshake};
use play::Player;
use report::Lines;

/// Why nothing was tested.
#[derive(Debug, thiserror::Error)]
pub enum CasesError {
    /// The file is not as it should be.
    #[error(transparent)]
    Format(#[from] ConfigErrors),
    /// There is no `[[case]]` in it.
    #[error("{0}: there is no [[case]] in it")]
    Empty(String),
    /// The component cannot be loaded.
    #[error(transparent)]
    Workbench(#[from] WorkbenchError),
}

/// The request of a case that says nothing of it.
pub(super) fn opening_request() -> super::OpeningRequest {
    Handshake::default().request()
}

/// Tests a component. `cases` is the text of a file that is called `file_name`.
///
/// # Errors
/// Nothing was tested.
pub fn play(component: &[u8], cases: &str, file_name: &str) -> Result<Report, CasesError> {
    let all: Cases = read_toml(cases, file_name)?;
    if all.case.is_empty() {
        return Err(CasesError::Empty(file_name.to_owned()));
    }
    let lines = Lines::of(cases);
    let empty = serde_json::Value::Object(serde_json::Map::new());
    let bench = Workbench::recording(component, filter_of(Path::new(""), empty))?;
    let player = Player { bench: &bench, all: &all, lines };
    let played = all.case.iter().map(|case| player.play(case)).collect::<Result<Vec<_>, _>>();
    Ok(Report { file: file_name.to_owned(), cases: played? })
}

#[cfg(test)]
mod tests;
