//! The proxies that are measured beside each other, and how each is started.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::str::FromStr;

use anyhow::{Context, Result};

use crate::child::{self, Child, Launch};
use crate::config;

/// A row of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Peer {
    /// No proxy: what the load generator and the upstream do alone.
    Direct,
    /// Relays bytes.
    Nginx,
    /// Relays bytes.
    Haproxy,
    /// Relays bytes.
    Caddy,
    /// Node and the npm package ws.
    Node {
        /// Whether it changes messages by the script.
        scripted: bool,
    },
    /// Bun alone.
    Bun {
        /// Whether it changes messages by the script.
        scripted: bool,
    },
    /// The gateway.
    Wsgate(Filter),
}

/// What the gateway does with each message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Filter {
    /// It relays.
    None,
    /// A guest is called for both directions and forwards.
    Forward,
    /// A guest runs the script on what goes to the upstream.
    Json,
}

/// Where things are.
#[derive(Clone, Debug)]
pub struct Places {
    /// Scratch, removed at the end.
    pub folder: PathBuf,
    /// The JavaScript peers with their `node_modules`.
    pub peers: PathBuf,
    /// The gateway's binary.
    pub wsgate: PathBuf,
    /// `bench_forward.wasm` and `bench_json.wasm`.
    pub guests: PathBuf,
}

impl Peer {
    /// All rows, in the order of the table.
    pub const ALL: [Self; 11] = [
        Self::Direct,
        Self::Nginx,
        Self::Haproxy,
        Self::Caddy,
        Self::Node { scripted: false },
        Self::Node { scripted: true },
        Self::Bun { scripted: false },
        Self::Bun { scripted: true },
        Self::Wsgate(Filter::None),
        Self::Wsgate(Filter::Forward),
        Self::Wsgate(Filter::Json),
    ];

    /// As the table shows it.
    pub fn label(self) -> &'static str {
        match self {
            Self::Direct => "direct (no proxy)",
            Self::Nginx => "nginx (bytes only)",
            Self::Haproxy => "HAProxy (bytes only)",
            Self::Caddy => "Caddy (bytes only)",
            Self::Node { scripted: false } => "Node + ws",
            Self::Node { scripted: true } => "Node + ws, script",
            Self::Bun { scripted: false } => "Bun",
            Self::Bun { scripted: true } => "Bun, script",
            Self::Wsgate(Filter::None) => "wsgate, no filter",
            Self::Wsgate(Filter::Forward) => "wsgate, filter that forwards",
            Self::Wsgate(Filter::Json) => "wsgate, script as a filter",
        }
    }

    /// As the command line and file names spell it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Direct => "direct",
            Self::Nginx => "nginx",
            Self::Haproxy => "haproxy",
            Self::Caddy => "caddy",
            Self::Node { scripted: false } => "node",
            Self::Node { scripted: true } => "node-json",
            Self::Bun { scripted: false } => "bun",
            Self::Bun { scripted: true } => "bun-json",
            Self::Wsgate(Filter::None) => "wsgate",
            Self::Wsgate(Filter::Forward) => "wsgate-forward",
            Self::Wsgate(Filter::Json) => "wsgate-json",
        }
    }

    /// Whether it changes messages; such a peer has only the JSON cases.
    pub fn scripted(self) -> bool {
        match self {
            Self::Node { scripted } | Self::Bun { scripted } => scripted,
            Self::Wsgate(filter) => filter == Filter::Json,
            Self::Direct | Self::Nginx | Self::Haproxy | Self::Caddy => false,
        }
    }

    /// What it runs, or why it cannot be measured here.
    pub fn find(self, places: &Places) -> Result<PathBuf, String> {
        let program = |name: &str| child::find_program(name).ok_or(format!("{name} is not installed"));
        match self {
            Self::Direct => Ok(PathBuf::new()),
            Self::Nginx => program("nginx"),
            Self::Haproxy => program("haproxy"),
            Self::Caddy => program("caddy"),
            Self::Node { .. } => {
                file(&places.peers.join("node_modules/ws/package.json"))?;
                program("node")
            }
            Self::Bun { .. } => bun(places),
            Self::Wsgate(filter) => {
                if let Some(guest) = filter.guest() {
                    file(&places.guests.join(guest))?;
                }
                file(&places.wsgate)
            }
        }
    }

    /// Starts it on `core` in front of `upstream`.
    pub fn start(self, places: &Places, core: usize, upstream: SocketAddr) -> Result<Child> {
        let program = self.find(places).map_err(anyhow::Error::msg)?;
        let listen = child::free_address()?;
        let folder = places.folder.join(format!("{}-{}", self.name(), listen.port()));
        fs::create_dir(&folder).with_context(|| format!("cannot create {}", folder.display()))?;
        let launch = self.launch(program, places, &folder, listen, upstream)?;
        Child::start(self.name(), &launch, core, listen, &folder)
    }

    fn launch(
        self,
        program: PathBuf,
        places: &Places,
        folder: &Path,
        listen: SocketAddr,
        upstream: SocketAddr,
    ) -> Result<Launch> {
        let write = |name: &str, text: String| -> Result<PathBuf> {
            let path = folder.join(name);
            fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
            Ok(path)
        };
        let launch = Launch::new(program);
        Ok(match self {
            Self::Direct => launch,
            Self::Nginx => {
                let file = write("nginx.conf", config::nginx(folder, listen, upstream))?;
                launch.arg("-e").arg("stderr").arg("-p").arg(folder).arg("-c").arg(file)
            }
            Self::Haproxy => launch.arg("-db").arg("-f").arg(write("haproxy.cfg", config::haproxy(listen, upstream))?),
            Self::Caddy => {
                launch.arg("run").arg("--config").arg(write("caddy.json", config::caddy(folder, listen, upstream))?)
            }
            Self::Node { scripted } => script(launch, &places.peers.join("ws-proxy.mjs"), listen, upstream, scripted),
            Self::Bun { scripted } => {
                script(launch, &places.peers.join("ws-proxy-bun.mjs"), listen, upstream, scripted)
            }
            Self::Wsgate(filter) => {
                let guest = filter.guest().map(|name| places.guests.join(name));
                let text = config::wsgate(folder, listen, upstream, guest.as_deref())?;
                launch.arg("run").arg("--config").arg(write("wsgate.toml", text)?)
            }
        })
    }

    /// Name and version, as the program states them.
    pub fn version(self, places: &Places) -> Option<String> {
        let program = self.find(places).ok()?;
        let flag = match self {
            Self::Direct => return None,
            Self::Nginx | Self::Haproxy => "-v",
            Self::Caddy => "version",
            Self::Node { .. } | Self::Bun { .. } | Self::Wsgate(_) => "--version",
        };
        let stated = first_line_of(&program, flag)?;
        Some(match self {
            Self::Node { .. } => format!("Node {stated} with ws {}", npm_version(places, "ws")?),
            Self::Bun { .. } => format!("Bun {stated}"),
            Self::Caddy => format!("Caddy {stated}"),
            Self::Direct | Self::Nginx | Self::Haproxy | Self::Wsgate(_) => stated,
        })
    }
}

