//! One component on the bench: loaded as a gateway loads it, by the commands for filter authors, without a gateway.

use std::{collections::BTreeMap, path::Path, sync::Arc};

use super::{
    Compiler, LoadError,
    compile::{self, NotAFilter},
    engine::{Code, Engine},
    generation::{Digest256, Generation, Role, Settings},
    live::{ChainSpec, Live, Slot},
};
use crate::{
    config::{Config, ConfigErrors, Filter, SessionLimits},
    state_dir::StateDir,
    telemetry::metrics::Metrics,
    topic::Hub,
};

/// Nobody is asked to connect to it.
const NO_UPSTREAM: &str = "ws://127.0.0.1:9";
/// The filter of every workbench, as metrics and `allow` know it.
const FILTER: &str = "filter";

/// Why there is no workbench.
#[derive(Debug, thiserror::Error)]
pub enum WorkbenchError {
    /// The system lacks something.
    #[error(transparent)]
    Engine(#[from] LoadError),
    /// Metrics cannot be kept.
    #[error("cannot start")]
    Metrics(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The defaults contradict each other.
    #[error(transparent)]
    Config(#[from] ConfigErrors),
    /// No runtime can be had.
    #[error("cannot start")]
    Runtime(#[source] std::io::Error),
    /// The component cannot be loaded.
    #[error(transparent)]
    NotAFilter(#[from] NotAFilter),
}

/// A component, its hash, and its machine code.
pub(super) struct Workbench {
    pub(super) engine: Arc<Engine>,
    pub(super) limits: SessionLimits,
    code: Arc<Code>,
    content: Digest256,
    filter: Filter,
    state_dir: Arc<StateDir>,
}

impl Workbench {
    /// Compiles these bytes. What the filter does has its effect where it may.
    pub(super) fn new(bytes: &[u8], filter: Filter) -> Result<Self, WorkbenchError> {
        Self::make(bytes, filter, Engine::new)
    }

    /// Compiles these bytes. What the filter does is written down.
    pub(super) fn recording(bytes: &[u8], filter: Filter) -> Result<Self, WorkbenchError> {
        Self::make(bytes, filter, |config, metrics, compiler, hub| {
            Engine::recording(None, config, metrics, compiler, hub)
        })
    }

    /// Another place for the same component that shares nothing with this one but its code: what the filter does there is
    /// written down.
    pub(super) fn beside(&self, filter: Filter) -> Result<Self, WorkbenchError> {
        let state_dir = self.state_dir.clone();
        let engine = assemble(&filter, &state_dir, |config, metrics, compiler, hub| {
            Engine::recording(Some(&self.engine), config, metrics, compiler, hub)
        })?;
        Ok(Self { engine, limits: self.limits, code: self.code.clone(), content: self.content, filter, state_dir })
    }

    /// An engine for looking at components, and the folder that is to be closed after that.
    pub(super) fn engine() -> Result<(Arc<Engine>, Arc<StateDir>), WorkbenchError> {
        let state_dir = Arc::new(StateDir::new(None));
        let filter = Filter::with_defaults("".into());
        let engine = assemble(&filter, &state_dir, Engine::new)?;
        Ok((engine, state_dir))
    }

    fn make(
        bytes: &[u8],
        filter: Filter,
        engine: impl FnOnce(&Config, &Arc<Metrics>, Compiler, &Arc<Hub>) -> Result<Arc<Engine>, LoadError>,
    ) -> Result<Self, WorkbenchError> {
        let state_dir = Arc::new(StateDir::new(None));
        let engine = assemble(&filter, &state_dir, engine)?;
        let content = Digest256::of(bytes);
        let code = compile::code(&engine, bytes, content);
        // The code is in memory: nothing is left in the temporary folder to be found again.
        state_dir.close();
        Ok(Self { engine, limits: SessionLimits::default(), code: code?, content, filter, state_dir })
    }

    /// A further generation of the component, tried out, with another configuration if there is one. Not within a runtime.
    pub(super) fn generation(&self, config: Option<serde_json::Value>) -> Result<Arc<Generation>, NotAFilter> {
        let mut filter = self.filter.clone();
        filter.config = config.unwrap_or(filter.config);
        let largest = self.limits.client_max_payload_bytes.max(self.limits.upstream_max_payload_bytes);
        let settings = Settings::new(&filter, largest);
        compile::revive(&self.engine, &FILTER.into(), Role::Main, self.content, settings, self.code.clone())
    }

    /// This generation as the only chain of a gateway.
    pub(super) fn live(&self, generation: &Arc<Generation>, route: &str) -> Arc<Live> {
        let chain = ChainSpec::new(vec![Slot::from(generation.clone())], Vec::new(), &self.limits);
        Arc::new(Live::new(BTreeMap::from([(route.to_owned(), chain)]), &Live::default()))
    }
}

fn assemble(
    filter: &Filter,
    state_dir: &Arc<StateDir>,
    engine: impl FnOnce(&Config, &Arc<Metrics>, Compiler, &Arc<Hub>) -> Result<Arc<Engine>, LoadError>,
) -> Result<Arc<Engine>, WorkbenchError> {
    let metrics = Metrics::new().map_err(|error| WorkbenchError::Metrics(Box::new(error)))?;
    let metrics = Arc::new(metrics);
    let mut config = Config::for_upstream(NO_UPSTREAM, None, None, &[])?;
    let mut filter = filter.clone();
    // Nobody is called, so nobody has to be trusted.
    filter.allow.http.clear();
    config.filters.insert(FILTER.to_owned(), filter);
    let hub = Hub::new(SessionLimits::default().upstream_max_payload_bytes, metrics.topics());
    Ok(engine(&config, &metrics, compiler(state_dir), &hub)?)
}

#[cfg(not(test))]
fn compiler(state_dir: &Arc<StateDir>) -> Compiler {
    Compiler::new(state_dir.clone())
}

#[cfg(test)]
fn compiler(state_dir: &Arc<StateDir>) -> Compiler {
    Compiler::in_process(state_dir.clone())
}

/// A filter of this file with this configuration, and everything else as by default.
pub(super) fn filter_of(file: &Path, config: serde_json::Value) -> Filter {
    Filter { config, ..Filter::with_defaults(file.to_owned()) }
}
