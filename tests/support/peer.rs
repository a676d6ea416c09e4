//! Clients and servers that this project did not write: Python `websockets` and npm `ws`, each behind a small script.

use std::{
    cell::{Cell, RefCell},
    io::Write,
    path::{Path, PathBuf},
    process::{ChildStdin, Command, Stdio},
    time::Duration,
};

use serde_json::{Value, json};

use super::{process::Process, target};

/// Longest wait for one answer of a script: 10,000 messages on a busy machine.
const ANSWER: Duration = Duration::from_secs(90);

/// Whose WebSocket implementation.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Library {
    PythonWebsockets,
    NodeWs,
}

pub(crate) use Library::{NodeWs, PythonWebsockets};

pub(crate) const LIBRARIES: [Library; 2] = [PythonWebsockets, NodeWs];

impl Library {
    /// One of the scripts, ready to be started.
    pub(crate) fn command(self, script: &str) -> Command {
        let scripts = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/support");
        match self {
            Self::PythonWebsockets => {
                let mut command = Command::new(python());
                command.arg(scripts.join("python").join(script).with_extension("py"));
                command
            }
            Self::NodeWs => {
                let modules = installed("node/node_modules");
                let mut command = Command::new("node");
                command.arg(scripts.join("node").join(script).with_extension("cjs")).env("NODE_PATH", modules);
                command
            }
        }
    }
}

/// The interpreter that has `websockets` and kosoku.
pub(crate) fn python() -> PathBuf {
    installed("python/bin/python")
}

/// A program that came with the Python packages.
pub(crate) fn program(name: &str) -> PathBuf {
    installed(&format!("python/bin/{name}"))
}

fn installed(relative: &str) -> PathBuf {
    let path = target().join("tools").join(relative);
    assert!(path.exists(), "{} is missing; run `make test-tools`", path.display());
    path
}

/// A running script that prints JSON lines, and may take commands.
pub(crate) struct Script {
    process: Process,
    read: Cell<usize>,
    commands: Option<RefCell<ChildStdin>>,
}

impl Script {
    fn start(command: &mut Command) -> Self {
        let name = format!("{:?}", command.get_args().next().unwrap_or_default());
        Self { process: Process::start(&name, command), read: Cell::new(0), commands: None }
    }

    /// A script that takes a JSON command a line and answers each by a line.
    pub(crate) fn driven(mut command: Command) -> Self {
        let mut script = Self::start(command.stdin(Stdio::piped()));
        script.commands = script.process.child.stdin.take().map(RefCell::new);
        script
    }

    /// Gives a command; its answer.
    pub(crate) fn call(&self, command: &Value) -> Value {
        let commands = self.commands.as_ref().expect("this script takes no commands");
        writeln!(commands.borrow_mut(), "{command}").unwrap();
        let answer = self.next();
        assert!(answer["error"].is_null(), "{command}: {answer}");
        answer
    }

    /// All that it printed.
    pub(crate) fn seen(&self) -> String {
        self.process.stdout.text()
    }

    /// The next line.
    pub(crate) fn next(&self) -> Value {
        let at = self.read.get();
        let line = self.process.stdout.wait(ANSWER, |lines| lines.get(at).cloned());
        let line = line.unwrap_or_else(|| panic!("no answer\n{}", self.process.stderr.text()));
        self.read.set(at + 1);
        serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line}"))
    }
}

/// A WebSocket server that echoes and obeys `!close`, `!die` and `!push`.
pub(crate) struct PeerServer {
    script: Script,
    port: u64,
}

impl PeerServer {
    pub(crate) fn start(library: Library) -> Self {
        let script = Script::start(&mut library.command("server"));
        let port = script.next()["port"].as_u64().unwrap();
        Self { script, port }
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("ws://127.0.0.1:{}{path}", self.port)
    }

    /// Waits for the next connection; returns its path, subprotocol and headers.
    pub(crate) fn opened(&self) -> Value {
        self.event("open")
    }

    /// Waits for the end of a connection: the code and reason that this server received (1006: none).
    pub(crate) fn closed(&self) -> (u64, String) {
        close_of(&self.event("close"))
    }

    fn event(&self, name: &str) -> Value {
        loop {
            let event = self.script.next();
            if event["event"] == name {
                return event;
            }
        }
    }
}

fn close_of(event: &Value) -> (u64, String) {
    (event["code"].as_u64().unwrap(), event["reason"].as_str().unwrap().to_owned())
}

/// A WebSocket client.
pub(crate) struct PeerClient {
    script: Script,
}

impl PeerClient {
    pub(crate) fn start(library: Library) -> Self {
        Self { script: Script::driven(library.command("client")) }
    }

    /// A client that believes certificates of this authority (a PEM file).
    pub(crate) fn start_trusting(library: Library, ca: &Path) -> Self {
        let mut command = library.command("client");
        command.env("SSL_CERT_FILE", ca).env("NODE_EXTRA_CA_CERTS", ca);
        Self { script: Script::driven(command) }
    }

    /// Starts a client and connects it.
    pub(crate) fn connected(library: Library, url: &str) -> Self {
        let client = Self::start(library);
        let answer = client.connect(json!({ "url": url }));
        assert_eq!(answer["status"], 101, "{answer}");
        client
    }

    /// `url`, and where wanted `subprotocols` and `headers`. Answers `status`, and `subprotocol` or the refusal's body.
    pub(crate) fn connect(&self, mut arguments: Value) -> Value {
        arguments["do"] = "connect".into();
        self.call(&arguments)
    }

    pub(crate) fn send(&self, text: &str) {
        self.call(&json!({ "do": "send", "text": text }));
    }

    /// The next message, which must be text.
    pub(crate) fn receive(&self) -> String {
        let answer = self.call(&json!({ "do": "receive" }));
        answer["text"].as_str().unwrap_or_else(|| panic!("not a text message: {answer}")).to_owned()
    }

    /// Sends `count` messages of `size` bytes with at most `window` under way, and checks every echo.
    pub(crate) fn roundtrips(&self, kind: &str, count: usize, size: usize, window: usize) {
        let command = json!({ "do": "roundtrips", "kind": kind, "count": count, "size": size, "window": window });
        assert_eq!(self.call(&command)["answered"], count);
    }

    /// Closes with a code and reason (or without); returns what came back.
    pub(crate) fn close(&self, with: Option<(u16, &str)>) -> (u64, String) {
        let command = match with {
            Some((code, reason)) => json!({ "do": "close", "code": code, "reason": reason }),
            None => json!({ "do": "close" }),
        };
        closed(&self.call(&command))
    }

    /// Waits for the other side's close.
    pub(crate) fn closed(&self) -> (u64, String) {
        closed(&self.call(&json!({ "do": "wait_closed" })))
    }

    /// Ends the TCP connection without a Close frame.
    pub(crate) fn vanish(&self) {
        self.call(&json!({ "do": "vanish" }));
    }

    fn call(&self, command: &Value) -> Value {
        self.script.call(command)
    }
}

fn closed(answer: &Value) -> (u64, String) {
    let pair = &answer["closed"];
    (pair[0].as_u64().unwrap(), pair[1].as_str().unwrap().to_owned())
}
