//! The configurations of docs/migrating.md: what nginx does and what wsgate does with the same clients.

use std::{
    fs,
    net::{IpAddr, SocketAddr},
    path::Path,
    process::Command,
};

use crate::support::{
    Gateway, SOON, Setup, peer,
    process::Process,
    until,
    upstream::HandMade,
    wire::{self, Wire},
};

/// The code blocks of a section, with the language of each.
fn blocks(section: &str) -> Vec<(String, String)> {
    let page = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/migrating.md")).unwrap();
    let text = page.split("\n## ").find(|part| part.starts_with(section)).expect("the section").to_owned();
    let mut blocks = Vec::new();
    let mut rest = text.as_str();
    while let Some((_, after)) = rest.split_once("\n```") {
        let (block, after) = after.split_once("\n```").expect("the end of a block");
        let (language, body) = block.split_once('\n').unwrap();
        blocks.push((language.to_owned(), body.to_owned()));
        rest = after;
    }
    blocks
}

fn block(section: &str, language: &str) -> String {
    let found = blocks(section).into_iter().find(|(found, _)| found == language);
    found.unwrap_or_else(|| panic!("no {language} under {section}")).1
}

/// Says its name and what was asked of it, then echoes.
fn server(name: &'static str) -> HandMade {
    HandMade::start(move |mut wire| {
        let head = wire.accept("");
        let line = |wanted: &str| {
            let lower = head.to_ascii_lowercase();
            lower
                .lines()
                .find_map(|line| line.strip_prefix(&format!("{wanted}: ")).map(str::to_owned))
                .unwrap_or_default()
        };
        let path = head.split(' ').nth(1).unwrap();
        wire.text(&format!("{name} {path} {} {}", line("host"), line("x-forwarded-for")));
        while let Some(frame) = wire.next() {
            match frame.opcode() {
                wire::TEXT => wire.text(&frame.text()),
                wire::CLOSE => return wire.close(frame.close().0, ""),
                _ => {}
            }
        }
    })
}

struct Servers {
    chat: HandMade,
    feeds: [HandMade; 2],
}

impl Servers {
    fn start() -> Self {
        Self { chat: server("chat"), feeds: [server("feed-a"), server("feed-b")] }
    }

    fn fill_in(&self, text: &str, listen: SocketAddr) -> String {
        let text = text.replace("FEED_A", &self.feeds[0].address.to_string());
        let text = text.replace("FEED_B", &self.feeds[1].address.to_string());
        text.replace("LISTEN", &listen.to_string()).replace("CHAT", &self.chat.address.to_string())
    }
}

/// What a client sees through either.
fn seen(address: SocketAddr) -> Vec<String> {
    let mut seen = Vec::new();
    let mut wire = Wire::open(address, "/chat/room/7?x=1");
    seen.push(wire.next_text().replace(&address.to_string(), "HOST"));
    wire.text("hello");
    seen.push(wire.next_text());
    wire.close(3001, "");
    seen.push(format!("closed with {}", wire.next_close().0));
    let mut feeds: Vec<String> = (0..2)
        .map(|_| Wire::open(address, "/feed").next_text().split(' ').take(2).collect::<Vec<_>>().join(" "))
        .collect();
    feeds.sort();
    seen.extend(feeds);
    let refused = Wire::connect(address).ask(&wire::request(address, "/elsewhere"));
    seen.push(format!("{}", refused.status));
    seen
}

const EXPECTED: [&str; 6] =
    ["chat /room/7?x=1 HOST 127.0.0.1", "hello", "closed with 3001", "feed-a /feed", "feed-b /feed", "404"];

fn nginx() -> &'static str {
    let places = ["/usr/sbin/nginx", "/usr/bin/nginx", "/usr/local/sbin/nginx"];
    places.into_iter().find(|place| Path::new(place).exists()).expect("nginx; run `apt-get install nginx-light`")
}

#[test]
fn what_nginx_does_is_what_the_page_says() {
    let (servers, folder) = (Servers::start(), tempfile::tempdir().unwrap());
    let at = folder.path().display();
    let listen = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let http = servers.fill_in(&block("nginx", "nginx"), listen);
    let temporary: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        .map(|kind| format!("{kind}_temp_path {at}/{kind};\n"))
        .concat();
    let head = format!("daemon off;\nmaster_process off;\npid {at}/pid;\nerror_log stderr;\nevents {{}}\n");
    fs::write(folder.path().join("nginx.conf"), format!("{head}http {{\naccess_log off;\n{temporary}{http}\n}}\n"))
        .unwrap();
    let file = folder.path().join("nginx.conf");
    let _nginx = Process::start("nginx", Command::new(nginx()).arg("-c").arg(file).arg("-p").arg(folder.path()));
    until("nginx listens", SOON, || std::net::TcpStream::connect(listen).is_ok());
    assert_eq!(seen(listen), EXPECTED);
}

fn started(servers: &Servers, section: &str) -> Gateway {
    let text = servers.fill_in(&block(section, "toml"), "127.0.0.1:0".parse().unwrap());
    Setup::new().start(&text)
}

#[test]
fn wsgate_does_the_same() {
    let servers = Servers::start();
    let gateway = started(&servers, "nginx");
    assert_eq!(seen(gateway.address()), EXPECTED);
}

/// What a client of the Envoy configuration sees, and one of another name.
fn seen_by_name(address: SocketAddr) -> (String, u16) {
    let mut wire = Wire::open_with(address, &wire::request("chat.example.com", "/chat/room")).0;
    let greeting = wire.next_text();
    wire.text("hello");
    assert_eq!(wire.next_text(), "hello");
    let refused = Wire::connect(address).ask(&wire::request("other.example.com", "/chat/room"));
    (greeting, refused.status)
}

fn expected_by_name() -> (String, u16) {
    ("chat /room chat.example.com 127.0.0.1".to_owned(), 404)
}

#[test]
fn what_envoy_does_is_what_the_page_says() {
    let (servers, folder) = (Servers::start(), tempfile::tempdir().unwrap());
    let listen = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let mut config = block("Envoy", "yaml");
    for (on_the_page, here) in [
        ("address: 0.0.0.0, port_value: 8080", listen),
        ("address: chat.internal, port_value: 9001", servers.chat.address),
    ] {
        assert!(config.contains(on_the_page), "{on_the_page}");
        config = config.replace(on_the_page, &format!("address: {}, port_value: {}", here.ip(), here.port()));
    }
    let file = folder.path().join("envoy.yaml");
    fs::write(&file, config).unwrap();
    let mut command = Command::new(peer::program("envoy"));
    command.args(["--concurrency", "1", "--disable-hot-restart", "--log-level", "warning", "--config-path"]).arg(file);
    let _envoy = Process::start("envoy", &mut command);
    until("envoy listens", SOON, || std::net::TcpStream::connect(listen).is_ok());
    let (greeting, refused) = seen_by_name(listen);
    // Of a client on the loopback it says the machine's own address.
    let (greeting, forwarded_for) = greeting.rsplit_once(' ').unwrap();
    assert!(forwarded_for.parse::<IpAddr>().is_ok(), "{forwarded_for}");
    assert_eq!((format!("{greeting} 127.0.0.1"), refused), expected_by_name());
}

#[test]
fn the_equivalent_of_the_envoy_configuration_does_the_same() {
    let servers = Servers::start();
    let gateway = started(&servers, "Envoy");
    assert_eq!(seen_by_name(gateway.address()), expected_by_name());
}
