//! What a file or a command line comes to.

use std::time::Duration;

use http::HeaderName;
use proptest::prelude::*;

use super::{pattern::PathTemplate, *};

const LISTENER: &str = "[[listeners]]\naddress = '127.0.0.1:1'\n";

fn valid(name: &str) -> Config {
    read_file(&folder().join(name)).unwrap().0
}

fn folder() -> PathBuf {
    root().join("tests/configs/valid")
}

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn lines(errors: &ConfigErrors) -> Vec<String> {
    errors.to_string().lines().map(str::to_owned).collect()
}

#[test]
fn a_minimal_file_has_the_documented_defaults() {
    let config = valid("minimal.toml");
    let cores = std::thread::available_parallelism().unwrap().get();
    let server = Server {
        workers: cores,
        filter_dir: folder().join("filters"),
        state_dir: None,
        js_compiler: None,
        drain_delay: seconds(5),
        drain_timeout: seconds(20),
        limits: ConnectionLimits::default(),
    };
    assert_eq!(config.server, server);
    assert_eq!(config.admin.address, "127.0.0.1:9901".parse().unwrap());
    assert_eq!(config.health, None);
    assert_eq!(config.log, Log { level: "info".to_owned(), format: LogFormat::Text });
    let endpoint = Endpoint {
        socket: None,
        tls: false,
        host: "127.0.0.1".to_owned(),
        port: 9001,
        base_path: String::new(),
        weight: 1,
        srv: false,
    };
    let upstream = Upstream {
        endpoints: vec![endpoint],
        balance: Balance::LeastConn,
        affinity_cookie: None,
        host_header: HostHeader::Preserve,
        connect_timeout: seconds(5),
        tls: UpstreamTls { ca: None, certificate: None, server_name: None },
        spare_connections: 0,
        per_try_timeout: seconds(5),
        retries: 2,
        slow_start: None,
        health_check: None,
        outlier_detection: Some(OutlierDetection {
            consecutive_failures: 5,
            base_ejection_time: seconds(30),
            max_ejection_percent: 50,
        }),
        resolver: None,
        dns_interval: seconds(30),
    };
    assert_eq!(config.upstreams, BTreeMap::from([("chat".to_owned(), upstream)]));
    let limits = SessionLimits {
        client_max_payload_bytes: 1_048_576,
        upstream_max_payload_bytes: 4_194_304,
        queue_max_bytes: 4_194_304,
        overflow: Overflow::Pause,
        push_overflow: PushOverflow::Close,
        handshake_timeout: seconds(10),
        send_timeout: seconds(10),
        ping_interval: Some(seconds(25)),
        pong_timeout: seconds(10),
        idle_timeout: None,
        max_connection_duration: None,
    };
    let route = Route {
        name: "/*".to_owned(),
        host: None,
        path: "/*".parse().unwrap(),
        path_rewrite: None,
        target: Target::Upstream("chat".to_owned()),
        filters: ChainSource::Names(vec![]),
        subprotocols: None,
        request_headers: HeaderEdits::default(),
        auth: None,
        claims_to_headers: Vec::new(),
        allowed_origins: crate::config::pattern::OriginRule::DEFAULT.to_vec(),
        limits,
        traffic: RouteLimits::default(),
        auth_request: None,
        http: None,
    };
    assert_eq!(config.routes, [route]);
}

#[test]
fn every_key_of_server_and_listeners_reaches_its_place() {
    let config = valid("full.toml");
    let server = Server {
        workers: 2,
        filter_dir: folder().join("filters"),
        state_dir: Some(folder().join("state")),
        js_compiler: Some(folder().join("bin/wsgate-js")),
        drain_delay: seconds(1),
        drain_timeout: seconds(60),
        limits: ConnectionLimits {
            connections: Some(20_000),
            connections_per_ip: Some(100),
            handshakes_per_second: Some(1_000),
            ..ConnectionLimits::default()
        },
    };
    assert_eq!(config.server, server);
    let addresses: Vec<_> = config.listeners.iter().map(|listener| listener.address.to_string()).collect();
    assert_eq!(addresses, ["0.0.0.0:8080", "[::1]:0", "127.0.0.1:0"]);
    assert_eq!(config.admin.address, "[::1]:9901".parse().unwrap());
    assert_eq!(config.health, Some("0.0.0.0:9902".parse().unwrap()));
    assert_eq!(config.log, Log { level: "info,wsgate::session=debug".to_owned(), format: LogFormat::Json });
}

