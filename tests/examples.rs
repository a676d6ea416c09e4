//! Every example starts, as it is, but on free ports; the quickstart does what its README says.

use std::{
    fs,
    io::Write,
    path::{Path, PathBuf},
    process::{ChildStdin, Command, Stdio},
};

use crate::support::{Gateway, SOON, Setup, guest, http, process::Process, until, wire::Wire};

fn examples() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples");
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    entries.filter(|path| path.join("wsgate.toml").exists()).collect()
}

fn copy_folder(setup: &Setup, from: &Path, to: &Path) {
    fs::create_dir_all(setup.path(to.to_str().unwrap())).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        let place = to.join(path.file_name().unwrap());
        match path.is_dir() {
            true => copy_folder(setup, &path, &place),
            false => setup.publish(place.to_str().unwrap(), &fs::read(&path).unwrap()),
        }
    }
}

/// Copies an example with the built filters where `make filters` puts them. Fixed ports become free ones.
fn copied(example: &Path) -> (Setup, PathBuf) {
    let setup = Setup::new().guest("filters/compiled/redact.wasm", "redact");
    for filter in ["room", "stamp"] {
        setup.publish(&format!("filters/compiled/{filter}.wasm"), &guest(filter));
    }
    let name = example.file_name().unwrap().to_str().unwrap();
    let copy = PathBuf::from("examples").join(name);
    copy_folder(&setup, example, &copy);
    let config = copy.join("wsgate.toml");
    let config = config.to_str().unwrap();
    let text = fs::read_to_string(setup.path(config)).unwrap();
    let lines = text.lines().map(|line| match line.strip_prefix("address = \"127.0.0.1:") {
        Some(_) => "address = \"127.0.0.1:0\"",
        None => line,
    });
    let text = lines.collect::<Vec<_>>().join("\n");
    setup.publish(config, text.as_bytes());
    (setup, PathBuf::from(config))
}

fn say(wire: &mut Wire, text: &str) -> String {
    wire.text(text);
    wire.next_text()
}

#[test]
fn every_example_has_a_readme_and_starts() {
    let examples = examples();
    assert!(!examples.is_empty());
    for example in examples {
        eprintln!("{}", example.display());
        assert!(example.join("README.md").exists(), "{} has no README.md", example.display());
        let (setup, config) = copied(&example);
        let gateway = setup.start_file(&config);
        assert_eq!(crate::support::http::get(gateway.admin(), "/readyz").status, 200);
    }
}

#[test]
fn every_example_passes_its_own_check() {
    for example in examples() {
        let mut check = Command::new(env!("CARGO_BIN_EXE_wsgate"));
        let output = check.arg("check").arg("--config").arg(example.join("wsgate.toml")).output().unwrap();
        assert!(output.status.success(), "{}: {output:?}", example.display());
    }
}

fn quickstart() -> Gateway {
    let example = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/quickstart");
    let (setup, config) = copied(&example);
    // What `make run` does.
    setup.publish("examples/quickstart/filters.d/20-redact.wasm", &guest("redact"));
    setup.start_file(&config)
}

#[test]
fn the_quickstart_redacts_and_takes_further_filters_while_connections_are_open() {
    let gateway = quickstart();
    let mut wire = Wire::open(gateway.address(), "/echo");
    assert_eq!(say(&mut wire, "card 1234567890123456"), "card [redacted]");
    gateway.folder().publish("examples/quickstart/filters.d/30-stamp.wasm", &guest("stamp"));
    until("stamp joins", SOON, || say(&mut wire, "hello").starts_with("hello #"));
}

#[test]
fn the_quickstart_says_what_runs_and_a_line_to_try() {
    let announced = quickstart().announced();
    for word in ["listener", "admin", "route", "echo", "proxy", "filter", "redact", "wsgate connect ws://127.0.0.1:"] {
        assert!(announced.contains(word), "no {word:?} in\n{announced}");
    }
}

#[test]
fn the_quickstarts_proxy_says_502_while_nobody_listens_behind_it() {
    let gateway = quickstart();
    if std::net::TcpStream::connect("127.0.0.1:9001").is_ok() {
        return;
    }
    let lines = crate::support::wire::request(gateway.address(), "/anything");
    assert_eq!(Wire::connect(gateway.address()).ask(&lines).status, 502);
}

/// A terminal client whose input is held open.
struct Terminal {
    process: Process,
    input: ChildStdin,
}

impl Terminal {
    fn connect(gateway: &Gateway, path: &str) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_wsgate"));
        command.arg("connect").arg(gateway.url(path)).stdin(Stdio::piped());
        let mut process = Process::start("wsgate connect", &mut command);
        let input = process.child.stdin.take().unwrap();
        Self { process, input }
    }

    fn types(&mut self, line: &str) {
        writeln!(self.input, "{line}").unwrap();
    }

    fn reads(&self, line: &str) {
        let found = self.process.stdout.wait(SOON, |lines| lines.iter().any(|read| read.contains(line)).then_some(()));
        assert!(found.is_some(), "no {line:?} in {:?}", self.process.stdout.text());
    }
}

#[test]
fn two_terminals_talk_in_the_chat_example() {
    let (setup, config) = copied(&Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/chat"));
    let gateway = setup.start_file(&config);
    let page = http::get(gateway.address(), "/");
    assert!(page.status == 200 && page.body.contains("new WebSocket"), "{page:?}");
    let mut ann = Terminal::connect(&gateway, "/chat/lobby?name=ann");
    gateway.wait_metric("wsgate_topic_subscriptions", &[], 1.0);
    let mut bob = Terminal::connect(&gateway, "/chat/lobby?name=bob");
    ann.reads("* bob joined");
    ann.types("hello bob");
    bob.reads("ann: hello bob");
    bob.types("my card is 1234567890123456");
    ann.reads("bob: my card is [redacted]");
    drop(bob);
    ann.reads("* bob left");
    assert!(!ann.process.stdout.text().contains("hello bob"), "ann hears herself");
}
