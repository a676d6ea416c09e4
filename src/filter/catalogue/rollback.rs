//! Back to the generation that served before, and what keeps the one after it out.

use std::{path::PathBuf, sync::Arc};

use serde::Serialize;

use super::{orders::OrderError, quarantine::Quarantine, source::Source};
use crate::filter::{
    compile,
    engine::{Code, Engine},
    generation::{Digest256, Generation, Role, Settings},
};

/// Generations that a rollback can go back through, one after the other. Their code stays in memory, of which a filter in
/// Python takes some tens of MiB each.
const KEPT_GENERATIONS: usize = 3;

/// What is kept of a generation that served.
pub(super) struct Good {
    pub(super) digest: Digest256,
    content: Digest256,
    code: Arc<Code>,
    wasm_bytes: usize,
}

/// What a rollback did to one file.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub struct RolledBack {
    /// The file.
    pub file: PathBuf,
    /// The first 12 digits of the hash of the generation that served.
    pub from: String,
    /// Those of the one that serves now.
    pub to: String,
    /// SHA-256 of the content that is not loaded again.
    pub quarantined: String,
    /// Will a restart know of it?
    pub persisted: bool,
}

impl Good {
    pub(super) fn new(generation: &Generation, wasm_bytes: usize) -> Self {
        let (digest, content) = (*generation.digest(), *generation.content());
        Self { digest, content, code: generation.code().clone(), wasm_bytes }
    }

    /// It would be made with these settings now.
    pub(super) fn follow(&mut self, settings: &Settings) {
        self.digest = settings.digest(&self.content);
    }
}

impl Source {
    /// Keeps what served so far, and forgets what is too old.
    pub(super) fn remember(&mut self, good: Good) {
        self.history.retain(|known| known.digest != good.digest);
        self.history.push(good);
        let surplus = self.history.len().saturating_sub(KEPT_GENERATIONS);
        self.history.drain(..surplus);
    }

    /// Publishes what served before, and puts what serves into quarantine.
    pub(super) fn roll_back(
        &mut self,
        engine: &Arc<Engine>,
        quarantine: &mut Quarantine,
    ) -> Result<RolledBack, OrderError> {
        let (Some(bad), Some(good)) = (self.current.clone(), self.history.pop()) else {
            return Err(OrderError::NothingBefore);
        };
        let still_there = self.older.iter().filter_map(std::sync::Weak::upgrade);
        let generation = match still_there.into_iter().find(|older| *older.digest() == good.digest) {
            Some(generation) => generation,
            None => {
                let (settings, code) = (self.settings.clone(), good.code.clone());
                match compile::revive(engine, &self.name, self.role, good.content, settings, code) {
                    Ok(generation) => generation,
                    Err(error) => {
                        let generation = good.digest.short();
                        self.history.push(good);
                        return Err(OrderError::Unfit { generation, error });
                    }
                }
            }
        };
        generation.set_restored(true);
        let persisted = quarantine.add(&self.name, bad.content());
        self.publish(generation, good.wasm_bytes);
        if self.error.is_none() && !self.missing {
            // As far as is known; the next look at the file tells.
            self.keep_out(bad.content());
        }
        engine.metrics.filter(&self.label).reload("rollback");
        let (from, to, content) = (bad.digest().short(), good.digest.short(), bad.content().hex());
        let (filter, file) = (&*self.label, self.path.display().to_string());
        tracing::warn!(filter, file, from, to, quarantined = content, persisted, "filter rolled back");
        Ok(RolledBack { file: self.path.clone(), from, to, quarantined: content, persisted })
    }

    /// As a shadow, what was rolled back from harms nobody and may be looked into.
    pub(super) fn is_quarantined(&self, quarantine: &Quarantine, content: &Digest256) -> bool {
        self.role != Role::Shadow && quarantine.holds(&self.name, content)
    }

    /// A canary of a content that is quarantined now serves no more, not even its open sessions.
    pub(super) fn withdraw_canary(&mut self, quarantine: &Quarantine) {
        if let Some(current) =
            self.current.take_if(|current| self.role == Role::Canary && quarantine.holds(&self.name, current.content()))
        {
            current.withdraw();
            self.older.push(Arc::downgrade(&current));
            self.keep_out(current.content());
        }
    }

    /// The file's present content was rolled back from.
    pub(super) fn keep_out(&mut self, content: &Digest256) {
        let (filter, file, sha256) = (&*self.label, self.path.display().to_string(), content.hex());
        let serving = self.current.as_ref().map(|current| current.digest().short());
        let error = match (&serving, self.role) {
            (Some(serving), _) => format!("quarantined by rollback: {serving} serves"),
            (None, Role::Main) => "quarantined by rollback: nothing serves, and new connections are refused".to_owned(),
            (None, Role::Canary | Role::Shadow) => "quarantined by rollback: it has no share".to_owned(),
        };
        if self.error.as_ref() != Some(&error) {
            if serving.is_some() || self.role != Role::Main {
                tracing::warn!(filter, file, sha256, serving, "a file is quarantined by rollback");
            } else {
                tracing::error!(
                    filter,
                    file,
                    sha256,
                    "a file is quarantined by rollback and nothing else is there: the filter is not live, and routes that \
                     have it refuse connections, until the file is another one or the quarantine is lifted"
                );
            }
        }
        self.error = Some(error);
        self.quarantined = true;
    }
}
