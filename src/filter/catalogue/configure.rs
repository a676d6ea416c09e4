//! Another configuration in the place of the one before: everything that it needs is loaded first, and only then is
//! anything changed.

use std::{collections::BTreeMap, mem, sync::Arc};

use super::{
    LoadError, may_compile,
    source::{Settled, Source},
    state::{Key, State, folders},
};
use crate::config::Config;

/// What the sources become.
#[derive(Default)]
struct Plan {
    added: BTreeMap<Key, Source>,
    changed: Vec<(Key, Settled)>,
}

impl State {
    /// Loads what the configuration asks for and goes on with it. Files that are known keep what is known of them, and
    /// filters whose settings did not change keep their generation.
    ///
    /// # Errors
    /// Something that a route names cannot be loaded, or does not start with its new settings. Then all is as it was.
    pub(super) fn configure(&mut self, config: &Arc<Config>) -> Result<(), LoadError> {
        let before = mem::replace(&mut self.config, config.clone());
        let mut folders = folders(config);
        for (path, folder) in &mut folders {
            if let Some(before) = self.folders.get(path) {
                folder.take_over(before);
            }
        }
        let folders_before = mem::replace(&mut self.folders, folders);
        let planned = self.prepare(&before, &folders_before.keys().cloned().collect::<Vec<_>>());
        let planned = planned.inspect_err(|_| {
            self.config = before;
            self.folders = folders_before;
        })?;
        self.carry_out(planned);
        Ok(())
    }

    fn prepare(&mut self, before: &Config, known_folders: &[std::path::PathBuf]) -> Result<Plan, LoadError> {
        let engine = self.engine.clone();
        if may_compile(&self.config) && !may_compile(before) {
            engine.compiler().try_out(&engine).map_err(LoadError::Compiler)?;
        }
        // What stores and clients are added does no harm where the rest fails.
        engine.stores.follow(&self.config, &engine.metrics).map_err(|error| LoadError::Engine(error.into()))?;
        engine.http.follow(&self.config).map_err(LoadError::Tls)?;
        for (path, folder) in &mut self.folders {
            if known_folders.contains(path) { folder.check_required()? } else { folder.start()? }
        }
        let mut plan = Plan::default();
        let used = self.used();
        for key in &used {
            self.plan(key, &mut plan)?;
        }
        for key in self.candidates(&used) {
            let planned = self.plan(&key, &mut plan);
            self.tell_of_candidate(&key, planned);
        }
        for key in self.unused(&used) {
            let planned = self.plan(&key, &mut plan);
            if planned.is_err() {
                self.tell_of_unused(&key, planned);
            }
        }
        Ok(plan)
    }

    fn plan(&self, key: &Key, plan: &mut Plan) -> Result<(), LoadError> {
        let Some(source) = self.sources.get(key) else {
            let (source, loaded) = self.first_look(key);
            plan.added.insert(key.clone(), source);
            return loaded;
        };
        let (settings, pin) = self.made_with(key);
        if let Some(settled) = source.try_settings(&self.engine, settings, pin)? {
            plan.changed.push((key.clone(), settled));
        }
        Ok(())
    }

    fn carry_out(&mut self, plan: Plan) {
        for (key, settled) in plan.changed {
            if let Some(source) = self.sources.get_mut(&key) {
                source.adopt(settled);
            }
        }
        self.sources.extend(plan.added);
        // Files that nothing asks for any more are forgotten by the next scan.
    }
}
