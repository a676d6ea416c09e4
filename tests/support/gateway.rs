//! The gateway under test: the release binary in a folder of its own.

use std::{
    fs,
    net::{SocketAddr, TcpListener},
    os::fd::AsRawFd,
    path::{Path, PathBuf},
    process::{Command, ExitStatus},
    time::{Duration, Instant},
};

use rustix::process::Signal;
use tempfile::TempDir;

use super::{guests, http, metrics::Metrics, process::Process, wait::until};

/// Compiling a guest and starting it, on a machine that compiles something else as well.
const START: Duration = Duration::from_secs(60);
/// Closing what a test has left behind.
const FDS_BACK: Duration = Duration::from_secs(20);

/// A folder being prepared for a gateway: `filters/` for guests, anything else beside it.
pub(crate) struct Setup {
    folder: TempDir,
    environment: Vec<(&'static str, PathBuf)>,
}

/// A gateway that said `ready`. Killed when dropped; its logs are shown when the test fails.
pub(crate) struct Gateway {
    process: Process,
    setup: Setup,
    listeners: Vec<SocketAddr>,
    admin: SocketAddr,
}

/// How a gateway that does not start ended.
pub(crate) struct Failure {
    pub(crate) status: ExitStatus,
    pub(crate) stderr: String,
}

impl Setup {
    pub(crate) fn new() -> Self {
        let folder = TempDir::with_prefix("wsgate-test-").unwrap();
        fs::create_dir(folder.path().join("filters")).unwrap();
        Self { folder, environment: Vec::new() }
    }

    pub(crate) fn path(&self, relative: &str) -> PathBuf {
        self.folder.path().join(relative)
    }

    /// Writes a file as a careful author does: beside its place, then renamed into it.
    pub(crate) fn publish(&self, relative: &str, bytes: &[u8]) {
        let place = self.path(relative);
        fs::create_dir_all(place.parent().unwrap()).unwrap();
        let beside = place.with_extension("part");
        fs::write(&beside, bytes).unwrap();
        fs::rename(beside, place).unwrap();
    }

    /// Puts a built guest at a place.
    pub(crate) fn guest(self, relative: &str, guest: &str) -> Self {
        self.publish(relative, &guests::bytes(guest));
        self
    }

    /// Gives the gateway a variable of the environment.
    pub(crate) fn with_env(mut self, name: &'static str, value: &Path) -> Self {
        self.environment.push((name, value.to_owned()));
        self
    }

    /// Starts the gateway. What every test would repeat is filled in: one listener and the admin API on free ports of
    /// 127.0.0.1, `filters/` as the filter folder.
    pub(crate) fn start(self, config: &str) -> Gateway {
        let process = self.spawn(&complete(config));
        Gateway::ready(process, self)
    }

    /// Starts it in a shell that sets limits first, such as `ulimit -t 8`.
    pub(crate) fn start_limited(self, limits: &str, config: &str) -> Gateway {
        let process = self.launch_limited(limits, config);
        Gateway::ready(process, self)
    }

    /// Starts it as systemd does, with sockets that somebody else holds, each with its name.
    pub(crate) fn start_activated(self, sockets: &[(&str, &TcpListener)], config: &str) -> Gateway {
        let process = self.launch_activated(sockets, &complete(config));
        Gateway::ready(process, self)
    }

    /// The same with a configuration that is used as it is; does not wait until it is ready.
    pub(crate) fn launch_activated(&self, sockets: &[(&str, &TcpListener)], config: &str) -> Process {
        let file = self.path("wsgate.toml");
        fs::write(&file, config).unwrap();
        // Out of the way first: one may lie where another has to go.
        let (mut away, mut places) = (String::new(), String::new());
        for (at, (_, socket)) in sockets.iter().enumerate() {
            rustix::io::fcntl_setfd(socket, rustix::io::FdFlags::empty()).unwrap();
            away.push_str(&format!("exec {}<&{}; ", 100 + at, socket.as_raw_fd()));
            places.push_str(&format!("exec {}<&{} {}<&-; ", 3 + at, 100 + at, 100 + at));
        }
        let names: Vec<&str> = sockets.iter().map(|(name, _)| *name).collect();
        let told = format!("export LISTEN_PID=$$ LISTEN_FDS={} LISTEN_FDNAMES={}", sockets.len(), names.join(":"));
        let line = format!("{away}{places}{told}; exec \"$0\" run --config \"$1\"");
        self.process(Command::new("bash").arg("-c").arg(line).arg(env!("CARGO_BIN_EXE_wsgate")).arg(file))
    }

    /// Starts it, and does not wait until it is ready.
    pub(crate) fn launch(&self, config: &str) -> Process {
        self.spawn(&complete(config))
    }

    /// The same with limits.
    pub(crate) fn launch_limited(&self, limits: &str, config: &str) -> Process {
        let file = self.path("wsgate.toml");
        fs::write(&file, complete(config)).unwrap();
        let line = format!("{limits}; exec \"$0\" run --config \"$1\"");
        self.process(Command::new("sh").arg("-c").arg(line).arg(env!("CARGO_BIN_EXE_wsgate")).arg(file))
    }