#[test]
fn every_key_of_an_upstream_reaches_its_place() {
    let config = valid("full.toml");
    let endpoint = |tls, host: &str, port, base_path: &str| Endpoint {
        base_path: base_path.to_owned(),
        ..Endpoint::new(tls, host.to_owned(), port)
    };
    let chat = Upstream {
        endpoints: vec![
            endpoint(false, "127.0.0.1", 9001, ""),
            Endpoint { weight: 3, ..endpoint(true, "chat.example.com", 443, "/base") },
            endpoint(false, "::1", 9003, ""),
            Endpoint { srv: true, ..endpoint(false, "_chat._tcp.example.com", 80, "") },
        ],
        balance: Balance::RingHash(HashOn::Header(HeaderName::from_static("x-user-id"))),
        affinity_cookie: Some(AffinityCookie { name: "node".to_owned(), max_age: Some(seconds(3600)) }),
        host_header: HostHeader::Endpoint,
        connect_timeout: Duration::from_millis(500),
        tls: UpstreamTls {
            ca: Some(folder().join("tls/ca.pem")),
            certificate: Some(ClientCertificate {
                certificate: folder().join("tls/client.pem"),
                private_key: folder().join("tls/client.key"),
            }),
            server_name: Some("chat.internal".to_owned()),
        },
        spare_connections: 4,
        per_try_timeout: seconds(2),
        retries: 1,
        slow_start: Some(seconds(30)),
        health_check: Some(HealthCheck {
            probe: Probe::Http("/health?deep=1".to_owned()),
            interval: seconds(2),
            timeout: Duration::from_millis(500),
            healthy_threshold: 1,
            unhealthy_threshold: 4,
        }),
        outlier_detection: Some(OutlierDetection {
            consecutive_failures: 3,
            base_ejection_time: seconds(10),
            max_ejection_percent: 30,
        }),
        resolver: Some("127.0.0.1:8600".parse().unwrap()),
        dns_interval: seconds(10),
    };
    assert_eq!(config.upstreams["chat"], chat);
    let billing = &config.upstreams["billing"];
    let socket = |path: &str, base_path| Endpoint {
        socket: Some(PathBuf::from(path)),
        ..endpoint(false, "localhost", 80, base_path)
    };
    let sockets = [socket("/run/app.sock", ""), socket("/run/app.sock", "/v1"), socket("@app", "")];
    assert_eq!(billing.endpoints[0], endpoint(false, "billing", 8000, ""));
    assert_eq!(billing.endpoints[1..], sockets);
    assert_eq!(billing.host_header, HostHeader::Literal("billing.internal:8000".to_owned()));
}

#[test]
fn every_key_of_a_filter_reaches_its_place() {
    let config = valid("full.toml");
    let sha256 =
        data_encoding::HEXLOWER.decode(b"e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855").unwrap();
    let redact = Filter {
        file: folder().join("filters/redact.wasm"),
        config: serde_json::json!({
            "patterns": ["\\d{16}$"], "depth": 3, "since": "2026-01-01", "nested": { "on": true, "ratio": 0.5 }
        }),
        isolation: Isolation::Shared,
        instances: Some(2),
        max_sessions_per_instance: 10,
        failure_policy: FailurePolicy::FailOpen,
        on_reload: OnReload::Pin,
        on_state_loss: OnStateLoss::Close,
        cpu_timeout: Duration::from_millis(5),
        wait_timeout: seconds(1),
        memory_limit_bytes: 16 << 20,
        recycle_after_calls: Some(1_000_000),
        recycle_above_bytes: Some(8 << 20),
        max_client_faults: Some(20),
        breaker_clients: None,
        sha256: Some(sha256.try_into().unwrap()),
        allow: Allow {
            upstreams: vec!["billing".to_owned()],
            key_value: vec!["sessions".to_owned(), "counters".to_owned()],
            http: vec!["https://authz.internal:443".parse().unwrap(), "https://*.example.com:8443".parse().unwrap()],
            topics: vec!["room.*".parse().unwrap(), "news".parse().unwrap()],
            send: true,
        },
        canary: Some(Candidate { file: folder().join("filters/authorize.wasm"), percent: 5 }),
        shadow: Some(Candidate { file: folder().join("chat.d/20-redact.wasm"), percent: 100 }),
    };
    assert_eq!(config.filters["redact"], redact);
    let audit =
        Filter { isolation: Isolation::Connection, ..Filter::with_defaults(folder().join("filters/authorize.wasm")) };
    assert_eq!(config.filters["audit"], audit);
}

