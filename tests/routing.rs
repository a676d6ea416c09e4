//! Which route a request takes, and what the upstream sees of it.

use serde_json::json;

use crate::support::{
    Gateway, http,
    peer::{NodeWs, PeerClient, PeerServer, PythonWebsockets},
    upstream::{ECHO, route_to},
    wire::{self, Wire},
};

/// One upstream and these routes to it.
fn gateway(server: &PeerServer, routes: &[(&str, &str)]) -> Gateway {
    let mut config = format!("[upstreams.main]\nendpoints = [\"{}\"]\n", server.url(""));
    for (number, (path, more)) in routes.iter().enumerate() {
        config += &format!("[[routes]]\nname = \"r{number}\"\npath = \"{path}\"\nupstream = \"main\"\n{more}\n");
    }
    Gateway::start(&config)
}

/// The path that the upstream sees for this one.
fn seen(gateway: &Gateway, server: &PeerServer, path: &str) -> String {
    let _wire = Wire::open(gateway.address(), path);
    server.opened()["path"].as_str().unwrap().to_owned()
}

fn status(gateway: &Gateway, lines: &[String]) -> u16 {
    Wire::connect(gateway.address()).ask(lines).status
}

#[test]
fn a_path_travels_unchanged_with_its_query() {
    let server = PeerServer::start(PythonWebsockets);
    let gateway = gateway(&server, &[("/*", "")]);
    for path in ["/", "/a/b", "/a%20b?x=1&y=%2F", "/a/?", "/a//b"] {
        assert_eq!(seen(&gateway, &server, path), path);
    }
}

#[test]
fn parameters_are_put_into_the_rewritten_path() {
    let server = PeerServer::start(PythonWebsockets);
    let routes = [("/chat/{room}/{user}", "path_rewrite = \"/v2/{user}/in/{room}\"")];
    let gateway = gateway(&server, &routes);
    assert_eq!(seen(&gateway, &server, "/chat/lobby/ann?since=3"), "/v2/ann/in/lobby?since=3");
    assert_eq!(seen(&gateway, &server, "/chat/l%2Fb/ann"), "/v2/ann/in/l%2Fb");
}

#[test]
fn a_parameter_matches_one_segment_that_is_not_empty() {
    let server = PeerServer::start(PythonWebsockets);
    let gateway = gateway(&server, &[("/chat/{room}", "")]);
    for path in ["/chat/", "/chat", "/chat/a/b", "/Chat/a"] {
        assert_eq!(status(&gateway, &wire::request(gateway.address(), path)), 404, "{path}");
    }
}

#[test]
fn the_first_route_that_matches_in_file_order_is_taken() {
    let server = PeerServer::start(PythonWebsockets);
    let rewrite = |to: &str| format!("path_rewrite = \"{to}\"");
    let (first, second, third) = (rewrite("/literal"), rewrite("/parameter"), rewrite("/rest"));
    let gateway = gateway(&server, &[("/a/b", &first), ("/a/{x}", &second), ("/a/*", &third), ("/a/c", "")]);
    assert_eq!(seen(&gateway, &server, "/a/b"), "/literal");
    assert_eq!(seen(&gateway, &server, "/a/c"), "/parameter");
    assert_eq!(seen(&gateway, &server, "/a/c/d"), "/rest");
}

#[test]
fn hosts_choose_among_routes() {
    let server = PeerServer::start(PythonWebsockets);
    let host = |host: &str, to: &str| format!("host = \"{host}\"\npath_rewrite = \"{to}\"");
    let (exact, suffix) = (host("a.example.com", "/exact"), host("*.example.com", "/suffix"));
    let gateway = gateway(&server, &[("/*", &exact), ("/*", &suffix)]);
    for (host, path) in [
        ("a.example.com", "/exact"),
        ("A.Example.com:8080", "/exact"),
        ("b.example.com", "/suffix"),
        ("c.b.example.com", "/suffix"),
    ] {
        let _wire = Wire::open_with(gateway.address(), &wire::request(host, "/"));
        assert_eq!(server.opened()["path"], path, "{host}");
    }
    for host in ["example.com", "a.example.com.evil", "evil-example.com"] {
        assert_eq!(status(&gateway, &wire::request(host, "/")), 404, "{host}");
    }
}

