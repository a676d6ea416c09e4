//! One case: a connection in a world of its own, and its steps.

use std::{collections::VecDeque, rc::Rc, sync::Arc};

use serde_json::Value;
use toml::Spanned;

use super::{
    compare::{Judge, Opened, Outgoing},
    format::{Case, Cases},
    report::{CaseReport, Lines},
    step::{Input, Step},
};
use crate::{
    config::{Filter, to_json},
    filter::{
        Chain, Closer, Effect, Instances, Migration, Outcome,
        compile::NotAFilter,
        generation::Generation,
        recorder::Recorder,
        workbench::{Workbench, WorkbenchError, filter_of},
    },
    message::{CloseFrame, Direction},
    topic::{Doorbell, Postbox},
};

/// What every case is played with.
pub(super) struct Player<'a> {
    pub(super) bench: &'a Workbench,
    pub(super) all: &'a Cases,
    pub(super) lines: Lines<'a>,
}

impl Player<'_> {
    pub(super) fn play(&self, case: &Spanned<Case>) -> Result<CaseReport, WorkbenchError> {
        let line = self.lines.line(&case.span());
        let case = case.get_ref();
        let bench = self.bench.beside(self.filter(case))?;
        let mut judge = Judge::new(self.lines);
        let Some(recorder) = bench.engine.recorder.clone() else { return Ok(judge.report(&case.name, line)) };
        if let Some(now_ms) = case.given.now_ms {
            recorder.set_now_ms(now_ms);
        }
        let serving = match bench.generation(None) {
            Ok(serving) => serving,
            Err(refused) => {
                judge.opening(&case.opening, &Opened::NotLoaded(refused.to_string()), line);
                return Ok(judge.report(&case.name, line));
            }
        };
        let reloads = case.steps.iter().filter_map(|step| match &step.get_ref().input {
            Input::Reload(config) => Some(bench.generation(config.as_ref().map(json))),
            Input::Message(..) | Input::Delivery { .. } | Input::Tick | Input::Identity(_) | Input::Close { .. } => {
                None
            }
        });
        let reloads = reloads.collect();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build_local(Default::default())
            .map_err(WorkbenchError::Runtime)?;
        runtime.block_on(async {
            let connection = Connection { bench: &bench, case, recorder, reloads, judge: &mut judge };
            connection.play(&serving, line).await;
        });
        Ok(judge.report(&case.name, line))
    }

    fn filter(&self, case: &Case) -> Filter {
        let config = case.config.as_ref().or(self.all.config.as_ref());
        let allow = case.allow.as_ref().or(self.all.allow.as_ref());
        let empty = || Value::Object(serde_json::Map::new());
        let mut filter = filter_of("".as_ref(), config.map_or_else(empty, json));
        filter.allow = allow.cloned().unwrap_or_default().into();
        filter.failure_policy = self.all.failure_policy.unwrap_or(filter.failure_policy);
        filter
    }
}

/// A number that JSON cannot hold becomes nothing.
fn json(table: &toml::Table) -> Value {
    to_json(&toml::Value::Table(table.clone())).unwrap_or_default()
}

/// The connection of a case.
struct Connection<'a, 'l> {
    bench: &'a Workbench,
    case: &'a Case,
    recorder: Arc<Recorder>,
    /// For each reload that is to come.
    reloads: VecDeque<Result<Arc<Generation>, NotAFilter>>,
    judge: &'a mut Judge<'l>,
}

impl Connection<'_, '_> {
    async fn play(mut self, serving: &Arc<Generation>, line: usize) {
        let request = self.case.handshake.request();
        let bell = Doorbell::new();
        let others = self.case.given.connections.iter().map(String::as_str);
        let names = others.chain([&*request.connection]);
        let hub = &self.bench.engine.hub;
        let postboxes: Vec<_> = names.map(|name| hub.enter(name, &self.bench.limits, &bell)).collect();
        self.fill_stores(line).await;
        let live = self.bench.live(serving, &request.route);
        let instances = Instances::new(live.clone());
        let effects = &self.case.effects;
        self.begin(effects);
        let opened = Chain::open(instances.clone(), live.chain(&request.route), Rc::new(request)).await;
        let record = self.recorder.take();
        let (mut chain, opened) = match opened {
            Ok((chain, admission)) => (Some(chain), Opened::Admitted(admission)),
            Err(not_admitted) => (None, Opened::NotAdmitted(not_admitted)),
        };
        self.judge.faults_of_open(&self.case.opening, &record, line);
        self.judge.opening(&self.case.opening, &opened, line);
        self.judge.effects(effects, &record, &self.bench.engine.stores, &self.case.handshake.connection, line).await;
        for (index, step) in self.case.steps.iter().enumerate() {
            if self.judge.failed() {
                break;
            }
            discard(&postboxes);
            self.step(index, step, &mut chain, &instances).await;
        }
        if let Some(chain) = chain {
            chain.close(Closer::Client, CloseFrame::new(1000, "")).await;
        }
    }

