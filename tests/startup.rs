//! A gateway that cannot start says why, and exits with a code that scripts understand.

use std::{net::TcpListener, process::Command};

use crate::support::{Setup, upstream::ECHO};

const LISTENER: &str = "[[listeners]]\naddress = \"127.0.0.1:0\"\n[admin]\naddress = \"127.0.0.1:0\"\n";

/// Starts with this configuration; expects the exit code and every one of these words on standard error.
fn fails(setup: &Setup, config: &str, code: i32, words: &[&str]) {
    let failure = setup.fails(&format!("{LISTENER}{config}"));
    assert_eq!(failure.status.code(), Some(code), "{}", failure.stderr);
    for word in words {
        assert!(failure.stderr.contains(word), "no {word:?} in\n{}", failure.stderr);
    }
    assert!(!failure.stderr.contains("panicked"), "{}", failure.stderr);
}

#[test]
fn an_unknown_key_is_named_with_its_line_and_exit_78() {
    let config = "[[routes]]\nname = \"a\"\npath = \"/\"\ntarget = \"echo\"\npaht = \"/b\"\n";
    // Four lines of listeners stand before it.
    fails(&Setup::new(), config, 78, &["wsgate.toml", "paht", ":9"]);
}

#[test]
fn a_bad_value_is_named_with_the_accepted_form_and_exit_78() {
    let route = |more: &str| format!("[[routes]]\nname = \"a\"\npath = \"/\"\ntarget = \"echo\"\n{more}\n");
    let setup = Setup::new();
    fails(&setup, &route("send_timeout = \"10 parsecs\""), 78, &["wsgate.toml", "send_timeout", "10 parsecs"]);
    fails(&setup, &route("client_max_payload = -1"), 78, &["client_max_payload"]);
    fails(&setup, &route("queue_max_size = \"1KiB\""), 78, &["queue_max_size"]);
}

#[test]
fn what_does_not_fit_together_is_exit_78() {
    let setup = Setup::new();
    let upstream = "[[routes]]\nname = \"a\"\npath = \"/\"\nupstream = \"nobody\"\n";
    fails(&setup, upstream, 78, &["nobody"]);
    let twice = "[[routes]]\nname = \"a\"\npath = \"/a\"\ntarget = \"echo\"\n".repeat(2);
    fails(&setup, &twice, 78, &["\"a\""]);
}

#[test]
fn a_file_that_is_no_toml_or_not_there_is_a_clear_failure() {
    fails(&Setup::new(), "[[routes]\n", 78, &["wsgate.toml"]);
    let missing = Command::new(env!("CARGO_BIN_EXE_wsgate")).args(["run", "--config", "/nowhere/wsgate.toml"]).output();
    let missing = missing.unwrap();
    assert_eq!(missing.status.code(), Some(78));
    assert!(String::from_utf8_lossy(&missing.stderr).contains("/nowhere/wsgate.toml"));
}

#[test]
fn a_filter_that_is_not_there_is_named_with_where_it_was_looked_for() {
    let setup = Setup::new();
    let failure = setup.fails(&format!("{LISTENER}[server]\nfilter_dir = \"filters\"\n{ECHO}\nfilters = [\"absent\"]"));
    assert!(!failure.status.success());
    assert!(failure.stderr.contains("absent.wasm"), "{}", failure.stderr);
}

#[test]
fn a_broken_filter_is_named_with_what_is_wrong_with_it() {
    let cases: [(&str, &[u8]); 4] = [
        ("empty", b""),
        ("garbage", b"not wasm at all"),
        ("core_module", b"\0asm\x01\0\0\0"),
        ("native_code", b"\x7FELF"),
    ];
    for (name, bytes) in cases {
        let setup = Setup::new();
        setup.publish(&format!("filters/{name}.wasm"), bytes);
        let failure =
            setup.fails(&format!("{LISTENER}[server]\nfilter_dir = \"filters\"\n{ECHO}\nfilters = [\"{name}\"]"));
        assert_eq!(failure.status.code(), Some(1), "{}", failure.stderr);
        assert!(failure.stderr.contains(name), "{}", failure.stderr);
    }
}

#[test]
fn a_component_of_another_world_is_told_what_is_missing() {
    let setup = Setup::new().guest("filters/greeter.wasm", "guest_wrong_world");
    let failure =
        setup.fails(&format!("{LISTENER}[server]\nfilter_dir = \"filters\"\n{ECHO}\nfilters = [\"greeter\"]"));
    assert_eq!(failure.status.code(), Some(1), "{}", failure.stderr);
    for word in ["greeter", "wsgate:filter/handler"] {
        assert!(failure.stderr.contains(word), "no {word:?} in\n{}", failure.stderr);
    }
}

#[test]
fn a_filter_that_refuses_its_configuration_is_quoted() {
    let setup = Setup::new().guest("filters/redact.wasm", "redact");
    let filter = "[filters.redact]\nconfig = { patterns = [\"(\"] }\n";
    let failure =
        setup.fails(&format!("{LISTENER}[server]\nfilter_dir = \"filters\"\n{filter}\n{ECHO}\nfilters = [\"redact\"]"));
    assert!(!failure.status.success());
    assert!(failure.stderr.contains("patterns[0]"), "{}", failure.stderr);
}

#[test]
fn a_port_in_use_is_named() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    for table in ["[[listeners]]", "[admin]"] {
        let other = if table == "[admin]" { "[[listeners]]" } else { "[admin]" };
        let config = format!("{table}\naddress = \"{address}\"\n{other}\naddress = \"127.0.0.1:0\"\n{ECHO}");
        let failure = Setup::new().fails(&config);
        assert_eq!(failure.status.code(), Some(1), "{}", failure.stderr);
        assert!(failure.stderr.contains(&address), "{}", failure.stderr);
        assert!(failure.stderr.to_lowercase().contains("in use"), "{}", failure.stderr);
    }
}

#[test]
fn bad_arguments_are_exit_2() {
    for arguments in [&["run", "--cofnig", "x"][..], &["dance"], &["run"]] {
        let output = Command::new(env!("CARGO_BIN_EXE_wsgate")).args(arguments).output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {output:?}");
    }
}

#[test]
fn version_and_help_say_what_they_should() {
    let run = |argument: &str| {
        let output = Command::new(env!("CARGO_BIN_EXE_wsgate")).arg(argument).output().unwrap();
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).unwrap()
    };
    assert_eq!(run("--version").trim(), format!("wsgate {}", env!("CARGO_PKG_VERSION")));
    let help = run("--help");
    for word in ["run", "check", "connect"] {
        assert!(help.contains(word), "{help}");
    }
}

#[test]
fn check_finds_the_same_mistakes_without_starting() {
    let check = |config: &str| {
        let setup = Setup::new();
        setup.publish("wsgate.toml", config.as_bytes());
        let mut command = Command::new(env!("CARGO_BIN_EXE_wsgate"));
        command.arg("check").arg("--config").arg(setup.path("wsgate.toml")).output().unwrap()
    };
    let good = check(&format!("{LISTENER}{ECHO}"));
    assert!(good.status.success(), "{good:?}");
    let bad = check(&format!("{LISTENER}{ECHO}\nfilter = [\"x\"]\nsend_timeout = \"soon\""));
    assert_eq!(bad.status.code(), Some(78));
    let said = String::from_utf8_lossy(&[bad.stdout, bad.stderr].concat()).into_owned();
    for word in ["filter", "send_timeout"] {
        assert!(said.contains(word), "check says everything that is wrong; no {word:?} in\n{said}");
    }
}