#[test]
fn a_path_of_no_route_is_404_with_a_problem_body() {
    let gateway = Gateway::start(ECHO);
    let refused = PeerClient::start(NodeWs).connect(json!({ "url": gateway.url("/nowhere") }));
    assert_eq!(refused["status"], 404);
    assert_eq!(refused["headers"]["content-type"], "application/problem+json");
    let problem: serde_json::Value = serde_json::from_str(refused["body"].as_str().unwrap()).unwrap();
    assert_eq!(problem["status"], 404, "{problem}");
}

#[test]
fn a_plain_request_is_told_to_upgrade() {
    let gateway = Gateway::start(ECHO);
    let answer = http::get(gateway.address(), "/echo");
    assert_eq!((answer.status, answer.header("upgrade")), (426, Some("websocket")));
}

#[test]
fn an_endpoints_own_path_stands_before_the_clients() {
    let server = PeerServer::start(PythonWebsockets);
    let gateway = Gateway::start(&route_to(&server.url("/base")));
    assert_eq!(seen(&gateway, &server, "/room?x"), "/base/room?x");
}

#[test]
fn headers_are_edited_and_hop_by_hop_ones_stay_here() {
    let server = PeerServer::start(PythonWebsockets);
    let edits = "request_headers = { set = { x-gateway = \"wsgate\" }, remove = [\"x-debug\"] }";
    let gateway = gateway(&server, &[("/*", edits)]);
    let mut lines = wire::request("app.example.com", "/");
    lines[3] = "Connection: Upgrade, X-Hop".to_owned();
    for more in ["X-Hop: 1", "X-Debug: 1", "X-Gateway: forged", "X-Kept: yes", "Keep-Alive: 5", "Proxy-Connection: x"] {
        lines.push(more.to_owned());
    }
    let _wire = Wire::open_with(gateway.address(), &lines);
    let seen = server.opened()["headers"].clone();
    assert_eq!(seen["host"], "app.example.com");
    assert_eq!(seen["x-gateway"], "wsgate");
    assert_eq!(seen["x-kept"], "yes");
    for gone in ["x-hop", "x-debug", "keep-alive", "proxy-connection"] {
        assert!(seen[gone].is_null(), "{gone}: {seen}");
    }
}

#[test]
fn the_upstream_learns_the_clients_address_and_no_forged_one() {
    let server = PeerServer::start(PythonWebsockets);
    let gateway = gateway(&server, &[("/*", "")]);
    let mut lines = wire::request(gateway.address(), "/");
    lines.push("X-Forwarded-For: 6.6.6.6".to_owned());
    let _wire = Wire::open_with(gateway.address(), &lines);
    assert_eq!(server.opened()["headers"]["x-forwarded-for"], "127.0.0.1");
}

#[test]
fn endpoints_take_turns() {
    let servers = [PeerServer::start(PythonWebsockets), PeerServer::start(PythonWebsockets)];
    let gateway = Gateway::start(&format!(
        "[upstreams.main]\nendpoints = [\"{}\", \"{}\"]\nbalance = \"round_robin\"\n\
         [[routes]]\nname = \"main\"\npath = \"/*\"\nupstream = \"main\"\n",
        servers[0].url("/one"),
        servers[1].url("/two")
    ));
    let _wires: Vec<Wire> = (0..4).map(|number| Wire::open(gateway.address(), &format!("/{number}"))).collect();
    for (server, base) in servers.iter().zip(["/one", "/two"]) {
        for _ in 0..2 {
            assert!(server.opened()["path"].as_str().unwrap().starts_with(base));
        }
    }
}

#[test]
fn an_endpoint_that_is_down_is_passed_over() {
    let server = PeerServer::start(PythonWebsockets);
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let gateway = Gateway::start(&format!(
        "[upstreams.main]\nendpoints = [\"ws://{nobody}\", \"{}\"]\n\
         [[routes]]\nname = \"main\"\npath = \"/*\"\nupstream = \"main\"\n",
        server.url("")
    ));
    for _ in 0..4 {
        Wire::open(gateway.address(), "/");
        server.opened();
    }
}
