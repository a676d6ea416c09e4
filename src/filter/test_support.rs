//! What the tests of filters share: real guests, a catalogue over a temporary folder, and one worker.

use std::{
    cell::RefCell,
    collections::BTreeMap,
    env, fs,
    net::{IpAddr, SocketAddr},
    path::{Path, PathBuf},
    process::Command,
    rc::Rc,
    sync::{Arc, LazyLock, Mutex},
    time::Duration,
};

use rustix::time::{ClockId, clock_gettime};
use serde_json::Value;
use tokio::time::{Instant, sleep};

use super::{
    Admission, Catalogue, Chain, Compiler, Effect, FilterStatus, Instances, Live, LoadError, NotAdmitted,
    OpeningRequest, Outcome,
    engine::{Code, Engine},
};
use crate::{
    config::{Admin, ChainSource, Config, Filter, HeaderEdits, Log, LogFormat, Route, Server, SessionLimits, Target},
    message::{Direction, Message},
    state_dir::StateDir,
    telemetry::metrics::Metrics,
    topic::Hub,
};

/// The folder with the guests. `WSGATE_GUESTS` names it; else they are built.
pub(super) fn guests() -> &'static Path {
    static GUESTS: LazyLock<PathBuf> = LazyLock::new(|| match env::var_os("WSGATE_GUESTS") {
        Some(folder) => folder.into(),
        None => build_guests(),
    });
    &GUESTS
}

/// The component of a guest.
pub(super) fn guest(name: &str) -> PathBuf {
    guests().join(format!("{name}.wasm"))
}

fn build_guests() -> PathBuf {
    let target = env::var_os("CARGO_TARGET_DIR")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("target"), PathBuf::from);
    // Alone, as the Makefile does it: the others would get the features of its dependencies.
    build_packages(&["json-schema"]);
    build_packages(&[
        "authorize",
        "graphql-ws",
        "message-router",
        "quota",
        "redact",
        "rewrite",
        "stamp",
        "topic-acl",
        "guest-faulty",
        "guest-fetch",
        "guest-probe",
        "guest-reason",
        "guest-room",
        "guest-router",
        "guest-store",
        "guest-wrong-world",
    ]);
    target.join("wasm32-wasip2/guest")
}

fn build_packages(packages: &[&str]) {
    let mut cargo = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.args(["build", "--quiet", "--profile", "guest", "--target", "wasm32-wasip2"]);
    cargo.args(packages.iter().flat_map(|package| ["--package", package])).current_dir(env!("CARGO_MANIFEST_DIR"));
    assert!(cargo.status().unwrap().success(), "the guests do not build");
}

/// A catalogue that is about to be.
pub(super) struct Bed {
    pub(super) folder: tempfile::TempDir,
    pub(super) config: Config,
    pub(super) holding: Option<usize>,
}

