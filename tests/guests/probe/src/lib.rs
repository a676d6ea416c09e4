//! `guest-probe`: a filter that tries the walls of the sandbox. It imports more of WASI than a filter needs, which is why
//! it is apart from `guest-faulty`.
//!
//! It takes no configuration. A text message to the upstream that is one of these words is replied to with what was
//! found; all else is forwarded:
//!
//! | word | reply |
//! |---|---|
//! | `fs` | `fs:denied`, or `fs:` and what could be done: `read`, `write`, `list` |
//! | `env` `args` | `env:n`, `args:n`: how many variables and arguments there are |
//! | `net` | `net:denied`, or `net:` and what could be done: `connect`, `listen`, `resolve` |
//! | `stdin` | `stdin:n`: how many bytes could be read |
//! | `all` | all of these, with a space between |
//! | `random[:bytes=1073741824]` | asks for so many random bytes in one call; `random:n`: how many came |
//! | `pollables[:n=1000000]` | makes so many WASI resources and drops none until all are made; `pollables:n` |

#[cfg(target_family = "wasm")]
mod wasi;

use std::fs;
use std::io::Read;
use std::net::{Ipv4Addr, TcpListener, TcpStream, ToSocketAddrs};

use wsgate_sdk::prelude::*;

wsgate_sdk::export!(Probe);

/// One connection.
#[derive(Debug)]
pub struct Probe;

impl Filter for Probe {
    type Config = ();

    fn interest(_config: &()) -> Result<Interest, Error> {
        Ok(Interest::messages(Directions::ToUpstream).text_only())
    }

    fn open(_config: &Rc<()>, _handshake: &Handshake) -> Result<Admission<Self>, Refusal> {
        Ok(Admission::new(Self))
    }

    fn on_message(&mut self, _direction: Direction, message: Message) -> Result<Verdict, Error> {
        let text = message.as_text().unwrap_or_default();
        let found = match text {
            "fs" => files(),
            "env" => environment(),
            "args" => arguments(),
            "net" => network(),
            "stdin" => input(),
            "all" => [files(), environment(), arguments(), network(), input()].join(" "),
            _ => match text.split_once(':').unwrap_or((text, "")) {
                #[cfg(target_family = "wasm")]
                ("random", bytes) => wasi::random(bytes.parse().unwrap_or(1 << 30)),
                #[cfg(target_family = "wasm")]
                ("pollables", count) => wasi::pollables(count.parse().unwrap_or(1_000_000)),
                _ => return Ok(Verdict::Forward),
            },
        };
        Ok(Verdict::reply(found))
    }
}

fn files() -> String {
    let read = ["/etc/passwd", "/proc/self/environ", "Cargo.toml", "wsgate.toml"];
    let tried = [
        ("read", read.iter().any(|path| fs::read(path).is_ok())),
        ("write", ["/tmp/probe", "probe"].iter().any(|path| fs::write(path, "probe").is_ok())),
        ("list", ["/", "."].iter().any(|path| fs::read_dir(path).is_ok())),
    ];
    outcome("fs", &tried)
}

fn network() -> String {
    let tried = [
        ("connect", TcpStream::connect((Ipv4Addr::LOCALHOST, 9)).is_ok()),
        ("listen", TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).is_ok()),
        ("resolve", ("localhost", 9).to_socket_addrs().is_ok()),
    ];
    outcome("net", &tried)
}

fn environment() -> String {
    format!("env:{}", std::env::vars_os().count())
}

fn arguments() -> String {
    format!("args:{}", std::env::args_os().count())
}

fn input() -> String {
    let mut bytes = Vec::new();
    let _ = std::io::stdin().take(1024).read_to_end(&mut bytes);
    format!("stdin:{}", bytes.len())
}

fn outcome(name: &str, tried: &[(&str, bool)]) -> String {
    let done: Vec<_> = tried.iter().filter(|(_, done)| *done).map(|(what, _)| *what).collect();
    match done.is_empty() {
        true => format!("{name}:denied"),
        false => format!("{name}:{}", done.join(",")),
    }
}
