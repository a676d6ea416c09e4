use std::path::Path;

use clap::error::ErrorKind;

use super::*;

fn parse(line: &str) -> Result<Cli, clap::Error> {
    Cli::try_parse_from(line.split(' ').map(|word| word.replace('~', " ")))
}

/// `WSGATE_UPDATE=1` writes what it finds.
fn assert_snapshot(name: &str, text: &str) {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/cli/snapshots").join(name);
    if std::env::var_os("WSGATE_UPDATE").is_some() {
        std::fs::write(&file, text).unwrap();
    }
    let kept = std::fs::read_to_string(&file).unwrap_or_default();
    assert!(kept == text, "{} differs; WSGATE_UPDATE=1 accepts this:\n{text}", file.display());
}

#[test]
fn the_help_is_what_it_was() {
    let mut command = Cli::command().term_width(100);
    assert_snapshot("help.txt", &command.render_long_help().to_string());
    command.build();
    for name in ["run", "check", "connect", "drain", "completions"] {
        let help = command.find_subcommand_mut(name).unwrap().render_long_help().to_string();
        assert_snapshot(&format!("{name}.txt"), &help);
    }
    let filter = command.find_subcommand_mut("filter").unwrap();
    assert_snapshot("filter.txt", &filter.render_long_help().to_string());
    for name in ["new", "build", "test", "bench", "inspect", "ls", "rollback", "mode"] {
        let help = filter.find_subcommand_mut(name).unwrap().render_long_help().to_string();
        assert_snapshot(&format!("filter_{name}.txt"), &help);
    }
}

#[test]
fn clap_finds_no_contradiction() {
    Cli::command().debug_assert();
}

#[test]
fn what_is_documented_is_accepted() {
    for line in [
        "wsgate run --config wsgate.toml",
        "wsgate run --upstream ws://127.0.0.1:9001",
        "wsgate run --upstream ws://a:1 --filter a.wasm --filter b.wasm --listen 0.0.0.0:80 --admin [::1]:9901",
        "wsgate check --config wsgate.toml",
        "wsgate connect ws://127.0.0.1:8080/echo",
        "wsgate filter new my-filter --lang rust",
        "wsgate filter new x --lang python --dir /tmp",
        "wsgate filter build",
        "wsgate filter build . --watch --into filters.d",
        "wsgate filter build --config wsgate.toml",
        "wsgate filter test",
        "wsgate filter test a.wasm --cases b.toml",
        "wsgate filter bench a.wasm --config {} --allow {} --message hello --direction to-client --format json",
        "wsgate filter inspect a.wasm --format json",
        "wsgate drain",
        "wsgate drain --wait --admin http://127.0.0.1:9901",
        "wsgate drain --undo",
        "wsgate filter ls",
        "wsgate filter ls --json --admin http://[::1]:9902",
        "wsgate filter rollback redact --token-file operate.token",
        "wsgate filter mode redact bypass --admin http://localhost",
        "wsgate connect wss://example.com -H X-A:~1 --header X-A:2 --subprotocol a --subprotocol b",
    ] {
        assert!(parse(line).is_ok(), "{line}: {:?}", parse(line).err());
    }
}

