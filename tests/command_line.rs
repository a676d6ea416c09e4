//! The gateway without a configuration file, the terminal client, and what the commands say of themselves.

use std::{
    fs,
    io::Write,
    path::Path,
    process::{Command, Output, Stdio},
};

use crate::support::{
    Gateway, Setup,
    peer::{LIBRARIES, PeerClient, PeerServer, PythonWebsockets},
    tls::Authority,
    upstream::ECHO,
};

fn wsgate(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_wsgate"));
    command.args(arguments);
    command
}

/// Runs `wsgate connect` with these lines on stdin.
fn connect(arguments: &[&str], input: &str) -> Output {
    let mut command = wsgate(&["connect"]);
    command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    // Dropping it is the end of the input.
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    child.wait_with_output().unwrap()
}

fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

#[test]
fn without_a_file_everything_goes_to_one_upstream_through_the_named_filters() {
    for upstream in LIBRARIES {
        let server = PeerServer::start(upstream);
        let setup = Setup::new().guest("10-redact.wasm", "redact").guest("stamp.wasm", "stamp");
        let (redact, stamp) = (setup.path("10-redact.wasm"), setup.path("stamp.wasm"));
        let filters = ["--filter", redact.to_str().unwrap(), "--filter", stamp.to_str().unwrap()];
        let free = ["--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"];
        let url = server.url("");
        let arguments = [&["--upstream", &url][..], &filters, &free].concat();
        let gateway = setup.start_with(&arguments);
        let client = PeerClient::connected(PythonWebsockets, &gateway.url("/any/path?x=1"));
        assert_eq!(server.opened()["path"], "/any/path?x=1");
        client.send("card 4111111111111111");
        assert_eq!(client.receive(), "card [redacted] #1");
    }
}

#[test]
fn a_filter_named_on_the_command_line_is_replaced_like_any_other() {
    let server = PeerServer::start(PythonWebsockets);
    let setup = Setup::new().guest("stamp.wasm", "guest_faulty");
    let (url, file) = (server.url(""), setup.path("stamp.wasm"));
    let free = ["--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"];
    let arguments = [&["--upstream", &url, "--filter", file.to_str().unwrap()][..], &free].concat();
    let gateway = setup.start_with(&arguments);
    let client = PeerClient::connected(PythonWebsockets, &gateway.url("/"));
    gateway.folder().publish("stamp.wasm", &crate::support::guest("stamp"));
    crate::support::until("stamp takes over", crate::support::SOON, || {
        client.send("hello");
        client.receive().starts_with("hello #")
    });
}

#[test]
fn connect_sends_lines_and_prints_messages() {
    let gateway = Gateway::start(ECHO);
    let output = connect(&[&gateway.url("/echo")], "hello\nsecond line\n\ngrüezi\n");
    assert!(output.status.success(), "{output:?}");
    assert_eq!(stdout(&output), "hello\nsecond line\n\ngrüezi\n");
}

#[test]
fn connect_offers_subprotocols_and_sends_headers() {
    let server = PeerServer::start(PythonWebsockets);
    let output = connect(&[&server.url("/x"), "--subprotocol", "chat.v1", "-H", "X-User: ann"], "hello\n");
    assert_eq!(stdout(&output), "hello\n", "{output:?}");
    let opened = server.opened();
    assert_eq!((&opened["subprotocol"], &opened["headers"]["x-user"]), (&"chat.v1".into(), &"ann".into()));
    assert_eq!(server.closed().0, 1000);
}

#[test]
fn connect_says_how_the_server_closed_and_fails_where_that_was_no_success() {
    let server = PeerServer::start(PythonWebsockets);
    let ended = connect(&[&server.url("/")], "!close 1000 bye\n");
    assert!(ended.status.success(), "{ended:?}");
    let ended = connect(&[&server.url("/")], "!close 4001 not you\n");
    assert_eq!(ended.status.code(), Some(1));
    let said = String::from_utf8_lossy(&ended.stderr).into_owned();
    assert!(said.contains("4001") && said.contains("not you"), "{said}");
}

#[test]
fn connect_says_why_it_could_not() {
    let gateway = Gateway::start(ECHO);
    let refused = connect(&[&gateway.url("/nowhere")], "");
    assert_eq!(refused.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&refused.stderr).contains("404"), "{refused:?}");
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let refused = connect(&[&format!("ws://{nobody}/")], "");
    assert_eq!(refused.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&refused.stderr).contains(&nobody.to_string()), "{refused:?}");
    assert_eq!(connect(&["http://127.0.0.1/"], "").status.code(), Some(2));
}

#[test]
fn every_valid_configuration_of_the_tests_passes_check_and_no_invalid_one_does() {
    let copy = tempfile::tempdir().unwrap();
    copy_folder(&Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/configs"), copy.path());
    // Secrets and certificates that full.toml names.
    let valid = copy.path().join("valid");
    for name in ["read.token", "operate.token"] {
        fs::write(valid.join(name), format!("{name} of at least thirty-two bytes").replace(' ', "-")).unwrap();
    }
    let (authority, tls) = (Authority::new(), valid.join("tls"));
    let pair = authority.issue("full");
    fs::create_dir(&tls).unwrap();
    for name in ["cert.pem", "client.pem"] {
        fs::write(tls.join(name), &pair.certificate).unwrap();
    }
    for name in ["key.pem", "client.key"] {
        fs::write(tls.join(name), &pair.key).unwrap();
    }
    for name in ["clients.pem", "ca.pem"] {
        fs::write(tls.join(name), authority.pem()).unwrap();
    }
    for (folder, code) in [("valid", 0), ("invalid", 78)] {
        let folder = copy.path().join(folder);
        let entries = fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path());
        let configs: Vec<_> = entries.filter(|path| path.extension().is_some_and(|ext| ext == "toml")).collect();
        assert!(configs.len() > 2, "{}", folder.display());
        for config in configs {
            let environment = [("HOST", "localhost"), ("PORT", "8080"), ("TOKEN", "secret"), ("SIZE", "1MiB")];
            let output = wsgate(&["check", "--config"]).arg(&config).envs(environment).output().unwrap();
            assert_eq!(output.status.code(), Some(code), "{}: {output:?}", config.display());
        }
    }
}

fn copy_folder(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let (from, to) = (entry.as_ref().unwrap().path(), to.join(entry.unwrap().file_name()));
        match from.is_dir() {
            true => copy_folder(&from, &to),
            false => assert!(fs::copy(from, to).is_ok()),
        }
    }
}

#[test]
fn an_open_listener_without_a_configuration_is_warned_of() {
    for (listen, warned) in [("127.0.0.1:0", false), ("0.0.0.0:0", true)] {
        let arguments = ["--upstream", "ws://127.0.0.1:1", "--listen", listen, "--admin", "127.0.0.1:0"];
        let gateway = Setup::new().start_with(&arguments);
        assert_eq!(gateway.log().contains("clients need no token"), warned, "{}", gateway.log());
    }
}