impl Bed {
    /// No filters, no routes.
    pub(super) fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let config = Config {
            server: Server {
                workers: 1,
                filter_dir: folder.path().to_owned(),
                state_dir: None,
                js_compiler: None,
                drain_delay: Duration::ZERO,
                drain_timeout: Duration::ZERO,
                limits: Default::default(),
            },
            listeners: Vec::new(),
            admin: Admin { address: ([127, 0, 0, 1], 0).into(), tokens: Vec::new() },
            health: None,
            log: Log { level: "info".to_owned(), format: LogFormat::Text },
            upstreams: BTreeMap::new(),
            jwt: BTreeMap::new(),
            filters: BTreeMap::new(),
            stores: BTreeMap::new(),
            routes: Vec::new(),
        };
        Self { folder, config, holding: None }
    }

    /// As in a process that holds so many instances.
    pub(super) fn holding(mut self, instances: usize) -> Self {
        self.holding = Some(instances);
        self
    }

    /// A filter made from a guest, with its configuration.
    pub(super) fn filter(self, name: &str, from: &str, config: Value) -> Self {
        self.tuned(name, from, config, |_| {})
    }

    /// The same with other settings.
    pub(super) fn tuned(mut self, name: &str, from: &str, config: Value, tune: impl FnOnce(&mut Filter)) -> Self {
        let file = self.folder.path().join(format!("{name}.wasm"));
        fs::copy(guest(from), &file).unwrap();
        let mut filter = Filter::with_defaults(file);
        filter.config = config;
        tune(&mut filter);
        self.config.filters.insert(name.to_owned(), filter);
        self
    }

    /// A filter that answers each message by this command of `guest-faulty`.
    pub(super) fn always(self, name: &str, command: &str) -> Self {
        self.filter(name, "guest_faulty", serde_json::json!({"mode": format!("always:{command}"), "direction": "both"}))
    }

    /// A route through these filters.
    pub(super) fn route(self, filters: &[&str]) -> Self {
        let names = filters.iter().map(|name| (*name).to_owned()).collect();
        self.routed("main", ChainSource::Names(names))
    }

    /// Another route through these filters.
    pub(super) fn route_named(self, route: &str, filters: &[&str]) -> Self {
        let names = filters.iter().map(|name| (*name).to_owned()).collect();
        self.routed(route, ChainSource::Names(names))
    }

    /// A route through a folder below the temporary one.
    pub(super) fn folder_route(self, folder: &str, required: &[&str], removal_grace: Duration) -> Self {
        let path = self.folder.path().join(folder);
        fs::create_dir_all(&path).unwrap();
        let required = required.iter().map(|name| (*name).to_owned()).collect();
        self.routed("main", ChainSource::Folder { path, required, removal_grace })
    }

    fn routed(mut self, name: &str, filters: ChainSource) -> Self {
        self.config.routes.push(Route {
            name: name.to_owned(),
            host: None,
            path: "/".parse().unwrap(),
            path_rewrite: None,
            target: Target::Echo,
            http: None,
            filters,
            subprotocols: None,
            request_headers: HeaderEdits::default(),
            auth: None,
            claims_to_headers: Vec::new(),
            allowed_origins: crate::config::pattern::OriginRule::DEFAULT.to_vec(),
            limits: SessionLimits { ping_interval: None, ..SessionLimits::default() },
            traffic: Default::default(),
            auth_request: None,
        });
        self
    }

    pub(super) fn start(self) -> Started {
        match self.try_start() {
            Ok(started) => started,
            Err(error) => panic!("{error}: {:?}", std::error::Error::source(&error).map(ToString::to_string)),
        }
    }

    pub(super) fn try_start(self) -> Result<Started, LoadError> {
        let metrics = Arc::new(Metrics::new().unwrap());
        let state_dir = Arc::new(StateDir::new(self.config.server.state_dir.clone()));
        let compiler = Compiler::in_process(state_dir.clone());
        let hub = Hub::new(1 << 20, metrics.topics());
        let config = Arc::new(self.config);
        let catalogue = match self.holding {
            None => Catalogue::start(&config, &metrics, compiler, &hub)?,
            Some(instances) => {
                Catalogue::start_with(Engine::holding(instances, &config, &metrics, compiler, &hub)?, &config)?
            }
        };
        keep_compiled(&catalogue.subscribe().borrow());
        Ok(Started { folder: self.folder, catalogue, hub, metrics, _state_dir: ClosedAtLast(state_dir) })
    }

    /// Starts, and runs this on a worker.
    pub(super) fn run<T>(self, test: impl AsyncFnOnce(&Started, Worker) -> T) -> T {
        self.start().run(test)
    }
}

/// What one test compiled is there for the next one.
pub(super) fn keep_compiled(live: &Live) {
    static KEPT: Mutex<Vec<Arc<Code>>> = Mutex::new(Vec::new());
    KEPT.lock().unwrap().extend(live.generations().map(|generation| generation.code().clone()));
}

/// A catalogue that runs.
pub(super) struct Started {
    pub(super) folder: tempfile::TempDir,
    pub(super) catalogue: Catalogue,
    pub(super) hub: Arc<Hub>,
    metrics: Arc<Metrics>,
    /// Dropped last.
    _state_dir: ClosedAtLast,
}

struct ClosedAtLast(Arc<StateDir>);

impl Drop for ClosedAtLast {
    fn drop(&mut self) {
        // The thread of the catalogue may live on for a while.
        self.0.close();
    }
}

impl Started {
    /// On a thread of its own kind of runtime, that of a worker.
    pub(super) fn run<T>(&self, test: impl AsyncFnOnce(&Self, Worker) -> T) -> T {
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_all().build_local(Default::default()).unwrap();
        runtime.block_on(async {
            let mut live = self.catalogue.subscribe();
            let instances = Instances::new(live.borrow_and_update().clone());
            tokio::task::spawn_local({
                let instances = instances.clone();
                async move {
                    while live.changed().await.is_ok() {
                        instances.publish(live.borrow_and_update().clone());
                    }
                }
            });
            test(self, Worker { instances }).await
        })
    }

    /// Replaces the file of a filter by another guest, as careful people do.
    pub(super) fn replace(&self, file: &str, from: &str) {
        let temporary = self.folder.path().join(".new");
        fs::copy(guest(from), &temporary).unwrap();
        fs::rename(temporary, self.path(file)).unwrap();
    }

    /// Puts these bytes in the place of a file.
    pub(super) fn write(&self, file: &str, bytes: &[u8]) {
        let temporary = self.folder.path().join(".new");
        fs::write(&temporary, bytes).unwrap();
        fs::rename(temporary, self.path(file)).unwrap();
    }

    pub(super) fn path(&self, file: &str) -> PathBuf {
        self.folder.path().join(file)
    }

    pub(super) fn status(&self, name: &str) -> FilterStatus {
        self.catalogue.status().into_iter().find(|status| status.name == name).unwrap()
    }

