//! Upstreams by hand: what no decent server does.

use std::{
    net::{SocketAddr, TcpListener},
    sync::Arc,
    thread,
};

use super::wire::Wire;

/// A TCP server on a free port; each connection is treated in a thread of its own.
pub(crate) struct HandMade {
    pub(crate) address: SocketAddr,
}

impl HandMade {
    /// `treat` gets every accepted connection before anything was read from it.
    pub(crate) fn start(treat: impl Fn(Wire) + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let treat = Arc::new(treat);
        thread::spawn(move || {
            for stream in listener.incoming() {
                let treat = treat.clone();
                thread::spawn(move || treat(Wire::server_of(stream.unwrap())));
            }
        });
        Self { address }
    }

    pub(crate) fn url(&self) -> String {
        format!("ws://{}", self.address)
    }
}

/// A route `/echo` to the gateway's own echo target. Keys of the route can follow it.
pub(crate) const ECHO: &str = r#"
    [[routes]]
    name = "echo"
    path = "/echo"
    target = "echo"
    "#;

/// A route for every path to one upstream. Keys of the route can follow it.
pub(crate) fn route_to(url: &str) -> String {
    format!(
        r#"
        [upstreams.main]
        endpoints = ["{url}"]

        [[routes]]
        name = "main"
        path = "/*"
        upstream = "main"
        "#
    )
}