    /// Starts another program than the one that was built, from the folder.
    pub(crate) fn start_program(self, program: &str, config: &str) -> Gateway {
        let file = self.path("wsgate.toml");
        fs::write(&file, complete(config)).unwrap();
        let process = self.process(Command::new(self.path(program)).arg("run").arg("--config").arg(file));
        Gateway::ready(process, self)
    }

    /// Starts it with a configuration file that is in the folder.
    pub(crate) fn start_file(self, config: &Path) -> Gateway {
        let process = self.run(&self.folder.path().join(config));
        Gateway::ready(process, self)
    }

    /// Starts it without a configuration file.
    pub(crate) fn start_with(self, arguments: &[&str]) -> Gateway {
        let process = self.process(Command::new(env!("CARGO_BIN_EXE_wsgate")).arg("run").args(arguments));
        Gateway::ready(process, self)
    }

    /// Expects that the gateway does not start.
    pub(crate) fn fails(&self, config: &str) -> Failure {
        let mut process = self.spawn(config);
        let status = process.wait_exit(START);
        Failure { status, stderr: settled(&process) }
    }

    fn spawn(&self, config: &str) -> Process {
        let file = self.path("wsgate.toml");
        fs::write(&file, config).unwrap();
        self.run(&file)
    }

    fn run(&self, config: &Path) -> Process {
        self.process(Command::new(env!("CARGO_BIN_EXE_wsgate")).arg("run").arg("--config").arg(config))
    }

    fn process(&self, command: &mut Command) -> Process {
        // Its temporary folder is not left behind when it is killed.
        command.env("TMPDIR", self.folder.path());
        let environment = self.environment.iter().map(|(name, value)| (*name, value));
        Process::start("wsgate", command.current_dir(self.folder.path()).envs(environment))
    }
}

/// Everything that a process which ended wrote to standard error.
fn settled(process: &Process) -> String {
    // The reader sees the end of the stream a moment after the process is gone.
    process.stderr.wait(Duration::from_secs(5), |_| None::<()>);
    process.stderr.text()
}

impl Gateway {
    /// Starts a gateway without filters.
    pub(crate) fn start(config: &str) -> Self {
        Setup::new().start(config)
    }

    fn ready(mut process: Process, setup: Setup) -> Self {
        let ready = process.stdout.wait(START, |lines| lines.iter().any(|line| line.trim() == "ready").then_some(()));
        if ready.is_none() {
            let ended = process.child.try_wait().unwrap();
            panic!("the gateway did not become ready (ended: {ended:?})\n{}", process.stderr.text());
        }
        let announced = process.stdout.text();
        let listeners = addresses(&announced, "listener", "ws://");
        let admin = addresses(&announced, "admin", "http://");
        let admin = *admin.first().unwrap_or_else(|| panic!("no admin address in {announced:?}"));
        Self { process, setup, listeners, admin }
    }

    /// The first listener.
    pub(crate) fn address(&self) -> SocketAddr {
        self.listeners[0]
    }

    /// Every listener, in the configuration's order.
    pub(crate) fn listeners(&self) -> &[SocketAddr] {
        &self.listeners
    }

    pub(crate) fn admin(&self) -> SocketAddr {
        self.admin
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("ws://{}{path}", self.address())
    }

    /// Ends it at once, as `kill -9` does. What it leaves behind is in the folder.
    pub(crate) fn kill(self) -> Setup {
        let Self { process, setup, .. } = self;
        drop(process);
        setup
    }

    pub(crate) fn pid(&self) -> u32 {
        self.process.child.id()
    }

    /// Its folder.
    pub(crate) fn folder(&self) -> &Setup {
        &self.setup
    }

    /// Its folder, after it has ended.
    pub(crate) fn into_folder(self) -> Setup {
        self.setup
    }

    /// What it printed before `ready`.
    pub(crate) fn announced(&self) -> String {
        self.process.stdout.text()
    }

    pub(crate) fn log(&self) -> String {
        self.process.stderr.text()
    }

    /// Waits for a log line that contains all of these.
    pub(crate) fn wait_log(&self, parts: &[&str]) -> String {
        let matches = |line: &&String| parts.iter().all(|part| line.contains(part));
        let found = self.process.stderr.wait(super::SOON, |lines| lines.iter().find(matches).cloned());
        found.unwrap_or_else(|| panic!("no log line has {parts:?}"))
    }

    pub(crate) fn metrics(&self) -> Metrics {
        Metrics::parse(http::get(self.admin, "/metrics").body)
    }

    /// Waits until a metric has this value.
    pub(crate) fn wait_metric(&self, name: &str, labels: &[(&str, &str)], value: f64) {
        let what = format!("{name}{labels:?} = {value}");
        until(&what, super::SOON, || self.metrics().sum(name, labels) == value);
    }

    /// Waits until nobody is connected.
    pub(crate) fn wait_empty(&self) {
        self.wait_metric("wsgate_connections", &[], 0.0);
    }