    /// The metrics page.
    pub(super) fn families(&self) -> String {
        String::from_utf8(self.metrics.encode().unwrap()).unwrap()
    }

    /// A line of the metrics page that begins like this.
    pub(super) fn metric(&self, line: &str) -> Option<f64> {
        self.families().lines().find_map(|found| found.strip_prefix(line)?.trim().parse().ok())
    }

    /// How many faults of a kind a filter has had.
    pub(super) fn faults(&self, filter: &str, kind: &str) -> f64 {
        self.metric(&format!(r#"wsgate_filter_faults_total{{filter="{filter}",kind="{kind}"}}"#)).unwrap_or(0.0)
    }
}

/// One worker.
pub(super) struct Worker {
    pub(super) instances: Rc<Instances>,
}

impl Worker {
    /// Opens a connection on the route.
    pub(super) async fn open(&self) -> Chain {
        self.try_open().await.unwrap().0
    }

    /// Opens a connection on another route.
    pub(super) async fn open_on(&self, route: &str) -> Chain {
        let spec = self.instances.live().chain(route);
        Chain::open(self.instances.clone(), spec, Rc::new(opening_request())).await.unwrap().0
    }

    pub(super) async fn try_open(&self) -> Result<(Chain, Admission), NotAdmitted> {
        self.try_open_from(opening_request().client).await
    }

    /// Opens a connection from this address.
    pub(super) async fn open_from(&self, client: impl Into<IpAddr>) -> Chain {
        self.try_open_from((client.into(), 1234).into()).await.unwrap().0
    }

    pub(super) async fn try_open_from(&self, client: SocketAddr) -> Result<(Chain, Admission), NotAdmitted> {
        let spec = self.instances.live().chain("main");
        Chain::open(self.instances.clone(), spec, Rc::new(OpeningRequest { client, ..opening_request() })).await
    }

    /// Moves a session to what is live. Answers whether it moved.
    pub(super) async fn migrate(&self, chain: &mut Chain) -> bool {
        match chain.migrate(self.instances.live().chain("main")).await {
            super::Migration::Moved(new) => {
                *chain = new;
                true
            }
            super::Migration::Kept => false,
            super::Migration::Close { frame, .. } => panic!("closed with {frame:?}"),
        }
    }
}

pub(super) fn opening_request() -> OpeningRequest {
    OpeningRequest {
        connection: "c1".to_owned(),
        route: "main".to_owned(),
        host: "localhost".to_owned(),
        path: "/".to_owned(),
        parameters: vec![("room".to_owned(), "lobby".to_owned())],
        query: Some("a=b".to_owned()),
        headers: vec![("x-test".to_owned(), b"1".to_vec())],
        subprotocols: vec!["chat".to_owned()],
        client: ([192, 0, 2, 1], 1234).into(),
        secure: false,
        client_certificate: None,
        identity: RefCell::default(),
        last_reason: Arc::default(),
    }
}

/// A text message from the client; what came of it, in words.
pub(super) async fn say(chain: &Chain, text: &str) -> String {
    words(chain.on_message(Direction::ToUpstream, Message::text(text)).await)
}

/// A text message from the upstream; what came of it, in words.
pub(super) async fn hear(chain: &Chain, text: &str) -> String {
    words(chain.on_message(Direction::ToClient, Message::text(text)).await)
}

/// `pass hello`, or `upstream a, client b, close 4000 bye (name)`, or nothing.
pub(super) fn words(outcome: Outcome) -> String {
    let shown = |message: &Message| match message {
        Message::Text(text) if text.len() > 100 => format!("{} bytes", text.len()),
        Message::Text(text) => text.to_string(),
        Message::Binary(bytes) => format!("{} binary bytes", bytes.len()),
    };
    match outcome {
        Outcome::Pass(message) => format!("pass {}", shown(&message)),
        Outcome::Effects(effects) => {
            let effects = effects.iter().map(|effect| match effect {
                Effect::Send(Direction::ToUpstream, message) => format!("upstream {}", shown(message)),
                Effect::Send(Direction::ToClient, message) => format!("client {}", shown(message)),
                Effect::Route { upstream, message } => format!("route {upstream} {}", shown(message)),
                Effect::Close { frame, filter, fault } => {
                    let fault = if *fault { " fault" } else { "" };
                    format!("close {} {} ({filter}{fault})", frame.code_or_1005(), frame.reason)
                }
            });
            effects.collect::<Vec<_>>().join(", ")
        }
    }
}

/// Waits until something is so, on the worker.
pub(super) async fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let end = Instant::now() + Duration::from_secs(20);
    while !condition() {
        assert!(Instant::now() < end, "never happened: {what}");
        sleep(Duration::from_millis(2)).await;
    }
}

/// Processor time of this thread: other programs do not count.
pub(super) fn cpu_time() -> Duration {
    let now = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(now.tv_sec as u64, now.tv_nsec as u32)
}
