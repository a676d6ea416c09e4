//! What a guest reaches of the gateway: the data of its Store, and thin host functions over it. WASI is there because the
//! standard libraries of guests ask for it, without any right: no files, sockets, environment or arguments.

pub(super) mod custom;
mod http_client;
mod key_value;
pub(super) mod logging;
mod messaging;
mod output;
pub(super) mod rights;

use std::{
    fmt::Display,
    sync::{Arc, LazyLock},
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use slab::Slab;
use wasmtime::component::{HasData, ResourceTable};
use wasmtime_wasi::{WasiCtx, WasiCtxView, WasiView};

use super::{
    LastReason, OpeningRequest,
    bindings::wsgate::filter::{clock, metrics, types},
    generation::{Generation, Role},
    limits::{self, Limiter, Meter},
    recorder::{RecordedClock, Recorder},
};
use crate::http_client::Caller;
use custom::CustomHandle;
use logging::GuestLog;
use messaging::Orders;
use output::GuestOutput;
use rights::Rights;

/// The clock of `monotonic-ns` counts from here, the same for all guests.
static START: LazyLock<Instant> = LazyLock::new(Instant::now);

/// The data of one Store.
pub(super) struct Host {
    wasi: WasiCtx,
    table: ResourceTable,
    pub(super) limiter: Limiter,
    log: Arc<GuestLog>,
    custom: CustomHandle,
    /// The filter is asked and not obeyed: nothing that it does may reach a connection. It has no rights besides, see
    /// [`Settings`](super::generation::Settings); its metrics and log lines carry a name of their own.
    pub(super) shadow: bool,
    pub(super) orders: Orders,
    rights: Arc<Rights>,
    recorder: Option<Arc<Recorder>>,
    http: Caller,
    /// How long the call may wait.
    meter: Arc<Meter>,
    /// What a response may bring, like what a guest may hand over.
    fuel_bytes: usize,
    /// The connections of the instance's sessions, for log lines and reasons.
    connections: Slab<Connection>,
    /// Whose call is being made.
    current: Option<usize>,
}

/// What host functions have to know of a connection.
struct Connection {
    id: Arc<str>,
    last_reason: Arc<LastReason>,
}

/// Tells the bindings that host functions live on [`Host`].
pub(super) struct HostData;

impl HasData for HostData {
    type Data<'a> = &'a mut Host;
}

impl Host {
    /// Inside the runtime in which the guest will run.
    pub(super) fn new(generation: &Arc<Generation>, meter: &Arc<Meter>) -> Self {
        let recorder = generation.engine().recorder.clone();
        let log = Arc::new(GuestLog::new(generation.label().clone(), recorder.clone()));
        let mut wasi = WasiCtx::builder();
        if let Some(recorder) = &recorder {
            wasi.wall_clock(RecordedClock(recorder.clone()));
        }
        let wasi = wasi
            .stdout(GuestOutput::new(log.clone(), tracing::Level::INFO))
            .stderr(GuestOutput::new(log.clone(), tracing::Level::WARN))
            .max_random_size(limits::RANDOM_BYTES)
            .allow_tcp(false)
            .allow_udp(false)
            .allow_ip_name_lookup(false)
            .build();
        let mut table = ResourceTable::new();
        table.set_max_capacity(limits::WASI_RESOURCES);
        Self {
            wasi,
            table,
            limiter: Limiter::new(generation.limits(), generation.metrics().memory_bytes.clone()),
            log,
            custom: generation.engine().custom.handle(generation.label()),
            shadow: generation.role() == Role::Shadow,
            orders: Orders::new(generation),
            rights: generation.rights().clone(),
            recorder,
            http: generation.engine().http.caller(generation.label(), generation.metrics().clone()),
            meter: meter.clone(),
            fuel_bytes: generation.limits().fuel_bytes,
            connections: Slab::new(),
            current: None,
        }
    }

    /// A session is about to be made; the key names it in [`Host::enter`].
    pub(super) fn add_connection(&mut self, request: &OpeningRequest) -> usize {
        let id = request.connection.as_str().into();
        self.connections.insert(Connection { id, last_reason: request.last_reason.clone() })
    }

    /// A session is gone.
    pub(super) fn remove_connection(&mut self, key: usize) {
        self.connections.try_remove(key);
    }

    /// The next call is made for this session, or for none.
    pub(super) fn enter(&mut self, key: Option<usize>) {
        self.current = key;
        self.orders.begin();
    }

    /// The guest asked for what its filter may not use.
    fn denied(&self, import: &'static str, asked: impl Display) {
        if let Some(recorder) = &self.recorder {
            recorder.denied(import, &asked.to_string());
        }
        self.rights.denied(import, asked, self.connection());
    }

    fn connection(&self) -> &str {
        self.current.and_then(|key| self.connections.get(key)).map_or("-", |connection| &connection.id)
    }
}

impl WasiView for Host {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        WasiCtxView { ctx: &mut self.wasi, table: &mut self.table }
    }
}

/// Unix time.
pub(super) fn since_1970() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

impl types::Host for Host {}

impl clock::Host for Host {
    fn now_ms(&mut self) -> wasmtime::Result<u64> {
        let set = self.recorder.as_ref().and_then(|recorder| recorder.now_ms());
        Ok(set.unwrap_or_else(|| u64::try_from(since_1970().as_millis()).unwrap_or(u64::MAX)))
    }

    fn monotonic_ns(&mut self) -> wasmtime::Result<u64> {
        Ok(u64::try_from(START.elapsed().as_nanos()).unwrap_or(u64::MAX))
    }
}

impl metrics::Host for Host {
    fn add(&mut self, counter: String, labels: Vec<(String, String)>, by: u64) -> wasmtime::Result<()> {
        if let Some(recorder) = &self.recorder {
            recorder.add(&counter, by);
        }
        self.custom.add(&counter, &labels, by);
        Ok(())
    }

    fn observe(&mut self, histogram: String, labels: Vec<(String, String)>, value: f64) -> wasmtime::Result<()> {
        self.custom.observe(&histogram, &labels, value);
        Ok(())
    }
}
