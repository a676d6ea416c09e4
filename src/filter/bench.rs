//! `wsgate filter bench`: what the calls into a filter cost, on this machine, in processor time.

use std::{hint::black_box, path::Path, rc::Rc, sync::Arc, time::Duration};

use rustix::time::{ClockId, clock_gettime};
use serde::Serialize;
use serde_json::Value;

use super::{
    Chain, FaultRecord, Instances, NotAdmitted,
    cases::Allow,
    generation::Generation,
    instance::Instance,
    room::Purpose,
    workbench::{Workbench, WorkbenchError, filter_of},
};
use crate::message::{Direction, Message};

/// Of the messages that are made where none is given, in bytes.
const SIZES: [usize; 4] = [64, 1 << 10, 16 << 10, 256 << 10];
/// The median of so many rounds counts.
const ROUNDS: usize = 9;
/// About as long is a round, in processor time.
const ROUND: Duration = Duration::from_millis(40);
/// Most calls of a round.
const MAX_CALLS: u32 = 100_000;
/// Instances that are held at once, to see what memory they take.
const HELD: u32 = 32;
/// Connections that are opened in a round: few enough for one instance.
const OPENED: u32 = 64;
const ROUTE: &str = "bench";

/// What is to be measured.
#[derive(Clone, Debug)]
pub struct Bench {
    /// The filter's configuration.
    pub config: Value,
    /// What it may use, as in the gateway's configuration.
    pub allow: Value,
    /// One message instead of text of several sizes.
    pub message: Option<Message>,
    /// Which way messages go.
    pub direction: Direction,
}

/// What calls cost.
#[derive(Debug, Serialize)]
pub struct Figures {
    /// `on-message`, by size.
    pub messages: Vec<MessageFigure>,
    /// Nanoseconds for `open` on a shared instance, and the release of the session.
    pub open_ns: f64,
    /// Nanoseconds to make an instance, with `init`.
    pub instance_ns: f64,
    /// Memory that an instance takes of the machine before it did anything, in KiB.
    pub instance_kib: f64,
}

/// `on-message` for one size.
#[derive(Debug, Serialize)]
pub struct MessageFigure {
    /// Of the message.
    pub bytes: usize,
    /// Nanoseconds a call; none where the filter is not called for such messages.
    pub ns: Option<f64>,
}

