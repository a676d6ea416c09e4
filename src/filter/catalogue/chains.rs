//! The chains that the files make.

use std::sync::Arc;

use super::{
    folder::Folder,
    state::{Key, State},
};
use crate::{
    config::{Candidate, ChainSource, Route},
    filter::{
        generation::{Generation, Role},
        live::{ChainSpec, Lacking, Live, Share, Slot},
    },
};

impl State {
    pub(super) fn build(&mut self) -> Live {
        for folder in self.folders.values_mut() {
            for (name, entry) in &mut folder.entries {
                let key = Key::main(name, folder.path.join(&entry.file_name));
                if let Some(good) = self.sources.get(&key).and_then(|source| source.current.clone()) {
                    entry.good = Some(good);
                }
            }
        }
        let chains = self.config.routes.iter().map(|route| {
            let (mut slots, mut lacking) = (Vec::new(), Vec::new());
            for (name, good) in self.members(route) {
                match good {
                    Some(good) => slots.push(self.slot(name, good)),
                    None => lacking.push(self.lacking(name)),
                }
            }
            (route.name.clone(), ChainSpec::new(slots, lacking, &route.limits))
        });
        Live::new(chains.collect(), &self.live)
    }

    /// The filters of a route, and what serves of each. A file that was dropped into a folder and never loaded is not in
    /// its chain yet; one that had been rolled back from before a restart was.
    fn members<'a>(&'a self, route: &'a Route) -> Vec<(&'a str, Option<Arc<Generation>>)> {
        match &route.filters {
            ChainSource::Names(names) => names.iter().map(|name| (name.as_str(), self.named(name))).collect(),
            ChainSource::Folder { path, .. } => {
                let chain = self.folders.get(path).map(Folder::chain).unwrap_or_default();
                let was_in_it = |name: &String, file: &String| {
                    let source = self.sources.get(&Key::main(name, path.join(file)));
                    source.is_some_and(|source| source.quarantined)
                };
                let members =
                    chain.into_iter().filter(|(name, entry)| entry.good.is_some() || was_in_it(name, &entry.file_name));
                members.map(|(name, entry)| (name.as_str(), entry.good.clone())).collect()
            }
        }
    }

    fn named(&self, name: &str) -> Option<Arc<Generation>> {
        self.sources.get(&Key::main(name, self.settings_of(name).file))?.current.clone()
    }

    fn slot(&self, name: &str, main: Arc<Generation>) -> Slot {
        let share = |role, candidate: &Option<Candidate>| {
            let Candidate { file, percent } = candidate.as_ref()?;
            let source = self.sources.get(&Key { name: name.to_owned(), role, path: file.clone() })?;
            // A file that is taken away is an experiment that is over.
            let generation = source.current.clone().filter(|_| !source.missing)?;
            Some(Share { generation, percent: *percent })
        };
        match self.config.filters.get(name) {
            Some(filter) => {
                Slot { main, canary: share(Role::Canary, &filter.canary), shadow: share(Role::Shadow, &filter.shadow) }
            }
            None => main.into(),
        }
    }

    fn lacking(&self, name: &str) -> Lacking {
        let filter: Arc<str> = name.into();
        Lacking { control: self.engine.controls.of(&filter), filter }
    }
}
