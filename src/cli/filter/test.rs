//! `wsgate filter test`

use std::{
    env, fs,
    io::{self, IsTerminal},
    path::{Path, PathBuf},
};

use clap::Args;
use thiserror::Error;

use super::project::{Project, ProjectError};
use crate::filter::{CaseReport, CasesError, CasesReport, play_cases};

/// A component, or a project whose component is built first, beside its cases.
#[derive(Args, Debug)]
pub(in crate::cli) struct TestArguments {
    /// The component, or the folder of a project, which is built first
    #[arg(value_name = "FILE|DIR", default_value = ".")]
    what: PathBuf,
    /// What it should do [default: cases.toml, of the project or here]
    #[arg(long, value_name = "FILE")]
    cases: Option<PathBuf>,
}

#[derive(Debug, Error)]
pub(super) enum TestError {
    #[error(transparent)]
    Project(#[from] ProjectError),
    #[error("{}: cannot be read", .0.display())]
    Read(PathBuf, #[source] io::Error),
    #[error(transparent)]
    Cases(#[from] CasesError),
}

/// Answers what to print, and whether all is as it should be.
pub(super) fn run(arguments: &TestArguments) -> Result<(String, bool), TestError> {
    let TestArguments { what, cases } = arguments;
    let (component, usual) = if what.is_dir() {
        (Project::find(what)?.build()?.file, what.join("cases.toml"))
    } else {
        (what.clone(), PathBuf::from("cases.toml"))
    };
    let cases = cases.clone().unwrap_or(usual);
    let bytes = fs::read(&component).map_err(|error| TestError::Read(component.clone(), error))?;
    let text = fs::read_to_string(&cases).map_err(|error| TestError::Read(cases.clone(), error))?;
    let report = play_cases(&bytes, &text, &shown(&cases))?;
    let colours = io::stdout().is_terminal() && env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    Ok((print(&report, &Paint { colours }), report.failed() == 0))
}

/// `./cases.toml` is `cases.toml`.
fn shown(file: &Path) -> String {
    file.strip_prefix(".").unwrap_or(file).display().to_string()
}

/// Colours, where somebody sees them.
pub(super) struct Paint {
    pub(super) colours: bool,
}

impl Paint {
    fn with(&self, code: &str, text: &str) -> String {
        if self.colours { format!("\u{1b}[{code}m{text}\u{1b}[0m") } else { text.to_owned() }
    }

    fn green(&self, text: &str) -> String {
        self.with("32", text)
    }

    fn red(&self, text: &str) -> String {
        self.with("31", text)
    }

    fn bold(&self, text: &str) -> String {
        self.with("1", text)
    }
}

/// For people.
pub(super) fn print(report: &CasesReport, paint: &Paint) -> String {
    let mut out = String::new();
    for case in &report.cases {
        if case.mismatches.is_empty() {
            out.push_str(&format!("{}    {}\n", paint.green("ok"), case.name));
        } else {
            failure(&mut out, &report.file, case, paint);
        }
    }
    let failed = report.failed();
    let passed = report.cases.len() - failed;
    let total = format!("{passed} passed, {failed} failed");
    out.push_str(&format!("\n{}\n", if failed == 0 { paint.green(&total) } else { paint.red(&total) }));
    out
}

fn failure(out: &mut String, file: &str, case: &CaseReport, paint: &Paint) {
    out.push_str(&format!("{}  {}\n", paint.red("FAIL"), paint.bold(&case.name)));
    for one in &case.mismatches {
        out.push_str(&format!("      {file}:{}: {}\n", one.line, one.what));
        out.push_str(&format!("        expected  {}\n", paint.green(&one.expected)));
        out.push_str(&format!("        got       {}\n", paint.red(&one.got)));
        if let Some(hint) = &one.hint {
            out.push_str(&format!("        {hint}\n"));
        }
    }
    for note in &case.notes {
        out.push_str(&format!("      {note}\n"));
    }
}