    async fn fill_stores(&mut self, line: usize) {
        for (store, entries) in &self.case.given.stores {
            let Some(known) = self.bench.engine.stores.get(store) else {
                self.judge.no_such_store("given.stores", store, line);
                continue;
            };
            for (key, value) in entries {
                if let Err(error) = known.set(key, value.bytes(), None).await {
                    self.judge.not_stored(store, key, &error.to_string(), line);
                }
            }
        }
    }

    /// Forgets what was before.
    fn begin(&self, effects: &super::effects::Effects) {
        self.recorder.take();
        let answers = effects.http.iter().flat_map(|http| http.get_ref());
        self.recorder.prepare(answers.map(|request| request.answer.0.clone()));
    }

    async fn step(
        &mut self,
        index: usize,
        spanned: &Spanned<Step>,
        chain: &mut Option<Chain>,
        instances: &Rc<Instances>,
    ) {
        let step = spanned.get_ref();
        let line = self.judge.enter(index, step, &spanned.span());
        if let Some(now_ms) = step.now_ms {
            self.recorder.set_now_ms(now_ms);
        }
        self.begin(&step.effects);
        let Some(open) = chain.take() else {
            self.judge.over(line);
            return;
        };
        let (rest, outgoing) = self.happen(step, open, instances).await;
        *chain = rest;
        if let Outgoing::Effects(effects) = &outgoing
            && let Some(Effect::Close { frame, .. }) = effects.last()
            && let Some(chain) = chain.take()
        {
            chain.close(Closer::Filter, frame.clone()).await;
        }
        let record = self.recorder.take();
        let connection = &self.case.handshake.connection;
        self.judge.outcome(step, &outgoing, &record, line);
        self.judge.effects(&step.effects, &record, &self.bench.engine.stores, connection, line).await;
    }

    /// Answers what is left of the chain, and what came of it.
    async fn happen(&mut self, step: &Step, chain: Chain, instances: &Rc<Instances>) -> (Option<Chain>, Outgoing) {
        let outcome = match &step.input {
            Input::Message(direction, payload) => {
                let message = payload.message();
                if chain.wants(*direction, message.kind()) {
                    chain.on_message(*direction, message).await
                } else {
                    Outcome::Pass(message)
                }
            }
            Input::Delivery { topic, message } => chain.on_delivery(topic, message.message()).await,
            Input::Tick => match chain.next_tick() {
                Some(at) => chain.on_tick(at).await,
                None => return (Some(chain), Outgoing::NoTick),
            },
            Input::Identity(identity) => chain.on_identity(Rc::new(identity.clone())).await,
            Input::Reload(_) => return self.reload(chain, instances).await,
            Input::Close { by, code, reason } => {
                chain.close(*by, CloseFrame::new(*code, reason)).await;
                return (None, Outgoing::Closed);
            }
        };
        let effects = match outcome {
            Outcome::Pass(message) => {
                let direction = match &step.input {
                    Input::Message(direction, _) => *direction,
                    Input::Delivery { .. }
                    | Input::Tick
                    | Input::Identity(_)
                    | Input::Reload(_)
                    | Input::Close { .. } => Direction::ToClient,
                };
                vec![Effect::Send(direction, message)]
            }
            Outcome::Effects(effects) => effects,
        };
        (Some(chain), Outgoing::Effects(effects))
    }

    async fn reload(&mut self, chain: Chain, instances: &Rc<Instances>) -> (Option<Chain>, Outgoing) {
        let next = match self.reloads.pop_front() {
            Some(Ok(next)) => next,
            Some(Err(refused)) => return (Some(chain), Outgoing::NotLoaded(refused.to_string())),
            None => return (Some(chain), Outgoing::NotLoaded("there is no other generation".to_owned())),
        };
        let route = &self.case.handshake.request().route;
        let live = self.bench.live(&next, route);
        instances.publish(live.clone());
        match chain.migrate(live.chain(route)).await {
            Migration::Moved(chain) => (Some(chain), Outgoing::Moved),
            Migration::Kept => (Some(chain), Outgoing::Kept),
            Migration::Close { frame, filter } => {
                (Some(chain), Outgoing::Effects(vec![Effect::Close { frame, filter, fault: false }]))
            }
        }
    }
}

/// What was published to the connections was written down already.
fn discard(postboxes: &[Postbox]) {
    for postbox in postboxes {
        while postbox.take().is_some() {}
    }
}