#[test]
fn a_store_has_the_size_that_its_table_says() {
    let config = valid("full.toml");
    assert_eq!(config.stores["sessions"], Store { max_size_bytes: 1 << 20 });
    assert_eq!(config.stores["counters"], Store { max_size_bytes: 64 << 20 });
}

#[test]
fn every_key_of_a_route_reaches_its_place() {
    let [chat, files, echo] = &valid("full.toml").routes[..] else { panic!("three routes") };
    let path: pattern::PathPattern = "/chat/{room}".parse().unwrap();
    let expected = Route {
        name: "chat".to_owned(),
        host: Some("chat.example.com".parse().unwrap()),
        path_rewrite: Some(PathTemplate::parse("/v2/{room}", &path).unwrap()),
        path,
        target: Target::Upstream("chat".to_owned()),
        filters: ChainSource::Names(["authorize", "redact", "audit"].map(str::to_owned).to_vec()),
        subprotocols: Some(vec!["graphql-transport-ws".to_owned(), "v2.chat".to_owned()]),
        auth: Some("main".to_owned()),
        claims_to_headers: vec![(http::HeaderName::from_static("x-user-id"), "sub".to_owned())],
        allowed_origins: ["https://*.example.com", "absent"].map(|rule| rule.parse().unwrap()).to_vec(),
        request_headers: HeaderEdits {
            set: vec![("x-gateway".parse().unwrap(), "wsgate".parse().unwrap())],
            remove: vec!["x-debug".parse().unwrap()],
        },
        limits: SessionLimits {
            client_max_payload_bytes: 65_536,
            upstream_max_payload_bytes: 128_000,
            queue_max_bytes: 128_000,
            overflow: Overflow::DropOldest,
            push_overflow: PushOverflow::DropOldest,
            handshake_timeout: seconds(1),
            send_timeout: seconds(2),
            ping_interval: None,
            pong_timeout: seconds(3),
            idle_timeout: Some(seconds(3600)),
            max_connection_duration: Some(seconds(86_400)),
        },
        traffic: RouteLimits {
            connections: ConnectionLimits {
                connections: Some(10_000),
                connections_per_ip: Some(20),
                connections_per_user: Some(5),
                handshakes_per_second: Some(200),
                handshakes_per_second_per_ip: Some(10),
            },
            messages: Some(RateLimit {
                amount: 50,
                per: seconds(1),
                burst: 100,
                by: LimitBy::Connection,
                action: LimitAction::Delay,
                code: 4429,
            }),
            bytes: Some(RateLimit {
                amount: 10 << 20,
                per: seconds(60),
                burst: 4 << 20,
                by: LimitBy::User,
                action: LimitAction::Close,
                code: 4008,
            }),
        },
        auth_request: Some(AuthRequest {
            url: "https://authz.internal/check".to_owned(),
            timeout: seconds(1),
            copy_headers: vec![http::HeaderName::from_static("x-tenant")],
            cache: Some(AuthRequestCache { lasts: seconds(10), by: vec![http::header::COOKIE] }),
        }),
        http: Some(HttpForward {
            filters: HttpFilters::Skip,
            max_body_bytes: None,
            body_timeout: seconds(5),
            response_timeout: seconds(120),
        }),
    };
    assert_eq!(chat, &expected);
    let folder = ChainSource::Folder {
        path: folder().join("chat.d"),
        required: vec!["redact".to_owned()],
        removal_grace: Duration::ZERO,
    };
    assert_eq!((files.name.as_str(), &files.filters), ("*.example.com/files/*", &folder));
    assert_eq!((echo.name.as_str(), &echo.target), ("/echo", &Target::Echo));
    assert_eq!(echo.subprotocols.as_deref(), Some(&[][..]));
    assert_eq!(echo.limits.queue_max_bytes, 16 << 20, "raised to the larger payload limit");
}