/// Why there are no figures.
#[derive(Debug, thiserror::Error)]
pub enum BenchError {
    /// The component cannot be loaded.
    #[error(transparent)]
    Workbench(#[from] WorkbenchError),
    /// `allow` is not as it should be.
    #[error("allow: {0}")]
    Allow(String),
    /// The filter does not admit the connection.
    #[error("the filter does not admit the connection: {0}")]
    NotAdmitted(String),
    /// A call failed: what it costs to fail is not what was asked.
    #[error("a call failed: {0}")]
    Fault(String),
    /// No further instance can be had.
    #[error("an instance cannot be made: {0}")]
    Instance(String),
    /// Linux says nothing of memory.
    #[error("the memory of the process cannot be read")]
    Memory(#[source] std::io::Error),
}

/// Measures a component. Takes some seconds.
///
/// # Errors
/// See [`BenchError`].
pub fn bench(component: &[u8], what: &Bench) -> Result<Figures, BenchError> {
    let mut filter = filter_of(Path::new(""), what.config.clone());
    let allow: Allow = serde_json::from_value(what.allow.clone()).map_err(|why| BenchError::Allow(why.to_string()))?;
    filter.allow = allow.into();
    filter.allow.http.clear();
    // Each call is made for the one client of the bench.
    filter.max_client_faults = None;
    let bench = Workbench::new(component, filter)?;
    let generation = bench.generation(None).map_err(WorkbenchError::from)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build_local(Default::default())
        .map_err(WorkbenchError::Runtime)?;
    runtime.block_on(measure(&bench, &generation, what))
}

async fn measure(bench: &Workbench, generation: &Arc<Generation>, what: &Bench) -> Result<Figures, BenchError> {
    let live = bench.live(generation, ROUTE);
    let instances = Instances::new(live);
    let chain = open(&instances).await?;
    let messages = what.message.clone().map_or_else(
        || SIZES.iter().map(|size| Message::text("x".repeat(*size))).collect::<Vec<_>>(),
        |message| vec![message],
    );
    let mut figures = Vec::new();
    for message in messages {
        let ns = if chain.wants(what.direction, message.kind()) {
            black_box(chain.on_message(what.direction, message.clone()).await);
            failed(generation)?;
            let call = async || {
                black_box(chain.on_message(what.direction, message.clone()).await);
            };
            Some(median(MAX_CALLS, call).await)
        } else {
            None
        };
        figures.push(MessageFigure { bytes: message.len(), ns });
    }
    failed(generation)?;
    let open_ns = median(OPENED, async || {
        if let Ok(opened) = open(&instances).await {
            opened.close(super::Closer::Client, crate::message::CloseFrame::new(1000, "")).await;
        }
    });
    let open_ns = open_ns.await;
    failed(generation)?;
    let instance_ns = median(OPENED, async || {
        if let Ok(made) = instance(generation).await {
            black_box(made);
        }
    });
    let instance_ns = instance_ns.await;
    let (before, mut held) = (resident_kib()?, Vec::new());
    for _ in 0..HELD {
        held.push(instance(generation).await?);
    }
    let instance_kib = (resident_kib()? - before).max(0.0) / f64::from(HELD);
    Ok(Figures { messages: figures, open_ns, instance_ns, instance_kib })
}

async fn open(instances: &Rc<Instances>) -> Result<Chain, BenchError> {
    let spec = instances.live().chain(ROUTE);
    let opened = Chain::open(instances.clone(), spec, Rc::new(super::cases::opening_request())).await;
    opened.map(|(chain, _)| chain).map_err(|not_admitted| {
        BenchError::NotAdmitted(match not_admitted {
            NotAdmitted::Refused { status, body, .. } => {
                format!("it refuses with {} and says {:?}", status.as_u16(), String::from_utf8_lossy(&body))
            }
            NotAdmitted::Fault { .. } => "`open` failed".to_owned(),
            NotAdmitted::Closed { .. } | NotAdmitted::Capacity { .. } | NotAdmitted::Client { .. } => {
                "there is no room for it".to_owned()
            }
        })
    })
}

async fn instance(generation: &Arc<Generation>) -> Result<Rc<Instance>, BenchError> {
    let ticket = generation.engine().room.try_take(generation.maps(), Purpose::Keep);
    let ticket = ticket.map_err(|error| BenchError::Instance(error.to_string()))?;
    Instance::make(generation, ticket).await.map_err(|fault| BenchError::Instance(fault.cause))
}

fn failed(generation: &Generation) -> Result<(), BenchError> {
    match generation.recent_faults().list().into_iter().next() {
        Some(FaultRecord { hook, kind, cause, .. }) => Err(BenchError::Fault(format!("{hook} ({kind}): {cause}"))),
        None => Ok(()),
    }
}

/// Nanoseconds a call.
async fn median(most: u32, mut call: impl AsyncFnMut()) -> f64 {
    let begin = cpu_time();
    call().await;
    call().await;
    let one = (cpu_time() - begin) / 2;
    let calls = (ROUND.as_nanos() / one.as_nanos().max(1)).clamp(1, u128::from(most));
    let calls = u32::try_from(calls).unwrap_or(most);
    let mut rounds = Vec::with_capacity(ROUNDS);
    for _ in 0..ROUNDS {
        let begin = cpu_time();
        for _ in 0..calls {
            call().await;
        }
        rounds.push((cpu_time() - begin).as_nanos() as f64 / f64::from(calls));
    }
    rounds.sort_by(f64::total_cmp);
    rounds[ROUNDS / 2]
}

/// Processor time of this thread: other programs do not count.
fn cpu_time() -> Duration {
    let now = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(u64::try_from(now.tv_sec).unwrap_or(0), u32::try_from(now.tv_nsec).unwrap_or(0))
}

fn resident_kib() -> Result<f64, BenchError> {
    let status = std::fs::read_to_string("/proc/self/status").map_err(BenchError::Memory)?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|line| line.split_whitespace().next()?.parse().ok());
    kib.ok_or_else(|| BenchError::Memory(std::io::Error::other("/proc/self/status has no VmRSS")))
}