    /// One entry of `/v1/filters`.
    pub(crate) fn filter(&self, name: &str) -> serde_json::Value {
        let all = self.filters();
        let entries = all.as_array().or_else(|| all["filters"].as_array()).unwrap_or_else(|| panic!("no list: {all}"));
        let entry = entries.iter().find(|entry| entry["name"] == name);
        entry.unwrap_or_else(|| panic!("no filter {name} in {all}")).clone()
    }

    /// `/v1/filters`.
    pub(crate) fn filters(&self) -> serde_json::Value {
        let answer = http::get(self.admin, "/v1/filters");
        assert_eq!(answer.status, 200, "{}", answer.body);
        serde_json::from_str(&answer.body).unwrap_or_else(|error| panic!("{error}: {}", answer.body))
    }

    /// Gives an order over the admin API; what it was answered.
    pub(crate) fn order(&self, method: &str, path: &str, json: &str) -> http::Response {
        http::order(self.admin, method, path, json)
    }

    /// Writes another configuration in the place of the one before, completed like that.
    pub(crate) fn write_config(&self, config: &str) {
        self.setup.publish("wsgate.toml", complete(config).as_bytes());
    }

    /// Loads another configuration by the admin API; the file is followed too, and finds nothing new then. Answers what
    /// changed.
    pub(crate) fn reload(&self, config: &str) -> serde_json::Value {
        self.write_config(config);
        let answer = self.order("POST", "/v1/reload", "");
        assert_eq!(answer.status, 200, "{}", answer.body);
        serde_json::from_str(&answer.body).unwrap()
    }

    pub(crate) fn rss_kib(&self) -> u64 {
        let status = fs::read_to_string(self.proc("status")).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        line.trim().trim_end_matches(" kB").parse().unwrap()
    }

    /// Resident memory, of which what several mappings share counts once.
    pub(crate) fn pss_kib(&self) -> u64 {
        let rollup = fs::read_to_string(self.proc("smaps_rollup")).unwrap();
        let line = rollup.lines().find_map(|line| line.strip_prefix("Pss:")).unwrap();
        line.trim().trim_end_matches(" kB").parse().unwrap()
    }

    /// Memory maps.
    pub(crate) fn maps(&self) -> usize {
        fs::read_to_string(self.proc("maps")).unwrap().lines().count()
    }

    /// Open file descriptors.
    pub(crate) fn fds(&self) -> usize {
        fs::read_dir(self.proc("fd")).unwrap().count()
    }

    /// The same once they stay as they are: what a gateway watches it opens on threads of its own, and what measures it
    /// may have a connection that is still being closed.
    pub(crate) fn settled_fds(&self) -> usize {
        let deadline = Instant::now() + START;
        let (mut fds, mut since) = (self.fds(), Instant::now());
        while since.elapsed() < Duration::from_millis(500) {
            assert!(Instant::now() < deadline, "the descriptors do not settle: {:#?}", self.descriptors());
            std::thread::sleep(Duration::from_millis(10));
            let now = self.fds();
            if now != fds {
                (fds, since) = (now, Instant::now());
            }
        }
        fds
    }

    /// Waits until no more descriptors are open than that.
    pub(crate) fn wait_fds(&self, what: &str, at_most: usize) {
        let deadline = Instant::now() + FDS_BACK;
        while self.fds() > at_most {
            let open = || self.descriptors();
            assert!(Instant::now() < deadline, "{what}: more than {at_most} descriptors: {:#?}", open());
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// What each open descriptor is.
    fn descriptors(&self) -> Vec<String> {
        let entries = fs::read_dir(self.proc("fd")).unwrap().flatten();
        let named = |path: PathBuf| format!("{} -> {:?}", path.display(), fs::read_link(&path));
        entries.map(|entry| named(entry.path())).collect()
    }

    pub(crate) fn terminate(&self) {
        self.process.signal(Signal::TERM);
    }

    pub(crate) fn signal(&self, signal: Signal) {
        self.process.signal(signal);
    }

    pub(crate) fn wait_exit(&mut self, within: Duration) -> ExitStatus {
        self.process.wait_exit(within)
    }

    fn proc(&self, file: &str) -> PathBuf {
        Path::new("/proc").join(self.process.child.id().to_string()).join(file)
    }
}

fn addresses(announced: &str, label: &str, scheme: &str) -> Vec<SocketAddr> {
    let lines = announced.lines().filter_map(|line| line.trim().strip_prefix(label));
    let url = |rest: &str| rest.trim().replacen("wss://", "ws://", 1);
    lines.filter_map(|rest| url(rest).strip_prefix(scheme)?.split('/').next()?.parse().ok()).collect()
}

fn complete(config: &str) -> String {
    let mut table: toml::Table = config.parse().unwrap_or_else(|error| panic!("{error}\n{config}"));
    let free = || toml::Table::from_iter([("address".to_owned(), "127.0.0.1:0".into())]);
    table.entry("listeners").or_insert_with(|| vec![free()].into());
    table.entry("admin").or_insert_with(|| free().into());
    let server = table.entry("server").or_insert_with(|| toml::Table::new().into());
    server.as_table_mut().unwrap().entry("filter_dir").or_insert_with(|| "filters".into());
    toml::to_string(&table).unwrap()
}