#[test]
fn the_environment_is_put_in() {
    let config = valid("environment.toml");
    assert_eq!(config.listeners[0].address.port(), 8080);
    assert_eq!(config.upstreams["chat"].endpoints[0].host, "chat.internal");
    assert_eq!(
        config.filters["redact"].config,
        serde_json::json!({ "price": "$8080", "pattern": "^a$", "key": "hunter2" })
    );
    assert_eq!(config.routes[0].limits.client_max_payload_bytes, 2 << 20);
    let set = &config.routes[0].request_headers.set;
    assert_eq!((&set[0].1, &set[1].1), (&"Bearer hunter2".parse().unwrap(), &"hunter2".parse().unwrap()));
    assert!(!format!("{config:?}").contains("hunter2"), "a value of the environment is in the debug output");
}

#[test]
fn columns_count_characters_and_a_byte_order_mark_does_not() {
    let errors = read("\u{feff}log = { level = 'é', x = 1 }").unwrap_err();
    let place = |error: &ConfigError| error.position.map(|position| (position.line, position.column));
    assert_eq!(errors.errors()[1].key.as_deref(), Some("log.level"));
    assert_eq!(place(&errors.errors()[1]), Some((1, 17)));
    assert_eq!(place(&errors.errors()[2]), Some((1, 22)));
}

#[test]
fn not_more_than_a_hundred_errors_are_listed() {
    let unknown: String = (0..200).fold(String::new(), |text, index| text + &format!("x{index} = 1\n"));
    let listed = lines(&read(&unknown).unwrap_err());
    assert_eq!(listed.len(), 101);
    assert_eq!(listed[100], "wsgate.toml: more than 100 errors");
    let routes = "[[routes]]\ntarget = 'echo'\n".repeat(200);
    assert_eq!(lines(&read(&format!("{LISTENER}{routes}")).unwrap_err()), {
        let missing = |index| {
            let line = 3 + 2 * index;
            format!(
                "wsgate.toml:{line}:1: routes[{index}].path: missing; write a path such as \"/chat/{{room}}\" or \"/*\""
            )
        };
        let closing = "wsgate.toml: more than 100 errors".to_owned();
        (0..100).map(missing).chain([closing]).collect::<Vec<_>>()
    });
}

#[test]
fn too_many_tables_and_too_long_files_are_refused() {
    let upstreams = (0..4097)
        .fold(LISTENER.to_owned(), |text, index| text + &format!("[upstreams.u{index}]\nendpoints = ['ws://a']\n"));
    let first = "wsgate.toml:1:1: upstreams: there are 4097; at most 4096 are accepted";
    assert_eq!(lines(&read(&upstreams).unwrap_err())[0], first);
    let long = "#".repeat((4 << 20) + 1);
    assert_eq!(lines(&read(&long).unwrap_err())[0], "wsgate.toml: is longer than 4 MiB");
    assert!(read(&format!("{LISTENER}{}", "#".repeat(4 << 20 >> 1))).is_ok());
}

#[test]
fn derived_names_are_unique() {
    let routes = "[[routes]]\npath = '/a'\ntarget = 'echo'\n".repeat(3);
    let names: Vec<_> =
        read(&format!("{LISTENER}{routes}")).unwrap().0.routes.into_iter().map(|route| route.name).collect();
    assert_eq!(names, ["/a", "/a#2", "/a#3"]);
}

#[test]
fn a_file_is_read_with_paths_relative_to_it() {
    let (config, warnings) = Config::load(&folder().join("minimal.toml")).unwrap();
    assert_eq!(config.server.filter_dir, folder().join("filters"));
    assert_eq!(warnings, []);
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("wsgate.toml");
    let missing = Config::load(&path).unwrap_err();
    assert!(missing.to_string().contains("wsgate.toml: cannot be read: No such file"), "{missing}");
    fs::write(&path, b"log = '\xff'").unwrap();
    let not_text = Config::load(&path).unwrap_err();
    assert!(
        not_text.to_string().contains("is not UTF-8: invalid utf-8 sequence of 1 bytes from index 7"),
        "{not_text}"
    );
}