#[test]
fn anything_else_is_a_usage_error() {
    for line in [
        "wsgate",
        "wsgate serve",
        "wsgate run",
        "wsgate run --config a --upstream ws://a",
        "wsgate filter",
        "wsgate filter new x",
        "wsgate filter new x --lang cobol",
        "wsgate filter build --into a --config b",
        "wsgate filter bench",
        "wsgate filter bench a.wasm --config [1]",
        "wsgate filter inspect",
        "wsgate filter rollback",
        "wsgate filter rollback ../mode",
        "wsgate filter mode redact",
        "wsgate filter mode redact off",
        "wsgate filter ls --admin 127.0.0.1:9901",
        "wsgate filter ls --admin https://127.0.0.1:9901",
        "wsgate filter ls --admin http://127.0.0.1:9901/v1",
        "wsgate filter ls --admin http://user@127.0.0.1:9901",
        "wsgate drain --undo --wait",
        "wsgate drain now",
        "wsgate run --config a --filter b.wasm",
        "wsgate run --config a --listen 127.0.0.1:80",
        "wsgate run --config a --admin 127.0.0.1:80",
        "wsgate run --filter b.wasm",
        "wsgate run --upstream ws://a --listen localhost",
        "wsgate check",
        "wsgate connect",
        "wsgate connect http://a",
        "wsgate connect /echo",
        "wsgate connect ws://",
        "wsgate connect ws://user:secret@a",
        "wsgate connect ws://a..b",
        "wsgate connect ws://a -H X-A",
        "wsgate connect ws://a -H X~A:1",
        "wsgate connect ws://a -H X-A:\n",
        "wsgate connect ws://a -H X-A:a\nb",
        "wsgate connect ws://a -H Sec-WebSocket-Key:x",
        "wsgate connect ws://a -H connection:close",
        "wsgate connect ws://a --subprotocol a,b",
    ] {
        match parse(line) {
            // An empty value is one.
            Ok(_) if line.ends_with(":\n") => {}
            Ok(cli) => panic!("{line}: {cli:?}"),
            Err(error) => assert_eq!(error.exit_code(), 2, "{line}: {error}"),
        }
    }
}

#[test]
fn help_and_version_are_no_failures() {
    for (line, kind) in [("wsgate --help", ErrorKind::DisplayHelp), ("wsgate --version", ErrorKind::DisplayVersion)] {
        let shown = parse(line).unwrap_err();
        assert_eq!((shown.kind(), shown.exit_code()), (kind, 0));
    }
}

#[test]
fn a_url_is_taken_apart() {
    let url = |text: &str| {
        let url: WsUrl = text.parse().unwrap();
        (url.endpoint.tls, url.endpoint.host, url.endpoint.port, url.path_and_query, url.host)
    };
    let expected = |tls, host: &str, port, path: &str, shown: &'static str| {
        (tls, host.to_owned(), port, path.to_owned(), HeaderValue::from_static(shown))
    };
    assert_eq!(url("ws://127.0.0.1:8080/echo"), expected(false, "127.0.0.1", 8080, "/echo", "127.0.0.1:8080"));
    assert_eq!(url("wss://Example.com"), expected(true, "example.com", 443, "/", "Example.com"));
    assert_eq!(url("ws://[::1]:80/a?b=c#d"), expected(false, "::1", 80, "/a?b=c", "[::1]:80"));
    assert_eq!(url("WS://a?b"), expected(false, "a", 80, "/?b", "a"));
}

/// What packages ship beside the program.
#[test]
fn man_pages_and_completions_are_those_of_the_commands() {
    let packaging = Path::new(env!("CARGO_MANIFEST_DIR")).join("packaging");
    let pages = tempfile::tempdir().unwrap();
    clap_mangen::generate_to(shown(Cli::command()).disable_help_subcommand(true), pages.path()).unwrap();
    let mut expected: Vec<_> = std::fs::read_dir(pages.path())
        .unwrap()
        .map(|page| page.unwrap())
        .map(|page| (Path::new("man").join(page.file_name()), std::fs::read(page.path()).unwrap()))
        .collect();
    for (file, shell) in [("wsgate.bash", Shell::Bash), ("_wsgate", Shell::Zsh), ("wsgate.fish", Shell::Fish)] {
        expected.push((Path::new("completions").join(file), completions(shell)));
    }
    for folder in ["man", "completions"] {
        let kept = std::fs::read_dir(packaging.join(folder)).into_iter().flatten();
        for name in kept.map(|file| Path::new(folder).join(file.unwrap().file_name())) {
            assert!(expected.iter().any(|(file, _)| *file == name), "{} has no command", name.display());
        }
    }
    for (name, bytes) in expected {
        let file = packaging.join(&name);
        if std::env::var_os("WSGATE_UPDATE").is_some() {
            std::fs::create_dir_all(file.parent().unwrap()).unwrap();
            std::fs::write(&file, &bytes).unwrap();
        }
        let kept = std::fs::read(&file).unwrap_or_default();
        assert!(kept == bytes, "packaging/{} differs; WSGATE_UPDATE=1 writes it anew", name.display());
    }
    let bash = String::from_utf8(completions(Shell::Bash)).unwrap();
    assert!(bash.contains("drain") && !bash.contains("compile-filter"));
}
