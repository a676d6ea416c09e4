//! Which pages of the web may connect.

use crate::support::{
    Gateway,
    peer::{PeerServer, PythonWebsockets},
    upstream::route_to,
    wire::{self, Wire},
};

fn status(gateway: &Gateway, origin: &str) -> u16 {
    let mut lines = wire::request(gateway.address(), "/");
    lines.push(format!("Origin: {origin}"));
    Wire::connect(gateway.address()).ask(&lines).status
}

#[test]
fn a_page_of_another_host_is_refused_before_anything_else_happens() {
    let server = PeerServer::start(PythonWebsockets);
    let gateway = Gateway::start(&route_to(&server.url("")));
    let own = format!("http://{}", gateway.address());
    assert_eq!(status(&gateway, "https://evil.example.com"), 403);
    assert_eq!(status(&gateway, "null"), 403);
    assert_eq!(status(&gateway, &own), 101);
    assert_eq!(server.opened()["headers"]["origin"], own.as_str());
    let refused = [("route", "main"), ("result", "origin_refused")];
    assert_eq!(gateway.metrics().sum("wsgate_handshakes_total", &refused), 2.0);
    assert_eq!(gateway.metrics().sum("wsgate_upstream_connect_duration_seconds_count", &[]), 1.0);
}

#[test]
fn listed_origins_connect_and_no_others() {
    let server = PeerServer::start(PythonWebsockets);
    let list = r#"allowed_origins = ["https://app.example.com", "https://*.example.org:8443", "null"]"#;
    let gateway = Gateway::start(&format!("{}{list}", route_to(&server.url(""))));
    for origin in ["https://app.example.com", "https://app.example.com:443", "https://a.example.org:8443", "null"] {
        assert_eq!(status(&gateway, origin), 101, "{origin}");
    }
    let own = format!("http://{}", gateway.address());
    for origin in ["http://app.example.com", "https://a.example.org", "https://app.example.com.evil.com", &own] {
        assert_eq!(status(&gateway, origin), 403, "{origin}");
    }
}