#[test]
fn one_upstream_needs_no_file() {
    let filters = ["filters/redact.wasm", "filters/authorize.wasm"].map(|file| folder().join(file));
    let config = Config::for_upstream("wss://chat.example.com/v1/", None, None, &filters).unwrap();
    assert_eq!(config.listeners, [Listener::at("127.0.0.1:8080".parse().unwrap())]);
    assert_eq!(config.admin.address, "127.0.0.1:9901".parse().unwrap());
    let endpoint = Endpoint { base_path: "/v1".to_owned(), ..Endpoint::new(true, "chat.example.com".to_owned(), 443) };
    assert_eq!(config.upstreams["default"], Upstream::with_endpoints(vec![endpoint]));
    assert_eq!(config.filters["redact"], Filter::with_defaults(filters[0].clone()));
    let [route] = &config.routes[..] else { panic!("one route") };
    assert_eq!(route.filters, ChainSource::Names(vec!["redact".to_owned(), "authorize".to_owned()]));
    assert_eq!(route.target, Target::Upstream("default".to_owned()));
    assert!(route.path.matches("/any/path").is_some() && route.path.matches("/").is_some());
    let address = |text: &str| Some(text.parse().unwrap());
    let elsewhere = Config::for_upstream("ws://a", address("0.0.0.0:1"), address("[::1]:2"), &[]).unwrap();
    assert_eq!(elsewhere.listeners[0].address, "0.0.0.0:1".parse().unwrap());
    assert_eq!(elsewhere.admin.address, "[::1]:2".parse().unwrap());
}

#[test]
fn what_is_wrong_with_the_arguments_is_listed_too() {
    let filters = ["redact.wasm", "filters/redact.wasm", "filters/redact.wasm", "a/B.wasm", "x.txt"]
        .map(|file| if file.starts_with("filters") { folder().join(file) } else { PathBuf::from(file) });
    let errors = Config::for_upstream("http://a", None, Some("0.0.0.0:1".parse().unwrap()), &filters).unwrap_err();
    let listed = lines(&errors);
    let starts = [
        "--upstream: not an endpoint: it begins neither with ws://",
        "--admin: 0.0.0.0:1 is not accepted; without admin.tokens the admin API has no access control",
        "--filter: redact.wasm is not there",
        &format!("--filter: {} is the second filter of the name \"redact\"", filters[2].display()),
        "--filter: a/B.wasm is a file whose name \"B\" is not the name of a filter",
        "--filter: x.txt is not a component",
        "wsgate run: 6 errors",
    ];
    assert_eq!(listed.len(), starts.len(), "{errors}");
    for (line, start) in listed.iter().zip(starts) {
        assert!(line.starts_with(start), "{line}");
    }
}

proptest! {
    #[test]
    fn however_a_file_is_damaged_each_error_has_its_place(
        edits in prop::collection::vec((0..90usize, 0..90usize, prop::sample::select(vec!["", "=", "[", "5", "'x'", "[[routes]]", "é"])), 1..4),
    ) {
        let full = fs::read_to_string(folder().join("full.toml")).unwrap();
        let mut lines: Vec<_> = full.lines().map(str::to_owned).collect();
        let count = lines.len();
        for (line, column, inserted) in edits {
            let line = &mut lines[line % count];
            let column = line.floor_char_boundary(column);
            line.truncate(column);
            line.push_str(inserted);
        }
        let text = lines.join("\n");
        if let Err(errors) = read(&text) {
            prop_assert!(!errors.errors().is_empty());
            for error in errors.errors() {
                let position = error.position.unwrap();
                let line = text.split('\n').nth(position.line - 1).unwrap();
                prop_assert!(position.column <= line.chars().count() + 1, "{error}");
                prop_assert!(error.key.is_some() || error.message.contains("TOML") || error.message.contains("twice"), "{error}");
            }
        }
    }
}