impl FromStr for Peer {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        let names = || Self::ALL.map(Self::name).join(", ");
        Self::ALL.into_iter().find(|peer| peer.name() == name).ok_or_else(|| format!("not one of {}", names()))
    }
}

impl Filter {
    fn guest(self) -> Option<&'static str> {
        match self {
            Self::None => None,
            Self::Forward => Some("bench_forward.wasm"),
            Self::Json => Some("bench_json.wasm"),
        }
    }
}

/// Starts the echo upstream: Bun's, where Bun is there, else this program's own. Returns it with its name.
pub fn start_echo(places: &Places, own: bool, core: usize) -> Result<(Child, String)> {
    let listen = child::free_address()?;
    let (launch, name) = match bun(places) {
        Ok(program) if !own => {
            let version = first_line_of(&program, "--version").unwrap_or_default();
            let script = places.peers.join("echo-bun.mjs");
            (Launch::new(program).arg(script).arg(listen.port().to_string()), format!("Bun {version}"))
        }
        Ok(_) | Err(_) => {
            let program = std::env::current_exe().context("this program does not know where it is")?;
            (Launch::new(program).arg("echo").arg(listen.to_string()), "tokio-tungstenite".to_owned())
        }
    };
    Ok((Child::start("echo", &launch, core, listen, &places.folder)?, name))
}

fn script(launch: Launch, file: &Path, listen: SocketAddr, upstream: SocketAddr, scripted: bool) -> Launch {
    let launch = launch.arg(file).arg(listen.port().to_string()).arg(upstream.port().to_string());
    if scripted { launch.arg("json") } else { launch }
}

fn bun(places: &Places) -> Result<PathBuf, String> {
    let installed = places.peers.join("node_modules/.bin/bun");
    // Without its install script the npm package holds a placeholder that only prints an error.
    match first_line_of(&installed, "--version") {
        Some(version) if version.starts_with(|first: char| first.is_ascii_digit()) => Ok(installed),
        Some(_) | None => child::find_program("bun").ok_or("bun is not installed".to_owned()),
    }
}

fn file(path: &Path) -> Result<PathBuf, String> {
    if path.is_file() { Ok(path.to_owned()) } else { Err(format!("{} is missing", path.display())) }
}

/// The first line that the program prints, wherever it prints it.
fn first_line_of(program: &Path, flag: &str) -> Option<String> {
    let output = Command::new(program).arg(flag).output().ok().filter(|output| output.status.success())?;
    let text = [output.stdout, output.stderr].concat();
    Some(String::from_utf8_lossy(&text).lines().next()?.trim().to_owned())
}

fn npm_version(places: &Places, package: &str) -> Option<String> {
    let text = fs::read_to_string(places.peers.join(format!("node_modules/{package}/package.json"))).ok()?;
    let parsed: serde_json::Value = serde_json::from_str(&text).ok()?;
    Some(parsed.get("version")?.as_str()?.to_owned())
}
